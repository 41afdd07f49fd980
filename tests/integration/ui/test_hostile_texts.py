"""A customer and an endpoint send every text that could do harm; nothing runs, nothing breaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.apiserver.running import ADMIN, EDITOR
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.ui.browser import browser, person
from tests.kit.ui.platform import GROUP, PROJECT_LABEL, exporter_of, platform

pytestmark = [pytest.mark.slow, pytest.mark.real]

SCRIPTS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'-alert(1)-'",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "</textarea><iframe src=javascript:alert(1)>",
)
MARKS = "\u202eesrever\u202c\u2066x\u200b\ufeff\x00\x1b[31m\x07e" + "\u0301" * 40
LONG = "w" * 16_384
HOSTILE = " ".join(SCRIPTS) + MARKS + LONG
PAGES = ("", "/default/hostile", "/default/hostile/edit", "/default/hostile/delete")
WITHOUT_CONTROLS = """() => {
  const whole = document.documentElement.cloneNode(true);
  for (const one of whole.querySelectorAll("input, textarea")) one.remove();
  return whole.outerHTML;
}"""
"""The page without what stands in controls, which keep direction and look to themselves."""


def answer(_: Received) -> Reply:
    """An endpoint whose error is an attack."""
    body = HOSTILE.encode("utf-8", "surrogatepass")
    return Reply(400, body, {"Content-Type": "text/html", "X-Evil": "<script>"})


async def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    async with (
        platform(tmp_path) as found,
        OtlpServer(answer) as evil,
        browser() as chromium,
    ):
        label = " ".join(SCRIPTS) + MARKS.replace("\x00", "") + "w" * 900
        found.traffic.extra.append(
            {"__name__": "http_requests_total", PROJECT_LABEL: "acme", "a": label, "code": "666"}
        )
        body = exporter_of("hostile", evil.origin)
        body["metadata"]["labels"] = {"a": "b"}
        body["metadata"]["annotations"] = {"note": " ".join(SCRIPTS) + MARKS}
        body["spec"]["sources"][0]["metrics"]["metricsql"] = (
            '{code=~"666|<script>alert(1)</script>|\u202e.*"}'
        )
        body["spec"]["sinks"][0]["otlp_http"]["headers"] = {"X-A": "<script>alert(1)</script>"}
        code, said = await found.ask("POST", f"{GROUP}/exporters", body)
        assert code == 201, said
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "evil"},
            "involvedObject": {"kind": "Exporter", "namespace": "default", "name": "hostile"},
            "type": "Warning",
            "reason": SCRIPTS[0],
            "message": HOSTILE,
            "lastTimestamp": "2026-11-29T07:00:00Z",
        }
        code, said = await found.ask(
            "POST", "/projects/acme/api/v1/namespaces/default/events", event
        )
        assert code == 201, said
        async with person(chromium, found.url, EDITOR) as user:
            await user.open("/ui/projects/acme/exporters/default/hostile")
            await user.page.get_by_text("alert(1)").first.wait_for()
            await user.page.get_by_text("HTTP 400").first.wait_for()
            for page in PAGES:
                await user.open(f"/ui/projects/acme/exporters{page}")
                await user.page.wait_for_timeout(500)
                assert await user.overflow() == [], page
                await user.shoot(f"hostile{page.replace('/', '-')}")
                html = await user.page.evaluate(WITHOUT_CONTROLS)
                assert await user.page.locator("iframe, img, script:not([src])").count() == 0
                assert await user.page.locator("[onload], [onerror]").count() == 0
                for one in "\u202e\u2066\u200b\ufeff\x1b":
                    assert one not in html, (page, hex(ord(one)))
                assert await user.violations() == [], page
                await user.look("light", 1280)
            await user.open("/ui/projects/acme/explain")
            series = f'http_requests_total{{code="666",a={json.dumps(label)}}}'
            await user.page.get_by_role("textbox", name="Series").fill(series)
            await user.click("Explain")
            await user.page.get_by_label("The whole explanation").wait_for()
            assert await user.overflow() == []
            for attack in SCRIPTS:
                await user.open(
                    f"/ui/projects/acme/exporters?q={attack}&state={attack}&after={attack}"
                )
                await user.open(f"/ui/projects/acme/explain?series={attack}")
                await user.open(f"/ui/login?next={attack}")
            assert user.complaints == []
        async with person(chromium, found.url, ADMIN) as user:
            await user.open("/ui/operator")
            assert await user.overflow() == []
            assert user.complaints == []
