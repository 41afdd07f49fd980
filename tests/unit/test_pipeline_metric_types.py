"""What a name is: the mapping table of the reference, and how metadata changes it."""

from __future__ import annotations

import pytest

from relay.pipeline.metric_types import (
    CONFIRMED_S,
    COUNTER,
    FAMILY_CHARS_MAX,
    GAUGE,
    GAUGE_HISTOGRAM,
    HELP_CHARS_MAX,
    HISTOGRAM,
    INFO,
    STATE_SET,
    SUMMARY,
    UNIT_CHARS_MAX,
    UNKNOWN,
    FamilyMetadata,
    MetricTypes,
)
from relay.wire.otlp import Kind, MetricIdentity

Shape = tuple[Kind, bool]
"""Kind and monotonicity."""

GAUGE_KIND: Shape = ("gauge", False)
COUNTS_UP: Shape = ("sum", True)
UP_AND_DOWN: Shape = ("sum", False)


def known(family: str, kind: int, help_text: str = "", unit: str = "") -> MetricTypes:
    """Types that were told of one family."""
    types = MetricTypes(families_max=100)
    types.learn(family, FamilyMetadata(kind, help_text, unit))
    return types


def shape(identity: MetricIdentity) -> Shape:
    """What the table of the reference is about."""
    return identity.kind, identity.monotonic


@pytest.mark.parametrize(
    ("family", "kind", "name", "expected", "type_name"),
    [
        ("rpc", COUNTER, "rpc", COUNTS_UP, "counter"),
        ("rpc", COUNTER, "rpc_total", COUNTS_UP, "counter"),
        ("rpc_total", COUNTER, "rpc_total", COUNTS_UP, "counter"),
        ("rpc", COUNTER, "rpc_created", GAUGE_KIND, "counter"),
        ("t", GAUGE, "t", GAUGE_KIND, "gauge"),
        ("t_total", GAUGE, "t_total", GAUGE_KIND, "gauge"),
        ("t_total", UNKNOWN, "t_total", GAUGE_KIND, "unknown"),
        ("h", HISTOGRAM, "h_bucket", COUNTS_UP, "histogram"),
        ("h", HISTOGRAM, "h_count", COUNTS_UP, "histogram"),
        ("h", HISTOGRAM, "h_sum", COUNTS_UP, "histogram"),
        ("h", HISTOGRAM, "h_created", GAUGE_KIND, "histogram"),
        ("g", GAUGE_HISTOGRAM, "g_bucket", GAUGE_KIND, "gaugehistogram"),
        ("g", GAUGE_HISTOGRAM, "g_gcount", GAUGE_KIND, "gaugehistogram"),
        ("g", GAUGE_HISTOGRAM, "g_gsum", GAUGE_KIND, "gaugehistogram"),
        ("s", SUMMARY, "s", GAUGE_KIND, "summary"),
        ("s", SUMMARY, "s_count", COUNTS_UP, "summary"),
        ("s", SUMMARY, "s_sum", COUNTS_UP, "summary"),
        ("build", INFO, "build_info", UP_AND_DOWN, "info"),
        ("build_info", INFO, "build_info", UP_AND_DOWN, "info"),
        ("state", STATE_SET, "state", UP_AND_DOWN, "stateset"),
    ],
)
def test_metadata_says_what_a_member_is(
    family: str, kind: int, name: str, expected: Shape, type_name: str
) -> None:
    identity = known(family, kind, "a help", "seconds").identity(name)
    assert shape(identity) == expected
    counts_observations = name.endswith(("_bucket", "_count", "_gcount"))
    unit = "" if counts_observations else "s"
    assert identity == MetricIdentity(name, *expected, unit, "a help", type_name)


@pytest.mark.parametrize(
    ("family", "kind", "name"),
    [
        ("foo", GAUGE, "foo_total"),
        ("foo", SUMMARY, "foo_bucket"),
        ("foo", COUNTER, "foo_sum"),
        ("foo", UNKNOWN, "foo_count"),
        ("foo", COUNTER, "foobar"),
        ("foo", COUNTER, "foo_bar_total"),
    ],
)
def test_metadata_says_nothing_about_names_that_are_no_members(
    family: str, kind: int, name: str
) -> None:
    untold = MetricTypes(families_max=100)
    assert known(family, kind, "a help").identity(name) == untold.identity(name)


@pytest.mark.parametrize("name", ["a_total", "a_bucket", "a_sum", "a_count"])
def test_inference_can_be_turned_off(name: str) -> None:
    guessing = MetricTypes(families_max=1).identity(name)
    assert guessing == MetricIdentity(name, "sum", monotonic=True)
    assert MetricTypes(families_max=1, infer=False).identity(name) == MetricIdentity(name, "gauge")


@pytest.mark.parametrize("name", ["a", "total", "atotal", "a_totals", "a_created", "a_info", ""])
def test_other_names_are_gauges(name: str) -> None:
    assert MetricTypes(families_max=1).identity(name) == MetricIdentity(name, "gauge")


def test_the_names_own_metadata_goes_before_its_familys() -> None:
    types = known("x", COUNTER, "of the family")
    types.learn("x_total", FamilyMetadata(GAUGE, "its own"))
    assert types.identity("x_total").description == "its own"
    assert shape(types.identity("x_total")) == GAUGE_KIND


@pytest.mark.parametrize(
    ("unit", "ucum"),
    [
        ("seconds", "s"),
        ("bytes", "By"),
        ("kilobytes", "kBy"),
        ("tebibytes", "TiBy"),
        ("celsius", "Cel"),
        ("percent", "%"),
        ("widgets", "widgets"),
        ("", ""),
    ],
)
def test_units_are_told_in_ucum(unit: str, ucum: str) -> None:
    assert known("x", GAUGE, unit=unit).identity("x").unit == ucum


def test_help_and_unit_are_filled_in_once() -> None:
    types = known("x", UNKNOWN, "first")
    types.learn("x", FamilyMetadata(COUNTER, "", "bytes"))
    types.learn("x", FamilyMetadata(COUNTER, "second", "seconds"))
    assert types.identity("x") == MetricIdentity("x", *COUNTS_UP, "By", "first", "counter")


@pytest.mark.parametrize("kind", [UNKNOWN, -1, 8, 99, 2**31 - 1])
def test_a_type_that_says_nothing_takes_nothing_back(kind: int) -> None:
    types = known("x", COUNTER)
    assert not types.learn("x", FamilyMetadata(kind))
    assert types.identity("x").prometheus_type == "counter"


@pytest.mark.parametrize("kind", [-1, 8, 99])
def test_an_undefined_type_alone_is_unknown(kind: int) -> None:
    assert known("x", kind).identity("x").prometheus_type == "unknown"


def test_a_type_may_change_when_nobody_confirms_it_any_more() -> None:
    types = known("x", COUNTER)
    assert shape(types.identity("x")) == COUNTS_UP
    types.tick = CONFIRMED_S
    assert types.learn("x", FamilyMetadata(GAUGE))
    assert shape(types.identity("x")) == GAUGE_KIND


def test_targets_that_contradict_each_other_do_not_flip_a_type() -> None:
    types = known("x", COUNTER)
    types.identity("x")
    for minute in range(60):
        types.tick = 60.0 * minute
        assert not types.learn("x", FamilyMetadata(GAUGE))
        assert not types.learn("x", FamilyMetadata(COUNTER))
    assert shape(types.identity("x")) == COUNTS_UP
    assert types.statistics().contradictions == 60
    assert types.statistics().retyped == 0


def test_buckets_without_metadata_are_of_a_histogram() -> None:
    types = MetricTypes(families_max=9)
    assert types.typing("h_count").family is None
    assert types.infer_histogram("h_bucket"), "a name in use changed"
    assert not types.infer_histogram("h_bucket")
    for name, part in (("h_bucket", "bucket"), ("h_count", "count"), ("h_sum", "sum")):
        typing = types.typing(name)
        assert (typing.part, typing.family) == (part, MetricIdentity("h", "histogram"))
    assert types.typing("h").family is None


@pytest.mark.parametrize("kind", [COUNTER, GAUGE, SUMMARY, GAUGE_HISTOGRAM])
def test_metadata_goes_before_inference(kind: int) -> None:
    types = known("h", kind)
    assert not types.infer_histogram("h_bucket")
    types = MetricTypes(families_max=9)
    types.infer_histogram("h_bucket")
    types.learn("h", FamilyMetadata(kind))
    family = types.typing("h_count").family
    assert family is None or family.kind == "summary"


def test_histograms_are_not_inferred_where_inference_is_off() -> None:
    types = MetricTypes(families_max=9, infer=False)
    assert not types.infer_histogram("h_bucket")
    assert types.typing("h_bucket").family is None


@pytest.mark.parametrize(
    ("kind", "name", "part", "family"),
    [
        (HISTOGRAM, "f_bucket", "bucket", "histogram"),
        (HISTOGRAM, "f_count", "count", "histogram"),
        (HISTOGRAM, "f_sum", "sum", "histogram"),
        (SUMMARY, "f", "quantile", "summary"),
        (SUMMARY, "f_count", "count", "summary"),
        (SUMMARY, "f_sum", "sum", "summary"),
    ],
)
def test_members_know_their_family(kind: int, name: str, part: str, family: str) -> None:
    typing = known("f", kind, "a help", "seconds").typing(name)
    assert typing.part == part
    type_name = "histogram" if kind == HISTOGRAM else "summary"
    assert typing.family == MetricIdentity("f", family, False, "s", "a help", type_name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["f", "f_created", "f_bucketful"])
def test_others_are_no_members(name: str) -> None:
    assert known("f", HISTOGRAM).typing(name).family is None


@pytest.mark.parametrize("name", ["g_bucket", "g_gcount", "g_gsum"])
def test_gauge_histograms_have_no_form_in_otlp(name: str) -> None:
    assert known("g", GAUGE_HISTOGRAM).typing(name).refused == "gauge_histogram"


def test_learning_says_whether_a_name_in_use_changed() -> None:
    types = MetricTypes(families_max=10)
    types.identity("rpc_total")
    assert not types.learn("other", FamilyMetadata(COUNTER)), "no name in use is its member"
    assert not types.learn("rpc_tot", FamilyMetadata(COUNTER)), "nor is this family's"
    assert types.learn("rpc", FamilyMetadata(COUNTER)), "the name is now known, not guessed"
    assert not types.learn("rpc", FamilyMetadata(COUNTER)), "nothing new"
    types.identity("rpc_total")
    assert types.learn("rpc", FamilyMetadata(COUNTER, "a help"))
    assert types.statistics().retyped == 2


def test_families_beyond_the_limit_are_refused_and_counted() -> None:
    types = MetricTypes(families_max=2)
    for family in "abcd":
        types.learn(family, FamilyMetadata(COUNTER))
    types.tick = CONFIRMED_S
    assert types.learn("a", FamilyMetadata(GAUGE)) is False
    statistics = types.statistics()
    assert (statistics.families, statistics.refused) == (2, 2)
    assert types.identity("a").prometheus_type == "gauge", "the known may still change"
    assert types.identity("c").prometheus_type == ""


def test_what_is_kept_of_a_name_is_bounded() -> None:
    types = MetricTypes(families_max=2)
    for n in range(100):
        types.identity(f"name{n}")
        assert len(types._typings) <= 8
    assert types.learn("name3", FamilyMetadata(COUNTER)), "a forgotten name may still be in use"


def test_texts_are_bounded() -> None:
    types = MetricTypes(families_max=9)
    types.learn("x", FamilyMetadata(COUNTER, "h" * (HELP_CHARS_MAX + 1), "u" * UNIT_CHARS_MAX))
    assert len(types.identity("x").description) == HELP_CHARS_MAX
    types.learn("y", FamilyMetadata(COUNTER, unit="u" * (UNIT_CHARS_MAX + 1)))
    types.learn("n" * (FAMILY_CHARS_MAX + 1), FamilyMetadata(COUNTER))
    assert types.statistics().families == 1
    assert types.statistics().refused == 2
