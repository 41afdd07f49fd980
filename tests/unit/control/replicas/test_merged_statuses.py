"""The statuses that a leader writes: where it begins, which relays it waits for, what it tells."""

from __future__ import annotations

from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas.merge import RelayReading
from relay.control.replicas.statuses import WAIT_S, MergedStatuses
from relay.control.replicas.transitions import Happening
from relay.control.status.object_status import ObjectStatus
from tests.kit.kubernetes.statuses import object_key, object_status

KEY = object_key("web")
NO_DATA = object_status("Unknown", "NoData")
GOOD = object_status(last_success=5.0)


class Leader:
    """Merged statuses, what another relay says, and what was told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.other: list[RelayReading] = []
        self.told: list[str] = []
        self.statuses = MergedStatuses(
            "relay-0",
            lambda _key, _uid: self.other,
            self.tell,
            clock=lambda: self.now,
            wall=lambda: 1000.0 + self.now,
        )

    def tell(self, key: ObjectKey, uid: str, what: Happening) -> None:
        assert (key, uid) == (KEY, "u1")
        self.told.append(what.reason)

    def combine(self, own: ObjectStatus) -> ObjectStatus:
        return self.statuses.combine(KEY, "u1", own)


def test_what_happens_is_told_once() -> None:
    leader = Leader()
    assert leader.combine(NO_DATA) is NO_DATA
    assert leader.told == ["Accepted", "Programmed"]
    leader.combine(NO_DATA)
    leader.combine(GOOD)
    leader.combine(GOOD)
    assert leader.told == ["Accepted", "Programmed", "Delivering"]


def test_a_new_leader_goes_on_where_the_last_one_was() -> None:
    leader = Leader()
    leader.statuses.seed(KEY, "u1", GOOD)
    leader.combine(GOOD)
    assert leader.told == []
    leader.combine(object_status("False", "Failing", "503", last_success=5.0))
    assert leader.told == ["Failing"]


def test_the_seed_of_another_object_of_the_name_does_not_count() -> None:
    leader = Leader()
    leader.statuses.seed(KEY, "u0", GOOD)
    leader.combine(NO_DATA)
    assert leader.told == ["Accepted", "Programmed"]


def test_a_relay_that_is_behind_is_waited_for() -> None:
    leader = Leader()
    leader.other = [RelayReading("relay-1", GOOD)]
    leader.combine(GOOD)
    new = object_status(generation=2, last_success=6.0)
    leader.now = 100.0
    waiting = leader.combine(new).conditions[2]
    assert (waiting.status, waiting.observed_generation) == ("True", 1)
    leader.now += WAIT_S - 1
    assert leader.combine(new).conditions[2].status == "True"
    assert leader.statuses.overdue() == []
    leader.now += 2
    assert leader.statuses.overdue() == [KEY]
    assert leader.statuses.overdue() == []
    late = leader.combine(new).conditions[2]
    assert (late.status, late.reason, late.since) == ("False", "Pending", 1000.0 + leader.now)
    leader.other = [RelayReading("relay-1", new)]
    assert leader.combine(new).conditions[2].status == "True"
    leader.now += WAIT_S
    leader.other = [RelayReading("relay-1", GOOD)]
    assert leader.combine(new).conditions[2].status == "True", "it is waited for anew"


def test_an_object_that_is_gone_is_waited_for_no_more() -> None:
    leader = Leader()
    leader.other = [RelayReading("relay-1", None)]
    leader.combine(GOOD)
    leader.statuses.forget(KEY)
    leader.now += WAIT_S
    assert leader.statuses.overdue() == []
