"""Which relays there are, by the Leases that one of them sees."""

from __future__ import annotations

from dataclasses import replace

from relay.control.kubernetes.lease import LeaseRecord
from relay.control.replicas.members import (
    GAP_S,
    LEFT_S,
    LOST_S,
    MemberLease,
    Membership,
    StaleLease,
)

STEP_S = 5.0


class Leases:
    """Leases that their holders renew, and an observer that looks at them every 5 s."""

    def __init__(self) -> None:
        self.membership = Membership()
        self.renewing: set[str] = set()
        self.present: dict[str, MemberLease] = {}
        self.now = 100.0
        self._renewals = 0

    def start(self, name: str) -> None:
        record = LeaseRecord(f"{name}_1", 15, "", "0", 0, "1", f"uid-{name}")
        self.present[name] = MemberLease(name, record, f"http://{name}")
        self.renewing.add(name)

    def kill(self, name: str) -> None:
        self.renewing.discard(name)

    def end(self, name: str) -> None:
        self.renewing.discard(name)
        del self.present[name]

    def run(self, seconds: float, *, look: bool = True) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += STEP_S
            self._renewals += 1
            for name in self.renewing:
                one = self.present[name]
                record = replace(one.record, renewed=str(self._renewals))
                self.present[name] = replace(one, record=record)
            if look:
                self.membership.listed(self.present.values(), self.now)

    def lost(self) -> dict[str, bool]:
        return {one.name: one.lost_at_s is not None for one in self.membership.members()}


def two_relays() -> Leases:
    """Relays r0 and r1, which have been there for 20 s."""
    leases = Leases()
    leases.start("r0")
    leases.start("r1")
    leases.run(20)
    return leases


def test_relays_that_renew_live() -> None:
    leases = Leases()
    assert not leases.membership.is_known
    leases.start("r0")
    leases.start("r1")
    leases.run(600)
    assert leases.membership.is_known
    assert leases.lost() == {"r0": False, "r1": False}
    (first, _) = leases.membership.members()
    assert (first.name, first.lease, first.url) == ("r0", "r0", "http://r0")


def test_a_killed_relay_is_lost_after_its_duration_and_cleaned_up_later() -> None:
    leases = two_relays()
    leases.kill("r1")
    leases.run(10)
    assert leases.lost() == {"r0": False, "r1": False}
    leases.run(5)
    assert leases.lost() == {"r0": False, "r1": True}
    leases.run(LOST_S - STEP_S)
    assert leases.membership.stale() == ()
    leases.run(STEP_S)
    assert leases.membership.stale() == (StaleLease("r1", "uid-r1", "1"),)
    del leases.present["r1"]  # the leader has deleted it
    leases.run(STEP_S)
    assert leases.lost() == {"r0": False}


def test_a_relay_that_ends_counts_for_a_while() -> None:
    leases = two_relays()
    leases.end("r1")
    leases.run(STEP_S)
    assert [one.left for one in leases.membership.members()] == [False, True]
    leases.run(LEFT_S - STEP_S)
    assert leases.lost() == {"r0": False, "r1": False}
    leases.run(STEP_S)
    assert leases.lost() == {"r0": False}


def test_a_relay_that_restarts_is_the_same() -> None:
    leases = two_relays()
    leases.end("r1")
    leases.run(20)
    leases.start("r1")
    leases.run(STEP_S)
    assert [one.left for one in leases.membership.members()] == [False, False]
    assert leases.lost() == {"r0": False, "r1": False}


def test_nothing_is_concluded_from_a_time_without_a_look() -> None:
    leases = two_relays()
    renewing, leases.renewing = leases.renewing, set()
    leases.run(600, look=False)  # the API server is away
    leases.membership.listed(leases.present.values(), leases.now)
    assert leases.lost() == {"r0": False, "r1": False}
    leases.renewing = renewing
    leases.run(60)
    assert leases.lost() == {"r0": False, "r1": False}


def test_a_relay_that_was_lost_before_stays_so() -> None:
    leases = two_relays()
    leases.kill("r1")
    leases.run(30)
    leases.now += GAP_S + 1
    leases.membership.listed(leases.present.values(), leases.now)
    assert leases.lost() == {"r0": False, "r1": True}
