"""A customer who tries to read, change or guess what another one has, by one token of its own."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from relay.apiserver.objects.kinds import served_kinds
from tests.kit.apiserver.running import (
    ADMIN,
    AUTHORITY,
    EXPORTERS,
    SECRETS,
    LocalApi,
    exporter,
    local_api,
    secret,
    tokens,
)

pytestmark = [pytest.mark.slow]

OWN, OTHER = "acme", "globex"
VICTIM = "token-of-the-victim"
KNOWN = "guessed-name"
"""A name of the other customer's objects that the attacker has guessed."""
HIDDEN = "hidden9c1e"
"""In every value of the other customer, and in names that the attacker does not know."""
REQUESTS = 4000
ROOTS = (
    f"/projects/{OTHER}",
    f"/projects/{OWN}/../{OTHER}",
    f"/projects/{OWN}/../../projects/{OTHER}",
    f"/projects/{OWN}/%2e%2e/{OTHER}",
    f"/projects/{OWN}%2f..%2f{OTHER}",
    f"/projects/./{OTHER}",
    f"/projects//{OTHER}",
    f"//projects/{OTHER}",
    f"///projects/{OTHER}",
    f"/projects/{OWN}//projects/{OTHER}",
    f"/projects/{OWN}/projects/{OTHER}",
    f"/projects/{OWN};{OTHER}",
    f"/projects/{OWN};/../{OTHER}",
    f"/projects/{OWN}%00{OTHER}",
    f"/projects/{OWN},{OTHER}",
    f"/projects/{OWN}%2C{OTHER}",
    f"/projects/{OTHER.upper()}",
    f"/PROJECTS/{OTHER}",
    "/projects/%67lobex",
    f"/projects/{OTHER}%20",
    f"/projects/{OTHER}%0a",
    f"/projects/{OTHER}.",
    "/projects/%EF%BD%87lobex",  # a wide g
    "/projects/*",
    "/projects/%2a",
    "/projects/%2A",
    "/projects/%25%32%61",
    "/projects/",
    "/projects",
    "",
    f"http://localhost/projects/{OTHER}",
    f"https://{OTHER}/projects/{OTHER}",
    f"\\projects\\{OTHER}",
)
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"Impersonate-User": "victim"},
    {"X-Remote-User": "victim", "X-Remote-Group": "system:masters"},
    {"X-Forwarded-Prefix": f"/projects/{OTHER}", "X-Forwarded-For": "127.0.0.1"},
    {"X-Original-URL": f"/projects/{OTHER}{SECRETS}", "X-Rewrite-URL": f"/projects/{OTHER}"},
    {"X-HTTP-Method-Override": "DELETE"},
    {"Forwarded": f"for=127.0.0.1;host={OTHER}"},
    {"Host": OTHER},
    {"Cookie": f"token={VICTIM[:-1]}"},
    {"Upgrade": "h2c", "Connection": "Upgrade"},
)
QUERIES = (
    "",
    f"?project={OTHER}",
    f"?namespace={OTHER}&fieldSelector=metadata.namespace%3D{OTHER}",
    "?labelSelector=owner",
    "?fieldSelector=metadata.name!%3Dx",
    "?resourceVersion=0",
    "?resourceVersion=1&resourceVersionMatch=NotOlderThan",
    "?watch=1&resourceVersion=1&timeoutSeconds=1",
    "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1",
    "?limit=1",
)


def cursor(project: str, version: int) -> str:
    body = json.dumps({"v": version, "after": [project, "", ""]}).encode()
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


class Attacker:
    """Sends requests exactly as they are written."""

    def __init__(self, api: LocalApi, folder: Path) -> None:
        where = api.server.addresses[0]
        context = ssl.create_default_context(cafile=str(folder / AUTHORITY))
        self._connection = http.client.HTTPSConnection(
            where.host, where.port, context=context, timeout=20
        )
        self.codes: dict[int, int] = {}

    def close(self) -> None:
        self._connection.close()

    async def ask(self, method: str, target: str, body: Any, headers: dict[str, str]) -> str:
        """Send a request; return head and body of the answer."""
        return await asyncio.to_thread(self._ask, method, target, body, headers)

    def _ask(self, method: str, target: str, body: Any, headers: dict[str, str]) -> str:
        connection = self._connection
        sent = {"Host": "localhost", "Authorization": f"Bearer {ADMIN}", **headers}
        content = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        sent["Content-Length"] = str(len(content))
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders(content)
        try:
            response = connection.getresponse()
        except http.client.HTTPException as error:
            raise AssertionError((method, target, sent, body)) from error
        answer = f"{response.headers}\n{response.read().decode(errors='replace')}"
        self.codes[response.status] = self.codes.get(response.status, 0) + 1
        if response.will_close or "Upgrade" in sent:
            connection.close()
        assert response.status != 500, (method, target, body, answer)
        return answer


@asynccontextmanager
async def two_customers(folder: Path) -> AsyncIterator[tuple[LocalApi, Attacker]]:
    victim = {"token": VICTIM, "user": f"{HIDDEN}-user", "role": "admin", "projects": [OTHER]}
    async with local_api(folder, users=[*tokens(OWN), victim], tenancy=True) as api:
        other = api.user(VICTIM)
        root = f"/projects/{OTHER}"
        labels = {"owner": HIDDEN}
        for body, path in (
            (exporter(KNOWN, labels=labels, finalizers=[f"a.example/{HIDDEN}"]), EXPORTERS),
            (secret(KNOWN, value=HIDDEN, **{HIDDEN: "x"}), SECRETS),
            (exporter(HIDDEN), EXPORTERS),
            (exporter("same", labels=labels), EXPORTERS),
        ):
            assert (await other.ask("POST", f"{root}{path}", body))[0] == 201
        own = api.user(ADMIN)
        assert (await own.ask("POST", f"/projects/{OWN}{EXPORTERS}", exporter("same")))[0] == 201
        attacker = Attacker(api, folder)
        try:
            yield api, attacker
        finally:
            attacker.close()


async def all_of_the_victim(api: LocalApi) -> list[Any]:
    """Everything that the other customer has."""
    other = api.user(VICTIM)
    found = []
    for kind in served_kinds():
        if "list" in kind.verbs:
            code, listed = await other.ask("GET", f"/projects/{OTHER}{kind.path}/{kind.plural}")
            assert code == 200
            found.append((kind, listed["items"]))
    return found


def paths() -> Iterator[str]:
    for kind in served_kinds():
        scope = "/namespaces/default" if kind.namespaced else ""
        yield f"{kind.path}/{kind.plural}"
        yield f"{kind.path}{scope}/{kind.plural}"
        for name in (KNOWN, "same", "default", f"..%2f..%2f{OTHER}", "..", "%2e%2e"):
            yield f"{kind.path}{scope}/{kind.plural}/{name}"
            if kind.has_status:
                yield f"{kind.path}{scope}/{kind.plural}/{name}/status"


def bodies(uid: str) -> Iterator[Any]:
    owner = {"apiVersion": "v1", "kind": "Secret", "name": KNOWN, "uid": uid}
    entry = {
        "manager": "telemetry-relay",
        "operation": "Apply",
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:status": {}},
    }
    yield exporter(KNOWN)
    yield exporter("same", namespace=OTHER)
    yield exporter("same", uid=uid)
    yield exporter("mine", ownerReferences=[owner])
    yield exporter("mine", annotations={"telemetry.datumapis.com/project": OTHER})
    yield exporter("mine", managedFields=[entry])
    yield exporter("mine", finalizers=[f"a.example/{KNOWN}", "telemetry.datumapis.com/drain"])
    yield exporter(f"../{OTHER}/x")
    yield {"metadata": {"finalizers": None, "labels": {"a": "b"}}}
    yield [{"op": "test", "path": "/metadata/uid", "value": uid}]
    yield {"preconditions": {"uid": uid}, "propagationPolicy": "Orphan"}
    yield secret(KNOWN, value="x")


async def test_paths_and_headers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with two_customers(tmp_path) as (api, attacker):
        before = await all_of_the_victim(api)
        for root in ROOTS:
            for path in (SECRETS, f"{EXPORTERS}/{KNOWN}", "/api/v1/namespaces", "/version"):
                for headers in HEADERS[:1] if path != SECRETS else HEADERS:
                    answer = await attacker.ask("GET", root + path, None, dict(headers))
                    assert HIDDEN not in answer, (root, path, headers, answer)
            for path in (f"{EXPORTERS}/{KNOWN}", f"{EXPORTERS}/same", EXPORTERS):
                await attacker.ask("DELETE", root + path, None, {})
        assert await all_of_the_victim(api) == before
    assert not caplog.records


async def test_cursors_and_versions(tmp_path: Path) -> None:
    async with two_customers(tmp_path) as (api, attacker):
        newest = api.server.objects.version
        oldest = api.server.objects.ring("secrets").oldest
        assert newest - 100 < oldest < newest
        for version in (-1, 0, 1, *range(oldest - 2, newest + 3)):
            for project in ("", OWN, OTHER, "*", "zzz"):
                query = f"?limit=1&continue={cursor(project, version)}"
                for path in (EXPORTERS, SECRETS):
                    target = f"/projects/{OWN}{path}{query}"
                    answer = await attacker.ask("GET", target, None, {})
                    assert HIDDEN not in answer, (project, version)
        for version in (0, 1, *range(oldest - 2, newest + 1)):
            query = f"?watch=1&resourceVersion={version}&timeoutSeconds=1"
            target = f"/projects/{OWN}{SECRETS}{query}"
            answer = await attacker.ask("GET", target, None, {})
            assert HIDDEN not in answer, version


async def test_random_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    random = Random(17)
    types = (
        "application/json",
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    )
    async with two_customers(tmp_path) as (api, attacker):
        before = await all_of_the_victim(api)
        (uid,) = {
            item["metadata"]["uid"]
            for kind, items in before
            for item in items
            if item["metadata"]["name"] == KNOWN and kind.kind == "Secret"
        }
        all_bodies, all_paths = list(bodies(uid)), list(paths())
        for _ in range(REQUESTS):
            method = random.choice(["GET", "GET", "POST", "PUT", "PATCH", "PATCH", "DELETE"])
            root = random.choice((f"/projects/{OWN}", f"/projects/{OWN}", random.choice(ROOTS)))
            target = root + random.choice(all_paths)
            body = None
            headers = dict(random.choice(HEADERS))
            if method == "GET":
                query = random.choice(QUERIES)
                if "watch" not in query or random.random() < 0.02:
                    target += query
            else:
                body = random.choice(all_bodies)
                headers["Content-Type"] = random.choice(types)
                target += random.choice(("", "?fieldManager=telemetry-relay&force=true"))
            answer = await attacker.ask(method, target, body, headers)
            assert HIDDEN not in answer, (method, target, headers, body, answer)
        assert await all_of_the_victim(api) == before
        assert {200, 201, 400, 403, 404, 409, 422} <= attacker.codes.keys(), attacker.codes
    assert not caplog.records
