"""Saving: credentials go where they belong, and nowhere else."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.http.file_objects import FileObject
from relay.ui.authoring.controls import exporter_kind
from relay.ui.compose import SESSIONS_FILE
from tests.kit.apiserver.running import EDITOR, EXPORTERS, SECRETS, ApiUser, exporter, secret
from tests.kit.ui.forms import fields_of
from tests.kit.ui.visitor import PageAnswer, Visitor, local_pages

NEW = "/ui/exporters/new"
ENTERED = r'(?s)<textarea id="snippet".*?</textarea>|value="[^"]*" type="password"'
"""Controls that hold what a person has entered and not saved yet."""
TOKEN = "glc_eyJvIjoiMSIsIm4iOiJzZWNyZXQifQ"
SNIPPET = f"""\
remote_write:
  - url: https://prometheus-prod-01.grafana.net/api/prom/push
    basic_auth:
      username: 12345
      password: {TOKEN}
    headers:
      X-Scope-OrgID: acme
"""


async def pasted(visitor: Visitor, snippet: str, **fields: str) -> PageAnswer:
    """Paste a snippet into a new form, and save what it shows."""
    shown = await visitor.post(NEW, {"do": "paste", "snippet": snippet})
    assert shown.status == 200
    return await visitor.post(NEW, {**fields_of(shown.text), **fields, "do": "save"})


async def versions(api: ApiUser) -> dict[str, Any]:
    """The versions of all Secrets by name."""
    _, listed = await api.ask("GET", SECRETS)
    metadata = [one["metadata"] for one in listed["items"]]
    return {one["name"]: one["resourceVersion"] for one in metadata}


async def test_a_second_account_does_not_change_the_credential_of_the_first(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor, pages.api() as api:
        answer = await pasted(visitor, SNIPPET)
        assert answer.location == "/ui/exporters/default/grafana-cloud-metrics", answer.text
        before = await versions(api)
        (first,) = before
        other = SNIPPET.replace("12345", "67890") + SNIPPET.partition("\n")[2]
        answer = await pasted(visitor, other, **{"metadata.name": "second"})
        assert answer.location == "/ui/exporters/default/second", answer.text
        after = await versions(api)
        assert after[first] == before[first]
        others = sorted(after.keys() - before.keys())
        assert len(others) == 2
        _, stored = await api.ask("GET", f"{EXPORTERS}/second")
        named = re.findall(r"'secretRef': {'name': '([\w-]+)'", str(stored["spec"]))
        assert sorted(named) == others


async def test_what_is_refused_leaves_credentials_as_they_are(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor, pages.api() as api:
        value = exporter(namespace="default")
        body = value["spec"]["sinks"][0]["otlp_http"]
        body["authentication"] = {"type": "bearerToken", "secretRef": {"name": "tok"}}
        await api.ask("POST", EXPORTERS, value)
        await api.ask("POST", SECRETS, secret())
        page = await visitor.get("/ui/exporters/default/acme/edit")
        form = {**fields_of(page.text), "credential[0].token": "new", "do": "save"}
        assert form["secret[0]"] == "tok"
        await api.ask("DELETE", f"{EXPORTERS}/acme")
        kind = exporter_kind()
        await pages.server.service.files.sync([kind], [FileObject(kind, "", value, "/etc/a.yaml")])
        before = await versions(api)
        answer = await visitor.post("/ui/exporters/default/acme/edit", form)
        assert answer.status == 422
        assert "/etc/a.yaml" in answer.text
        assert await versions(api) == before


async def test_a_credential_is_in_no_page_file_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        shown = await visitor.post(NEW, {"do": "paste", "snippet": SNIPPET})
        form = fields_of(shown.text)
        assert form.pop("credential[0].password") == TOKEN  # until it is saved
        assert TOKEN not in str(form)
        for snippet in (
            SNIPPET.replace("    basic", "  basic"),
            f"{SNIPPET}---\n",
            f"remote_write: [{TOKEN}",
            SNIPPET.replace("password", "username"),
            f"remote_write: {{url: {TOKEN}: x}}",
        ):
            failed = await visitor.post(NEW, {"do": "paste", "snippet": snippet})
            rest = re.sub(ENTERED, "", failed.text)
            assert TOKEN not in rest
        assert (await pasted(visitor, SNIPPET)).status == 303
        one = "/ui/exporters/default/grafana-cloud-metrics"
        for path in ("/ui/exporters", one, f"{one}/edit", f"{one}/delete", "/ui/secrets"):
            assert TOKEN not in (await visitor.get(path)).text
        again = await visitor.post(
            f"{one}/edit/check", fields_of((await visitor.get(f"{one}/edit")).text)
        )
        assert TOKEN not in again.text
    assert TOKEN not in caplog.text
    for record in caplog.records:
        assert TOKEN not in str(vars(record))
    assert TOKEN not in (tmp_path / SESSIONS_FILE).read_text()
