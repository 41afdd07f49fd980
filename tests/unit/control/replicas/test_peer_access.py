"""Addresses and credentials between relays."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.settings.ingest_security import Admin, SenderAuthentication, ServerTls
from relay.config.settings.settings import ListenAddress
from relay.control.replicas.peer_access import PeerAccess, advertised_address
from relay.control.replicas.presence import lease_name
from relay.control.replicas.report import ReportError
from relay.receiver.authentication import Authenticator

TLS = ServerTls(Path("cert.pem"), Path("key.pem"))


@pytest.mark.parametrize(
    "settings",
    [
        SenderAuthentication("bearer", token="s3cret"),
        SenderAuthentication("basic", username="relay", password="pass:wörd"),
        SenderAuthentication(),
    ],
)
def test_the_credential_is_what_the_listener_admits(settings: SenderAuthentication) -> None:
    headers = PeerAccess(Admin(authentication=settings)).headers
    assert Authenticator(settings).allows(headers.get("Authorization"))
    assert "s3cret" not in repr(PeerAccess(Admin(authentication=settings)))


def test_the_url_of_a_report() -> None:
    access = PeerAccess(Admin())
    assert str(access.url("http://10.0.0.7:9491")) == "http://10.0.0.7:9491/replicas/report"
    assert (
        str(access.url("http://[fd00::7]:9491/x?y=1#z")) == "http://[fd00::7]:9491/replicas/report"
    )
    assert access.context() is None


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("https://10.0.0.7", "is not of the scheme http"),
        ("file:///etc/passwd", "is no URL of a host"),
        ("http://user:pass@10.0.0.7", "is no URL of a host"),
        ("10.0.0.7:9491", "is no URL of a host"),
        ("http://10.0.0.7:port", "is no URL"),
        ("http://" + "a" * 600, "is longer than 512"),
    ],
)
def test_an_address_that_cannot_be_used(address: str, problem: str) -> None:
    with pytest.raises(ReportError, match=f"the address in its Lease {problem}"):
        PeerAccess(Admin()).url(address)


def test_no_credential_in_clear_text_where_the_settings_ask_for_tls() -> None:
    with pytest.raises(ReportError, match="not of the scheme https"):
        PeerAccess(Admin(tls=TLS)).url("http://10.0.0.7:9491")


def test_certificates_that_are_not_there_are_an_error_of_their_own() -> None:
    with pytest.raises(ReportError, match="this relay's certificates cannot be used"):
        PeerAccess(Admin(tls=TLS)).context()


@pytest.mark.parametrize(
    ("setting", "host", "environment", "expected"),
    [
        ("http://relay-0.relay:9491", "", {"POD_IP": "10.0.0.7"}, "http://relay-0.relay:9491"),
        ("", "", {"POD_IP": "10.0.0.7"}, "http://10.0.0.7:9491"),
        ("", "0.0.0.0", {"POD_IP": "fd00::7"}, "http://[fd00::7]:9491"),
        ("", "::", {}, "http://machine:9491"),
        ("", "127.0.0.1", {"POD_IP": "10.0.0.7"}, "http://127.0.0.1:9491"),
        ("", "[::1]", {}, "http://[::1]:9491"),
    ],
)
def test_the_address_in_the_lease(
    setting: str, host: str, environment: dict[str, str], expected: str
) -> None:
    listen = ListenAddress(host, 9491)
    assert advertised_address(setting, listen, "http", environment, "machine") == expected


@pytest.mark.parametrize(
    ("relay", "expected"),
    [
        ("relay-0", "group-relay-0"),
        ("Relay_0.Example.ORG.", "group-relay-0.example.org"),
        ("ü", "group-relay"),
        ("x" * 300, "group-" + "x" * 180),
    ],
)
def test_the_name_of_a_lease(relay: str, expected: str) -> None:
    assert lease_name("group", relay) == expected
