"""Sink tests count while their events are read, and end however that ends."""

from __future__ import annotations

import pytest

from relay.config.exporter.types import SecretRef
from relay.control.sink_test.service import TESTS_MAX, SinkTestQuery, SinkTestService, TestLimits
from relay.control.sink_test.trial import TestNetwork
from relay.runtime.errors import OverloadedError
from tests.kit.sink.running_sinks import exporter


def no_secrets(reference: SecretRef, default_key: str) -> str:
    raise AssertionError(f"{reference} is not asked for: {default_key}")


async def test_a_test_whose_events_are_never_read_holds_nothing() -> None:
    one = exporter()
    service = SinkTestService(lambda: [one], lambda _: no_secrets, TestNetwork(allow_private=False))
    query = SinkTestQuery(one.id)
    for _ in range(TESTS_MAX + 1):
        await service.open(query).aclose()  # type: ignore[attr-defined]
    assert repr(service) == "<SinkTestService <TestLimits 0 under way>>"
    first, second = service.open(query), service.open(query)
    await anext(first)
    with pytest.raises(OverloadedError, match="is under way"):
        await anext(second)
    await first.aclose()  # type: ignore[attr-defined]
    await anext(service.open(query))


def test_tests_of_a_project_in_a_minute() -> None:
    now = 0.0
    limits = TestLimits(lambda: now)
    for number in range(TESTS_MAX):
        now = float(number)
        limits.begin("acme", ("h", number))
        limits.end(("h", number))
    with pytest.raises(OverloadedError) as raised:
        limits.check("acme", ("h", 0))
    assert raised.value.retry_after_s == 60 - (TESTS_MAX - 1) + 1
    limits.begin("globex", ("h", 0))
    now = 60.0
    limits.check("acme", ("h", 1))
