"""A busy run in which no value of a Secret and no token is told: log, answers, metrics, status."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import yaml
from yarl import URL

from tests.kit.apiserver.running import ADMIN, EDITOR, EXPORTERS, SECRETS, VIEWER, exporter, tokens
from tests.kit.processes import free_port, relay

pytestmark = [pytest.mark.slow]

SEED = 17
CANARY = "canary7f3a"
"""Part of every value that must not be told."""
WRONG = f"wrong-token-{CANARY}"
TYPES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


def shown_forms(text: str) -> list[str]:
    """The forms in which a text may be told: as it is, and in base64 at each offset."""
    found = [text]
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + text.encode()).decode()
        found.append(encoded[4 * bool(offset) : -4].rstrip("="))
    return found


FORMS = shown_forms(CANARY)


@dataclass
class Busy:
    """Sends requests of all kinds, and keeps what is answered."""

    session: aiohttp.ClientSession
    url: str
    random: Random = field(default_factory=lambda: Random(SEED))
    answers: list[str] = field(default_factory=list)
    changes: int = 0

    def value(self) -> str:
        """A new value that must not be told."""
        return f"{CANARY}-{self.random.randrange(10**9)}"

    def coded(self) -> str:
        """The same in base64."""
        return base64.b64encode(self.value().encode()).decode()

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str = ADMIN, **headers: str
    ) -> int:
        sent = {"Authorization": f"Bearer {token}", **headers}
        data = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, data=data, headers=sent) as response:
            text = await response.text()
            self.answers.append(f"{response.headers} {text}")
            if method != "GET" and response.status not in (401, 404, 405):
                self.changes += 1
            return response.status

    async def write_secrets(self, name: str) -> None:
        """Write a Secret in every way that there is, good and bad."""
        one = f"{SECRETS}/{name}"
        head = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        last = json.dumps({**head, "data": {"a": self.coded()}})
        noted = {"kubectl.kubernetes.io/last-applied-configuration": last}
        bad: list[Any] = [
            {**head, "data": {"a": self.value()}},
            {**head, "data": {"a": [self.value()]}},
            {**head, "data": self.value()},
            {**head, "stringData": {"a b": self.value()}},
            {**head, "stringData": {"a": {"b": self.value()}}},
            {**head, "data": {"a": self.coded()}, "type": "kubernetes.io/tls"},
            json.dumps({**head, "data": {"a": self.coded()}})[:-2] + "x",
            [self.value()],
        ]
        await self.ask("POST", SECRETS, {**head, "stringData": {"a": self.value()}})
        for body in bad:
            await self.ask("POST", f"{SECRETS}?fieldValidation=Strict", body)
            await self.ask("PUT", one, body)
            for media_type in TYPES.values():
                query = "?fieldManager=x&force=true" if "apply" in media_type else ""
                await self.ask("PATCH", one + query, body, **{"Content-Type": media_type})
        await self.ask("PUT", one, {**head, "data": {"a": self.coded(), "b": self.coded()}})
        noting = {"metadata": {"annotations": noted}, "stringData": {"c": self.value()}}
        await self.ask("PATCH", one, noting, **{"Content-Type": TYPES["merge"]})
        await self.ask("PATCH", one, noting, **{"Content-Type": TYPES["strategic"]})
        copying = [
            {"op": "test", "path": "/data/a", "value": self.coded()},
            {"op": "copy", "from": "/data/a", "path": "/metadata/labels"},
            {"op": "move", "from": "/data", "path": "/metadata/annotations"},
            {"op": "replace", "path": "/data/a", "value": self.coded()},
        ]
        for operation in copying:
            await self.ask("PATCH", one, [operation], **{"Content-Type": TYPES["json"]})
        for manager in ("x", "y"):
            applied = {**head, "data": {"a": self.coded()}}
            path = f"{one}?fieldManager={manager}"
            await self.ask("PATCH", path, applied, **{"Content-Type": TYPES["apply"]})

    async def read(self, name: str) -> None:
        """Read in every form, as every user."""
        for token in (ADMIN, EDITOR, VIEWER):
            for path in (SECRETS, f"{SECRETS}/{name}", f"{SECRETS}?watch=1&timeoutSeconds=1"):
                for form in ("Table", "PartialObjectMetadataList", ""):
                    accept = f"application/json;as={form};v=v1;g=meta.k8s.io" if form else "*/*"
                    if "watch" not in path or (token, form) == (ADMIN, ""):
                        await self.ask("GET", path, token=token, Accept=accept)

    async def be_refused(self) -> None:
        """Send tokens where they are wrong, and names that break lines."""
        await self.ask("GET", SECRETS, token=WRONG)
        await self.ask("GET", f"{SECRETS}?token={WRONG}&access_token={WRONG}")
        basic = base64.b64encode(f"u:{WRONG}".encode()).decode()
        await self.ask("GET", SECRETS, Authorization=f"Basic {basic}")
        await self.ask("DELETE", f"{SECRETS}/a%0Aaudit%0A", token=VIEWER)
        await self.ask("DELETE", f"{SECRETS}/%FF%ED%A0%80", token=VIEWER)
        await self.ask("POST", EXPORTERS, "{", **{"User-Agent": "a\udcff\udcfe"})


@asynccontextmanager
async def busy(folder: Path) -> AsyncIterator[tuple[Busy, str]]:
    (folder / "tokens.yaml").write_text(yaml.safe_dump(tokens()))
    (folder / "keys").write_text(base64.b64encode(bytes(range(32))).decode())
    port = free_port()
    api = {
        "path": "api.db",
        "listen": f"127.0.0.1:{free_port()}",
        "httpListen": f"127.0.0.1:{port}",
        "encryptionKeyFile": "keys",
        "authentication": {"type": "tokens", "file": "tokens.yaml"},
    }
    config = folder / "relay.yaml"
    config.write_text(yaml.safe_dump({"api": api, "log": {"level": "debug"}}))
    async with (
        relay(folder, "--config", str(config)) as (process, _, admin),
        aiohttp.ClientSession() as session,
    ):
        yield Busy(session, f"http://127.0.0.1:{port}"), admin
        assert await process.stop() == 0


def told(text: str) -> list[str]:
    """Where a text tells a value or token: what stands around it."""
    forms = "|".join(re.escape(form) for form in (*FORMS, ADMIN, EDITOR, VIEWER))
    return sorted({one.group() for one in re.finditer(f".{{0,200}}({forms})", text)})


def content_of(folder: Path) -> bytes:
    """The database as it is on the disk."""
    files = list(folder.glob("api.db*"))
    assert files
    return b"".join(file.read_bytes() for file in files)


async def test_nothing_is_told(tmp_path: Path) -> None:
    async with busy(tmp_path) as (run, admin):
        for index in range(8):
            await run.write_secrets(f"s{index}")
            await run.be_refused()
        sink = {"name": "one", "otlp_http": {"endpoint": "http://127.0.0.1:1"}}
        sink["otlp_http"]["authentication"] = {"bearerToken": {"secretRef": {"name": "s1"}}}
        one = exporter("reads")
        one["spec"]["sinks"] = [sink]
        await run.ask("POST", EXPORTERS, one)
        await run.read("s1")
        for path in ("/metrics", "/status", "/status?verbose=1"):
            async with run.session.get(admin + path) as response:
                run.answers.append(await response.text())
        await run.ask("DELETE", SECRETS)
        answers, changes = run.answers, run.changes
    assert told("\n".join(answers)) == []
    log = (tmp_path / "relay.log").read_text()
    assert told(log) == []
    assert "Traceback" not in log
    assert "Logging error" not in log
    lines = [line for line in log.splitlines() if "relay.api.audit" in line]
    assert len(lines) == changes, "one line for each change"
    assert all(re.search(r"\buser\b", line) and "address" in line for line in lines)
    stored = content_of(tmp_path)
    assert not [form for form in FORMS if form.encode() in stored]
