"""Every implementation of the HTTP client's interface, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import trustme
import uvloop

from relay.sink.http.client import Transport
from relay.sink.http.interface import HttpClient
from tests.contract.http_clients import MakeClient
from tests.contract.session_client import SessionClient


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of HTTP clients on Python's loop and on the one that the relay runs on."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    if "make_client" in item.fixturenames:  # type: ignore[attr-defined]
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(params=[Transport, SessionClient], ids=["own", "session"])
def make_client(request: pytest.FixtureRequest) -> MakeClient:
    """Each implementation."""
    return request.param


@pytest.fixture
async def client(make_client: MakeClient) -> AsyncIterator[HttpClient]:
    """One that may reach loopback."""
    made = make_client(allow_private=True)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whose certificates the servers have."""
    return trustme.CA()
