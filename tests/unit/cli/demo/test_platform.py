"""The demo's platform, read by the official protobuf classes: a well-behaved sender."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterator

from relay.cli.demo.platform import CUSTOMERS, FAMILIES, PROJECT_LABEL, Platform, example_series
from relay.cli.demo.scenario import CONFIG
from relay.cli.demo.write_request import STALE
from relay.config.settings.settings import load_settings
from relay.control.explain import parse_series
from tests.kit.remote_write.prompb import WriteRequest

Labels = tuple[tuple[str, str], ...]

NOW_MS = 1_700_000_000_000
"""Time stands still: that no series has a time twice is the platform's to see to."""
ROUNDS = 12


def samples(platform: Platform) -> Iterator[tuple[Labels, float, int]]:
    """(labels, value, time in ms) of every sample of the first scraper's first rounds."""
    scraper = platform.scrapers[0]
    for _ in range(ROUNDS):
        request = scraper.next_request(NOW_MS)
        message = WriteRequest.FromString(request.body)
        assert request.samples == sum(len(series.samples) for series in message.timeseries)
        for series in message.timeseries:
            labels = tuple((label.name, label.value) for label in series.labels)
            for sample in series.samples:
                yield labels, sample.value, sample.timestamp


def labels_of(body: bytes) -> set[Labels]:
    """The series of a request."""
    message = WriteRequest.FromString(body)
    return {
        tuple((label.name, label.value) for label in series.labels) for series in message.timeseries
    }


def platform(series: int = 300, seed: int = 1) -> Platform:
    return Platform(series=series, scrapers=2, seed=seed)


def test_labels_are_sorted_and_times_of_a_series_go_up() -> None:
    last_ms: dict[Labels, int] = {}
    for labels, _, time_ms in samples(platform()):
        assert list(labels) == sorted(labels)
        assert last_ms.get(labels, 0) < time_ms
        last_ms[labels] = time_ms
    customers = {dict(labels)[PROJECT_LABEL] for labels in last_ms}
    assert customers == set(CUSTOMERS)


def test_counters_count_and_buckets_are_cumulative() -> None:
    last: dict[Labels, float] = {}
    buckets: defaultdict[tuple[Labels, int], list[float]] = defaultdict(list)
    for labels, value, time_ms in samples(platform()):
        name = dict(labels)["__name__"]
        if name.endswith(("_total", "_bucket", "_count", "_sum")) and not math.isnan(value):
            assert value >= last.get(labels, 0.0)
            last[labels] = value
        if name.endswith("_bucket"):
            rest = tuple(pair for pair in labels if pair[0] != "le")
            buckets[rest, time_ms].append(value)
    assert any(last.values())
    assert buckets
    assert all(counts == sorted(counts) for counts in buckets.values())


def test_a_restart_ends_series_with_stale_markers_and_begins_others() -> None:
    ended: set[Labels] = set()
    seen_pods: defaultdict[str, set[str]] = defaultdict(set)
    for labels, value, _ in samples(platform()):
        assert labels not in ended
        by_name = dict(labels)
        if math.isnan(value):
            assert struct.pack("<d", value) == STALE
            ended.add(labels)
        if "pod" in by_name:
            seen_pods[by_name["resource_name"]].add(by_name["pod"])
    assert ended
    assert max(map(len, seen_pods.values())) == 2


def test_size_and_shares_are_as_asked() -> None:
    for wanted, actual in ((1, 208), (300, 312), (2_000, 2_002)):
        made = platform(wanted)
        assert made.series == actual
        first_round: set[Labels] = set()
        for scraper in made.scrapers:
            labels = labels_of(scraper.next_request(NOW_MS).body)
            while first_round.isdisjoint(labels):
                first_round |= labels
                labels = labels_of(scraper.next_request(NOW_MS).body)
        assert len(first_round) == actual


def test_one_seed_gives_one_platform_and_another_another() -> None:
    first, again, other = ([repr(s) for s in samples(platform(seed=n))] for n in (7, 7, 8))
    assert first == again
    assert first != other


def test_metadata_names_every_family() -> None:
    message = WriteRequest.FromString(platform().scrapers[0].metadata())
    told = {(m.metric_family_name, m.type, m.help, m.unit) for m in message.metadata}
    assert told == {(f.name, f.type, f.help, f.unit) for f in FAMILIES}
    assert not message.timeseries


def test_the_example_is_a_series_that_is_sent() -> None:
    example = tuple(sorted(parse_series(example_series()).items()))
    assert example in {labels for labels, _, _ in samples(platform())}


def test_the_settings_know_the_label_and_all_customers_but_one() -> None:
    settings = load_settings(CONFIG / "relay.yaml")
    assert settings.tenancy is not None
    assert settings.tenancy.label == PROJECT_LABEL
    assert {entry.project for entry in settings.exporters} == set(CUSTOMERS) - {"hooli"}
