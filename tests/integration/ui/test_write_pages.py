"""The form without a browser: what it asks for, and what it says."""

from __future__ import annotations

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
