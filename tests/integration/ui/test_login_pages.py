"""Sessions, origins and headers of the pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.apiserver.access.tokens import NoAuthentication
from relay.ui.compose import SESSIONS_FILE
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER, tokens
from tests.kit.ui.visitor import local_pages

LIST = "/ui/exporters"


async def test_a_token_is_pasted_once(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor() as visitor:
        first = await visitor.get(LIST)
        assert first.status == 303
        assert first.location == f"/ui/login?next={LIST}"
        form = await visitor.get(first.location)
        assert 'name="token"' in form.text
        answer = await visitor.post("/ui/login", {"token": f" {EDITOR}\n", "next": LIST})
        assert (answer.status, answer.location) == (303, LIST)
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-relay=")
        for word in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=43200"):
            assert f"; {word}" in cookie
        assert EDITOR not in cookie
        page = await visitor.get(LIST)
        assert page.status == 200
        assert "<bdi>editor</bdi>, editor" in page.text
        assert EDITOR not in page.text


async def test_a_wrong_token_is_told_and_begins_nothing(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor() as visitor:
        for token, said in (("", "Paste a token first."), ("x" * 40, "is not known here")):
            answer = await visitor.post("/ui/login", {"token": token})
            assert answer.status == 401
            assert said in answer.text
            assert "Set-Cookie" not in answer.headers
        assert not (tmp_path / SESSIONS_FILE).exists()


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/ui/",
        "//evil.example/ui/",
        "/other",
        "/ui/\\evil",
        "javascript:alert(1)",
        "/ui/login",
        "/ui/\r\nX: y",
    ],
)
async def test_a_login_leads_to_no_other_site(tmp_path: Path, wanted: str) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor() as visitor:
        answer = await visitor.post("/ui/login", {"token": EDITOR, "next": wanted})
        assert answer.location == "/ui/"


async def test_a_change_needs_the_origin_of_the_page(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        for origin in ("https://evil.example", "null", pages.url.replace("https", "http"), ""):
            answer = await visitor.post("/ui/logout", Origin=origin)
            assert answer.status == 403, origin
        assert (await visitor.get(LIST)).status == 200
        same = {"Origin": "", "Sec_Fetch_Site": "same-origin"}
        assert (await visitor.post("/ui/logout", **same)).status == 303
        assert (await visitor.get(LIST)).status == 303


async def test_sessions_outlive_a_restart_and_not_their_token(tmp_path: Path) -> None:
    users = tokens()
    async with local_pages(tmp_path, users=users) as pages, pages.visitor(EDITOR) as visitor:
        jar = visitor._session.cookie_jar
        cookie = next(one.value for one in jar if one.key == "__Host-relay")
    file = tmp_path / SESSIONS_FILE
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert cookie not in file.read_text()
    assert EDITOR not in file.read_text()
    for some, status in ((users, 200), (users[:1], 303)):
        async with local_pages(tmp_path, users=some) as pages, pages.visitor() as visitor:
            answer = await visitor.get(LIST, Cookie=f"__Host-relay={cookie}")
            assert answer.status == status


async def test_sessions_that_cannot_be_read_end(tmp_path: Path) -> None:
    (tmp_path / SESSIONS_FILE).write_text('{"x": {"role": "root"}}')
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        assert (await visitor.get(LIST)).status == 200


async def test_every_answer_has_the_policy(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(VIEWER) as visitor:
        for path in ("/ui/login", LIST, "/ui/nothing", "/ui/"):
            headers = (await visitor.get(path)).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Server"] == "relay"


async def test_a_project_of_others_is_refused(tmp_path: Path) -> None:
    users = [
        {"token": ADMIN, "user": "root", "role": "admin", "projects": ["*"]},
        {"token": EDITOR, "user": "ann", "role": "editor", "projects": ["acme"]},
        {"token": VIEWER, "user": "bob", "role": "viewer", "projects": ["globex"]},
    ]
    async with (
        local_pages(tmp_path, users=users, tenancy=True) as pages,
        pages.visitor(EDITOR) as ann,
        pages.visitor(ADMIN) as root,
    ):
        assert (await ann.get("/ui/")).location == "/ui/projects/acme/exporters"
        assert (await ann.get("/ui/projects/acme/exporters")).status == 200
        for project in ("globex", "nobodys", "*", "acme%2Fx", ""):
            answer = await ann.get(f"/ui/projects/{project}/exporters")
            assert answer.status == 403, project
        assert (await ann.get("/ui/exporters")).status == 404
        page = await root.get("/ui/projects/globex/exporters")
        assert '<a href="/ui/projects/acme/exporters"' in page.text


async def test_static_files_are_kept_for_good(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor() as visitor:
        text = (await visitor.get("/ui/login")).text
        start = text.index("/ui/static/")
        style = text[text.index("/ui/static/", start + 1) :].partition('"')[0]
        answer = await visitor.get(style)
        assert answer.headers["Content-Type"].startswith("text/css")
        assert "immutable" in answer.headers["Cache-Control"]
        for wrong in ("/ui/static/0000/page.css", "/ui/static/"):
            assert (await visitor.get(wrong)).status == 404


async def test_the_api_is_where_it_was(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor() as visitor, pages.api() as admin:
        assert (await visitor.get("/healthz")).text == "ok"
        assert (await visitor.get("/", Accept="text/html,*/*")).location == "/ui/"
        assert (await visitor.get("/", Accept="application/json")).status == 401
        assert (await visitor.get("/", Accept="text/html", Authorization="Bearer x")).status == 401
        assert (await visitor.get("/api/v1/namespaces")).status == 401
        assert (await admin.ask("GET", "/api/v1/namespaces"))[0] == 200


async def test_without_logins_no_other_site_reads_a_page(tmp_path: Path) -> None:
    async with (
        local_pages(tmp_path, authentication=NoAuthentication()) as pages,
        pages.visitor() as visitor,
    ):
        assert (await visitor.get(LIST)).status == 200
        for host in ("evil.example", "evil.example:9493"):
            answer = await visitor.get(LIST, Host=host)
            assert answer.status == 403
            assert "not a name of this machine" in answer.text
        assert (await visitor.get(LIST, Origin="https://evil.example")).status == 403


async def test_a_proxy_on_this_machine_terminates_tls(tmp_path: Path) -> None:
    async with local_pages(tmp_path, has_plain=True) as pages, pages.visitor() as visitor:
        visitor.url = f"http://{pages.server.addresses[1]}"
        forwarded = {
            "Host": "relay.example",
            "X_Forwarded_Proto": "https",
            "Origin": "https://relay.example",
        }
        answer = await visitor.post("/ui/login", {"token": EDITOR}, **forwarded)
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-relay=")
        assert "; Secure" in cookie
        sent = cookie.partition(";")[0]
        assert (await visitor.get(LIST, Cookie=sent)).status == 200
        evil = {**forwarded, "Origin": "https://evil.example", "Cookie": sent}
        assert (await visitor.post("/ui/logout", **evil)).status == 403
        named = {**forwarded, "Host": "127.0.0.1:9493", "Sec_Fetch_Site": "same-origin"}
        answer = await visitor.post("/ui/logout", Cookie=sent, **named)
        assert answer.status == 303
        assert (await visitor.get(LIST, Cookie=sent)).status == 303
        plain = await visitor.post("/ui/login", {"token": EDITOR})
        assert plain.headers["Set-Cookie"].startswith("relay=")
        assert "Secure" not in plain.headers["Set-Cookie"]
