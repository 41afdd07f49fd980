"""Series of scrapes: what the captures hold, how it is encoded, and in which order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cramjam
import pytest

from bench import scrape
from bench.dataset import SCRAPE_INTERVAL_MS, Dataset, Shape, write_dataset
from bench.labels import MARKER, PROJECT_LABEL, LabelSet
from bench.scrape import exposed, labels_of, value_of
from tests.kit.remote_write.prompb import WriteRequest

START_MS = 1_790_000_000_000
PER_TARGET = 507


def scrape_dataset(directory: Path, **given: Any) -> Dataset:
    """Two rounds of three targets, in requests of 500 series."""
    shape = {"rounds": 2, "series": 3 * PER_TARGET, "series_per_request": 500, **given}
    return write_dataset(directory, Shape(START_MS, content="scrape", **shape))


def bodies_of(dataset: Dataset) -> list[bytes]:
    stored = dataset.bodies.read_bytes()
    packed = [stored[one.offset : one.offset + one.size] for one in dataset.requests]
    return [bytes(cramjam.snappy.decompress_raw(one)) for one in packed]


def sent_by(dataset: Dataset) -> list[tuple[int, dict[str, str], int, float]]:
    """Marker, labels, time and value of each sample."""
    found = []
    for body in bodies_of(dataset):
        for one in WriteRequest.FromString(body).timeseries:
            labels = {label.name: label.value for label in one.labels}
            ((time_ms, value),) = [(sample.timestamp, sample.value) for sample in one.samples]
            found.append((int(labels[MARKER]), labels, time_ms, value))
    return found


def test_a_target_has_what_a_real_node_exporter_has() -> None:
    series = exposed()
    assert len(series) == PER_TARGET
    identities = [(one.name, *sorted(one.labels.items())) for one in series]
    assert len(set(identities)) == PER_TARGET
    runs = 1 + sum(one.name != before.name for before, one in pairwise(series))
    assert runs / len({one.name for one in series}) == 1, "in the order of the exposition"
    assert PER_TARGET / runs < 2
    by_name = {one.name: one for one in series}
    assert by_name["node_network_receive_bytes_total"].is_counter
    assert by_name["go_gc_duration_seconds_sum"].is_counter
    assert not by_name["node_load1"].is_counter
    # Scrapers drop labels without a value.
    assert all(all(one.labels.values()) for one in series)
    assert set(by_name["node_disk_info"].labels) == {"device", "major", "minor"}


@pytest.mark.parametrize(
    ("label_set", "labels", "encoded"), [("exposed", 5, 126), ("platform", 12, 386)]
)
def test_series_have_the_sizes_that_are_promised(
    label_set: LabelSet, labels: int, encoded: int
) -> None:
    series = [labels_of(number, label_set) for number in range(20 * PER_TARGET)]
    count = sum(map(len, series)) / len(series)
    assert labels - 1 <= count <= labels + 1
    # Six bytes of a label are tags and lengths.
    sizes = [len(name) + len(value) + 6 for one in series[:PER_TARGET] for name, value in one]
    assert sum(sizes) / PER_TARGET == pytest.approx(encoded, rel=0.04)
    assert all(one == sorted(one) for one in series)
    names = {name for name, _ in series[0]}
    assert (PROJECT_LABEL in names) == (label_set == "platform")


@pytest.mark.parametrize("label_set", ["exposed", "platform"])
@pytest.mark.parametrize("scattered", [False, True])
def test_requests_decode_to_what_the_data_set_says(
    tmp_path: Path, label_set: LabelSet, scattered: bool
) -> None:
    dataset = scrape_dataset(tmp_path, label_set=label_set, scattered=scattered)
    shape = dataset.shape
    sent = sent_by(dataset)
    assert len(sent) == 2 * shape.series
    for position, (number, labels, time_ms, value) in enumerate(sent):
        round_number = shape.round_of(number, time_ms)
        assert round_number == position // shape.series
        assert value == shape.value(number, round_number)
        assert labels == dict(labels_of(number, label_set))
    half = [number for number, *_ in sent[: shape.series]]
    assert sorted(half) == list(range(shape.series))
    assert (half == sorted(half)) == (not scattered)


def test_values_of_zero_are_left_out_as_senders_do(tmp_path: Path) -> None:
    for body in bodies_of(scrape_dataset(tmp_path)):
        message = WriteRequest.FromString(body)
        # Encoding it anew leaves out what a sender would.
        assert message.SerializeToString() == body
        values = [one.samples[0].value for one in message.timeseries]
        assert 0.0 in values


def test_times_of_other_series_and_rounds_are_noticed() -> None:
    shape = Shape(START_MS, 3, series=3 * PER_TARGET, content="scrape", label_set="exposed")
    assert shape.round_of(700, shape.time_ms(700, 2)) == 2
    assert shape.round_of(700, shape.time_ms(700, 3)) == -1
    assert shape.round_of(700, shape.time_ms(0, 1)) == -1
    assert shape.round_of(3 * PER_TARGET, shape.time_ms(3 * PER_TARGET, 1)) == -1


def test_counters_never_go_down_and_gauges_do() -> None:
    rounds, counted, fell = range(60), 0, 0
    for number in range(2 * PER_TARGET):
        values = [value_of(number, one, SCRAPE_INTERVAL_MS) for one in rounds]
        one = exposed()[number % PER_TARGET]
        if one.is_counter:
            assert values == sorted(values), one
            counted += values[0] < values[-1]
        elif one.change:
            fell += values != sorted(values)
        else:
            assert set(values) == {one.value}
    assert counted > 80
    assert fell > 80


def test_a_rate_is_that_of_the_capture() -> None:
    number = next(
        at for at, one in enumerate(exposed()) if one.name == "node_context_switches_total"
    )
    rounds = scrape.BETWEEN_FILES_MS // SCRAPE_INTERVAL_MS
    first, later = (value_of(number, one, SCRAPE_INTERVAL_MS) for one in (0, rounds))
    assert later - first == exposed()[number].change


@pytest.mark.parametrize("targets", [2, 3, 39, 100])
def test_in_the_worst_order_neighbours_share_neither_target_nor_metric(targets: int) -> None:
    slots = range(targets * PER_TARGET)
    numbers = [scrape.scattered_number(slot, targets) for slot in slots]
    assert sorted(numbers) == list(slots)
    for before, number in pairwise(numbers):
        assert before // PER_TARGET != number // PER_TARGET
        assert exposed()[before % PER_TARGET].name != exposed()[number % PER_TARGET].name


def test_nothing_of_the_machine_that_was_captured_is_left() -> None:
    text = "".join((scrape.DATA / name).read_text(encoding="utf-8") for name in scrape.FILES)
    assert 'nodename="node"' in text
    assert "fc-" not in text
