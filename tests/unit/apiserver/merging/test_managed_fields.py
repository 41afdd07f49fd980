"""Ownership of fields; the whole behaviour is compared with kube-apiserver elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from relay.apiserver.merging.managed_fields import (
    LAST_APPLIED,
    UPDATERS_MAX,
    ApplyConflictError,
    NotApplicableError,
    last_applied_text,
)
from relay.apiserver.objects.kinds import served_kinds

KIND = next(kind for kind in served_kinds() if kind.kind == "Exporter")
TIME, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
BASE = {"apiVersion": KIND.api_version, "kind": KIND.kind}


def config(*sinks: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**BASE, "metadata": {"name": "x", **metadata}, "spec": {"sinks": list(sinks)}}


def sink(name: str, endpoint: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, **({"otlp_http": {"endpoint": endpoint}} if endpoint else {}), **more}


class Applied:
    """An object that managers apply to."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {**BASE, "metadata": {}}

    def apply(
        self, manager: str, wanted: dict[str, Any], *, force: bool = False, time: str = TIME
    ) -> None:
        made, entries = KIND.manager.applied(self.value, wanted, manager, time, force=force)
        self.value = {**made, "metadata": {**made["metadata"], "managedFields": entries}}

    def update(self, manager: str, new: dict[str, Any]) -> None:
        new = {**new, "metadata": {**new["metadata"], "uid": "1"}}
        live = {**self.value, "metadata": {**self.value["metadata"], "uid": "1"}}
        entries = KIND.manager.updated(live, new, manager, LATER)
        self.value = {**new, "metadata": {**new["metadata"], "managedFields": entries}}

    def managers(self) -> list[str]:
        return [entry["manager"] for entry in self.value["metadata"]["managedFields"]]


def test_a_conflict_names_the_manager_and_the_field() -> None:
    one = Applied()
    one.apply("first", config(sink("k", "https://a.example")))
    with pytest.raises(ApplyConflictError) as caught:
        one.apply("second", config(sink("k", "https://b.example")))
    assert str(caught.value) == (
        'Apply failed with 1 conflict: conflict with "first": '
        '.spec.sinks[name="k"].otlp_http.endpoint'
    )
    one.apply("second", config(sink("k", "https://b.example")), force=True)
    assert one.value["spec"]["sinks"] == [sink("k", "https://b.example")]


def test_an_updater_is_named_with_its_version() -> None:
    one = Applied()
    one.apply("first", config(sink("k", "https://a.example")))
    one.update("editor", {**one.value, "spec": {"sinks": [sink("k", "https://b.example")]}})
    with pytest.raises(ApplyConflictError, match=rf'"editor" using {KIND.api_version}'):
        one.apply("first", config(sink("k", "https://a.example")))


def test_the_same_value_is_shared_and_survives_one_owner() -> None:
    one = Applied()
    one.apply("first", config(sink("k", "https://a.example"), labels={"a": "1"}))
    one.apply("second", config(sink("k", "https://a.example")))
    one.apply("first", config(labels={"a": "1"}))
    assert one.value["spec"]["sinks"] == [sink("k", "https://a.example")]
    one.apply("second", config())
    assert "spec" not in one.value
    assert one.value["metadata"]["labels"] == {"a": "1"}


def test_items_keep_the_order_of_the_applied_list() -> None:
    one = Applied()
    one.apply("first", config(sink("a", "https://a"), sink("b", "https://b")))
    one.apply("second", config(sink("c", "https://c"), sink("a")))
    assert [each["name"] for each in one.value["spec"]["sinks"]] == ["c", "a", "b"]


def test_client_side_apply_hands_over_to_the_server() -> None:
    old, new = config(sink("k", "https://a.example")), config(sink("k", "https://b.example"))
    one = Applied()
    one.apply("first", config(labels={"a": "1"}))
    as_stored = {**old, "metadata": {"name": "x", "labels": {"a": "1"}}}
    one.update("kubectl-client-side-apply", as_stored)
    with pytest.raises(ApplyConflictError):
        one.apply("kubectl", new)
    one.value["metadata"]["annotations"] = {LAST_APPLIED: last_applied_text(old)}
    with pytest.raises(ApplyConflictError):
        one.apply("somebody", new)
    one.apply("kubectl", new)
    assert one.value["spec"]["sinks"] == new["spec"]["sinks"]
    assert one.value["metadata"]["annotations"][LAST_APPLIED] == last_applied_text(new)


def test_what_the_schema_does_not_know_cannot_be_applied() -> None:
    with pytest.raises(NotApplicableError, match=r"^\.spec\.bogus: field not declared in schema$"):
        Applied().apply("first", {**config(), "spec": {"bogus": 1}})
    with pytest.raises(NotApplicableError, match="omits all key fields"):
        Applied().apply("first", config({"retry": {}}))
    with pytest.raises(NotApplicableError, match="duplicate entries for key"):
        Applied().apply("first", config(sink("k"), sink("k")))


def test_the_oldest_updaters_are_joined() -> None:
    one = Applied()
    one.apply("first", config(sink("k", "https://a.example")))
    for number in range(UPDATERS_MAX + 3):
        labels = {**one.value["metadata"].get("labels", {}), f"l{number}": "x"}
        one.update(f"m{number:02}", {**one.value, "metadata": {"name": "x", "labels": labels}})
    updaters = [name for name in one.managers() if name != "first"]
    assert len(updaters) == UPDATERS_MAX
    assert "ancient-changes" in updaters


def test_managers_can_be_reset() -> None:
    one = Applied()
    one.apply("first", config(sink("k", "https://a.example")))
    metadata = {**one.value["metadata"], "managedFields": [{}]}
    one.update("second", {**one.value, "metadata": metadata})
    assert one.managers() == []
    one.apply("third", config(sink("k", "https://b.example")), force=True)
    assert one.managers() == ["third", "before-first-apply"]
