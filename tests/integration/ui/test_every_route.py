"""What holds for every page: origins, projects, roles, headers. Routes are found, not listed."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from relay.ui.compose import ROUTES
from relay.ui.rendering import HEADERS
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER, exporter, secret
from tests.kit.ui.visitor import LocalPages, PageAnswer, Visitor, local_pages

GUS = "token-of-globex-editor"
USERS = [
    {"token": ADMIN, "user": "root", "role": "admin", "projects": ["*"]},
    {"token": EDITOR, "user": "ann", "role": "editor", "projects": ["acme"]},
    {"token": VIEWER, "user": "vic", "role": "viewer", "projects": ["acme"]},
    {"token": GUS, "user": "gus", "role": "editor", "projects": ["globex"]},
]
MARK = "only-of-globex"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ARGUMENTS = {"group": "telemetry.datumapis.com", "namespace": "default", "sink": "one"}
LOGINS = (("POST", "/ui/login"), ("POST", "/ui/logout"), ("GET", "/ui/oidc/start"))


def path_of(route_path: str, project: str, name: str) -> str:
    """The address of a page of an object."""
    filled = re.sub(r"\{(\w+)\}", lambda one: ARGUMENTS.get(one[1], name), route_path)
    return f"/ui/projects/{project}/{filled}"


def form(name: str, **more: str) -> dict[str, str]:
    """A form that every page finds its fields in."""
    base = json.dumps(exporter(name, namespace="default"))
    named = {"namespace": "default", "name": f"tok-{name}", "key": "token", "value": "v"}
    return {"base": base, "do": "save", "sink": "0", "at": "1", "snippet": "a", **named, **more}


def addresses(project: str, name: str) -> Iterator[tuple[str, str]]:
    """Method and address of every route."""
    for route in ROUTES:
        if not route.is_wide:
            yield route.method, path_of(route.path, project, name)
    for route in ROUTES:
        if route.is_wide:
            yield route.method, f"/ui/{route.path}"


@asynccontextmanager
async def two_customers(folder: Path) -> AsyncIterator[LocalPages]:
    """Pages of two projects; objects of one have names with a mark."""
    async with local_pages(folder, users=USERS, tenancy=True) as pages, pages.api() as root:
        for project, name in (("acme", "own"), ("globex", MARK)):
            base = f"/projects/{project}"
            group = f"{base}/apis/telemetry.datumapis.com/v1alpha1/namespaces/default/exporters"
            assert (await root.ask("POST", group, exporter(name)))[0] == 201
            kept = secret(name, **{f"key-{name}": f"value-{name}"})
            code, _ = await root.ask("POST", f"{base}/api/v1/namespaces/default/secrets", kept)
            assert code == 201
        yield pages


async def sent(
    visitor: Visitor, method: str, path: str, fields: dict[str, str], **headers: str
) -> PageAnswer:
    """Send a request as a page would, a stream's as HEAD."""
    asked = "HEAD" if method == "GET" and "/live" in path else method
    kept = {"Origin": visitor.url, **headers}
    body = None if method in ("GET", "HEAD") else fields
    return await visitor._ask(asked, path, body, kept)


async def test_no_change_comes_from_another_page(tmp_path: Path) -> None:
    async with two_customers(tmp_path) as pages, pages.visitor(EDITOR) as ann:
        before = pages.server.objects.version
        foreign = ("https://evil.example", "null", pages.url.replace("https", "http"), "")
        for route_method, path in (*addresses("acme", "own"), *LOGINS):
            for method in {route_method, *METHODS} - {"GET", "HEAD"}:
                for origin in foreign:
                    answer = await sent(ann, method, path, form("fresh"), Origin=origin)
                    assert answer.status == 403, (method, path, origin)
                    assert "a change must come from this page" in answer.text
            if route_method == "POST":
                crossed = {"Origin": pages.url, "Sec_Fetch_Site": "cross-site"}
                assert (await sent(ann, "POST", path, form("fresh"), **crossed)).status == 403
        assert pages.server.objects.version == before
        assert (await ann.get("/ui/projects/acme/exporters")).status == 200


async def test_projects_of_others_are_all_the_same(tmp_path: Path) -> None:
    async with two_customers(tmp_path) as pages, pages.visitor(EDITOR) as ann:
        before = pages.server.objects.version
        for method, path in addresses("globex", MARK):
            if "/projects/" not in path:
                continue
            answers = [
                await sent(ann, method, path.replace("globex", name), form(MARK))
                for name in ("globex", "nobody")
            ]
            assert [one.status for one in answers] == [403, 403], path
            texts = [one.text.replace("nobody", "globex") for one in answers]
            assert texts[0] == texts[1]
            assert MARK not in texts[0]
        assert (await ann.get("/ui/operator")).status == 403
        assert pages.server.objects.version == before


async def test_nothing_of_another_project_is_shown_in_ones_own(tmp_path: Path) -> None:
    async with two_customers(tmp_path) as pages, pages.visitor(EDITOR) as ann:
        fields = {
            "project": "globex",
            "namespace": "default/../../../../projects/globex/default",
            "metadata.namespace": "../../globex",
            "digest": "0" * 16,
            "version": "0" * 16,
            "uid": "0",
        }
        for name in (MARK, f"..%2F..%2Fglobex%2F{MARK}", "%00", "own%2Fstatus"):
            for method, path in addresses("acme", name):
                for more in ({}, fields):
                    asked = {"Last_Event_ID": "globex", "X_Project": "globex"}
                    answer = await sent(ann, method, path, form("another", **more), **asked)
                    assert answer.status < 500, (path, answer.text)
                    shown = answer.text.replace("&#34;", '"')
                    told = [one for one in re.findall(rf"[\w-]*{MARK}", shown) if "/" not in name]
                    # The address itself may be repeated; of what is stored there nothing is.
                    assert f"key-{MARK}" not in told
                    assert f"value-{MARK}" not in shown


async def test_a_viewer_changes_nothing_and_an_editor_does(tmp_path: Path) -> None:
    async with (
        two_customers(tmp_path) as pages,
        pages.visitor(VIEWER) as vic,
        pages.visitor(EDITOR) as ann,
        pages.visitor() as nobody,
    ):
        changed = []
        for method, path in addresses("acme", "own"):
            before = pages.server.objects.version
            answer = await sent(nobody, method, path, form("fresh"))
            assert answer.status in (303, 401), path
            assert answer.status == 401 or answer.location.startswith("/ui/login")
            await sent(vic, method, path, form("fresh"))
            assert pages.server.objects.version == before, path
            await sent(ann, method, path, form("fresh"))
            if pages.server.objects.version != before:
                changed.append(path.rpartition("/")[2])
        assert {"new", "pause", "resume", "secrets", "delete"} <= set(changed)


async def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    async with two_customers(tmp_path) as pages, pages.visitor(EDITOR) as ann:
        found = [*addresses("acme", "own"), *addresses("globex", MARK), *LOGINS]
        paths = {path: None for _, path in found if not path.endswith(("/login", "/logout"))}
        for path in (
            *paths,
            "/ui/static/none",
            "/ui/nothing",
            "/ui",
            "/ui/login",
            "/ui//",
            "/ui/%ff",
        ):
            for method in METHODS:
                for part in ("", "true"):
                    answer = await sent(ann, method, path, form("own"), HX_Request=part)
                    assert answer.status < 500, (method, path)
                    for name, value in HEADERS.items():
                        assert answer.headers[name] == value, (method, path, name)
                    assert len(answer.headers.getall("Server")) == 1
        async with pages.visitor() as nobody:
            asked = await nobody.get("/ui/projects/acme/live", Accept="text/event-stream")
            assert (asked.status, asked.headers["Server"]) == (401, "relay")


async def test_what_can_be_no_project_is_none(tmp_path: Path) -> None:
    async with two_customers(tmp_path) as pages, pages.visitor(ADMIN) as root:
        for project in ("x%0d%0aSet-Cookie:a=b", "a%2Fb", "..", "%00", "a%22b", "A"):
            answer = await root.get(f"/ui/projects/{project}/exporters")
            assert answer.status in (403, 404), project
            assert "Set-Cookie" not in answer.headers


async def test_a_flood_of_one_project_costs_others_a_turn(tmp_path: Path) -> None:
    async with two_customers(tmp_path) as pages, pages.visitor(EDITOR) as ann:
        turns, owners = pages.server.objects.turns, []
        waiting = turns.turn

        async def turn(owner: str = "", *, in_background: bool = False) -> None:
            owners.append(owner)
            await waiting(owner, in_background=in_background)

        turns.turn = turn  # type: ignore[method-assign]
        await ann.get("/ui/projects/acme/exporters")
        assert "acme" in owners
