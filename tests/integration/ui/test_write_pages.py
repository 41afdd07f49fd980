"""The form without a browser: what it asks for, and what it says."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from tests.kit.apiserver.running import EDITOR
from tests.kit.ui.visitor import local_pages

NEW = "/ui/exporters/new"


async def test_a_known_backend_asks_for_what_only_the_customer_knows(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        page = await visitor.post(NEW, {"do": "backend.datadog"})
        first, _, rare = page.text.partition('<details class="rare" id="rare-0">')
        for label in (">Site<", ">Endpoint<", ">API key<"):
            assert label in first
        for label in (">Profile<", ">Authentication<", ">Header<", ">Secret<"):
            assert label not in first
            assert label in rare
        assert 'data-value="https://otlp.datadoghq.com" aria-pressed="true"' in first
        other = await visitor.post(NEW, {"do": "backend.otlp"})
        first = other.text.partition('<details class="rare" id="rare-0">')[0]
        assert ">Authentication<" in first
        assert ">Secret<" in first


async def test_a_credential_that_is_missing_is_asked_for_before_it_is_saved(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        page = await visitor.post(NEW, {"do": "backend.datadog"})
        fields = form_of(page.text)
        refused = await visitor.post(NEW, {**fields, "do": "save"})
        assert refused.status == 422
        assert '<a href="#credential-0--apiKey">API key</a>: enter it' in refused.text
        assert (await visitor.get("/ui/secrets")).text.count("<tbody>") == 0
        saved = await visitor.post(NEW, {**fields, "credential[0].apiKey": "k", "do": "save"})
        assert saved.location == "/ui/exporters/default/datadog"
        again = await visitor.post(NEW, {"do": "backend.datadog"})
        assert "is kept in the Secret <bdi>datadog-2</bdi>" in again.text
        assert 'name="metadata.name" value="datadog-2"' in again.text
        edit = await visitor.get("/ui/exporters/default/datadog/edit")
        assert "is stored: enter nothing to keep it" in edit.text


def form_of(page: str) -> dict[str, str]:
    """The hidden fields of a form and its text, as a browser sends them."""
    found = {
        name: unescape(value)
        for name, value in re.findall(
            r'<input type="hidden" name="(\w+)"[^>]* value="([^"]*)"', page
        )
    }
    text = re.search(r'<textarea id="text"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    assert text is not None
    return {**found, "text": unescape(text[1])}
