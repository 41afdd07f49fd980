"""An API without authentication takes nothing that a page of somebody else sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.apiserver.access.foreign_pages import foreign_page
from relay.apiserver.compose import refuse_foreign_pages
from tests.kit.apiserver.running import ADMIN, EXPORTERS, exporter, local_api

OWN = "127.0.0.1:9492"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": OWN},
        {"Host": "localhost:9492"},
        {"Host": "LOCALHOST"},
        {"Host": "127.0.0.5:1"},
        {"Host": "[::1]:9492"},
        {"Host": OWN, "Origin": f"https://{OWN}"},
        {"Host": "localhost:9493", "Origin": "http://localhost:9493"},
        {"Host": OWN, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Host": OWN, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        {"Host": OWN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
    ids=str,
)
def test_own_requests_are_taken(headers: dict[str, str]) -> None:
    assert foreign_page(headers) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:9492", "Origin": "http://evil.example:9492"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example:9492"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "localhost."},
        {"Host": "10.0.0.1:9492"},
        {"Host": "0.0.0.0:9492"},
        {"Host": "[::ffff:10.0.0.1]:9492"},
        {"Host": OWN, "Origin": "https://evil.example"},
        {"Host": OWN, "Origin": "null"},
        {"Host": OWN, "Origin": ""},
        {"Host": OWN, "Origin": "http://127.0.0.1:3000"},
        {"Host": OWN, "Origin": "http://localhost:9492"},
        {"Host": OWN, "Origin": f"http://{OWN}.evil.example"},
        {"Origin": "http://localhost"},
        {"Host": OWN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Host": OWN, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)
def test_foreign_requests_are_refused(headers: dict[str, str]) -> None:
    assert foreign_page(headers)


async def test_a_refusal_is_a_status(tmp_path: Path) -> None:
    async with local_api(tmp_path, allows_request=refuse_foreign_pages) as api:
        admin = api.user(ADMIN)
        for method in ("GET", "POST", "DELETE"):
            body = exporter() if method == "POST" else None
            code, status = await admin.ask(method, EXPORTERS, body, Origin="https://evil.example")
            assert (code, status["reason"], status["kind"]) == (403, "Forbidden", "Status")
            assert "evil.example" in status["message"]
        code, listed = await admin.ask("GET", EXPORTERS)
        assert (code, listed["items"]) == (200, [])
