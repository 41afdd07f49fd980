"""Tokens in a file, and the certificates that the API makes for itself."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.apiserver.access.certificates import ensure_certificates
from relay.apiserver.access.tokens import TokenAuthentication, read_tokens
from relay.runtime.errors import ConfigError

GOOD = "- {token: 0123456789abcdef, user: ann, projects: [acme], role: editor}\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def read(path: Path, text: str, *, tenancy: bool = True) -> TokenAuthentication:
    file = path / "tokens.yaml"
    file.write_text(text)
    return read_tokens(file, "api.authentication.file", tenancy=tenancy)


async def test_a_token_tells_its_user(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    user = await found.principal("Bearer 0123456789abcdef")
    assert user is not None
    assert (user.user, user.role, user.projects) == ("ann", "editor", {"acme"})
    assert (user.may_enter("acme"), user.may_enter("other"), user.may_enter("*")) == (
        True,
        False,
        False,
    )
    assert found.projects() == {"acme"}
    for header in (None, "", "Bearer", "Bearer x", "Basic 0123456789abcdef", "0123456789abcdef"):
        assert await found.principal(header) is None
    assert "0123456789abcdef" not in repr(vars(found))


async def test_an_admin_may_read_secrets(tmp_path: Path) -> None:
    admin = GOOD.replace("editor", "admin")
    other = admin.replace("0123", "4567").replace("}", ", secrets: read}")
    found = read(tmp_path, admin + other)
    users = [await found.principal(f"Bearer {one}456789abcdef") for one in ("0123", "4567")]
    assert [user is not None and user.reads_secrets for user in users] == [False, True]


async def test_without_tenancy_projects_may_be_left_out(tmp_path: Path) -> None:
    text = "- {token: 0123456789abcdef, user: ann, role: viewer}\n"
    found = read(tmp_path, text, tenancy=False)
    user = await found.principal("bearer 0123456789abcdef")
    assert user is not None
    assert user.may_enter("")
    with pytest.raises(ConfigError, match=r"\[0\]\.projects: must be a list"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be one list of tokens"),
        ("a: b", "must be one list of tokens"),
        ("- x", r"\[0\]: must be a mapping"),
        (GOOD.replace("editor", "boss"), r"\[0\]\.role: must be one of viewer, editor, admin"),
        (GOOD.replace("ann", "''"), r"\[0\]\.user: must be a text"),
        (GOOD.replace("0123456789abcdef", "short"), r"\[0\]\.token: must have at least 16"),
        (GOOD.replace("0123456789abcdef", "'0123456789 abcdef'"), "without blanks"),
        (GOOD.replace("[acme]", "[A_B]"), r"\.projects\[0\]: must be the name of a project"),
        (GOOD.replace("user", "name"), r"\[0\]\.name: unknown field"),
        (GOOD + GOOD, r"\[1\]\.token: is listed twice"),
        (GOOD.replace("}", ", secrets: read}"), r"\.secrets: only has a meaning with role: admin"),
        (GOOD.replace("}", ", secrets: all}"), r'\.secrets: must be "read", or left out'),
        (GOOD + "- [", "tokens.yaml"),
    ],
)
def test_faults_are_told_without_the_token(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read(tmp_path, text)
    assert "0123456789" not in str(caught.value)


def test_certificates_are_made_once(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "pki", ["api.example"], NOW)
    before = files.certificate.read_bytes()
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "pki/api-ca.key").stat().st_mode & 0o777 == 0o600
    assert ensure_certificates(tmp_path / "pki", ["api.example"], NOW) == files
    assert files.certificate.read_bytes() == before
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(files.certificate, files.key)


def test_certificates_are_renewed(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, [], NOW)
    authority, server = files.ca.read_bytes(), files.certificate.read_bytes()
    ensure_certificates(tmp_path, ["other.example"], NOW)
    renamed = files.certificate.read_bytes()
    assert renamed != server
    ensure_certificates(tmp_path, ["other.example"], NOW + timedelta(days=340))
    renewed = files.certificate.read_bytes()
    assert renewed != renamed
    assert files.ca.read_bytes() == authority
    ensure_certificates(tmp_path, ["other.example"], NOW + timedelta(days=3640))
    assert files.ca.read_bytes() != authority


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, [], NOW)
    files.certificate.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"api\.tls: cannot keep certificates"):
        ensure_certificates(tmp_path, [], NOW)
    with pytest.raises(ConfigError, match="cannot keep certificates"):
        ensure_certificates(files.ca / "below-a-file", [], NOW)
