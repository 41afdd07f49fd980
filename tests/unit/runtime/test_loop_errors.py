"""Errors that the event loop reports: one of a closed TLS connection is none."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from relay.runtime.event_loop import run_on_uvloop

HANDLER_CLOSED = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


class Transport:
    """A transport that is closing, or not."""

    def __init__(self, *, closing: bool) -> None:
        self._closing = closing

    def is_closing(self) -> bool:
        return self._closing


@pytest.mark.parametrize(
    ("message", "transport", "why", "reported"),
    [
        ("Fatal error on SSL protocol", Transport(closing=True), "closed", False),
        ("Fatal error on SSL protocol", Transport(closing=False), "closed", True),
        ("Fatal error on SSL protocol", Transport(closing=False), HANDLER_CLOSED, False),
        ("Fatal error on SSL protocol", None, HANDLER_CLOSED, True),
        ("Task exception was never retrieved", Transport(closing=True), HANDLER_CLOSED, True),
    ],
)
def test_a_closed_tls_connection_is_no_error(
    message: str, transport: Any, why: str, reported: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def report() -> None:
        context = {"message": message, "transport": transport, "exception": RuntimeError(why)}
        asyncio.get_running_loop().call_exception_handler(context)

    with caplog.at_level(logging.INFO, "asyncio"):
        run_on_uvloop(report())
    assert [record.levelname for record in caplog.records] == (["ERROR"] if reported else [])
