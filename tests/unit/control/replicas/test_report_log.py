"""A relay's report: changes are sent once, in pages; a reader that missed any begins anew."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas import report_log
from relay.control.replicas.peer_report import PeerReport
from relay.control.replicas.report import (
    FORMAT,
    PAGE_OBJECTS_MAX,
    ReplicaStatus,
    ReportError,
    ReportPage,
    decode_page,
    encode_page,
    read_status,
)
from relay.control.replicas.report_log import SWEEP_S, ReportLog
from relay.control.status.object_status import LedgerCounts, ObjectStatus, UsageFigures
from tests.kit.kubernetes.statuses import condition, object_key, object_status


class Relay:
    """A log, and the statuses that it reports."""

    def __init__(self, epoch: str = "life-1") -> None:
        self.statuses: dict[ObjectKey, ReplicaStatus] = {}
        self.draining: list[str] = []
        self.log = ReportLog("relay-0", epoch, self.statuses.get, lambda: self.draining)
        self.now = 0.0

    def put(self, name: str, value: ReplicaStatus | None = None) -> ObjectKey:
        key = object_key(name)
        self.statuses[key] = value or ReplicaStatus(f"uid-{name}", object_status())
        self.log.touch([key])
        return key

    def drop(self, name: str) -> None:
        del self.statuses[object_key(name)]
        self.log.touch([object_key(name)])

    def page(self, to: PeerReport) -> ReportPage:
        return decode_page(self.log.page(to.epoch, to.position, self.now))

    def read(self, to: PeerReport) -> tuple[int, set[ObjectKey]]:
        """Read all there is; return the number of objects sent, and the changed ones."""
        sent, changed = 0, set[ObjectKey]()
        while True:
            page = self.page(to)
            sent += len(page.objects) + len(page.gone)
            changed |= to.add(page)
            if not page.more:
                return sent, changed


def test_a_status_comes_as_it_is() -> None:
    relay, peer = Relay(), PeerReport()
    status = replace(
        object_status("False", "Failing", "503", ledger=LedgerCounts(1, 2, 3, 4, 5, 6)),
        usage=UsageFigures(1, 2, 3, 4),
        source_usage={"pods": UsageFigures(5)},
    )
    key = relay.put("web", ReplicaStatus("u1", status))
    assert relay.read(peer) == (1, {key})
    assert peer.complete
    assert peer.status_of(key) == ReplicaStatus("u1", status)
    assert peer.status_of(object_key("other")) is None


def test_only_changes_are_sent_again() -> None:
    relay, peer = Relay(), PeerReport()
    for number in range(10):
        relay.put(f"e{number}")
    assert relay.read(peer)[0] == 10
    assert relay.read(peer) == (0, set())
    key = relay.put("e3", ReplicaStatus("uid-e3", object_status("False", "Failing")))
    assert relay.read(peer) == (1, {key})
    relay.drop("e5")
    assert relay.read(peer) == (1, {object_key("e5")})
    assert peer.status_of(object_key("e5")) is None
    assert len(peer) == 9
    assert relay.log.statistics().objects == 9


def test_many_objects_come_in_pages_and_none_is_seen_before_all_are_there() -> None:
    relay, peer = Relay(), PeerReport()
    count = 2 * PAGE_OBJECTS_MAX + 1
    for number in range(count):
        relay.put(f"e{number}")
    first = relay.page(peer)
    assert (len(first.objects), first.reset, first.more) == (PAGE_OBJECTS_MAX, True, True)
    assert peer.add(first) == set()
    assert not peer.complete
    relay.drop("e0")  # while it is being read
    relay.put("e1", ReplicaStatus("uid-e1", object_status("False", "Failing")))
    relay.read(peer)
    assert len(peer) == count - 1
    found = peer.status_of(object_key("e1"))
    assert found is not None
    assert found.status.conditions[3].status == "False"


def test_counters_alone_are_found_by_the_sweep() -> None:
    relay, peer = Relay(), PeerReport()
    key = relay.put("web")
    relay.read(peer)
    counted = object_status(ledger=LedgerCounts(matched=7))
    relay.statuses[key] = ReplicaStatus("uid-web", counted)  # nobody touches it
    relay.now = 1.0
    assert relay.read(peer) == (0, set())
    relay.now = 2 * SWEEP_S
    assert relay.read(peer) == (1, {key})
    relay.now = 4 * SWEEP_S
    assert relay.read(peer) == (0, set()), "nothing has changed since"


def test_another_life_begins_anew() -> None:
    relay, peer = Relay(), PeerReport()
    relay.put("a")
    relay.put("b")
    relay.read(peer)
    relay = Relay("life-2")
    relay.put("b")
    assert relay.read(peer) == (1, {object_key("a")}), "b is as it was"
    assert len(peer) == 1


def test_a_reader_that_missed_a_tombstone_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_log, "TOMBSTONES_MAX", 2)
    relay, peer = Relay(), PeerReport()
    for name in "abcde":
        relay.put(name)
    relay.read(peer)
    for name in "abc":
        relay.drop(name)
    assert relay.page(peer).reset
    relay.read(peer)
    assert len(peer) == 2
    assert relay.log.statistics().tombstones == 2


def test_an_object_that_comes_back_is_no_tombstone() -> None:
    relay, peer = Relay(), PeerReport()
    relay.put("a")
    relay.read(peer)
    relay.drop("a")
    relay.put("a")
    assert relay.read(peer)[0] == 1
    assert len(peer) == 1
    assert relay.log.statistics().tombstones == 0


def test_a_page_that_does_not_follow_is_refused() -> None:
    relay, peer = Relay(), PeerReport()
    relay.put("a")
    relay.read(peer)
    with pytest.raises(ReportError, match="does not follow"):
        peer.add(ReportPage(FORMAT, "relay-0", "another life", 9))
    assert (peer.epoch, peer.position) == ("", 0), "the whole report is asked for next"
    assert len(peer) == 1, "what is known stays"


def test_a_version_with_more_fields_is_read() -> None:
    relay, peer = Relay(), PeerReport()
    key = relay.put("web")
    document = msgspec.json.decode(relay.log.page("", 0, 0.0))
    document["news"] = 1
    document["objects"][0]["news"] = {"a": []}
    document["objects"][0]["status"]["news"] = "x"
    document["objects"][0]["status"]["sinks"][0]["news"] = None
    document["objects"][0]["key"]["news"] = 3
    peer.add(decode_page(msgspec.json.encode(document)))
    assert peer.status_of(key) == relay.statuses[key]


def test_a_version_with_fewer_fields_is_read() -> None:
    key = msgspec.to_builtins(object_key("web"))
    one = {"key": key, "status": {"conditions": []}}
    page = {"format": 1, "relay": "r", "epoch": "e", "position": 1, "reset": True, "objects": [one]}
    peer = PeerReport()
    peer.add(decode_page(msgspec.json.encode(page)))
    assert peer.status_of(object_key("web")) is not None


def test_an_object_that_cannot_be_read_costs_no_other() -> None:
    relay, peer = Relay(), PeerReport()
    relay.put("a")
    relay.put("b")
    document = msgspec.json.decode(relay.log.page("", 0, 0.0))
    document["objects"][0] = {"key": {"kind": "Unheard"}}
    document["objects"].append({**document["objects"][1], "status": 5})
    document["objects"][2]["key"] = {**document["objects"][1]["key"], "name": "c"}
    peer.add(decode_page(msgspec.json.encode(document)))
    assert peer.unreadable == 1
    assert peer.status_of(object_key("b")) is not None
    assert peer.status_of(object_key("c")) is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'{"format":"1"}', b"\xff"])
def test_what_is_no_report_is_refused(body: bytes) -> None:
    with pytest.raises(ReportError, match="no report"):
        decode_page(body)


def test_another_format_is_refused_by_name() -> None:
    body = encode_page(ReportPage(FORMAT + 1, "r", "e", 0))
    with pytest.raises(ReportError, match="has format 2, this relay reads 1"):
        decode_page(body)


def test_a_page_with_too_many_objects_is_refused() -> None:
    relay, peer = Relay(), PeerReport()
    relay.put("a")
    page = relay.page(peer)
    page = msgspec.structs.replace(page, objects=page.objects * (4 * PAGE_OBJECTS_MAX + 1))
    with pytest.raises(ReportError, match="a page of its report has 1001 objects"):
        peer.add(page)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"status":{"conditions":[{"status":"Maybe"}]}}'])
def test_no_status_can_be_read_of(text: bytes) -> None:
    assert read_status(text) is None


def test_an_object_that_is_gone_is_held_until_its_sinks_have_ended() -> None:
    relay, reader = Relay(), PeerReport()
    relay.put("one")
    relay.put("two")
    relay.read(reader)
    assert reader.held() == {"uid-one", "uid-two"}
    relay.draining = ["uid-one"]
    relay.drop("one")
    relay.read(reader)
    assert reader.held() == {"uid-one", "uid-two"}
    relay.draining = []
    assert relay.read(reader) == (0, set())
    assert reader.held() == {"uid-two"}


def test_a_report_of_a_version_without_draining_objects_is_read() -> None:
    text = b'{"format":1,"relay":"r","epoch":"e","position":1,"reset":true}'
    reader = PeerReport()
    reader.add(decode_page(text))
    assert reader.held() == set()


SINK = object_status().sinks[0]


@pytest.mark.parametrize(
    "status",
    [
        replace(object_status(), conditions=(condition(reason="two words"),)),
        replace(object_status(), conditions=(condition(reason="\x1b[31m"),)),
        replace(object_status(), conditions=(condition("x" * 400),)),
        replace(object_status(), conditions=(condition(since=1e300),)),
        replace(object_status(), conditions=(condition(since=-1.0),)),
        replace(object_status(), conditions=(condition(generation=-1),)),
        replace(object_status(), conditions=(condition(generation=1 << 60),)),
        replace(object_status(), sinks=(replace(SINK, last_success=1e18),)),
        replace(object_status(), sinks=(replace(SINK, last_error_at=-5.0),)),
        replace(object_status(), sinks=(replace(SINK, ledger=LedgerCounts(matched=-1)),)),
        replace(object_status(), sinks=(replace(SINK, usage=UsageFigures(1 << 60)),)),
        replace(object_status(), sinks=(replace(SINK, name="n" * 300),)),
        replace(object_status(), sinks=(SINK, SINK)),
        replace(object_status(), usage=UsageFigures(resent_per_minute=-1)),
        replace(object_status(), source_usage={"": UsageFigures()}),
    ],
)
def test_a_status_that_no_api_server_takes_is_not_read(status: ObjectStatus) -> None:
    """Another relay's fault, or lie, must not keep any status from being written."""
    relay, reader = Relay(), PeerReport()
    good = relay.put("good")
    bad = relay.put("bad", ReplicaStatus("u", status))
    relay.read(reader)
    assert reader.status_of(bad) is None
    assert reader.status_of(good) == relay.statuses[good]


def test_no_status_is_put_together_to_note_a_change() -> None:
    asked: list[object] = []
    log = ReportLog("relay-0", "life", asked.append, has=lambda _: True)
    log.touch(object_key(f"web{number}") for number in range(100))
    assert log.statistics().objects == 100
    assert asked == []


def test_policies_of_one_name_in_two_groups() -> None:
    relay, reader = Relay(), PeerReport()
    keys = [replace(object_key("web"), group=f"telemetry.{one}.com") for one in ("a", "b")]
    for number, key in enumerate(keys):
        relay.statuses[key] = ReplicaStatus(f"uid-{number}", object_status())
    relay.log.touch(keys)
    assert relay.read(reader) == (2, set(keys))
    assert [getattr(reader.status_of(key), "uid", "") for key in keys] == ["uid-0", "uid-1"]
    del relay.statuses[keys[0]]
    relay.log.touch(keys[:1])
    assert relay.read(reader) == (1, {keys[0]})
    assert reader.status_of(keys[0]) is None
    assert reader.status_of(keys[1]) == relay.statuses[keys[1]]


def test_the_report_of_an_earlier_version_names_no_groups() -> None:
    relay, reader = Relay(), PeerReport()
    old = relay.put("web")
    page = relay.page(reader)
    texts = [msgspec.json.decode(text) for text in page.objects]
    del texts[0]["key"]["group"]
    without = tuple(msgspec.Raw(msgspec.json.encode(text)) for text in texts)
    assert reader.add(msgspec.structs.replace(page, objects=without)) == {old}
    assert reader.status_of(replace(old, group="telemetry.a.com")) == relay.statuses[old]
    assert reader.status_of(replace(old, name="other", group="telemetry.a.com")) is None
