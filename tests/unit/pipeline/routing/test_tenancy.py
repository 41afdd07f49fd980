"""Whose a series is: by label, by the account in the path, by both, on the multitenant path."""

from __future__ import annotations

import pytest

from relay.pipeline.routing.tenancy import (
    ANYWHERE,
    MULTITENANT,
    PLATFORM,
    UNMAPPED,
    IngestPath,
    Tenancy,
)
from relay.selector.matchers import Matcher, Selector
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw

T = raw.T0_MS
UP = [(b"__name__", b"up")]
BOTH = Tenancy("tenant", {(42, 7): "acme", (0, 0): "zero", (9, 0): "globex"})


@pytest.mark.parametrize(
    ("labels", "origin", "project"),
    [
        ({}, ANYWHERE, ""),
        ({"tenant": "acme"}, ANYWHERE, "acme"),
        ({}, IngestPath("acme"), "acme"),
        ({"tenant": "acme"}, IngestPath("acme"), "acme"),
        ({"tenant": "globex"}, IngestPath("acme"), ""),
        ({"vm_account_id": "42", "vm_project_id": "7"}, MULTITENANT, "acme"),
        ({"vm_account_id": "42", "vm_project_id": "7"}, ANYWHERE, ""),
        ({"vm_account_id": "9"}, MULTITENANT, "globex"),
        ({}, MULTITENANT, "zero"),
        ({"vm_account_id": "4294967296"}, MULTITENANT, "zero"),
        ({"vm_account_id": "nine", "vm_project_id": "-1"}, MULTITENANT, "zero"),
        ({"vm_account_id": "9", "vm_project_id": "9" * 5000}, MULTITENANT, "globex"),
        ({"vm_account_id": "5", "tenant": "acme"}, MULTITENANT, "acme"),
        ({"vm_account_id": "9", "tenant": "acme"}, MULTITENANT, ""),
    ],
)
def test_whose_a_series_is(labels: dict[str, str], origin: IngestPath, project: str) -> None:
    assert BOTH.project_of(labels, origin) == project


def test_accounts_of_paths() -> None:
    assert BOTH.origin((42, 7)) == IngestPath("acme")
    assert BOTH.origin((42, 8)) == UNMAPPED
    assert BOTH.origin(None) == Tenancy().origin((42, 8)) == ANYWHERE
    assert BOTH.enabled
    assert Tenancy(accounts={(1, 0): "a"}).enabled
    assert not Tenancy().enabled
    assert repr(BOTH) == "<Tenancy label 'tenant', 3 accounts>"


@pytest.mark.parametrize(
    ("origin", "marked", "owner"),
    [
        (ANYWHERE, None, PLATFORM),
        (ANYWHERE, (9, 0), PLATFORM),
        (IngestPath("acme"), None, "acme"),
        (IngestPath("acme"), (9, 0), "acme"),
        (UNMAPPED, None, None),
        (MULTITENANT, None, PLATFORM),
        (MULTITENANT, (9, 0), "globex"),
        (MULTITENANT, (5, 5), None),
    ],
)
def test_whose_metadata_is(
    origin: IngestPath, marked: tuple[int, int] | None, owner: str | None
) -> None:
    assert BOTH.owner_of_metadata(origin, marked) == owner
    assert Tenancy().owner_of_metadata(origin, marked) == PLATFORM


def tenants_rig() -> Rig:
    made = Rig(tenancy=BOTH)
    for project in ("acme", "globex", "zero"):
        name = f"{project}/x"
        made.export(RigSink("s", limit=100, exporter=name), exporter=name, project=project)
    return made


def given(made: Rig) -> list[int]:
    made.engine.statistics()
    return [sink.counter.points for sink in made.sinks]


def test_the_same_labels_from_two_accounts_are_two_series() -> None:
    made = tenants_rig()
    body = raw.series(UP, (1.0, T)) + raw.series([*UP, (b"n", b"1")], (1.0, T))
    for _ in range(3):
        for origin in (IngestPath("acme"), IngestPath("globex"), ANYWHERE, IngestPath("globex")):
            made.feed(body, origin=origin)
    assert given(made) == [6, 12, 0]
    assert made.engine.statistics().router.unmatched_samples == 6


def test_the_multitenant_path_strips_what_names_the_account() -> None:
    made = tenants_rig()
    account = [(b"vm_account_id", b"42"), (b"vm_project_id", b"7")]
    made.feed(raw.series([*UP, *account], (1.0, T)), origin=MULTITENANT)
    made.feed(raw.series([*UP, *account, (b"tenant", b"acme")], (1.0, T)))
    made.flush()
    assert given(made) == [2, 0, 0]
    attributes = [dict(point.attributes) for point in made.sinks[0].points()]
    assert attributes == [
        {},
        {"vm_account_id": "42", "vm_project_id": "7", "tenant": "acme"},
    ]


def test_selectors_do_not_see_the_account_either() -> None:
    made = Rig(tenancy=BOTH)
    sink = RigSink("s", limit=100, exporter="acme/x")
    absent = Selector(((Matcher("vm_account_id", "=", ""),),))
    made.export(sink, exporter="acme/x", project="acme", sources={"all": absent})
    account = [(b"vm_account_id", b"42"), (b"vm_project_id", b"7")]
    made.feed(raw.series([*UP, *account], (1.0, T)), origin=MULTITENANT)
    assert sink.held == 1


def test_an_exporter_without_a_project_is_a_bug_under_tenancy() -> None:
    with pytest.raises(AssertionError):
        Rig(tenancy=BOTH).export(RigSink("s", limit=1))
    with pytest.raises(AssertionError):
        Rig().export(RigSink("s", limit=1), project="acme")
