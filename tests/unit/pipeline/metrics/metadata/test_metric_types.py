"""What a name is: the mapping table of the reference, and how metadata changes it."""

from __future__ import annotations

import pytest

from relay.codec.otlp.metrics import Kind, MetricIdentity
from relay.pipeline.metrics.metadata.metric_types import (
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
)
from relay.pipeline.metrics.metadata.project_types import CONFIRMED_S, ProjectTypes
from relay.pipeline.metrics.metadata.type_store import TypeStore

Shape = tuple[Kind, bool]
"""Kind and monotonicity."""

GAUGE_KIND: Shape = ("gauge", False)
COUNTS_UP: Shape = ("sum", True)
UP_AND_DOWN: Shape = ("sum", False)


def nothing(families_max: int = 100, **options: bool) -> ProjectTypes:
    """Types that were told of nothing."""
    return TypeStore(families_max=families_max, **options).platform


def known(family: str, kind: int, help_text: str = "", unit: str = "") -> ProjectTypes:
    """Types that were told of one family."""
    types = nothing()
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
    untold = nothing(100)
    assert known(family, kind, "a help").identity(name) == untold.identity(name)


@pytest.mark.parametrize("name", ["a_total", "job:a:rate_total"])
def test_inference_can_be_turned_off(name: str) -> None:
    guessing = nothing(1).typing(name)
    assert guessing.identity == MetricIdentity(name, "sum", monotonic=True)
    assert guessing.is_unsure
    assert nothing(1, infer=False).identity(name) == MetricIdentity(name, "gauge")


def test_sums_and_counts_count_up_beside_their_siblings_only() -> None:
    types = nothing()
    for name in ("a_sum", "a_count", "a_bucket"):
        assert types.typing(name).identity == MetricIdentity(name, "gauge")
        assert types.typing(name).is_unsure
    assert types.see_sibling("a", "quantile"), "names in use changed"
    for name in ("a_sum", "a_count"):
        assert types.typing(name).identity == MetricIdentity(name, "sum", monotonic=True)
        assert types.typing(name).family is None
        assert not types.typing(name).is_unsure
    assert shape(types.identity("a_bucket")) == GAUGE_KIND
    assert shape(types.identity("a")) == GAUGE_KIND
    assert types.see_sibling("a_bucket", "bucket")
    assert types.typing("a_sum").part == "sum"


def test_of_a_name_with_a_colon_siblings_do_not_make_a_counter() -> None:
    types = nothing()
    types.see_sibling("ratio:6s_bucket", "bucket")
    for name in ("ratio:6s_sum", "ratio:6s_bucket", "requests:1m_by_job_rate_sum"):
        assert shape(types.identity(name)) == GAUGE_KIND
    assert types.typing("ratio:6s_bucket").part == "bucket"


@pytest.mark.parametrize(
    "name",
    ["a", "total", "atotal", "a_totals", "a_created", "a_info", "", "go_cpu_count", "rate_sum"],
)
def test_other_names_are_gauges(name: str) -> None:
    assert nothing(1).identity(name) == MetricIdentity(name, "gauge")


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
    types.home.tick = CONFIRMED_S
    assert types.learn("x", FamilyMetadata(GAUGE))
    assert shape(types.identity("x")) == GAUGE_KIND


def test_targets_that_contradict_each_other_do_not_flip_a_type() -> None:
    types = known("x", COUNTER)
    types.identity("x")
    for minute in range(60):
        types.home.tick = 60.0 * minute
        assert not types.learn("x", FamilyMetadata(GAUGE))
        assert not types.learn("x", FamilyMetadata(COUNTER))
    assert shape(types.identity("x")) == COUNTS_UP
    assert types.home.statistics().contradictions == 60
    assert types.home.statistics().retyped == 0


def test_buckets_without_metadata_are_of_a_histogram() -> None:
    types = nothing(9)
    assert types.typing("h_count").family is None
    assert types.see_sibling("h_bucket", "bucket"), "a name in use changed"
    assert not types.see_sibling("h_bucket", "bucket")
    for name, part in (("h_bucket", "bucket"), ("h_count", "count"), ("h_sum", "sum")):
        typing = types.typing(name)
        assert (typing.part, typing.family) == (part, MetricIdentity("h", "histogram"))
    assert types.typing("h").family is None


@pytest.mark.parametrize("kind", [COUNTER, GAUGE, SUMMARY, GAUGE_HISTOGRAM])
def test_metadata_goes_before_inference(kind: int) -> None:
    types = known("h", kind)
    assert not types.see_sibling("h_bucket", "bucket")
    types = nothing(9)
    types.see_sibling("h_bucket", "bucket")
    types.learn("h", FamilyMetadata(kind))
    family = types.typing("h_count").family
    assert family is None or family.kind == "summary"


def test_histograms_are_not_inferred_where_inference_is_off() -> None:
    types = nothing(9, infer=False)
    assert not types.see_sibling("h_bucket", "bucket")
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
    types = nothing(10)
    types.identity("rpc_total")
    assert not types.learn("other", FamilyMetadata(COUNTER)), "no name in use is its member"
    assert not types.learn("rpc_tot", FamilyMetadata(COUNTER)), "nor is this family's"
    assert types.learn("rpc", FamilyMetadata(COUNTER)), "the name is now known, not guessed"
    assert not types.learn("rpc", FamilyMetadata(COUNTER)), "nothing new"
    types.identity("rpc_total")
    assert types.learn("rpc", FamilyMetadata(COUNTER, "a help"))
    assert types.home.statistics().retyped == 2


def test_families_that_series_ask_for_stay_and_no_more_are_taken_in() -> None:
    types = nothing(2)
    for family in "abcd":
        types.identity(family)
        types.learn(family, FamilyMetadata(COUNTER))
        types.identity(family)
    types.home.tick = CONFIRMED_S
    assert types.learn("a", FamilyMetadata(GAUGE)), "the known may still change"
    statistics = types.home.statistics()
    assert (statistics.families, statistics.refused) == (2, 2)
    assert types.identity("a").prometheus_type == "gauge"
    assert types.identity("c").prometheus_type == ""


def test_families_that_no_series_asks_for_give_way_to_new_ones() -> None:
    types = nothing(10)
    types.identity("used_total")
    types.learn("used", FamilyMetadata(COUNTER, "a help"))
    for n in range(3_000):
        types.learn(f"junk{n}", FamilyMetadata(GAUGE))
    types.learn("fresh", FamilyMetadata(COUNTER))
    statistics = types.home.statistics()
    assert (statistics.families, statistics.refused) == (10, 0)
    assert types.identity("used_total").description == "a help"
    assert types.identity("fresh").kind == "sum"


def test_what_is_kept_of_a_name_is_bounded() -> None:
    types = nothing(2)
    for n in range(100):
        types.identity(f"name{n}")
        assert len(types.young) + len(types._old) <= 16
    assert types.learn("name3", FamilyMetadata(COUNTER)), "a forgotten name may still be in use"


def test_texts_are_bounded() -> None:
    types = nothing(9)
    types.learn("x", FamilyMetadata(COUNTER, "h" * (HELP_CHARS_MAX + 1), "u" * UNIT_CHARS_MAX))
    assert len(types.identity("x").description) == HELP_CHARS_MAX
    types.learn("y", FamilyMetadata(COUNTER, unit="u" * (UNIT_CHARS_MAX + 1)))
    types.learn("n" * (FAMILY_CHARS_MAX + 1), FamilyMetadata(COUNTER))
    assert types.home.statistics().families == 1
    assert types.home.statistics().refused == 2
