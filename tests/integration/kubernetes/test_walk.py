"""The customer's walk of docs/kubernetes-walk.md, with both kubectl."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.kubernetes.kubectl import VERSIONS
from tests.kit.kubernetes.servers import SERVERS
from tests.kit.kubernetes.walk import DOCUMENT, STEPS, findings, walk

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("version", VERSIONS)
async def test_describe_says_what_the_page_shows(tmp_path: Path, version: str, server: str) -> None:
    shown = re.findall(r"```text\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(shown) == len(STEPS)
    for step, page, said in zip(STEPS, shown, await walk(tmp_path, version, server), strict=True):
        found = findings(said)
        assert findings(page) == found, step.title
        assert f"Reason: {step.reason}" in found
