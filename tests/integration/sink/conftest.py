"""A client for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.sink.http.client import Transport


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(allow_private=True) as made:
        yield made
