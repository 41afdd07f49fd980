"""An engine with sinks of every kind takes bodies, and is held to the slow derivation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError as OfficialDecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.limits import Limits
from relay.runtime.errors import DecodeError, OverloadedError, TooLargeError
from tests.kit.engine_rig import NUMBERS, Rig, RigSink, named
from tests.kit.oracle.number_points import Alternatives, Point, assert_same, flatten
from tests.kit.oracle.slow_families import numbers_only
from tests.kit.oracle.slow_otlp import Derived, SlowRelay
from tests.kit.oracle.slow_version2 import take_version2
from tests.kit.remote_write.prompb import RawRequestV2, RawWriteRequest, RequestV2, WriteRequest

_CLASSES: dict[WriteProtocol, tuple[Any, Any]] = {
    "remote_write_v1": (RawWriteRequest, WriteRequest),
    "remote_write_v2": (RawRequestV2, RequestV2),
}


@dataclass
class Outcome:
    """What became of the bodies: how many were compared with the derivation, and refused."""

    compared: int = 0
    refused: int = 0
    points: list[Alternatives] = field(default_factory=list)


def check_bodies(bodies: Sequence[bytes], protocol: WriteProtocol) -> Outcome:
    """Feed the bodies one after the other; AssertionError for whatever is not as derived.

    A body that the official classes do not read may be taken or refused, but without a trace of a
    refused one and with balanced counts; what it taught is not known, so none is compared after it.
    """
    rig = rig_of_all_kinds()
    outcome = Outcome()
    oracle = SlowRelay()
    is_known = True
    for number, body in enumerate(bodies):
        before = rig.snapshot()
        official = read_officially(body, protocol)
        try:
            transaction = rig.feed(body, tick=float(number), protocol=protocol)
        except (DecodeError, TooLargeError, OverloadedError):
            assert rig.snapshot() == before
            assert official is None or not _is_read_whole(body, protocol)
            outcome.refused += 1
            is_known = False
            continue
        is_known = is_known and official is not None
        if is_known:
            derived = derive(oracle, official, protocol)
            assert transaction.dropped == derived.dropped
            assert transaction.exemplars == derived.exemplars
            assert transaction.samples == len(derived.points) + derived.histograms + derived.told
            outcome.points += derived.points
            outcome.compared += 1
    rig.flush()
    for sink in rig.sinks:
        assert len(sink.any_points()) == sum(sealed.count for sealed in sink.sealed)
        assert all(sealed.count <= sink.limit for sealed in sink.sealed)
    if is_known:
        _compare(rig, outcome.points)
    return outcome


def rig_of_all_kinds() -> Rig:
    """Sinks that take histograms whole, and not; of many points, and few; of several lanes."""
    rig = Rig(Limits(series_max=50))
    rig.export(
        RigSink("wide", limit=100),
        RigSink("narrow", limit=3, options=NUMBERS),
        RigSink("at-once", limit=5, timeout_s=0.0, options=NUMBERS),
        RigSink("lanes", limit=2, shards=3, options=NUMBERS),
    )
    rig.export(RigSink("some", limit=7), exporter="y", sources={"up": named("up")})
    return rig


def read_officially(body: bytes, protocol: WriteProtocol) -> Any:
    """The message as the official classes read it, strings as bytes; None where they refuse it."""
    try:
        return _CLASSES[protocol][0].FromString(body)
    except OfficialDecodeError:
        return None


def derive(oracle: SlowRelay, official: Any, protocol: WriteProtocol) -> Derived:
    """What a request of either version must become."""
    if protocol == "remote_write_v1":
        return oracle.take(official)
    return take_version2(oracle, official)


def _is_read_whole(body: bytes, protocol: WriteProtocol) -> bool:
    """Whether the official classes read it down to exemplars and histograms."""
    try:
        _CLASSES[protocol][1].FromString(body)
    except OfficialDecodeError:
        return False
    return True


def _compare(rig: Rig, expected: Sequence[Alternatives]) -> None:
    wide, *numbers, some = rig.sinks
    for sink in numbers:
        assert_same(expected, sink.points())
    loose = _those(expected, lambda point: not _may_be_assembled(point.name))
    assert_same(loose, _number_points(wide))
    assert_same(_those(expected, lambda point: point.name == "up"), _number_points(some))


def _those(expected: Sequence[Alternatives], wanted: Callable[[Point], bool]) -> list[Alternatives]:
    return [alternatives for alternatives in expected if wanted(alternatives[0])]


def _may_be_assembled(name: str) -> bool:
    """Whether a point may come as a part of a histogram; ``test_real_histograms`` is of those."""
    return name.startswith("h_")


def _number_points(sink: RigSink) -> list[Point]:
    found = []
    for sealed in sink.sealed:
        numbers = numbers_only(ExportMetricsServiceRequest.FromString(sealed.point_buffer.encode()))
        if numbers is not None:
            found += [point for point in flatten(numbers) if not _may_be_assembled(point.name)]
    return found
