"""A real browser on the pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.kit.paths import ROOT
from tests.own_time import crowding

AXE = ROOT / "tests/data/axe/axe-4.14.1.min.js"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SCREENSHOTS = os.environ.get("RELAY_SCREENSHOTS", "")
"""Directory for screenshots; none are taken without."""
WAIT_MS = 30_000
"""How long a page may take to show what it is asked for where nothing else wants the processors."""
WIDTHS = (360, 1280)
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
HEIGHT = 900


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run the browser for the duration of the block."""
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield found
        finally:
            await found.close()


class BrowserUser:
    """One person at one browser; whatever the page complains of is kept in ``complaints``."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context = context
        self.page = page
        self.url = url
        self.interactions = 0
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    async def open(self, path: str) -> None:
        """Go to a page."""
        await self.page.goto(self.url + path)

    async def log_in(self, token: str) -> None:
        """Paste a token, as people do."""
        await self.open("/ui/login")
        await self.page.get_by_label("Your token").fill(token)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(lambda url: "login" not in url)

    async def click(self, name: str, role: Any = "button", **options: Any) -> None:
        """Click something by its role and name, and count it."""
        self.interactions += 1
        await self.page.get_by_role(role, name=name, **options).first.click()

    async def fill(self, label: str, text: str) -> None:
        """Fill in a field by its label, and count it."""
        self.interactions += 1
        await self.page.get_by_label(label, exact=True).first.fill(text)

    async def look(self, scheme: Scheme, width: int) -> None:
        """Use another theme and width."""
        await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        await self.page.set_viewport_size({"width": width, "height": HEIGHT})

    async def shoot(self, name: str) -> None:
        """Take screenshots in both themes and widths, where a directory is given."""
        if not SCREENSHOTS:
            return
        folder = Path(SCREENSHOTS)
        for scheme in SCHEMES:
            for width in WIDTHS:
                await self.look(scheme, width)
                # The whole page fits, so that what sticks to its edges does.
                height = await self.page.evaluate("document.documentElement.scrollHeight")
                await self.page.set_viewport_size({"width": width, "height": max(HEIGHT, height)})
                path = folder / f"{name}-{scheme}-{width}.png"
                await self.page.screenshot(path=path, full_page=True)

    async def violations(self) -> list[str]:
        """Return what axe-core finds, in both themes and widths."""
        found: list[str] = []
        for scheme in SCHEMES:
            for width in WIDTHS:
                await self.look(scheme, width)
                # Added by the debugger, past the page's policy; the page itself could not.
                cdp = await self.context.new_cdp_session(self.page)
                await cdp.send("Runtime.evaluate", {"expression": AXE.read_text()})
                await cdp.detach()
                result: dict[str, Any] = await self.page.evaluate("axe.run()")
                for one in result["violations"]:
                    for node in one["nodes"]:
                        summary = node["failureSummary"].replace("\n", " ")
                        found.append(f"{scheme} {width}: {one['id']}: {node['html']}: {summary}")
        return found

    async def overflow(self) -> list[str]:
        """Return elements that make the page scroll sideways at a width of 360 px."""
        await self.look("light", 360)
        found: list[str] = await self.page.evaluate(
            """() => {
              const width = document.documentElement.scrollWidth;
              if (width <= innerWidth) return [];
              const wide = [...document.querySelectorAll("body *")].filter((one) =>
                one.getBoundingClientRect().right > innerWidth + 1
                || (one.scrollWidth > one.clientWidth + 1
                    && getComputedStyle(one).overflowX === "visible"));
              return [`${width} px wide`, ...wide.map((one) => one.outerHTML.slice(0, 200))];
            }"""
        )
        return found


@asynccontextmanager
async def person(found: Browser, url: str, token: str = "") -> AsyncIterator[BrowserUser]:
    """A person at a browser of their own, who has logged in if there is a token."""
    context = await found.new_context(
        ignore_https_errors=True, viewport={"width": 1280, "height": HEIGHT}
    )
    try:
        user = BrowserUser(context, await context.new_page(), url)
        user.page.set_default_timeout(WAIT_MS * crowding())
        if token:
            await user.log_in(token)
        yield user
    finally:
        await context.close()
