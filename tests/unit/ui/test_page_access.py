"""Sessions, origins, and where a login leads."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from relay.apiserver.access.principals import Principal
from relay.ui.access import sessions as module
from relay.ui.access.login import own_page
from relay.ui.access.origin import foreign_origin, scheme_of_page
from relay.ui.access.sessions import SESSION_S, SESSIONS_OF_USER_MAX, Sessions

ANN = Principal("ann", frozenset({"acme"}), "editor")
OTHER_ANN = Principal("ann", frozenset({"globex"}), "editor")
NOW = 1000.0


def of_file(path: Path, realm: str = "r", clock: float = NOW) -> Sessions:
    """Sessions as a process has them that starts."""
    made = Sessions(path, lambda: clock, {"digest": ANN}.get, realm)
    made.load()
    return made


async def test_a_session_ends_after_twelve_hours_or_with_its_token(tmp_path: Path) -> None:
    now = NOW
    sessions = Sessions(tmp_path / "s", lambda: now, lambda _: None)
    cookie, age_s = await sessions.begin(ANN)
    short, short_s = await sessions.begin(ANN, until=NOW + 300)
    long, long_s = await sessions.begin(ANN, until=NOW + 10 * SESSION_S)
    gone, _ = await sessions.begin(ANN, "digest of a token that is not known")
    assert (age_s, short_s, long_s) == (SESSION_S, 300, SESSION_S)
    assert sessions.principal(gone) is None
    now += 299
    assert sessions.principal(short) == ANN
    now += 1
    assert sessions.principal(short) is None
    now = NOW + SESSION_S - 1
    assert sessions.principal(cookie) == sessions.principal(long) == ANN
    now += 1
    assert sessions.principal(cookie) is None


async def test_nobody_pushes_out_sessions_of_other_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SESSIONS_MAX", 50)
    sessions = of_file(tmp_path / "s")
    (others, _), (own, _) = await sessions.begin(OTHER_ANN), await sessions.begin(ANN)
    for _ in range(SESSIONS_OF_USER_MAX):
        await sessions.begin(ANN)
    assert sessions.principal(own) is None  # the same user's twentieth but one
    for number in range(100):
        await sessions.begin(Principal(f"user-{number}", ANN.projects, "viewer"))
    assert sessions.principal(others) == OTHER_ANN
    assert len(sessions._sessions) == 50


async def test_a_login_ends_the_session_that_it_takes_the_place_of(tmp_path: Path) -> None:
    sessions = of_file(tmp_path / "s")
    first, _ = await sessions.begin(ANN)
    second, _ = await sessions.begin(ANN, instead_of=first)
    assert sessions.principal(first) is None
    assert sessions.principal(second) == ANN
    assert sessions.principal("") is sessions.principal("\udcff") is None


async def test_logins_that_come_at_once_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    monkeypatch.setattr(module, "_write", lambda _, content: writes.append(content))
    sessions = of_file(tmp_path / "s")
    await asyncio.gather(*(sessions.begin(ANN) for _ in range(20)))
    assert len(writes) == 2
    assert len(json.loads(writes[1])["sessions"]) == 20


async def test_another_way_to_tell_users_ends_sessions(tmp_path: Path) -> None:
    cookie, _ = await of_file(tmp_path / "s", "none").begin(ANN)
    assert of_file(tmp_path / "s", "none").principal(cookie) == ANN
    assert of_file(tmp_path / "s", "tokens").principal(cookie) is None


async def test_what_ended_does_not_come_back_where_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s"
    sessions = of_file(path)
    cookie, _ = await sessions.begin(ANN)
    other, _ = await sessions.begin(OTHER_ANN)

    def full(draft: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        await sessions.end(cookie)
        await sessions.begin(ANN)
    assert os.listdir(tmp_path) == []
    assert [one.message for one in caplog.records] == [
        "sessions cannot be stored: [Errno 28] No space left on device"
    ]
    assert sessions.principal(other) == OTHER_ANN
    assert of_file(path).principal(cookie) is None
    await sessions.begin(ANN)
    assert of_file(path).principal(other) == OTHER_ANN


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"realm": "r", "sessions": {"x": {"role": "root"}}}',
        b'{"realm": "r", "sessions": {"x": ' + b'{"y":' * 100_000,
    ],
)
async def test_a_file_that_is_no_file_of_sessions_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    path.with_name("s.new").write_text("left by a process that was killed")
    sessions = of_file(path)
    cookie, _ = await sessions.begin(ANN)
    assert of_file(path).principal(cookie) == ANN
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["s"]


HOST = "relay.example"


@pytest.mark.parametrize(
    ("scheme", "headers", "is_own"),
    [
        ("https", {"Origin": "https://relay.example"}, True),
        ("https", {"Origin": "http://relay.example"}, False),
        ("https", {"Origin": "https://relay.example:8443"}, False),
        ("https", {"Origin": "https://relay.example.evil.example"}, False),
        ("https", {"Origin": "null"}, False),
        ("https", {}, False),
        ("https", {"Sec-Fetch-Site": "same-origin"}, True),
        ("https", {"Sec-Fetch-Site": "same-site"}, False),
        ("https", {"Sec-Fetch-Site": "none"}, False),
        ("https", {"Sec-Fetch-Site": "none", "Origin": "https://relay.example"}, True),
        ("https", {"Sec-Fetch-Site": "cross-site", "Origin": "https://relay.example"}, False),
        ("https", {"X-Forwarded-Host": "evil.example", "Origin": "https://evil.example"}, False),
        # Behind a proxy that terminates TLS, and one that puts its own word for Host.
        ("http", {"Origin": "https://relay.example"}, True),
        ("http", {"Origin": "https://x.example", "Sec-Fetch-Site": "same-origin"}, True),
        ("http", {"Origin": "https://x.example", "Sec-Fetch-Site": "cross-site"}, False),
        ("http", {"Origin": "https://x.example"}, False),
        ("http", {"Origin": "http://relay.example"}, True),
    ],
)
def test_the_origin_of_a_change(scheme: str, headers: dict[str, str], is_own: bool) -> None:
    sent = {"Host": HOST, **headers}
    assert (foreign_origin("POST", scheme, sent) == "") is is_own
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "WHATEVER"):
        assert (foreign_origin(method, scheme, sent) == "") is is_own
    for method in ("GET", "HEAD"):
        assert foreign_origin(method, scheme, sent) == ""


@pytest.mark.parametrize(
    ("scheme", "headers", "found"),
    [
        ("http", {}, "http"),
        ("https", {"X-Forwarded-Proto": "http", "Origin": "http://x"}, "https"),
        ("http", {"X-Forwarded-Proto": "HTTPS, http"}, "https"),
        ("http", {"X-Forwarded-Proto": "http, https"}, "http"),
        ("http", {"Origin": "https://relay.example"}, "https"),
    ],
)
def test_the_scheme_that_a_browser_sees(scheme: str, headers: dict[str, str], found: str) -> None:
    assert scheme_of_page(scheme, headers) == found


@pytest.mark.parametrize(
    "wanted",
    [
        "//[",
        "/ui/login?next=x",
        "/ui/logout",
        "/ui/" + "x" * 5000,
        "/ui/\udcff",
        "",
        "https://[::1",
    ],
)
def test_a_login_leads_nowhere_else(wanted: str) -> None:
    assert own_page(wanted) == "/ui/"
    assert own_page("/ui/explain?series=up{a=%22b%22}") == "/ui/explain?series=up{a=%22b%22}"
