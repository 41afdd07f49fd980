"""What the benchmark sends is what it says it sends, by protobuf's own runtime."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import cramjam
import pytest
import zstandard

from bench import scrape
from bench.dataset import (
    BOUNDS,
    HISTOGRAM,
    SERIES_PER_HISTOGRAM,
    Dataset,
    Request,
    Shape,
    read_dataset,
    value_of,
    write_dataset,
)
from bench.labels import MARKER, LabelSet, exporter_of, is_wanted, labels_of
from bench.workload import WORKLOADS
from tests.kit.remote_write import prompb

START_MS = 1_790_000_000_000

Sent = list[tuple[dict[str, str], int, float]]
"""Labels, time in ms and value of each sample."""


def dataset_of(tmp_path: Path, **given: Any) -> Dataset:
    """Two rounds of 500 series in requests of 200, 200 and 100, or as given."""
    shape = {"rounds": 2, "series": 500, "series_per_request": 200, **given}
    return write_dataset(tmp_path, Shape(start_ms=START_MS, **shape))


def body_of(dataset: Dataset, request: Request) -> bytes:
    stored = dataset.bodies.read_bytes()
    packed = stored[request.offset : request.offset + request.size]
    if dataset.shape.encoding == "zstd":
        return zstandard.ZstdDecompressor().decompress(packed)
    return bytes(cramjam.snappy.decompress_raw(packed))


def samples_of(dataset: Dataset, request: Request) -> Sent:
    body = body_of(dataset, request)
    if dataset.shape.protocol == "2.0":
        message = prompb.RequestV2.FromString(body)
        assert message.symbols[0] == ""
        assert len(set(message.symbols)) == len(message.symbols)
        texts = message.symbols
        labels = [
            {texts[n]: texts[v] for n, v in zip(r[::2], r[1::2], strict=True)}
            for r in (one.labels_refs for one in message.timeseries)
        ]
    else:
        message = prompb.WriteRequest.FromString(body)
        labels = [{x.name: x.value for x in one.labels} for one in message.timeseries]
    return [
        (own, sample.timestamp, sample.value)
        for own, one in zip(labels, message.timeseries, strict=True)
        for sample in one.samples
    ]


def sent_by(dataset: Dataset) -> Sent:
    return [one for request in dataset.requests for one in samples_of(dataset, request)]


@pytest.mark.parametrize("protocol", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", ["snappy", "zstd"])
@pytest.mark.parametrize("label_set", ["platform", "small", "large"])
def test_requests_decode_to_what_the_data_set_says(
    tmp_path: Path, protocol: str, encoding: str, label_set: LabelSet
) -> None:
    dataset = dataset_of(tmp_path, protocol=protocol, encoding=encoding, label_set=label_set)
    assert [request.samples for request in dataset.requests] == [200, 200, 100] * 2
    assert sent_by(dataset) == [
        (labels_of(series, label_set), dataset.shape.time_ms(series, r), value_of(series, r))
        for r in range(2)
        for series in range(500)
    ]


def test_labels_are_sorted_and_symbols_come_in_order_of_appearance(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, protocol="2.0", label_set="large")
    message = prompb.RequestV2.FromString(body_of(dataset, dataset.requests[0]))
    seen = [0]
    for series in message.timeseries:
        names = [message.symbols[n] for n in series.labels_refs[::2]]
        assert names == sorted(names)
        assert series.HasField("metadata"), "Prometheus writes it where it is empty, too"
        seen += [n for n in dict.fromkeys(series.labels_refs) if n > max(seen)]
    assert seen == list(range(len(message.symbols)))


def test_every_series_carries_the_marker_once(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    for request in dataset.requests:
        assert body_of(dataset, request).count(MARKER.encode()) == request.samples


@pytest.mark.parametrize(
    ("label_set", "labels", "encoded"),
    [("platform", 13, (420, 460)), ("small", 3, (70, 80)), ("large", 40, (1_950, 2_050))],
)
def test_series_have_the_sizes_that_are_promised(
    label_set: LabelSet, labels: int, encoded: tuple[int, int]
) -> None:
    series = [labels_of(number, label_set) for number in range(0, 50_000, 77)]
    assert {len(one) for one in series} == {labels}
    # Six bytes of a label are tags and lengths.
    sizes = [sum(len(n) + len(v) + 6 for n, v in one.items()) for one in series]
    assert encoded[0] <= sum(sizes) / len(sizes) <= encoded[1]
    texts = [sum(len(n) + len(v) for n, v in one.items()) for one in series]
    assert label_set != "small" or 55 <= sum(texts) / len(texts) <= 65


def test_the_proposals_selector_selects_four_percent() -> None:
    wanted = [number for number in range(50_000) if is_wanted(number)]
    assert len(wanted) == 2_000
    by_labels = [
        number
        for number in range(50_000)
        for labels in [labels_of(number)]
        if labels["service_name"] == "networking.datumapis.com"
        and labels["resource_kind"] == "Gateway"
        and labels["__name__"].startswith("network_bytes_")
    ]
    assert wanted == by_labels


def test_a_data_set_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, churn=True)
    assert read_dataset(dataset.directory) == dataset


def test_churn_renews_a_fifth_of_each_request_in_each_round(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, rounds=3, series=2_000, series_per_request=1_000, churn=True)
    seen: set[str] = set()
    for number, request in enumerate(dataset.requests):
        samples = samples_of(dataset, request)
        for labels, time_ms, value in samples:
            series = int(labels[MARKER])
            assert labels == labels_of(series)
            assert dataset.shape.round_of(series, time_ms) == number // 2
            assert value == value_of(series, number // 2)
        markers = {labels[MARKER] for labels, _, _ in samples}
        fresh = len(markers - seen)
        assert fresh == (1_000 if number < 2 else 200)
        seen |= markers


def test_shuffled_requests_hold_the_same_in_another_order_each_time(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, shuffled=True)
    plain = [list(range(500))[at : at + 200] for at in (0, 200, 400)]
    orders = [
        [int(labels[MARKER]) for labels, _, _ in samples_of(dataset, request)]
        for request in dataset.requests
    ]
    for number, order in enumerate(orders):
        assert sorted(order) == plain[number % 3]
        assert order != plain[number % 3]
    for first, second in zip(orders[:3], orders[3:], strict=True):
        assert first != second
    for labels, time_ms, value in sent_by(dataset):
        series = int(labels[MARKER])
        assert value == value_of(series, dataset.shape.round_of(series, time_ms))


@pytest.mark.parametrize("label_set", ["platform", "small"])
def test_histograms_are_whole_and_say_what_is_expected(tmp_path: Path, label_set: LabelSet) -> None:
    size = SERIES_PER_HISTOGRAM
    dataset = dataset_of(
        tmp_path,
        series=20 * size,
        series_per_request=5 * size,
        content="histograms",
        label_set=label_set,
    )
    samples = sent_by(dataset)
    assert len(samples) == 2 * 20 * size
    for at in range(0, len(samples), size):
        members = samples[at : at + size]
        ((marker, time_ms),) = {(labels[MARKER], time_ms) for labels, time_ms, _ in members}
        names = [labels["__name__"].removeprefix(HISTOGRAM) for labels, _, _ in members]
        assert names == ["_bucket"] * len(BOUNDS) + ["_sum", "_count"]
        assert [labels.get("le") for labels, _, _ in members] == [*BOUNDS, None, None]
        cumulative = [value for _, _, value in members[: len(BOUNDS)]]
        total, in_all = members[-2][2], members[-1][2]
        assert cumulative == sorted(cumulative)
        assert cumulative[-1] == in_all
        counts = [cumulative[0], *(b - a for a, b in pairwise(cumulative))]
        number = int(marker)
        round_number = dataset.shape.round_of(number, time_ms)
        bounds = [float(bound) for bound in BOUNDS[:-1]]
        assert dataset.shape.value(number, round_number) == (in_all, total, *bounds, *counts)


def test_each_tenants_series_are_for_one_exporter_of_its_project() -> None:
    found: Counter[str] = Counter()
    for series in range(50_000):
        exporter = exporter_of(series, 2_000)
        project = labels_of(series, projects=2_000)["resourcemanager_datumapis_com_project_name"]
        assert project == f"customer-{exporter[:4]}-prod"
        found[exporter] += 1
    assert len(found) == 10_000
    assert set(found.values()) == {5}


def test_times_of_other_series_and_rounds_are_noticed() -> None:
    shape = Shape(START_MS, 3, series=500, churn=True)
    known, renewed = 0, 400 + 500
    assert shape.round_of(known, shape.time_ms(known, 2)) == 2
    assert shape.round_of(known, shape.time_ms(known, 3)) == -1
    assert shape.round_of(known, shape.time_ms(known, 1) + 1) == -1
    assert shape.round_of(renewed, shape.time_ms(renewed, 1)) == 1
    assert shape.round_of(renewed, shape.time_ms(renewed, 2)) == -1
    assert shape.round_of(known + 500, shape.time_ms(known + 500, 1)) == -1


# The table of workloads.


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda one: one.name)
def test_workloads_expect_what_their_data_holds(workload: Any, tmp_path: Path) -> None:
    for label_set in workload.label_sets:
        shape = workload.shape_of(START_MS, 0.1, label_set, 2_100)
        assert shape.label_set == (workload.label_set or label_set)
    directory = tmp_path / "one"
    directory.mkdir()
    shape = workload.shape_of(START_MS, 0.1, "platform", 2_100)
    dataset = write_dataset(directory, shape)
    count = len(dataset.requests)
    expected = workload.expected(dataset, 1, count)
    samples = sum(request.samples for request in dataset.requests)
    if workload.delivers == "each":
        assert dict(expected) == {f"sink-{n:04d}": samples for n in range(5)}
    elif workload.delivers == "wanted":
        selects = scrape.is_wanted if shape.content == "scrape" else is_wanted
        wanted = sum(selects(int(labels[MARKER])) for labels, _, _ in sent_by(dataset))
        assert dict(expected) == {"": wanted}
    elif workload.delivers == "tenants":
        takers = Counter(
            exporter_of(int(labels[MARKER]), shape.projects) for labels, _, _ in sent_by(dataset)
        )
        assert expected == takers
    else:
        assert dict(expected) == {"": samples // shape.series_per_point}


def test_requests_are_counted_as_often_as_they_were_sent(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    assert dict(dataset.sent(4, 9)) == {0: 2, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2}
    assert dict(dataset.sent(0, 2)) == {0: 1, 1: 1}
    assert dict(dataset.sent(5, 2)) == {5: 1, 0: 1}


def test_cold_sends_new_series_only_and_a_million_at_most() -> None:
    cold = WORKLOADS["cold"]
    shape = cold.shape_of(START_MS, 60.0, "platform", None)
    warmup = cold.warmup_requests
    assert warmup is not None
    assert (shape.rounds, shape.series) == (1, 1_000_000 + warmup * shape.series_per_request)
    assert cold.shape_of(START_MS, 3.0, "platform", None).series < 350_000
