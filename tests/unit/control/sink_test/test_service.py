"""Sink tests count while their events are read, and end however that ends."""

from __future__ import annotations

import ssl
import threading
from dataclasses import replace

import pytest

from relay.config.exporter.types import SecretRef, Sink
from relay.control.sink_test import service as service_module
from relay.control.sink_test.service import (
    TESTS_MAX,
    TIMEOUT_S_MAX,
    UNDER_WAY_PER_PROJECT_MAX,
    SinkTestQuery,
    SinkTestService,
    TestLimits,
)
from relay.control.sink_test.trial import TestNetwork
from relay.control.sink_test.verdict import TestStep
from relay.runtime.errors import OverloadedError
from relay.sink.http import tls
from relay.sink.http.tls import TlsMaterial, build_context
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


def test_one_project_leaves_room_for_others() -> None:
    limits = TestLimits()
    for number in range(UNDER_WAY_PER_PROJECT_MAX):
        limits.begin("acme", ("h", number))
    with pytest.raises(OverloadedError, match="4 tests of the project are under way"):
        limits.check("acme", ("other", 1))
    limits.begin("globex", ("other", 1))
    limits.end(("h", 0))
    limits.begin("acme", ("h", 0))


async def test_a_test_waits_for_an_answer_for_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def trial(_exporter: object, sink: Sink, *_: object):  # type: ignore[no-untyped-def]
        waits.append(sink.endpoint.timeout_s)
        yield TestStep("name", True, 0.0)

    monkeypatch.setattr(service_module, "try_sink", trial)
    one = exporter()
    service = SinkTestService(tuple, lambda _: no_secrets, TestNetwork(allow_private=False))
    for wait_s in (300.0, 5.0):
        sink = replace(one.sinks[0], endpoint=replace(one.sinks[0].endpoint, timeout_s=wait_s))
        assert len([event async for event in service.open_of(one, sink, no_secrets)]) == 1
    assert waits == [TIMEOUT_S_MAX, 5.0]


@pytest.mark.parametrize("url", ["https://h.example", "https://H.example.:443/x"])
def test_names_of_a_host_are_one(url: str) -> None:
    sink = exporter().sinks[0]
    one = replace(sink, endpoint=replace(sink.endpoint, url=url))
    assert service_module.host_of(one) == ("h.example", 443)


async def test_authorities_are_read_once_and_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[threading.Thread] = []

    def build(material: TlsMaterial) -> ssl.SSLContext:
        made.append(threading.current_thread())
        return build_context(material)

    monkeypatch.setattr(tls, "build_context", build)
    one = exporter()
    endpoint = replace(one.sinks[0].endpoint, url="https://127.0.0.1:1/v1/metrics")
    sink = replace(one.sinks[0], endpoint=endpoint)
    service = SinkTestService(tuple, lambda _: no_secrets, TestNetwork(allow_private=True))
    *_, failed, verdict = [event async for event in service.open_of(one, sink, no_secrets)]
    assert isinstance(failed, TestStep)
    assert (failed.name, verdict.ok) == ("connection", False)
    (thread,) = made
    assert thread is not threading.main_thread()
