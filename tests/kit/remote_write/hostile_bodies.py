"""Requests that are small on the wire, within every default limit, and much work to take in."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.kit.remote_write import raw
from tests.kit.remote_write.raw import message as field
from tests.kit.remote_write.raw import number, varint

V1 = "application/x-protobuf"
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
NOW_MS = int(time.time() * 1000)


class Shape(NamedTuple):
    """``make`` gives the decoded body, ``content_type`` says which message it is."""

    make: Callable[[], bytes]
    content_type: str = V1


def sample(value: float = 1.0, time_ms: int = NOW_MS) -> bytes:
    """A Sample, as version 1.0 has it."""
    return raw.sample(raw.bits_of(value), time_ms)


def labels(**pairs: str) -> bytes:
    """The labels of a series of version 1.0."""
    return raw.labels([(name.encode(), text.encode()) for name, text in sorted(pairs.items())])


ONE = labels(__name__="m", job="j", instance="i")
TARGET_INFO = field(1, labels(__name__="target_info", job="j", instance="i") + sample())


def native(payload: bytes, time_ms: int = NOW_MS) -> bytes:
    """A native histogram of schema 0 with these fields besides."""
    return field(4, b"\x08\x03\x20\x00\x78" + varint(time_ms) + payload)


def span(offset: int, length: int) -> bytes:
    """A positive span."""
    return field(11, number(1, offset) + number(2, length))


def metadata(family: str, text: str = "") -> bytes:
    """Metadata of version 1.0: a counter."""
    return field(3, b"\x08\x01" + field(2, family.encode()) + field(4, text.encode()))


def many(count: int, one: Callable[[int], bytes]) -> bytes:
    """Entries that all differ."""
    return b"".join(one(n) for n in range(count))


def new_series(count: int, width: int = 8, *, name: str = "new_total", mark: str = "") -> bytes:
    """Series with one sample each; without ``mark``, such as were never seen."""
    mark = mark or f"{random.randrange(1 << 48):x}"
    rest = "".join(
        field(1, field(1, f"l{n}".encode()) + field(2, b"value")).decode() for n in range(width)
    ).encode()
    return many(
        count,
        lambda n: field(1, labels(__name__=name, id=f"{mark}-{n}") + rest + sample(n)),
    )


def native_series(each: bytes, count: int) -> bytes:
    """A native histogram for each of so many series."""
    return many(count, lambda n: field(1, labels(__name__="h", id=str(n)) + native(each)))


def version2(symbols: list[bytes], series: bytes) -> bytes:
    """A Request of version 2.0."""
    return b"".join(field(4, symbol) for symbol in symbols) + series


def series2(refs: list[int], rest: bytes) -> bytes:
    """A series of version 2.0."""
    return field(5, field(1, b"".join(map(varint, refs))) + rest)


SYMBOLS = [b"", b"__name__", b"m2_total", b"job", b"j"]
REFS = [1, 2, 3, 4]

HUGE = b"x" * 15_000

SHAPES: dict[str, Shape] = {
    "500k-samples-of-one-series": Shape(lambda: field(1, ONE + sample() * 499_999)),
    "50k-samples-of-one-series": Shape(
        lambda: field(1, ONE + many(50_000, lambda n: sample(n, NOW_MS - n)))
    ),
    "30k-series-of-127-equal-labels": Shape(
        lambda: field(1, field(1, field(1, b"a") + field(2, b"b")) * 127) * 30_000
    ),
    "500k-empty-spans": Shape(lambda: field(1, ONE + native(span(0, 0) * 500_000))),
    "4k-empty-spans-in-each-of-100": Shape(lambda: native_series(span(0, 0) * 4_000, 100)),
    "sparse-native-histograms": Shape(
        lambda: field(1, ONE + native(span(0, 1) + span(300, 1) + field(12, b"\x02\x02"))) * 10_000
    ),
    "native-histograms-of-2000-series": Shape(
        lambda: native_series(span(0, 160) + field(12, b"\x02" + bytes(159)), 2_000)
    ),
    "native-histograms-with-a-gap": Shape(
        lambda: native_series(span(0, 1) + span(16_000, 1) + field(12, b"\x02\x02"), 2_000)
    ),
    "10k-native-histograms-of-one-series": Shape(
        lambda: field(1, ONE + many(10_000, lambda n: native(span(0, 4), NOW_MS - n)))
    ),
    "1M-deltas-of-one-histogram": Shape(lambda: field(1, ONE + native(field(12, b"\x02" * 10**6)))),
    "16M-empty-series": Shape(lambda: b"\x0a\x00" * (16 << 20)),
    "10M-unknown-fields": Shape(lambda: b"\x38\x00" * (10 << 20)),
    "10M-unknown-fields-in-a-series": Shape(lambda: field(1, ONE + b"\x38\x00" * (10 << 20))),
    "2M-metadata": Shape(lambda: metadata("f") * 2_000_000),
    "190k-metadata-of-families": Shape(lambda: many(190_000, lambda n: metadata(f"f{n}", "help"))),
    "metadata-behind-many-series": Shape(
        lambda: field(1, ONE + sample()) * 400_000 + metadata("g") + new_series(1)
    ),
    "target-info-behind-many-series": Shape(
        lambda: field(1, ONE + sample()) * 400_000 + TARGET_INFO + new_series(1)
    ),
    "target-infos-of-40k-targets": Shape(
        lambda: many(
            40_000, lambda n: field(1, labels(__name__="target_info", instance=str(n)) + sample())
        )
    ),
    "target-infos-of-many-labels": Shape(
        lambda: (
            field(
                1,
                labels(__name__="target_info")
                + field(1, field(1, b"a") + field(2, b"b")) * 2_000
                + sample(),
            )
            * 1_000
            + new_series(1)
        )
    ),
    "1M-labels-in-one-series": Shape(
        lambda: field(1, field(1, field(1, b"a") + field(2, b"b")) * 10**6 + sample())
    ),
    "500k-exemplars": Shape(lambda: field(1, ONE + sample() + field(3, b"") * 499_999)),
    "1M-labels-in-an-exemplar": Shape(
        lambda: field(1, ONE + sample() + field(3, field(1, b"") * 10**6))
    ),
    "40k-new-series": Shape(lambda: new_series(40_000)),
    "10k-new-series-of-100-labels": Shape(lambda: new_series(10_000, 100)),
    "500-new-series-of-15kB": Shape(
        lambda: many(
            500, lambda n: field(1, labels(__name__="w", a=HUGE.decode(), id=str(n)) + sample())
        )
    ),
    "300k-known-samples": Shape(lambda: field(1, ONE + sample()) * 300_000),
    "100k-histogram-members": Shape(
        lambda: many(
            100_000,
            lambda n: field(
                1,
                labels(__name__="lat_bucket", id=str(n // 20), le=str(n % 20)) + sample(float(n)),
            ),
        )[: 30 << 20]
    ),
    "good-with-a-damaged-end": Shape(lambda: new_series(40_000) + b"\x0a\x7f"),
    "known-with-a-damaged-end": Shape(lambda: field(1, ONE + sample()) * 300_000 + b"\x0a\x7f"),
    "native-with-a-damaged-end": Shape(
        lambda: native_series(span(0, 160) + field(12, b"\x02" + bytes(159)), 2_000) + b"\x0b"
    ),
    "30MiB-of-one-bad-length": Shape(lambda: b"\x0a\xff\xff\xff\x7f" + bytes(30 << 20)),
    "2.0-16M-empty-symbols": Shape(lambda: b"\x22\x00" * (16 << 20), V2),
    "2.0-490k-symbols": Shape(
        lambda: version2(SYMBOLS + [b""] * 490_000, series2(REFS, sample())), V2
    ),
    "2.0-490k-symbols-with-care": Shape(
        lambda: version2(SYMBOLS + [b""] * 490_000, series2(REFS, sample() * 2)), V2
    ),
    "2.0-16M-empty-series": Shape(lambda: b"\x2a\x00" * (16 << 20), V2),
    "2.0-500k-samples-of-one-series": Shape(
        lambda: version2(SYMBOLS, series2(REFS, sample() * 499_999)), V2
    ),
    "2.0-refs-repeated": Shape(
        lambda: version2(SYMBOLS, series2([1, 2, *[3, 4] * 2_000], sample()) * 3_000), V2
    ),
    "2.0-long-symbols-repeated": Shape(
        lambda: version2([*SYMBOLS, HUGE, HUGE], series2([1, 2, *[5, 6] * 30], sample()) * 20_000),
        V2,
    ),
    "2.0-1M-refs": Shape(lambda: version2(SYMBOLS, series2([3, 4] * 500_000, sample())), V2),
    "2.0-unpacked-refs": Shape(
        lambda: version2(SYMBOLS, field(5, number(1, 3) * 10**6 + sample())), V2
    ),
    "2.0-metadata-each-other": Shape(
        lambda: version2(
            SYMBOLS,
            many(
                100_000,
                lambda n: series2(REFS, sample() + field(5, number(1, 1 + n % 2))),
            ),
        ),
        V2,
    ),
    "2.0-target-info-behind-many-series": Shape(
        lambda: version2(
            [*SYMBOLS, b"target_info"],
            series2(REFS, sample()) * 400_000 + series2([1, 5, *REFS[2:]], sample()),
        ),
        V2,
    ),
    "2.0-target-info-among-490k-symbols": Shape(
        lambda: version2(
            [*SYMBOLS, *[b""] * 490_000, b"target_info"], series2([1, 490_005, *REFS[2:]], sample())
        ),
        V2,
    ),
    "2.0-unknown-fields": Shape(lambda: b"\x38\x00" * (10 << 20), V2),
    "2.0-native-histograms": Shape(
        lambda: version2(
            SYMBOLS,
            series2(
                REFS,
                field(3, b"\x08\x03\x20\x00\x78" + varint(NOW_MS) + span(0, 0) * 3_000),
            )
            * 300,
        ),
        V2,
    ),
}
