"""Samples out of official messages of remote write, in the form in which the oracles take points.

Nothing of ``relay.pipeline`` or ``relay.codec`` may be imported here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import cramjam

from tests.kit.remote_write import prompb

Pairs = tuple[tuple[str, str], ...]

VERSION_2 = "io.prometheus.write.v2.Request"


class WrittenPoint(NamedTuple):
    """One sample; ``attributes`` are its labels but the name, ``value_bits`` the double's own."""

    name: str
    attributes: Pairs
    time_ns: int
    value_bits: int


def read_written(body: bytes, *, content_type: str = "") -> list[WrittenPoint]:
    """Every sample of a snappy body, in order. AssertionError where labels break the rules."""
    data = bytes(cramjam.snappy.decompress_raw(body))
    series = _series_of_2(data) if VERSION_2 in content_type else _series_of_1(data)
    return [
        WrittenPoint(dict(labels)["__name__"], labels[1:], sample.timestamp * 1_000_000, bits)
        for labels, samples in series
        for sample in samples
        for bits in struct.unpack("<Q", struct.pack("<d", sample.value))
    ]


def _series_of_1(data: bytes) -> Iterator[tuple[Pairs, Any]]:
    for series in prompb.WriteRequest.FromString(data).timeseries:
        yield _checked((label.name, label.value) for label in series.labels), series.samples


def _series_of_2(data: bytes) -> Iterator[tuple[Pairs, Any]]:
    request = prompb.RequestV2.FromString(data)
    symbols = request.symbols
    assert symbols[0] == "", "the first symbol must be empty"
    for series in request.timeseries:
        refs = iter(series.labels_refs)
        yield _checked((symbols[name], symbols[next(refs)]) for name in refs), series.samples


def _checked(labels: Iterator[tuple[str, str]]) -> Pairs:
    pairs = tuple(labels)
    names = [name for name, _ in pairs]
    assert names == sorted(set(names)), f"labels are not in order, or repeated: {names}"
    assert names[0] == "__name__", f"no name first: {names}"
    assert all(value for _, value in pairs), f"a label without a value: {pairs}"
    return pairs
