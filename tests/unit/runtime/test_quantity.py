"""Durations and sizes: Go's grammar, units, bounds and round trips."""

from __future__ import annotations

import pytest

from relay.runtime.errors import QuantityError
from relay.runtime.quantity import format_bytes, format_duration, parse_bytes, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("5s", 5.0),
        ("+5s", 5.0),
        ("-0", 0.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("250ms", 0.25),
        ("7us", 7e-6),
        ("7µs", 7e-6),
        ("7μs", 7e-6),
        ("12ns", 12e-9),
        ("1h1h", 7200.0),
        ("30s1m", 90.0),
        ("2562047h47m16.854775807s", 9223372036.854775807),
        ("0.3333333333333333333h", 1200.0),
    ],
)
def test_a_duration_means_what_go_says(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'must be a duration such as "5s"'),
        ("-", 'must be a duration such as "5s"'),
        ("s", 'must be a duration such as "5s"'),
        (".", 'must be a duration such as "5s"'),
        (".s", 'must be a duration such as "5s"'),
        ("5", 'the duration "5" needs units, as in "5s"'),
        ("1m30", "needs units"),
        ("1d", 'unknown unit "d"'),
        ("5S", 'unknown unit "S"'),
        ("5 s", 'unknown unit " s"'),
        (" 5s", 'must be a duration such as "5s"'),
        ("5s ", 'unknown unit "s "'),
        ("+-5s", 'must be a duration such as "5s"'),
        ("1e3s", 'unknown unit "e"'),
        ("٣s", 'must be a duration such as "5s"'),
        ("5s\n", r'unknown unit "s\\n"'),
        ("-5s", "must not be negative"),
        ("2562048h", "is too long"),
        ("9" * 65 + "s", "longer than 64 characters"),
    ],
)
def test_what_is_no_duration_is_refused(text: str, message: str) -> None:
    with pytest.raises(QuantityError, match=message):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1d", "24h"),
        ("1.5d", "36h"),
        ("2w", "336h"),
        ("3 days", "72h"),
        ("5min", "5m"),
        ("5 s", "5s"),
        ("30 Seconds", "30s"),
        ("5S", "5s"),
        ("250 msec", "250ms"),
        ("1h2d", '48h for "2d"'),
        ("5M", ""),
        ("5 fortnights", ""),
    ],
)
def test_a_unit_of_people_is_told_how_it_is_written(text: str, meant: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_duration_s(text)
    _, _, told = str(caught.value).partition("units are h, m, s, ms, us, ns")
    assert told == (f"; write {meant}" if meant else "")


@pytest.mark.parametrize(
    ("text", "meant"), [("1gib", "1GiB"), ("64 mb", "64MB"), ("1m", ""), ("1 gigabyte", "")]
)
def test_a_unit_in_other_capitals_is_told_how_it_is_written(text: str, meant: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_bytes(text)
    assert str(caught.value).endswith(f"TiB; write {meant}" if meant else "TiB")


def test_a_negative_duration_is_accepted_where_asked_for() -> None:
    assert parse_duration_s("-1m30s", negative_ok=True) == -90.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (5.0, "5s"),
        (90.0, "1m30s"),
        (86400.0, "24h"),
        (3601.5, "1h1.5s"),
        (0.25, "250ms"),
        (0.0015, "1.5ms"),
        (7e-6, "7us"),
        (12e-9, "12ns"),
        (-90.0, "-1m30s"),
    ],
)
def test_a_duration_is_written_as_go_reads_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration_s(text, negative_ok=True) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (1048576, 1 << 20),
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("8GiB", 8 << 30),
        ("8Gi", 8 << 30),
        ("32MiB", 32 << 20),
        ("16 KiB", 16 << 10),
        ("500kB", 500_000),
        ("500KB", 500_000),
        ("500k", 500_000),
        ("1M", 10**6),
        ("2GB", 2 * 10**9),
        ("1TiB", 1 << 40),
        ("1.5GiB", 3 << 29),
        ("0.5KiB", 512),
    ],
)
def test_a_size_comes_to_bytes(value: str | int, size: int) -> None:
    assert parse_bytes(value) == size


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "must be a size such as"),
        ("MiB", "must be a size such as"),
        ("-1", "must be a size such as"),
        ("1e6", 'must be a size such as "32MiB" or "500kB", not "1e6"'),
        ("1  MiB", "must be a size such as"),
        ("1mib", 'unknown unit "mib" in the size "1mib"'),
        ("1m", 'unknown unit "m"'),
        ("0.3B", "is not a whole number of bytes"),
        ("8192PiB", "is too large"),
        ("9" * 65, "longer than 64 characters"),
        (-1, "must be a size in bytes, not -1"),
        (True, "must be a size in bytes, not True"),
        (2**63, "must be a size in bytes"),
    ],
)
def test_what_is_no_size_is_refused(value: str | int, message: str) -> None:
    with pytest.raises(QuantityError, match=message):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1000, "1000B"), (1536 << 10, "1536KiB"), (32 << 20, "32MiB")],
)
def test_a_size_is_written_exactly(size: int, text: str) -> None:
    assert format_bytes(size) == text
    assert parse_bytes(text) == size
