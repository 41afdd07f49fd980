"""Decisions about writes: what is set, kept, refused, and warned of."""

from __future__ import annotations

from typing import Any

import pytest

from relay.apiserver.objects import writes
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from relay.apiserver.objects.masking import MASK, masked
from relay.apiserver.objects.writes import (
    ObjectPlace,
    Stamp,
    WriteOptions,
    WriteRequest,
    WriteResult,
)
from tests.kit.apiserver.running import exporter, secret

KINDS = {kind.storage_key: kind for kind in served_kinds()}
EXPORTER = KINDS["exporters.telemetry.datumapis.com"]
POLICY = KINDS["exportpolicies.telemetry.miloapis.com"]
SECRET = KINDS["secrets"]
STAMP = Stamp("2026-01-01T00:00:00Z", "uid-1", "abcde")


def request(
    kind: ResourceKind, name: str = "", *, subresource: str = "", **options: Any
) -> WriteRequest:
    place = ObjectPlace("acme", "default", name)
    options.setdefault("user_agent", "tool/1 (x)")
    return WriteRequest(kind, place, WriteOptions(**options), STAMP, subresource)


def created(kind: ResourceKind, body: dict[str, Any], **options: Any) -> WriteResult:
    result = writes.create(request(kind, **options), body)
    result.value["metadata"]["resourceVersion"] = "7"
    return result


def refusal(call: Any, *arguments: Any) -> ApiRefusalError:
    with pytest.raises(ApiRefusalError) as caught:
        call(*arguments)
    return caught.value


def test_a_new_object_gets_what_the_server_sets() -> None:
    body = exporter(uid="mine", generation=9, labels={}, creationTimestamp=None)
    body["status"] = {"conditions": []}
    made = created(EXPORTER, body).value
    metadata = made["metadata"]
    assert (metadata["uid"], metadata["generation"]) == ("uid-1", 1)
    assert metadata["creationTimestamp"] == STAMP.now
    assert metadata["namespace"] == "default"
    assert "labels" not in metadata
    assert "status" not in made
    assert made["spec"]["sinks"][0]["batch"] == {"enabled": True, "timeout": "5s", "maxSize": 500}
    assert [entry["manager"] for entry in metadata["managedFields"]] == ["tool"]


def test_a_name_can_be_generated() -> None:
    body = exporter()
    body["metadata"] = {"generateName": "x-"}
    assert created(EXPORTER, body).value["metadata"]["name"] == "x-abcde"


def test_faults_have_the_words_of_relay_check() -> None:
    body = exporter()
    body["spec"]["sources"][0]["metrics"]["metricsql"] = "{"
    body["spec"]["sinks"][0]["otlp_http"]["endpoint"] = "ftp://x"
    error = refusal(writes.create, request(EXPORTER), body)
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.details is not None
    assert {cause["field"]: cause["message"] for cause in error.details["causes"]} == {
        "spec.sinks[0].otlp_http.endpoint": 'Invalid value: must begin with "https://" or "http://"',
        "spec.sources[0].metrics.metricsql": "Invalid value: this { is never closed at offset 0",
    }


def test_a_fault_of_one_sink_of_a_policy_is_a_warning() -> None:
    target = {"prometheusRemoteWrite": {"endpoint": "ftp://x"}}
    body = {
        "apiVersion": POLICY.api_version,
        "kind": POLICY.kind,
        "metadata": {"name": "p"},
        "spec": {
            "sources": [{"name": "all", "metrics": {"metricsql": "{}"}}],
            "sinks": [{"name": "bad", "sources": ["all"], "target": target}],
        },
    }
    result = created(POLICY, body)
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith('spec.sinks["bad"]: ')


@pytest.mark.parametrize(
    ("validation", "code"), [("Strict", 400), ("Warn", None), ("Ignore", None)]
)
def test_unknown_and_repeated_fields(validation: str, code: int | None) -> None:
    body = exporter(bogus=1)
    body["spec"]["other"] = {}
    options = {"field_validation": validation, "duplicates": ("spec",)}
    if code is not None:
        error = refusal(writes.create, request(EXPORTER, **options), body)
        assert error.code == code
        assert error.message.endswith(
            'strict decoding error: duplicate field "spec", unknown field "spec.other", '
            'unknown field "metadata.bogus"'
        )
        return
    result = created(EXPORTER, body, **options)
    assert "other" not in result.value["spec"]
    assert len([w for w in result.warnings if "field" in w]) == (3 if validation == "Warn" else 0)


def test_an_update_bumps_the_generation_only_for_content() -> None:
    live = created(EXPORTER, exporter()).value
    same = writes.update(request(EXPORTER, "acme"), live, live)
    assert not same.is_changed
    labelled = {**live, "metadata": {**live["metadata"], "labels": {"a": "b"}}}
    result = writes.update(request(EXPORTER, "acme"), live, labelled)
    assert result.value["metadata"]["generation"] == 1
    patch = [{"op": "replace", "path": "/spec/sinks/0/name", "value": "two"}]
    result = writes.patch(request(EXPORTER, "acme"), live, writes.JSON_PATCH, patch)
    assert result.value["metadata"]["generation"] == 2


def test_status_and_the_rest_are_written_apart() -> None:
    live = created(EXPORTER, exporter()).value
    both = {"status": {"a": 1}, "spec": {"sinks": []}, "metadata": {"labels": {"x": "y"}}}
    own = request(EXPORTER, "acme", subresource="status")
    result = writes.patch(own, live, writes.MERGE_PATCH, both)
    assert result.value["status"] == {"a": 1}
    assert result.value["spec"] == live["spec"]
    assert "labels" not in result.value["metadata"]
    with_status = {**result.value, "status": {"a": 2}}
    result = writes.update(request(EXPORTER, "acme"), result.value, with_status)
    assert not result.is_changed


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"resourceVersion": ""}, 422, "must be specified for an update"),
        ({"resourceVersion": "6"}, 409, "the object has been modified"),
        ({"uid": "other"}, 409, "Precondition failed: UID"),
        ({"name": "other"}, 400, "does not match the name on the URL"),
        ({"namespace": "other"}, 400, "does not match the namespace"),
        ({"labels": {"a b": ""}}, 422, "name part must consist of"),
        ({"labels": {"a": 5}}, 400, "must be a string, not a number"),
    ],
)
def test_preconditions_of_an_update(change: dict[str, Any], code: int, said: str) -> None:
    live = created(EXPORTER, exporter()).value
    body = {**live, "metadata": {**live["metadata"], **change}}
    error = refusal(writes.update, request(EXPORTER, "acme"), live, body)
    assert (error.code, said in error.message) == (code, True), error.message


def test_finalizers_hold_an_object() -> None:
    live = created(EXPORTER, exporter(finalizers=["x.example/f"])).value
    result = writes.delete(EXPORTER, live, {}, STAMP)
    assert not result.is_deleted
    assert result.value["metadata"]["deletionTimestamp"] == STAMP.now
    again = writes.delete(EXPORTER, result.value, {}, STAMP)
    assert not again.is_changed
    more = {"metadata": {"finalizers": ["x.example/f", "x.example/g"]}}
    error = refusal(writes.patch, request(EXPORTER, "acme"), result.value, writes.MERGE_PATCH, more)
    assert "no new finalizers can be added" in error.message
    none = {"metadata": {"finalizers": None}}
    last = writes.patch(request(EXPORTER, "acme"), result.value, writes.MERGE_PATCH, none)
    assert last.is_deleted


def test_deletions_have_preconditions() -> None:
    live = created(EXPORTER, exporter()).value
    assert writes.delete(EXPORTER, live, {"uid": "uid-1"}, STAMP).is_deleted
    for precondition in ({"uid": "x"}, {"resourceVersion": "1"}):
        assert refusal(writes.delete, EXPORTER, live, precondition, STAMP).code == 409


def test_a_masked_value_keeps_the_stored_one() -> None:
    live = created(SECRET, secret(a="one", b="two")).value
    shown = masked(live)
    shown["data"] = {**shown["data"], "b": "bmV3"}
    result = writes.update(request(SECRET, "tok"), live, shown)
    assert result.value["data"] == {"a": live["data"]["a"], "b": "bmV3"}
    text = {**secret(a="****", b="three"), "metadata": {"name": "tok"}}
    applied = writes.apply(request(SECRET, "tok", field_manager="m", force=True), live, text)
    assert applied.value["data"]["a"] == live["data"]["a"]
    assert applied.value["data"]["b"] == "dGhyZWU="


def test_a_mask_without_a_stored_value_is_refused() -> None:
    error = refusal(writes.create, request(SECRET), secret(a="****"))
    assert (error.code, "mask" in error.message) == (422, True)
    live = created(SECRET, secret(a="one")).value
    patch = [{"op": "copy", "from": "/data/a", "path": "/data/b"}]
    error = refusal(writes.patch, request(SECRET, "tok"), live, writes.JSON_PATCH, patch)
    assert error.code == 422


def test_a_patch_cannot_copy_a_value_out_of_a_secret() -> None:
    live = created(SECRET, secret(a="one")).value
    patch = [{"op": "add", "path": "/metadata/annotations", "value": {}}]
    patch.append({"op": "copy", "from": "/data/a", "path": "/metadata/annotations/x"})
    result = writes.patch(request(SECRET, "tok"), live, writes.JSON_PATCH, patch)
    assert result.value["metadata"]["annotations"] == {"x": MASK}


def test_the_annotation_of_kubectl_is_stored_masked() -> None:
    body = secret(a="one")
    text = '{"apiVersion":"v1","stringData":{"a":"one"},"data":{"b":"eA=="}}'
    body["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": text,
        "other": "x",
    }
    made = created(SECRET, body).value
    (_, kept), _ = sorted(made["metadata"]["annotations"].items())
    assert kept == ('{"apiVersion":"v1","stringData":{"a":"****"},"data":{"b":"' + MASK + '"}}\n')


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, 400),
        ([], 400),
        ({}, 400),
        ({"kind": "Exporter"}, 400),
        ({"kind": "Exporter", "apiVersion": "v1"}, 400),
        ({"kind": "Other", "apiVersion": EXPORTER.api_version}, 400),
        ({"kind": "Exporter", "apiVersion": EXPORTER.api_version}, 422),
        ({"kind": "Exporter", "apiVersion": EXPORTER.api_version, "spec": 5}, 422),
        ({"kind": "Exporter", "apiVersion": EXPORTER.api_version, "metadata": []}, 400),
    ],
)
def test_what_is_no_object_is_refused(body: Any, code: int) -> None:
    assert refusal(writes.create, request(EXPORTER), body).code == code


def test_secrets_are_checked() -> None:
    for body, said in (
        ({**secret(), "type": "kubernetes.io/tls"}, "data[tls.crt]: Required value"),
        ({**secret(), "data": {"a b": "eA=="}}, "a valid config key"),
        ({**secret(), "data": {"a": "%%"}}, "must be base64"),
        ({**secret(), "data": {"a": "A" * 1_500_000}}, "may not be more than 1048576 bytes"),
    ):
        assert said in refusal(writes.create, request(SECRET), body).message
    live = created(SECRET, {**secret(a="one"), "immutable": True}).value
    for change in ({"data": {"a": "eA=="}}, {"type": "x/y"}, {"immutable": None}):
        error = refusal(writes.patch, request(SECRET, "tok"), live, writes.MERGE_PATCH, change)
        assert "immutable" in error.message


SINK = {"name": "k", "otlp_http": {"endpoint": "https://a.example"}}


@pytest.mark.parametrize("sinks", [[{}], [5], [None], [SINK, SINK], {"a": SINK}, 7])
def test_lists_that_are_none_are_refused(sinks: Any) -> None:
    body = exporter()
    body["spec"]["sinks"] = sinks
    assert refusal(writes.create, request(EXPORTER), body).code == 422
    live = created(EXPORTER, exporter()).value
    patch = {"spec": {"sinks": sinks}}
    error = refusal(writes.patch, request(EXPORTER, "acme"), live, writes.MERGE_PATCH, patch)
    assert error.code == 422


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [{}]},
        {"conditions": [{"type": "A", "status": "True"}] * 2},
        {"conditions": {"type": "A"}},
        {"sinks": [{"name": "a", "ledger": 5}]},
        5,
    ],
)
def test_a_status_has_its_types(status: Any) -> None:
    live = created(EXPORTER, exporter()).value
    own = request(EXPORTER, "acme", subresource="status")
    error = refusal(writes.patch, own, live, writes.MERGE_PATCH, {"status": status})
    assert (error.code, error.message.startswith("Exporter.telemetry.datumapis.com")) == (422, True)
    assert "status" in error.message


def test_a_stored_object_that_does_not_fit_can_be_mended() -> None:
    """A newer schema may refuse what an older one took."""
    live = created(EXPORTER, exporter()).value
    live["spec"]["sinks"] = [{"otlp_http": {}}]
    config = exporter()
    error = refusal(writes.apply, request(EXPORTER, "acme", field_manager="m"), live, config)
    assert (error.code, "the stored object does not fit" in error.message) == (400, True)
    body = exporter(resourceVersion="7")
    mended = writes.update(request(EXPORTER, "acme"), live, body)
    assert mended.value["spec"]["sinks"][0]["name"] == "one"
