"""What is known of types, by project: who teaches whom, whose share it is, what is forgotten."""

from __future__ import annotations

from relay.pipeline.metrics.metadata.metric_types import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    UNKNOWN,
    FamilyMetadata,
)
from relay.pipeline.metrics.metadata.project_types import (
    CONFIRMED_S,
    CONTRADICTIONS_MAX,
    ProjectTypes,
)
from relay.pipeline.metrics.metadata.type_store import TypeStore

WORDS = FamilyMetadata(COUNTER, "words", "seconds")


def tenancy(*, families_max: int = 100, shares_platform: bool = False) -> TypeStore:
    types = TypeStore(
        families_max=families_max, has_tenancy=True, shares_platform=shares_platform, idle_s=60.0
    )
    for project in ("acme", "zeta"):
        types.claim(project)
    return types


def told(types: ProjectTypes, name: str) -> tuple[str, str, str]:
    identity = types.identity(name)
    return identity.kind, identity.description, identity.unit


def test_what_one_project_says_holds_for_no_other() -> None:
    types = tenancy()
    acme, zeta = types.of("acme"), types.of("zeta")
    acme.learn("orders", WORDS)
    zeta.learn("orders", FamilyMetadata(GAUGE, "others"))
    zeta.see_sibling("t", "quantile")
    assert told(acme, "orders") == ("sum", "words", "s")
    assert told(zeta, "orders") == ("gauge", "others", "")
    assert told(acme, "t_sum") == ("gauge", "", "")
    assert told(types.of("new"), "orders") == ("gauge", "", "")


def test_the_platform_types_what_a_project_says_nothing_of_and_lends_no_words() -> None:
    types = tenancy()
    acme = types.of("acme")
    assert told(acme, "orders") == ("gauge", "", "")
    assert types.platform.learn("orders", WORDS), "a name in use of a project changed"
    assert told(acme, "orders") == ("sum", "", "")
    acme.learn("orders", FamilyMetadata(UNKNOWN, "own words"))
    assert told(acme, "orders") == ("sum", "own words", "")
    assert acme.learn("orders", FamilyMetadata(GAUGE))
    assert told(acme, "orders") == ("gauge", "own words", "")


def test_a_projects_word_on_a_family_goes_before_the_platforms_on_a_member() -> None:
    types = tenancy()
    types.platform.learn("h_count", FamilyMetadata(GAUGE))
    types.of("acme").learn("h", FamilyMetadata(HISTOGRAM))
    assert types.of("acme").typing("h_count").part == "count"
    assert types.of("zeta").identity("h_count").kind == "gauge"


def test_the_platform_still_types_what_a_project_only_has_words_for() -> None:
    types = tenancy()
    acme = types.of("acme")
    acme.learn("orders", FamilyMetadata(UNKNOWN, "own"))
    assert told(acme, "orders") == ("gauge", "own", "")
    assert types.platform.learn("orders", WORDS)
    assert told(acme, "orders") == ("sum", "own", "")


def test_words_of_the_platform_are_shared_where_the_operator_says_so() -> None:
    types = tenancy(shares_platform=True)
    types.platform.learn("orders", WORDS)
    assert told(types.of("acme"), "orders") == ("sum", "words", "s")
    types.of("acme").learn("orders", FamilyMetadata(UNKNOWN, "own"))
    assert told(types.of("acme"), "orders") == ("sum", "own", "s")
    assert types.of("acme").histogram("orders", "histogram").description == "own"


def test_a_declaration_holds_for_its_series() -> None:
    types = tenancy().of("acme")
    gauge = types.home.declaration(GAUGE, "its own", "")
    counter = types.home.declaration(COUNTER, "", "bytes")
    assert gauge is types.home.declaration(GAUGE, "its own", "")
    assert gauge is not None
    assert counter is not None
    for declared in (gauge, counter):
        types.declare("q_total", types.believed(declared))
    assert types.typing("q_total", gauge).identity.kind == "gauge"
    assert types.typing("q_total", counter).identity.kind == "sum"
    assert types.typing("q_total", counter).identity.description == "its own", "of the family"
    assert types.typing("q_total").identity.kind == "gauge", "what was said first"
    (one,) = types.home.statistics().contradicted
    assert (one.project, one.family, one.kept, one.other) == ("acme", "q_total", "gauge", "counter")


def test_contradictions_that_are_named_are_bounded() -> None:
    types = tenancy(families_max=1_000).of("acme")
    for n in range(CONTRADICTIONS_MAX + 50):
        types.learn(f"f{n}", FamilyMetadata(GAUGE))
        types.learn(f"f{n}", FamilyMetadata(COUNTER))
        types.learn(f"f{n}", FamilyMetadata(COUNTER))
    contradicted = types.home.statistics().contradicted
    assert len(contradicted) == CONTRADICTIONS_MAX
    assert {one.count for one in contradicted} == {2}


def test_a_declaration_of_nothing_is_none() -> None:
    types = tenancy()
    assert types.declaration(UNKNOWN, "", "") is None
    assert types.declaration(99, "", "") is None
    assert types.declaration(COUNTER, "", "u" * 65) is None
    assert types.refused == 1


def test_different_words_are_bounded_and_types_are_believed_all_the_same() -> None:
    types = tenancy(families_max=10)
    acme, zeta = types.of("acme"), types.of("zeta")
    kept = []
    for n in range(50):
        said = types.declaration(COUNTER, f"words {n}", "")
        assert said is not None
        kept.append(acme.believed(said))
    assert len({id(one) for one in kept}) <= 12
    assert kept[-1].metadata == FamilyMetadata(COUNTER)
    other = types.declaration(COUNTER, "words of another", "")
    assert other is not None
    assert zeta.believed(other) is other, "the share of another is not touched"


def test_junk_of_one_project_takes_no_room_of_another() -> None:
    types = tenancy(families_max=100)
    acme, zeta = types.of("acme"), types.of("zeta")
    for n in range(3_000):
        zeta.learn(f"junk{n}", FamilyMetadata(GAUGE))
        zeta.identity(f"junk{n}")
    for n in range(50):
        acme.learn(f"f{n}", WORDS)
    assert types.statistics().families == 100
    for n in range(3_000):
        zeta.learn(f"more{n}", FamilyMetadata(GAUGE))
    assert {acme.identity(f"f{n}").kind for n in range(50)} == {"sum"}


def test_made_up_projects_have_one_share_together() -> None:
    types = tenancy(families_max=30)
    held = [types.of(f"made-up{n}") for n in range(1_000)]
    for one in held:
        one.learn("orders", WORDS)
    for project in ("acme", "zeta"):
        for n in range(10):
            types.of(project).learn(f"f{n}", WORDS)
    for one in held:
        one.learn("again", WORDS)
    for project in ("acme", "zeta"):
        assert {types.of(project).identity(f"f{n}").kind for n in range(10)} == {"sum"}
    assert types.statistics().families <= 30


def test_what_was_known_of_a_project_counts_as_its_own_once_it_has_an_exporter() -> None:
    types = tenancy(families_max=4)
    late = types.of("late")
    for family in ("a", "b"):
        late.learn(family, WORDS)
    types.claim("late")
    for n in range(20):
        types.of(f"made-up{n}").learn("orders", WORDS)
    assert {late.identity(family).kind for family in ("a", "b")} == {"sum"}


def test_families_unheard_of_for_long_are_forgotten_unless_series_ask_for_them() -> None:
    types = tenancy()
    acme = types.of("acme")
    acme.learn("used", WORDS)
    acme.learn("idle", WORDS)
    for minute in range(6):
        types.sweep(60.0 * minute)
        acme.identity("used_total")
        types.sweep(60.0 * minute + 30.0)
    assert set(types.families()["acme"]) == {"used"}
    for minute in range(6, 12):
        types.sweep(60.0 * minute)
        types.sweep(60.0 * minute + 30.0)
    assert types.families() == {}
    assert types.statistics().forgotten == 2


def test_what_was_known_before_a_restart_waits_for_its_series() -> None:
    before = tenancy()
    before.of("acme").learn("orders", WORDS)
    types = tenancy()
    types.restore(before.families())
    types.sweep(1e6)
    types.sweep(1e6 + 30.0)
    assert types.of("acme").identity("orders").kind == "sum"
    types.of("acme").learn("orders", FamilyMetadata(GAUGE))
    assert types.of("acme").identity("orders").kind == "sum", "it stands for a while"
    types.sweep(1e6 + CONFIRMED_S + 30.0)
    types.of("acme").learn("orders", FamilyMetadata(GAUGE))
    assert types.of("acme").identity("orders").kind == "gauge"


def test_series_of_nobody_teach_nothing() -> None:
    types = tenancy()
    assert not types.of("").teaches
    assert types.of("acme").teaches
    assert TypeStore(families_max=1).of("").teaches
