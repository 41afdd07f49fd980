"""Candidates with slow networks, lost answers, pauses and uneven clocks: never two leaders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from relay.control.kubernetes.lease import (
    DURATION_S,
    LeaseElection,
    LeaseRecord,
    ReadLease,
    WriteLease,
)
from tests.kit.examples import examples

TICK_S = 0.25
REQUEST_S = 5.0


class Server:
    """One lease with optimistic writes."""

    def __init__(self) -> None:
        self.lease: LeaseRecord | None = None
        self.version = 0

    def write(self, record: LeaseRecord) -> LeaseRecord | None:
        present = self.lease.resource_version if self.lease else ""
        if record.resource_version != present:
            return None
        self.version += 1
        self.lease = replace(record, resource_version=str(self.version))
        return self.lease


@dataclass
class Request:
    """A step on its way: when it arrives, when its answer does, and what either loses."""

    step: ReadLease | WriteLease
    arrives: float
    answered: float
    given_up: float
    lost: bool
    answer_lost: bool
    arrived: bool = False
    answer: LeaseRecord | None = None


@dataclass
class Candidate:
    """A relay: its clock runs at ``rate`` and began at ``offset``."""

    election: LeaseElection
    rate: float
    offset: float
    paused_until: float = 0.0
    request: Request | None = None
    late: list[Request] = field(default_factory=list)
    next_at: float = 0.0

    def clock(self, now: float) -> float:
        return self.offset + now * self.rate

    def leads(self, now: float) -> bool:
        return self.election.is_leader(self.clock(now))

    def tick(self, now: float, server: Server, random: Random, trouble: float) -> None:
        for one in [*self.late, *([self.request] if self.request else [])]:
            if not one.arrived and not one.lost and now >= one.arrives:
                one.arrived = True  # the network does not pause with the process
                write = isinstance(one.step, WriteLease)
                one.answer = server.write(one.step.record) if write else server.lease
        if now < self.paused_until:
            return
        local = self.clock(now)
        if self.request is not None:
            one = self.request
            if one.arrived and not one.answer_lost and one.answered <= now <= one.given_up:
                self.request = None
                if isinstance(one.step, ReadLease):
                    self.election.read(one.answer, local)
                elif one.answer is not None:
                    self.election.written(one.answer)
                else:
                    self.election.failed(local)
            elif now > one.given_up:
                self.late.append(one)  # it may arrive all the same
                self.request = None
                self.election.failed(local)
            return
        if now < self.next_at:
            return
        step = self.election.next_step(local, local)
        if isinstance(step, ReadLease | WriteLease):
            there = random.uniform(0, 6 if random.random() < trouble else 0.1)
            back = random.uniform(0, 6 if random.random() < trouble else 0.1)
            self.request = Request(
                step,
                now + there,
                now + there + back,
                now + REQUEST_S,
                lost=random.random() < trouble,
                answer_lost=random.random() < trouble,
            )
        else:
            self.next_at = now + step.delay_s / self.rate


def make(random: Random, count: int) -> list[Candidate]:
    return [
        Candidate(
            LeaseElection(f"relay-{number}"), random.uniform(0.9, 1.1), random.uniform(0, 10**6)
        )
        for number in range(count)
    ]


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.3, 0.6]))
@examples(100)
def test_never_two_leaders_and_one_in_the_end(seed: int, count: int, trouble: float) -> None:
    random = Random(seed)
    server = Server()
    candidates = make(random, count)
    now = 0.0
    while now < 200:
        for one in candidates:
            if random.random() < trouble / 20:
                one.paused_until = now + random.uniform(0, 40)
            one.tick(now, server, random, trouble)
        assert sum(one.leads(now) for one in candidates) <= 1
        now += TICK_S
    for one in candidates:
        one.paused_until = 0.0
    end = now + 2 * DURATION_S + REQUEST_S
    while now < end:
        for one in candidates:
            one.tick(now, server, random, 0.0)
        assert sum(one.leads(now) for one in candidates) <= 1
        now += TICK_S
    assert sum(one.leads(now) for one in candidates) == 1


@given(st.integers(0, 2**32))
@examples(50)
def test_the_next_one_leads_within_twenty_seconds_of_a_death(seed: int) -> None:
    random = Random(seed)
    server = Server()
    candidates = make(random, 3)
    now = 0.0
    while not any(one.leads(now) for one in candidates) or now < 30:
        for one in candidates:
            one.tick(now, server, random, 0.0)
        now += TICK_S
        assert now < 100
    (leader,) = [one for one in candidates if one.leads(now)]
    candidates.remove(leader)
    died = now
    while not any(one.leads(now) for one in candidates):
        for one in candidates:
            one.tick(now, server, random, 0.0)
        now += TICK_S
        assert now - died <= 20
    for _ in range(400):  # and stays
        for one in candidates:
            one.tick(now, server, random, 0.0)
        now += TICK_S
        assert sum(one.leads(now) for one in candidates) == 1
