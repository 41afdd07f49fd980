"""A page in a browser follows its stream, also after it was away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.apiserver.running import EDITOR, EXPORTERS, exporter
from tests.kit.processes import eventually
from tests.kit.ui.browser import browser, person
from tests.kit.ui.visitor import local_pages, ready, set_status

pytestmark = [pytest.mark.slow, pytest.mark.real]

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_hidden_page_has_no_stream_and_catches_up(tmp_path: Path) -> None:
    async with (
        local_pages(tmp_path) as pages,
        pages.api() as admin,
        browser() as chromium,
    ):
        live = pages.pages.live
        live._tick_s = 0.3
        await admin.ask("POST", EXPORTERS, exporter("other"))
        await set_status(admin, f"{EXPORTERS}/other", ready("Failing", "False", "401"))
        await admin.ask("POST", EXPORTERS, exporter())
        path = f"{EXPORTERS}/acme"
        await set_status(admin, path, ready("Failing", "False", "401"))
        async with person(chromium, pages.url, EDITOR) as user:
            row = user.page.get_by_role("row").filter(has_text="acme")
            await row.get_by_text("Failing").wait_for()

            async def streams(count: int) -> None:
                async def has() -> bool:
                    return live._users.total() == count

                await eventually(f"{count} streams", has, timeout_s=15)

            await streams(1)
            # Away from the first picture and, while nobody looks, back to it.
            await set_status(admin, path, ready("Rejected", "False", "400"))
            await row.get_by_text("Rejected").wait_for()
            await user.page.evaluate(HIDE, True)
            await streams(0)
            await set_status(admin, path, ready("Failing", "False", "401"))
            await user.page.evaluate(HIDE, False)
            await row.get_by_text("Failing").wait_for()
            await streams(1)
            assert user.complaints == []


async def test_a_page_whose_session_ends_says_so(tmp_path: Path) -> None:
    async with (
        local_pages(tmp_path) as pages,
        pages.api() as admin,
        browser() as chromium,
        person(chromium, pages.url, EDITOR) as user,
    ):
        pages.pages.live._tick_s = 0.3
        await admin.ask("POST", EXPORTERS, exporter())
        await user.open("/ui/exporters")
        users = pages.authentication
        known = users._users
        users._users = {key: one for key, one in users._users.items() if one.role != "editor"}
        await user.page.get_by_text("You are signed out").wait_for()
        await user.page.reload()
        await user.page.get_by_label("Your token").wait_for()
        users._users = known
        # What is being written stays, also when it is refused.
        await user.open("/ui/exporters/default/acme/edit")
        users._users = {}
        field = user.page.locator("#spec-sinks-0--otlp_http-endpoint")
        await field.fill("https://mine.example")
        await user.page.get_by_text("Sign in again in another tab").wait_for()
        assert await field.input_value() == "https://mine.example"
        users._users = known
        await user.page.get_by_role("button", name="Save", exact=True).click()
        await user.page.wait_for_url("**/ui/exporters/default/acme")
