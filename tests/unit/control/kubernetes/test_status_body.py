"""The status as Kubernetes has it: what is written, compared, and read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.kubernetes.status_body import (
    apply_body,
    own_part,
    parts_of,
    read_conditions,
    read_time,
    status_document,
    written_time,
)
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import (
    LedgerCounts,
    ObjectStatus,
    SignalStatus,
    SinkStatus,
    UsageFigures,
)

CONDITION = StatusCondition("Delivering", "False", "Failing", "503", 3, 1_700_000_000.0)
SINK = SinkStatus("otlp", (CONDITION,), 1_700_000_001.5, 1_700_000_002.0, "503", LedgerCounts(5))
STATUS = ObjectStatus((CONDITION,), (SINK,), UsageFigures(1, 2, 3, 4, 5), relays="2 of 3")
EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")


def test_the_document_has_the_names_of_the_interface() -> None:
    logs = SignalStatus("logs", 1_700_000_001.0, ledger=LedgerCounts(6))
    told = replace(STATUS, sinks=(replace(SINK, signals=(logs,)),))
    document = status_document(replace(told, source_usage={"s": UsageFigures(9)}))
    condition = {
        "type": "Delivering",
        "status": "False",
        "reason": "Failing",
        "message": "503",
        "observedGeneration": 3,
        "lastTransitionTime": "2023-11-14T22:13:20Z",
    }
    usage = {
        "activeSeries": 1,
        "samplesPerMinute": 2,
        "bytesPerMinute": 3,
        "resentPerMinute": 4,
        "recordsPerMinute": 5,
    }
    counts = ("delivered", "rejected", "expired", "dropped", "queued")
    assert document == {
        "conditions": [condition],
        "sinks": [
            {
                "name": "otlp",
                "conditions": [condition],
                "lastSuccess": "2023-11-14T22:13:21Z",
                "lastError": {"time": "2023-11-14T22:13:22Z", "message": "503"},
                "ledger": {"matched": 5, **dict.fromkeys(counts, 0)},
                "signals": [
                    {
                        "signal": "logs",
                        "lastSuccess": "2023-11-14T22:13:21Z",
                        "ledger": {"matched": 6, **dict.fromkeys(counts, 0)},
                    }
                ],
            }
        ],
        "usage": usage,
        "sources": [{"name": "s", "usage": dict.fromkeys(usage, 0) | {"activeSeries": 9}}],
        "relays": "2 of 3",
    }


def test_the_body_names_the_version_that_was_judged() -> None:
    target = ApiObject("n", "e", "u", "5", 1, b"{}")
    body = apply_body(EXPORTERS, target, {"relays": "1 of 1"})
    assert body == {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": "e", "namespace": "n", "uid": "u", "resourceVersion": "5"},
        "status": {"relays": "1 of 1"},
    }


@pytest.mark.parametrize(
    ("changed", "conditions", "messages"),
    [
        (replace(STATUS, conditions=(replace(CONDITION, status="True"),)), True, False),
        (replace(STATUS, conditions=(replace(CONDITION, reason="Behind"),)), True, False),
        (replace(STATUS, conditions=(replace(CONDITION, observed_generation=4),)), True, False),
        (replace(STATUS, conditions=(replace(CONDITION, message="504"),)), False, True),
        (replace(STATUS, sinks=(replace(SINK, last_error="504"),)), False, True),
        (replace(STATUS, relays="3 of 3"), False, True),
        (replace(STATUS, sinks=(replace(SINK, ledger=LedgerCounts(6)),)), False, False),
        (replace(STATUS, usage=UsageFigures()), False, False),
        (replace(STATUS, sinks=(replace(SINK, name="other"),)), True, False),
    ],
)
def test_differences_by_how_soon_they_are_worth_a_write(
    changed: ObjectStatus, conditions: bool, messages: bool
) -> None:
    before, after = (parts_of(status_document(one)) for one in (STATUS, changed))
    assert (before.conditions != after.conditions) is conditions
    assert (before.messages != after.messages) is messages
    assert before.everything != after.everything


def test_another_problem_of_a_secret_is_written_like_a_condition() -> None:
    missing = replace(CONDITION, type="ResolvedRefs", message="there is no such secret")
    without_key = replace(missing, message="the secret has no such key")
    before, after = (
        parts_of(status_document(replace(STATUS, conditions=(one,))))
        for one in (missing, without_key)
    )
    assert before.conditions != after.conditions
    assert before.messages == after.messages


def test_what_the_server_has_is_recognised() -> None:
    document = status_document(STATUS)
    stored = json.loads(json.dumps(document, sort_keys=True))
    assert parts_of(stored) == parts_of(document)
    assert read_conditions(stored) == STATUS.conditions


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"conditions": 5, "sinks": "x"},
        {"conditions": [5, {}, {"type": 1}], "sinks": [None, {"conditions": [7], "lastError": 5}]},
        {"conditions": [{"type": "A", "status": "Maybe", "lastTransitionTime": "now"}]},
        {"conditions": [{"type": "A", "status": "True", "lastTransitionTime": "2020-01-01"}]},
    ],
)
def test_any_shape_is_read(odd: dict) -> None:
    assert read_conditions(odd) == ()
    assert parts_of(odd) != parts_of(status_document(STATUS))


def test_times() -> None:
    assert read_time(written_time(1_700_000_000.9)) == 1_700_000_000.0
    assert read_time("2023-11-14T22:13:20+00:00") == 1_700_000_000.0
    assert read_time(None) is read_time("") is read_time("2023-11-14T22:13:20") is None


def test_what_others_write_is_no_part_of_ours() -> None:
    document = status_document(STATUS)
    foreign = {"type": "Synced", "status": "True", "reason": "R", "message": ""}
    theirs = json.loads(json.dumps(document))
    theirs["conditions"].append(foreign)
    theirs["sinks"][0]["conditions"].insert(0, foreign)
    theirs["sinks"] += [{"name": 7}, "x"]
    theirs["observed"] = 5
    assert own_part(json.dumps(theirs).encode()) == document
    assert parts_of(own_part(json.dumps(theirs).encode())) == parts_of(document)


@pytest.mark.parametrize(
    "status", [b"", b"{}", b"[]", b"nonsense", b'{"conditions": [{"type": "Synced"}]}']
)
def test_a_status_of_others_alone_is_nothing_of_ours(status: bytes) -> None:
    assert own_part(status) == {}
