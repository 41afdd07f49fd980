"""People write exporters in a real browser, on a whole relay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.apiserver.running import EDITOR, VIEWER
from tests.kit.processes import eventually, free_port
from tests.kit.ui.browser import BrowserUser, browser, person
from tests.kit.ui.platform import GROUP, platform

pytestmark = [pytest.mark.slow, pytest.mark.real]

LIST = "/ui/projects/acme/exporters"
METRICS = "Which metrics"


def grafana_snippet(endpoint: str) -> str:
    """What Grafana Cloud shows for a collector."""
    return (
        "exporters:\n"
        "  otlphttp/grafana_cloud:\n"
        f"    endpoint: {endpoint}\n"
        "    auth:\n"
        "      authenticator: basicauth/grafana_cloud\n"
        "extensions:\n"
        "  basicauth/grafana_cloud:\n"
        "    client_auth:\n"
        '      username: "123456"\n'
        "      password: glc_only-for-this-test\n"
    )


async def begun(user: BrowserUser, endpoint: str) -> None:
    """Open the form of a new exporter with a sink for the endpoint."""
    await user.open(f"{LIST}/new")
    await user.fill("Paste what your vendor shows you", grafana_snippet(endpoint))
    await user.click("Use the snippet")
    await user.page.get_by_label(METRICS).wait_for()


async def test_from_an_empty_page_to_delivering(tmp_path: Path) -> None:
    async with platform(tmp_path) as relay, browser() as found:
        async with person(found, relay.url, EDITOR) as user:
            await user.page.get_by_text("Send your metrics, logs and traces").wait_for()
            await user.shoot("empty")
            await user.look("light", 1280)
            await user.click("New exporter", "link")
            await user.fill("Paste what your vendor shows you", grafana_snippet(relay.good.origin))
            await user.shoot("new")
            await user.look("light", 1280)
            await user.click("Use the snippet")
            await user.page.locator("#preview .big").wait_for()
            await user.shoot("write")
            assert await user.violations() == []
            await user.look("light", 1280)
            await user.click("Save")
            state = user.page.get_by_role("region", name="State")
            await state.get_by_text("Delivering").wait_for()
            assert user.interactions < 12
            assert user.complaints == []
        sent = relay.good.taken[0].headers["Authorization"]
        assert sent == "Basic MTIzNDU2OmdsY19vbmx5LWZvci10aGlzLXRlc3Q="
        code, secret = await relay.ask(
            "GET", "/projects/acme/api/v1/namespaces/default/secrets/collector"
        )
        assert code == 200
        assert secret["metadata"]["managedFields"][0]["manager"] == "relay-ui"


async def test_a_mistake_is_told_at_its_field_while_typing(tmp_path: Path) -> None:
    async with platform(tmp_path) as relay, browser() as found:
        await relay.make("acme", relay.good.origin)
        async with person(found, relay.url, EDITOR) as user:
            await user.open(f"{LIST}/default/acme/edit")
            selector = user.page.get_by_label(METRICS)
            await selector.fill('http_requests_total{code="500"')
            message = user.page.locator("#wrong-spec-sources-0--metrics-metricsql")
            await message.get_by_text("is never closed").wait_for()
            assert await selector.get_attribute("aria-invalid") == "true"
            assert await selector.evaluate("one => one === document.activeElement")
            text = user.page.get_by_label("The exporter as YAML")
            assert 'code=\\"500\\"' in await text.input_value()
            await user.shoot("write-mistake")
            assert await user.violations() == []
            await user.look("light", 1280)
            await user.click("Save")
            summary = user.page.locator("#summary")
            await summary.get_by_text("It was not saved").wait_for()
            await user.page.wait_for_function(
                "() => document.activeElement === document.getElementById('summary')"
            )
            await summary.get_by_role("link", name=METRICS).click()
            await selector.fill("workload_memory_bytes")
            await user.page.locator("#preview").get_by_text("16").first.wait_for(state="detached")
            await user.page.locator("#preview .minus").wait_for()
            await user.click("Save")
            await user.page.wait_for_url(f"**{LIST}/default/acme")
        code, stored = await relay.ask("GET", f"{GROUP}/exporters/acme")
        assert code == 200
        assert stored["spec"]["sources"][0]["metrics"]["metricsql"] == "workload_memory_bytes"
        assert stored["spec"]["sinks"][0]["batch"]["timeout"] == "200ms"


async def test_the_form_follows_the_text(tmp_path: Path) -> None:
    async with platform(tmp_path) as relay, browser() as found:
        await relay.make("acme", relay.good.origin)
        async with person(found, relay.url, EDITOR) as user:
            await user.open(f"{LIST}/default/acme/edit")
            text = user.page.get_by_label("The exporter as YAML")
            written = await text.input_value()
            await text.fill(written.replace('"{}"', "workload_cpu_seconds_total"))
            selector = user.page.get_by_label(METRICS)

            async def follows() -> bool:
                return await selector.input_value() == "workload_cpu_seconds_total"

            await eventually("the form follows", follows, timeout_s=10)
            assert await text.evaluate("one => one === document.activeElement")
            await text.fill("spec: [")
            await user.page.locator("#text-problems .wrong").wait_for()
            assert await text.input_value() == "spec: ["


async def test_a_preview_of_nothing_says_so(tmp_path: Path) -> None:
    async with (
        platform(tmp_path) as relay,
        browser() as found,
        person(found, relay.url, EDITOR) as user,
    ):
        await begun(user, relay.good.origin)
        await user.page.get_by_label(METRICS).fill("no_such_metric")
        await user.page.get_by_text("Nothing matches now").wait_for()
        await user.page.get_by_text("Your largest metrics").wait_for()
        await user.shoot("write-nothing")
        assert await user.violations() == []
        await user.click("Only http_requests_total")
        await user.page.locator("#preview .big").get_by_text("12", exact=True).wait_for()
        assert await user.page.get_by_label(METRICS).input_value() == "http_requests_total"


@pytest.mark.parametrize("private", [True, False])
async def test_a_test_tells_which_step_fails(tmp_path: Path, private: bool) -> None:
    async with platform(tmp_path, allowPrivateEndpoints=private) as relay, browser() as found:
        endpoints = {
            "Connection": f"http://127.0.0.1:{free_port()}",
            "Answer": relay.unauthorized.origin,
        }
        if not private:
            endpoints = {"Address": relay.good.origin}
        async with person(found, relay.url, EDITOR) as user:
            for step, endpoint in endpoints.items():
                await begun(user, endpoint)
                await user.click("Test it")
                await user.page.get_by_text("It does not work").wait_for()
                failed = user.page.locator(".steps .bad b").first
                assert await failed.inner_text() == step
                assert await user.page.get_by_text("What to do:").count() == 1
                await user.shoot(f"test-{step.lower()}")
                assert await user.violations() == []
                await user.look("light", 1280)
            if private:
                said = "invalid API token: it was revoked on 2026-11-01"
                assert await user.page.get_by_text(said).count() > 0


async def test_two_people_edit_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    async with platform(tmp_path) as relay, browser() as found:
        await relay.make("acme", relay.good.origin)
        async with (
            person(found, relay.url, EDITOR) as ann,
            person(found, relay.url, EDITOR) as bob,
        ):
            for one in (ann, bob):
                await one.open(f"{LIST}/default/acme/edit")
            await ann.page.get_by_label(METRICS).fill("workload_memory_bytes")
            await ann.click("Save")
            await ann.page.wait_for_url(f"**{LIST}/default/acme")
            await bob.page.get_by_label(METRICS).fill("http_requests_total")
            await bob.click("Save")
            await bob.page.get_by_text("Somebody else has saved").wait_for()
            difference = await bob.page.locator(".diff").inner_text()
            assert "-      metricsql: workload_memory_bytes" in difference
            assert "+      metricsql: http_requests_total" in difference
            assert await bob.page.get_by_label(METRICS).input_value() == "http_requests_total"
            await bob.shoot("conflict")
            assert await bob.violations() == []
            await bob.look("light", 1280)
            await bob.click("Save over theirs")
            await bob.page.wait_for_url(f"**{LIST}/default/acme")
        _, stored = await relay.ask("GET", f"{GROUP}/exporters/acme")
        assert stored["spec"]["sources"][0]["metrics"]["metricsql"] == "http_requests_total"


async def test_a_viewer_reads_and_is_offered_nothing_else(tmp_path: Path) -> None:
    async with platform(tmp_path) as relay, browser() as found:
        await relay.make("acme", relay.good.origin)
        async with person(found, relay.url, VIEWER) as user:
            assert await user.page.get_by_role("link", name="New exporter").count() == 0
            await user.open(f"{LIST}/default/acme")
            assert await user.page.get_by_role("button", name="Pause").count() == 0
            await user.open(f"{LIST}/default/acme/edit")
            await user.page.get_by_text("Not for this login").wait_for()


async def by_keyboard(user: BrowserUser, name: str) -> None:
    """Press Tab until an element has the focus, then Enter."""
    for _ in range(60):
        await user.page.keyboard.press("Tab")
        focused = await user.page.evaluate(
            "() => (document.activeElement.innerText || document.activeElement.id || '').trim()"
        )
        if focused.startswith(name):
            visible = await user.page.evaluate(
                "() => getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            )
            assert visible, f"the focus on {name} is not seen"
            await user.page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


async def test_an_exporter_is_made_by_keyboard_alone(tmp_path: Path) -> None:
    async with (
        platform(tmp_path) as relay,
        browser() as found,
        person(found, relay.url) as user,
    ):
        await user.open(LIST)
        await user.page.wait_for_function("() => document.activeElement.id === 'token'")
        await user.page.keyboard.type(EDITOR)
        await user.page.keyboard.press("Enter")
        await user.page.get_by_role("heading", name="Exporters").wait_for()
        await by_keyboard(user, "New exporter")
        await user.page.get_by_label("Paste what your vendor shows you").wait_for()
        await by_keyboard(user, "Any OTLP")
        endpoint = user.page.get_by_label("Endpoint", exact=True)
        await endpoint.wait_for()
        await endpoint.focus()
        await user.page.keyboard.press("Control+A")
        await user.page.keyboard.type(relay.good.origin)
        await user.page.keyboard.press("Tab")
        await user.page.get_by_label("Authentication", exact=True).focus()
        await user.page.keyboard.press("Home")
        await user.page.get_by_label("Token", exact=True).wait_for(state="detached")
        await by_keyboard(user, "Save")
        await user.page.wait_for_url(f"**{LIST}/default/otlp")
        await by_keyboard(user, "Pause")
        await user.page.get_by_role("button", name="Resume").wait_for()


async def test_names_and_values_are_completed(tmp_path: Path) -> None:
    async with (
        platform(tmp_path) as relay,
        browser() as found,
        person(found, relay.url, EDITOR) as user,
    ):
        await begun(user, relay.good.origin)
        selector = user.page.get_by_label(METRICS)
        await selector.fill("")
        keyboard = user.page.keyboard
        for typed, option in (("requ", "http_requests_total"), ("{co", "code"), ("", "404")):
            await selector.focus()
            await keyboard.type(typed)
            wanted = user.page.get_by_role("option", name=option, exact=True)
            await wanted.wait_for()
            if option == "code":
                await user.shoot("completion")
                assert await user.violations() == []
                await user.look("light", 1280)
            for _ in range(10):
                await keyboard.press("ArrowDown")
                if await wanted.get_attribute("aria-selected") == "true":
                    break
            await keyboard.press("Enter")
            await wanted.wait_for(state="detached")
        assert await selector.input_value() == 'http_requests_total{code="404"}'
        await user.page.locator("#preview .big").get_by_text("4", exact=True).wait_for()
        assert user.complaints == []
