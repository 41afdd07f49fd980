"""Bodies in any shape, whole and damaged, to sinks that get series as they came.

A request is refused without a trace, or what leaves is a good request by the official classes and
has as many points as the ledger says: one sender's bytes never spoil a batch.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.limits import Limits
from relay.pipeline.routing.match_set import OutputOptions
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.examples import examples
from tests.kit.remote_write import any_writes
from tests.kit.remote_write.prompb import RequestV2, WriteRequest
from tests.kit.remote_write.symbolic import T0_MS, Request2, native

BODIES = st.lists(any_writes.raw_requests(), min_size=1, max_size=4)


def rig_of() -> Rig:
    """An engine with sinks of all kinds."""
    rig = Rig(Limits(series_max=50))
    labelled = OutputOptions(protocol="remoteWrite1", external_labels=(("job", "x"), ("a", "b")))
    options = (RAW1, RAW2, labelled, OutputOptions())
    rig.export(*[RigSink(f"s{n}", limit=7, options=one) for n, one in enumerate(options)])
    return rig


def feed(rig: Rig, body: bytes, protocol: Any) -> None:
    """Feed a body that may be refused; then nothing may have changed."""
    before = rig.snapshot()
    try:
        rig.feed(body, protocol=protocol)
    except (DecodeError, TooLargeError):
        assert rig.snapshot() == before


def check(rig: Rig) -> None:
    """What leaves is good by the official classes, and is what was counted."""
    rig.flush()
    rig.engine.statistics()
    for sink in rig.sinks:
        assert sink.counter.points == sum(sealed.count for sealed in sink.sealed)
        if not sink.target.options.is_raw:
            continue
        assert sink.counter.points == sink.as_sent().points()
        for sealed in sink.sealed:
            body = sink.encoder.encode(sealed)
            (WriteRequest if sink.encoder.protocol == "remote_write_v1" else RequestV2).FromString(
                body
            )


@given(BODIES)
@examples(150)
def test_bodies_of_1_0(bodies: list[bytes]) -> None:
    rig = rig_of()
    for body in bodies:
        feed(rig, body, "remote_write_v1")
    check(rig)


@given(BODIES, st.data())
@examples(150)
def test_damaged_bodies_of_1_0(bodies: list[bytes], data: st.DataObject) -> None:
    rig = rig_of()
    for body in bodies:
        damaged = bytearray(body)
        if damaged:
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at] = data.draw(st.integers(0, 255))
        feed(rig, bytes(damaged), "remote_write_v1")
    check(rig)


@given(st.data())
@examples(150)
def test_damaged_bodies_of_2_0(data: st.DataObject) -> None:
    rig = rig_of()
    message = Request2()
    series = message.series({"__name__": "up", "job": "api"}, (1.0, T0_MS), metadata=(2, "h", "u"))
    message.exemplar(series, {"trace_id": "x"}, 1.0, T0_MS)
    native(message.series({"__name__": "latency", "job": "api"}, created_ms=T0_MS - 1))
    message.exemplar(message.series({"__name__": "up", "job": "api"}), {"a": "b"}, 1.0, T0_MS)
    for _ in range(3):
        damaged = bytearray(message.body)
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at] = data.draw(st.integers(0, 255))
        feed(rig, bytes(damaged), "remote_write_v2")
    check(rig)
