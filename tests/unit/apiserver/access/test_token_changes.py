"""A file of tokens that changes while the API runs, and what loses its user then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import aiohttp
import pytest

from relay.apiserver.access import revocation
from relay.apiserver.access.token_file import TokenFile
from relay.config.yaml.file_watcher import SETTLE_S
from relay.runtime.errors import ConfigError
from tests.kit.apiserver.running import EXPORTERS, LocalApi, exporter, local_api
from tests.own_time import patience

ANN = "- {token: 0123456789abcdef, user: ann, projects: [acme], role: admin}\n"
BEN = "- {token: fedcba9876543210, user: ben, projects: [initech], role: editor}\n"


class Followed:
    """A file of tokens whose time is the test's."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "tokens.yaml"
        self.path.write_text(text)
        self.now = 0.0
        self.changes = 0
        self.file = TokenFile(
            self.path, "file", tenancy=True, changed=self._changed, clock=lambda: self.now
        )

    async def _changed(self) -> None:
        self.changes += 1

    async def look(self) -> None:
        """Look until a change has rested."""
        await self.file.look()
        self.now += SETTLE_S
        await self.file.look()

    async def user(self, token: str) -> str | None:
        found = await self.file.authentication.principal(f"Bearer {token}")
        return found and found.user


async def test_a_changed_file_counts(tmp_path: Path) -> None:
    followed = Followed(tmp_path, ANN)
    followed.file.read()
    await followed.look()
    assert followed.changes == 0
    followed.path.write_text(BEN)
    await followed.look()
    assert followed.changes == 1
    assert await followed.user("0123456789abcdef") is None
    assert await followed.user("fedcba9876543210") == "ben"
    followed.path.write_text("[]\n")
    await followed.look()
    assert await followed.user("fedcba9876543210") is None


@pytest.mark.parametrize("text", ["- {token: x", "- {token: tooshort, user: a}\n", "", None])
async def test_a_faulty_file_leaves_the_users(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    followed = Followed(tmp_path, ANN)
    followed.file.read()
    if text is None:
        followed.path.unlink()
    else:
        followed.path.write_text(text)
    await followed.look()
    assert await followed.user("0123456789abcdef") == "ann"
    assert followed.file.faults > 0
    assert followed.changes == 0
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(said) == followed.file.faults
    assert all("the users stay as they were" in one and "tokens.yaml" in one for one in said)
    assert "tooshort" not in caplog.text
    followed.path.write_text(ANN + BEN)
    await followed.look()
    assert followed.file.faults == 0
    assert await followed.user("fedcba9876543210") == "ben"


def test_a_faulty_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Followed(tmp_path, "- {}").file.read()


@asynccontextmanager
async def served(followed: Followed, folder: Path) -> AsyncIterator[LocalApi]:
    with patch.object(revocation, "RECHECK_S", 0.02):
        authentication = followed.file.authentication
        async with local_api(folder, tenancy=True, authentication=authentication) as api:
            yield api


@pytest.mark.parametrize(
    "change",
    ["[]", ANN.replace("admin", "viewer"), ANN.replace("[acme]", "[other]"), BEN],
    ids=["removed", "another role", "another project", "replaced"],
)
async def test_a_watch_ends_with_its_user(tmp_path: Path, change: str) -> None:
    followed = Followed(tmp_path, ANN + BEN.replace("initech", "acme"))
    followed.file.read()
    async with served(followed, tmp_path) as api:
        ann, ben = api.user("0123456789abcdef"), api.user("fedcba9876543210")
        path = f"/projects/acme{EXPORTERS}"
        async with ann.watch(path) as events:
            assert (await ben.ask("POST", path, exporter()))[0] == 201
            assert (await anext(events))["type"] == "ADDED"
            followed.path.write_text(change)
            await followed.look()
            with pytest.raises(aiohttp.ClientError):
                async with patience(5):
                    await anext(events)
        assert api.server.service.statistics().watches == 0


async def test_a_watch_stays_when_others_change(tmp_path: Path) -> None:
    followed = Followed(tmp_path, ANN + BEN)
    followed.file.read()
    async with served(followed, tmp_path) as api:
        ann = api.user("0123456789abcdef")
        path = f"/projects/acme{EXPORTERS}"
        async with ann.watch(path) as events:
            followed.path.write_text(ANN)
            await followed.look()
            checked = asyncio.Event()
            authentication = followed.file.authentication
            principal = authentication.principal

            async def seen(header: str | None) -> object:
                checked.set()
                return await principal(header)

            with patch.object(authentication, "principal", seen):
                async with patience(5):
                    await checked.wait()
            assert (await ann.ask("POST", path, exporter()))[0] == 201
            assert (await anext(events))["type"] == "ADDED"
