"""Exporters without a source of metrics, such as those of logs alone, in the router of metrics."""

from __future__ import annotations

from relay.codec.otlp.batch import OpenBatch
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.router import Router
from relay.selector.matchers import Selector

EVERYTHING = Selector(())


def source() -> tuple[str, Selector, list[SinkOutputSpec]]:
    return "all", EVERYTHING, [SinkOutputSpec(SinkCounter("x", "s"), [OpenBatch(None, limit=1)])]


def test_each_of_them_can_be_removed() -> None:
    router = Router()
    router.add("a", "", [])
    router.add("b", "", [])
    router.remove("a")
    assert router.has_project("")
    router.remove("b")
    assert not router.has_project("")


def test_a_project_stays_while_it_has_an_exporter() -> None:
    router = Router()
    router.add("logs", "", [])
    router.add("metrics", "", [source()])
    router.remove("metrics")
    router.replace("logs", [source()])
    matched = router.match({"__name__": "up"}, "")[1]
    assert [one.counter.exporter for one in matched] == ["logs"]
