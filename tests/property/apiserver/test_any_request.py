"""Any bytes and texts as bodies, paths, selectors and patches: refused, or taken, never a bug."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.apiserver.access.json_web_tokens import (
    KeySetError,
    TokenInvalidError,
    read_keys,
    verified_claims,
)
from relay.apiserver.http.protobuf_bodies import UnreadableProtobufError, read_protobuf
from relay.apiserver.http.request_target import parse_target, read_parameters
from relay.apiserver.merging.json_patch import (
    PatchError,
    PatchNotApplicableError,
    json_patched,
    merge_patched,
)
from relay.apiserver.objects import writes
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.field_checks import UnreadableBodyError, read_json
from relay.apiserver.objects.kinds import ResourceKind, action_kinds, served_kinds
from relay.apiserver.objects.selectors import parse_field_selector, parse_label_selector
from relay.apiserver.objects.writes import ObjectPlace, Stamp, WriteOptions, WriteRequest
from tests.kit.apiserver.any_json import json_values, text
from tests.kit.apiserver.running import exporter, secret

KINDS = (*served_kinds(), *action_kinds())
BY_KEY = {kind.storage_key: kind for kind in KINDS}
EXPORTER, SECRET = BY_KEY["exporters.telemetry.datumapis.com"], BY_KEY["secrets"]
STAMP = Stamp("2026-01-01T00:00:00Z", "uid-1", "abcde")


def request(kind: ResourceKind, name: str) -> WriteRequest:
    return WriteRequest(kind, ObjectPlace("p", "default", name), WriteOptions("m"), STAMP)


def refusal_of(call: Callable[[], object]) -> ApiRefusalError | None:
    """The refusal that a call ends with, None where it returns."""
    try:
        call()
    except ApiRefusalError as refusal:
        return refusal
    return None


@given(st.one_of(st.binary(max_size=60), json_values.map(lambda v: json.dumps(v).encode())))
def test_bodies(body: bytes) -> None:
    try:
        expected = json.loads(body)
        msgspec.json.encode(expected)
    except (ValueError, OverflowError):
        with pytest.raises(UnreadableBodyError):
            read_json(body)
        return
    value, _ = read_json(body)
    assert value == expected


@given(json_values, json_values)
def test_merge_patches_agree_with_the_rfc(value: Any, patch: Any) -> None:
    """RFC 7386, section 2, as it stands there."""

    def apply(target: Any, change: Any) -> Any:
        if not isinstance(change, dict):
            return change
        target = dict(target) if isinstance(target, dict) else {}
        for name, own in change.items():
            if own is None:
                target.pop(name, None)
            else:
                target[name] = apply(target.get(name), own)
        return target

    assert merge_patched(value, patch) == apply(value, patch)


operations = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]),
        "path": st.one_of(text, st.lists(text, max_size=3).map(lambda t: "/" + "/".join(t))),
        "from": st.lists(st.sampled_from(["a", "0", "-"]), max_size=2).map(
            lambda t: "".join(f"/{one}" for one in t)
        ),
        "value": json_values,
    },
)


@given(json_values, st.one_of(json_values, st.lists(operations, max_size=4)))
def test_json_patches_never_change_what_they_are_given(value: Any, patch: Any) -> None:
    before = json.dumps(value)
    with suppress(PatchError, PatchNotApplicableError):
        json_patched(value, patch)
    assert json.dumps(value) == before


@given(text)
def test_selectors(selector: str) -> None:
    for parse in (
        parse_label_selector,
        lambda found: parse_field_selector(found, EXPORTER),
    ):
        refusal = refusal_of(lambda p=parse: p(selector))  # type: ignore[misc]
        assert refusal is None or refusal.code == 400


@given(st.lists(text, max_size=6), st.booleans())
def test_paths(segments: list[str], tenancy: bool) -> None:
    raw = "/" + "/".join(segments)
    refusal = refusal_of(lambda: parse_target(raw, tenancy=tenancy, kinds=KINDS))
    assert refusal is None or refusal.code == 404


@given(st.dictionaries(st.sampled_from(["limit", "watch", "resourceVersion", "x"]), text))
def test_parameters(query: dict[str, str]) -> None:
    refusal = refusal_of(lambda: read_parameters(query))
    assert refusal is None or refusal.code in (400, 422)


def live(kind: ResourceKind) -> dict[str, Any]:
    body = exporter("x") if kind is EXPORTER else secret("x")
    made = writes.create(request(kind, ""), body).value
    made["metadata"]["resourceVersion"] = "7"
    return made


@pytest.mark.parametrize("kind", [EXPORTER, SECRET])
@given(patch=json_values)
def test_writes_of_anything(kind: ResourceKind, patch: Any) -> None:
    before = live(kind)
    known = json.dumps(before)
    merged = merge_patched(before, patch)
    config = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x"}}
    for call in (
        lambda: writes.create(request(kind, ""), merged),
        lambda: writes.update(request(kind, "x"), before, merged),
        lambda: writes.patch(request(kind, "x"), before, writes.MERGE_PATCH, patch),
        lambda: writes.patch(request(kind, "x"), before, writes.JSON_PATCH, patch),
        lambda: writes.patch(request(kind, "x"), before, writes.STRATEGIC_PATCH, patch),
        lambda: writes.apply(request(kind, "x"), before, merge_patched(config, patch)),
        lambda: writes.apply(request(kind, "x"), None, merge_patched(config, patch)),
    ):
        refusal = refusal_of(call)
        if refusal is not None:
            assert refusal.code in (400, 409, 422)
            json.dumps(refusal.status())
    assert json.dumps(before) == known


@given(st.binary(max_size=40))
def test_protobuf(body: bytes) -> None:
    with pytest.raises(UnreadableProtobufError):
        read_protobuf(b"k8s\0" + body)


@given(st.binary(max_size=40), st.text(max_size=40))
def test_keys_and_tokens(document: bytes, token: str) -> None:
    with pytest.raises(KeySetError):
        read_keys(document)
    with pytest.raises(TokenInvalidError):
        verified_claims(token, {})
