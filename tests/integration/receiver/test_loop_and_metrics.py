"""No request of OTLP metrics within the limits holds the event loop, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.integration.receiver.test_loop_and_records import post
from tests.integration.receiver.test_loop_is_never_held import asking_relay, too_long
from tests.kit.exporter_yaml import exporter_of
from tests.kit.otlp.hostile_metrics import SHAPES

pytestmark = pytest.mark.alone

SCALE = 3
"""Thousands of resources that no request had before; other shapes are looked at in process."""
HEADERS = {"Content-Encoding": "zstd", "Content-Type": "application/x-protobuf"}


def exporters() -> str:
    """An Exporter that takes all to sinks of every form, and expensive expressions besides."""
    url = "http://127.0.0.1:9"
    selectors = {"all": "", "names": '{__name__=~".*(a?b?){300}c"}', "k": '{"k"=~".*a.{200}"}'}
    return exporter_of(
        "all",
        [{"name": name, "metrics": {"metricsql": one}} for name, one in selectors.items()],
        [
            {"name": "otlp", "otlp_http": {"endpoint": url}},
            {
                "name": "deltas",
                "sources": ["all"],
                "otlp_http": {"endpoint": url, "temporality": "delta"},
            },
            {"name": "prometheus", "sources": ["all"], "prometheusRemoteWrite": {"endpoint": url}},
        ],
    )


async def test_metrics(tmp_path: Path) -> None:
    async with asking_relay(tmp_path, exporters()) as (url, admin):
        to = url.replace("/api/v1/write", "/v1/metrics")

        def prepare() -> Callable[[], object]:
            return post(to, zstandard.compress(SHAPES["new_resources"](SCALE), 1), HEADERS)

        assert not await too_long(admin, prepare, "new resources")
