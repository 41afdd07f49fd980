"""Credentials that rotate on disk, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.control.kubernetes.access import REREAD_S, Credentials
from relay.control.kubernetes.kubeconfig import ClusterAccess, PemSource
from relay.runtime.errors import SecretError
from relay.sink.http.tls import TlsContexts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def credentials(clock: Clock, **fields: object) -> Credentials:
    access = ClusterAccess("http://h", **fields)  # type: ignore[arg-type]
    return Credentials(access, TlsContexts(), clock)


def test_a_token_file_is_read_again(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    found = credentials(clock, token_file=file, token="unused")
    assert found.current()[0] == {"Authorization": "Bearer one"}
    file.write_text("two")
    assert found.current()[0] == {"Authorization": "Bearer one"}
    clock.now += REREAD_S
    assert found.current()[0] == {"Authorization": "Bearer two"}
    file.write_text("three")
    found.expire()
    assert found.current()[0] == {"Authorization": "Bearer three"}


def test_the_last_good_token_stays(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    found = credentials(clock, token_file=file)
    found.current()
    file.unlink()
    found.expire()
    assert found.current()[0] == {"Authorization": "Bearer one"}
    assert "cannot be read: No such file" in found.fault
    file.write_text("two")
    found.expire()
    assert found.current()[0] == {"Authorization": "Bearer two"}
    assert found.fault == ""


@pytest.mark.parametrize("content", [b"", b"\xff", b"a\nb"])
def test_a_bad_token_was_never_good(tmp_path: Path, clock: Clock, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SecretError, match="token in"):
        credentials(clock, token_file=file).current()


def test_basic_authentication_and_none(clock: Clock) -> None:
    basic = credentials(clock, username="u", password="p").current()[0]
    assert basic == {"Authorization": "Basic dTpw"}
    assert credentials(clock).current() == ({}, None)


def test_equal_material_shares_a_context(clock: Clock) -> None:
    contexts = TlsContexts()
    access = ClusterAccess("https://h", insecure_skip_verify=True)
    one, other = (Credentials(access, contexts, clock) for _ in range(2))
    assert one.current()[1] is other.current()[1] is not None


def test_a_bad_ca_is_named(clock: Clock) -> None:
    access = ClusterAccess("https://h", ca=PemSource(text="no PEM"))
    with pytest.raises(SecretError, match="CA certificate is not valid PEM"):
        Credentials(access, TlsContexts(), clock).current()
