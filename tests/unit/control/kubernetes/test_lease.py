"""One candidate's steps, and the Lease as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from relay.control.kubernetes.errors import MalformedAnswerError
from relay.control.kubernetes.lease import (
    DURATION_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    LeaseElection,
    LeaseRecord,
    ReadLease,
    WaitForLease,
    WriteLease,
    lease_document,
    micro_time,
    read_lease,
)

OTHER = LeaseRecord("other", DURATION_S, "a", "r", 3, "7", "uid")


def stored(step: object, version: str = "8") -> LeaseRecord:
    assert isinstance(step, WriteLease)
    return replace(step.record, resource_version=version)


def leading(now: float = 0.0) -> LeaseElection:
    one = LeaseElection("me")
    assert one.next_step(now, 0) == ReadLease()
    one.read(None, now)
    one.written(stored(one.next_step(now, 0)))
    assert one.is_leader(now)
    return one


def test_a_lease_that_is_not_there_is_created() -> None:
    one = LeaseElection("me")
    one.read(None, 0)
    step = one.next_step(0, 5)
    assert step == WriteLease(LeaseRecord("me", DURATION_S, micro_time(5), micro_time(5), 0, ""))
    assert not one.is_leader(0)


def test_a_leader_renews_and_stops_in_time() -> None:
    one = leading()
    assert one.next_step(1, 0) == WaitForLease(RETRY_S - 1)
    step = one.next_step(RETRY_S, 99)
    assert isinstance(step, WriteLease)
    assert step.record.renewed == micro_time(99)
    assert (step.record.resource_version, step.record.transitions) == ("8", 0)
    one.failed(3)
    assert one.is_leader(RENEW_DEADLINE_S - 0.1)
    assert not one.is_leader(RENEW_DEADLINE_S)
    assert one.next_step(RENEW_DEADLINE_S, 0) == ReadLease()


def test_its_time_counts_from_before_the_request() -> None:
    one = LeaseElection("me")
    one.read(None, 0)
    step = one.next_step(0, 0)
    one.written(stored(step))  # the answer came at 9
    assert one.is_leader(9)
    assert not one.is_leader(RENEW_DEADLINE_S)


def test_a_holder_that_renews_is_left_alone_for_ever() -> None:
    one = LeaseElection("me")
    now = 0.0
    for number in range(50):
        one.read(replace(OTHER, renewed=str(number)), now)
        step = one.next_step(now, 0)
        assert step == WaitForLease(RETRY_S)
        now += RETRY_S
        assert one.next_step(now, 0) == ReadLease()


def test_a_silent_holder_is_followed_after_its_duration() -> None:
    one = LeaseElection("me")
    now = 100.0
    one.read(OTHER, now)
    while now < 100 + DURATION_S:
        step = one.next_step(now, 0)
        assert isinstance(step, WaitForLease)
        now += step.delay_s
        assert one.next_step(now, 0) == ReadLease()
        # Labels of the lease may change meanwhile: that is no sign of life.
        one.read(replace(OTHER, resource_version=str(now), metadata=b'{"labels":{}}'), now)
    step = one.next_step(now, 5)
    assert isinstance(step, WriteLease)
    assert step.record == replace(
        OTHER,
        holder="me",
        acquired=micro_time(5),
        renewed=micro_time(5),
        transitions=4,
        resource_version=str(now),
        metadata=b'{"labels":{}}',
    )


@pytest.mark.parametrize(("before", "after"), [(3, 4), ((1 << 31) - 1, 0), (-7, 0), (1 << 40, 0)])
def test_no_number_of_transitions_keeps_a_lease_from_being_taken(before: int, after: int) -> None:
    """An API server takes no number above 2,147,483,647."""
    one = LeaseElection("me")
    one.read(replace(OTHER, holder="", transitions=before), 0)
    step = one.next_step(0, 0)
    assert isinstance(step, WriteLease)
    assert step.record.transitions == after


@pytest.mark.parametrize("duration", [-5, 0, 10**9])
def test_an_absurd_duration_is_bounded(duration: int) -> None:
    one = LeaseElection("me")
    one.read(replace(OTHER, duration_s=duration), 0)
    assert isinstance(one.next_step(0, 0), WaitForLease)
    one.next_step(3600, 0)
    one.read(replace(OTHER, duration_s=duration), 3600)
    assert isinstance(one.next_step(3600, 0), WriteLease)


def test_a_lost_race_reads_again() -> None:
    one = LeaseElection("me")
    one.read(replace(OTHER, holder=""), 0)
    assert isinstance(one.next_step(0, 0), WriteLease)
    one.failed(0)
    step = one.next_step(0, 0)
    assert isinstance(step, WaitForLease)
    assert one.next_step(step.delay_s, 0) == ReadLease()


def test_our_own_name_of_an_earlier_life_waits_too() -> None:
    one = LeaseElection("other")
    one.read(OTHER, 0)
    assert isinstance(one.next_step(0, 0), WaitForLease)
    assert not one.is_leader(0)


def test_release() -> None:
    one = leading()
    step = one.release(1)
    assert isinstance(step, WriteLease)
    assert (step.record.holder, step.record.duration_s) == ("", 1)
    assert not one.is_leader(1)
    assert one.release(1) is None
    assert LeaseElection("me").release(0) is None


def test_the_document_and_back() -> None:
    record = replace(OTHER, metadata=b'{"annotations":{"relay":"10.0.0.1:9090"}}')
    document = lease_document(record, namespace="n", name="l")
    assert document["metadata"] == {
        "annotations": {"relay": "10.0.0.1:9090"},
        "name": "l",
        "namespace": "n",
        "resourceVersion": "7",
    }
    document["metadata"]["uid"] = "uid"
    assert read_lease(json.dumps(document).encode()) == record


def test_a_lease_without_a_holder_and_what_is_none() -> None:
    assert read_lease(b'{"metadata":{"resourceVersion":"1"}}').holder == ""
    nulls = b'{"metadata":{"resourceVersion":"1"},"spec":{"holderIdentity":null}}'
    assert read_lease(nulls).duration_s == DURATION_S
    for bad in (b"", b"{}", b'{"metadata":{"resourceVersion":"1"},"spec":{"renewTime":5}}'):
        with pytest.raises(MalformedAnswerError):
            read_lease(bad)
