"""People watch exporters in a real browser, on a whole relay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.apiserver.running import ADMIN, EDITOR
from tests.kit.processes import eventually, free_port, relay
from tests.kit.ui.browser import BrowserUser, browser, person
from tests.kit.ui.platform import GLOBEX, Platform, platform

pytestmark = [pytest.mark.slow, pytest.mark.real]

LIST = "/ui/projects/acme/exporters"


async def is_fine(user: BrowserUser) -> None:
    """A page has no violations, fits its window and has complained of nothing."""
    assert await user.violations() == []
    assert await user.overflow() == []
    assert user.complaints == []
    await user.look("light", 1280)


async def several(found: Platform) -> None:
    """Exporters in every state."""
    await found.make("grafana", found.good.origin)
    await found.make("wrong-token", found.unauthorized.origin)
    await found.make("dead-end", f"http://127.0.0.1:{free_port()}")
    await found.make("nothing", found.good.origin, "no_such_metric")
    await found.make("paused", found.good.origin, paused=True)


async def test_the_list_says_how_each_exporter_is(tmp_path: Path) -> None:
    async with platform(tmp_path) as found, browser() as chromium:
        await several(found)
        async with person(chromium, found.url, EDITOR) as user:
            row = user.page.get_by_role("row")
            # The list was opened while all were starting: what follows comes by the stream.
            await row.filter(has_text="grafana").get_by_text("Delivering").wait_for()
            await row.filter(has_text="wrong-token").get_by_text("Failing").wait_for()
            await row.filter(has_text="dead-end").get_by_text("Failing").wait_for()
            await row.filter(has_text="nothing").get_by_text("Nothing matches").wait_for()
            await user.shoot("list")
            await is_fine(user)
            await user.page.get_by_role("link", name="Failing 2").click()
            await user.page.wait_for_url("**state=failing*")
            assert await user.page.get_by_role("row").count() == 3
            search = user.page.get_by_label("Search by name, namespace or destination")
            await search.fill("wrong")
            await row.filter(has_text="dead-end").wait_for(state="detached")
            assert await search.evaluate("one => one === document.activeElement")
            await search.fill("no such thing")
            await user.page.get_by_text("Nothing found").wait_for()


async def test_an_exporter_is_paused_and_resumed(tmp_path: Path) -> None:
    async with platform(tmp_path) as found, browser() as chromium:
        await found.make("acme", found.good.origin)
        async with person(chromium, found.url, EDITOR) as user:
            await user.open(f"{LIST}/default/acme")
            state = user.page.get_by_role("region", name="State")
            await state.get_by_text("Delivering").wait_for()
            await user.shoot("exporter")
            await is_fine(user)
            await user.click("Pause")
            await user.page.get_by_role("button", name="Resume").wait_for()
            await state.get_by_text("Paused", exact=True).wait_for()
            before = len(found.good.taken)
            await asyncio.sleep(1.5)
            assert len(found.good.taken) == before
            await user.click("Resume")
            await state.get_by_text("Delivering").wait_for()
            await user.click("Test")
            await user.page.get_by_text("It works").wait_for()
            await is_fine(user)


async def test_a_failure_is_shown_in_the_endpoints_words(tmp_path: Path) -> None:
    async with platform(tmp_path) as found, browser() as chromium:
        await found.make("acme", found.unauthorized.origin)
        async with person(chromium, found.url, EDITOR) as user:
            await user.open(f"{LIST}/default/acme")
            state = user.page.get_by_role("region", name="State")
            await state.get_by_text("it was revoked on 2026-11-01").wait_for()
            await state.get_by_text("add one with the Secret").wait_for()
            await user.shoot("exporter-failing")
            await is_fine(user)


async def test_another_projects_page_is_refused(tmp_path: Path) -> None:
    async with platform(tmp_path) as found, browser() as chromium:
        await found.make("acme", found.good.origin)
        async with person(chromium, found.url, GLOBEX) as user:
            for path in (LIST, f"{LIST}/default/acme", f"{LIST}/default/acme/edit", "/ui/operator"):
                await user.open(path)
                await user.page.get_by_role("heading", name="Not for this login").wait_for()
                assert "grafana" not in await user.page.content()
            assert await user.violations() == []


async def test_an_open_page_outlives_a_restart(tmp_path: Path) -> None:
    async with platform(tmp_path) as found, browser() as chromium:
        await found.make("acme", found.good.origin)
        async with person(chromium, found.url, EDITOR) as user:
            await user.open(f"{LIST}/default/acme")
            state = user.page.get_by_role("region", name="State")
            await state.get_by_text("Delivering").wait_for()
            assert await found.process.stop() == 0
            await user.page.get_by_text("The connection to the relay is lost").wait_for()
            config = ("--config", str(found.config))
            async with relay(tmp_path, *config, port=found.port):
                lost = user.page.get_by_text("The connection to the relay is lost")
                await lost.wait_for(state="hidden")
                delivered = user.page.locator(".legend dd").first

                async def counts() -> bool:
                    return (await delivered.inner_text()) not in ("", "0")

                await eventually("the page counts again", counts, timeout_s=30)
                await user.open(LIST)
                await user.page.get_by_role("heading", name="Exporters").wait_for()


async def test_secrets_explanations_taps_and_deletion(tmp_path: Path) -> None:
    async with platform(tmp_path, admin={"tap": True}) as found, browser() as chromium:
        await found.make("acme", found.good.origin)
        async with person(chromium, found.url, ADMIN) as user:
            await user.open("/ui/projects/acme/secrets")
            await user.fill("Secret", "grafana")
            await user.fill("Key", "token")
            await user.fill("Value", "v3ry-s3cret")
            await user.click("Store")
            await user.page.get_by_role("rowheader", name="grafana").wait_for()
            assert "v3ry-s3cret" not in await user.page.content()
            await user.shoot("secrets")
            await is_fine(user)
            await user.click("Delete grafana")
            await user.page.get_by_text("No Secret yet").wait_for()
            await user.open("/ui/projects/acme/explain")
            await user.page.get_by_role("link", name="http_requests_total").first.click()
            await user.page.get_by_text("Taken by 1").wait_for()
            await user.shoot("explain")
            await is_fine(user)
            await user.page.get_by_role("link", name="acme").last.click()
            await user.click("Live points")
            await user.page.get_by_role("rowheader", name="http_requests_total").first.wait_for()
            await user.shoot("tap")
            await is_fine(user)
            await user.click("Delete", "link")
            await user.shoot("delete")
            await is_fine(user)
            await user.click("Delete it")
            await user.page.get_by_text("Send your metrics, logs and traces").wait_for()


async def test_the_operator_sees_the_worst_first(tmp_path: Path) -> None:
    async with platform(tmp_path) as found, browser() as chromium:
        await several(found)
        async with person(chromium, found.url, ADMIN) as user:

            async def has_failed() -> bool:
                await user.open("/ui/operator")
                rows = await user.page.locator(".operator-sinks tbody tr").all_inner_texts()
                bad = ("Failing", "Credentials refused")
                return all(any(word in row for word in bad) for row in rows[:2])

            await eventually("two sinks fail", has_failed, timeout_s=20)
            await user.page.get_by_role("link", name="acme").first.wait_for()
            await user.shoot("operator")
            await is_fine(user)


async def test_a_page_can_be_read_without_scripts(tmp_path: Path) -> None:
    async with platform(tmp_path) as found, browser() as chromium:
        await found.make("acme", found.good.origin)
        context = await chromium.new_context(ignore_https_errors=True, java_script_enabled=False)
        user = BrowserUser(context, await context.new_page(), found.url)
        await user.log_in(EDITOR)
        await user.page.get_by_role("link", name="acme").click()
        await user.page.get_by_role("heading", name="Where it goes").wait_for()
        await user.click("Pause")
        await user.page.get_by_role("button", name="Resume").wait_for()
        await user.open(f"{LIST}/new")
        await user.fill(
            "Paste what your vendor shows you", f"url: {found.good.origin}/api/v1/write"
        )
        await user.click("Use the snippet")
        await user.click("Save")
        await user.page.wait_for_url("**/exporters/default/collector")
        await context.close()


async def test_violations_would_be_found(tmp_path: Path) -> None:
    """What the other tests find nothing of is found where it is."""
    async with (
        platform(tmp_path) as found,
        browser() as chromium,
        person(chromium, found.url, EDITOR) as user,
    ):
        await user.page.evaluate(
            """() => {
            const field = document.createElement("input");
            const wide = document.createElement("div");
            wide.textContent = "x".repeat(500);
            wide.className = "number";
            document.querySelector("main").append(field, wide);
            }"""
        )
        assert any("label" in one for one in await user.violations())
        assert await user.overflow() != []
        await user.page.evaluate("() => document.body.setAttribute('style', 'color: red')")
        assert any("style" in one for one in user.complaints)


async def test_what_moves_may_be_still(tmp_path: Path) -> None:
    async with (
        platform(tmp_path) as found,
        browser() as chromium,
        person(chromium, found.url, EDITOR) as user,
    ):
        await user.look("light", 1280)  # asks for reduced motion
        moving = await user.page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((one) =>
            getComputedStyle(one).transitionDuration !== "0s"
            || getComputedStyle(one).animationName !== "none").length"""
        )
        assert moving == 0
