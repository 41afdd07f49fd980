"""Bodies that cost more than they weigh: each is refused, in few words, before it is decided on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.http.bodies import YAML_BYTES_MAX
from relay.apiserver.merging.json_patch import PatchError
from relay.apiserver.merging.strategic_patch import strategic_patched
from relay.apiserver.objects.failures import MESSAGE_CHARS_MAX
from relay.apiserver.objects.field_checks import (
    BODY_VALUES_MAX,
    DEPTH_MAX,
    OBJECT_VALUES_MAX,
    UnreadableBodyError,
    read_json,
)
from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.objects.selectors import TERMS_MAX
from relay.apiserver.objects.writes import MANAGERS_MAX
from tests.kit.apiserver.running import ADMIN, EXPORTERS, SECRETS, exporter, local_api, secret

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
ONE = f"{EXPORTERS}/there"
APPLIED = f"{ONE}?fieldManager=x&force=true"
LABELS = {f"k{index}": "v" for index in range(OBJECT_VALUES_MAX)}
ANSWER_CHARS_MAX = MESSAGE_CHARS_MAX + 64 * 1024

Case = tuple[str, str, str, Callable[[], str | bytes], int]
CASES: dict[str, Case] = {
    "many values": (
        "POST",
        EXPORTERS,
        "application/json",
        lambda: json.dumps([0] * BODY_VALUES_MAX),
        413,
    ),
    "many labels": (
        "POST",
        EXPORTERS,
        "application/json",
        lambda: json.dumps(exporter("new", labels=LABELS)),
        413,
    ),
    "many labels by merge": (
        "PATCH",
        ONE,
        MERGE,
        lambda: json.dumps({"metadata": {"labels": LABELS}}),
        413,
    ),
    "many labels by apply": (
        "PATCH",
        APPLIED,
        APPLY,
        lambda: json.dumps(exporter("there", labels=LABELS)),
        413,
    ),
    "deep": ("POST", EXPORTERS, "application/json", lambda: '{"a":' * 100_000, 400),
    "deep by copies": (
        "PATCH",
        ONE,
        JSON_PATCH,
        lambda: json.dumps(
            [{"op": "add", "path": "/x", "value": {}}]
            + [{"op": "copy", "from": "/x", "path": "/x/x"}] * 3000
        ),
        422,
    ),
    "deep by additions": (
        "PATCH",
        ONE,
        JSON_PATCH,
        lambda: json.dumps(
            [{"op": "add", "path": "/x" * (n + 1), "value": {}} for n in range(DEPTH_MAX + 1)]
        ),
        413,
    ),
    "a long path": (
        "PATCH",
        ONE,
        JSON_PATCH,
        lambda: json.dumps([{"op": "test", "path": "/" * 1_000_000, "value": 1}]),
        400,
    ),
    "much YAML": ("PATCH", APPLIED, APPLY, lambda: "a:\n" + " - b\n" * (YAML_BYTES_MAX // 4), 413),
    "YAML that grows": (
        "PATCH",
        APPLIED,
        APPLY,
        lambda: (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n"
                for i in range(4)
            )
        ),
        413,
    ),
    "a compressed bomb": (
        "POST",
        EXPORTERS,
        "application/json",
        lambda: gzip.compress(b" " * 100_000_000, 1),
        415,
    ),
    "a long kind": (
        "POST",
        EXPORTERS,
        "application/json",
        lambda: json.dumps({**exporter(), "kind": "K" * 1_000_000}),
        400,
    ),
    "a long name": (
        "POST",
        EXPORTERS,
        "application/json",
        lambda: json.dumps(exporter("n" * 1_000_000)),
        422,
    ),
    "many faults": (
        "POST",
        EXPORTERS,
        "application/json",
        lambda: json.dumps(exporter("new", labels={f"{n} ": " " for n in range(4000)})),
        422,
    ),
    "items that cannot be told apart": (
        "PATCH",
        f"{SECRETS}/tok",
        STRATEGIC,
        lambda: json.dumps({"metadata": {"finalizers": [{}, []]}}),
        422,
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_it_is_refused(tmp_path: Path, case: str) -> None:
    method, path, media_type, body, code = CASES[case]
    headers = {"Content_Type": media_type}
    if case == "a compressed bomb":
        headers["Content_Encoding"] = "gzip"
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        assert (await admin.ask("POST", EXPORTERS, exporter("there")))[0] == 201
        assert (await admin.ask("POST", SECRETS, secret("tok")))[0] == 201
        found, status = await admin.ask(method, path, body(), **headers)
        assert (found, status["kind"], status["code"]) == (code, "Status", code), status
        assert len(json.dumps(status)) < ANSWER_CHARS_MAX


async def test_what_is_read_can_be_written_back(tmp_path: Path) -> None:
    """An object of the largest size has as much again in managedFields."""
    labels = {f"k{index}": "v" for index in range(OBJECT_VALUES_MAX - 50)}
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        assert (await admin.ask("POST", EXPORTERS, exporter("there", labels=labels)))[0] == 201
        _, found = await admin.ask("GET", ONE)
        found["metadata"]["labels"]["more"] = "v"
        code, status = await admin.ask("PUT", ONE, found)
        assert code == 200, status


async def test_managers_are_bounded(tmp_path: Path) -> None:
    """Each apply of a new manager made every later write of the object dearer, without end."""
    body = json.dumps(exporter("there"))
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)

        async def apply(manager: str) -> int:
            path = f"{ONE}?fieldManager={manager}&force=true"
            return (await admin.ask("PATCH", path, body, Content_Type=APPLY))[0]

        codes = {await apply(f"m{number}") for number in range(MANAGERS_MAX)}
        assert codes == {200, 201}
        assert await apply("another") == 422
        assert await apply("m7") == 200
        patch = {"metadata": {"labels": {"a": "b"}}}
        assert (await admin.patch(ONE, MERGE, patch))[0] == 200


@pytest.mark.parametrize(
    "body", [b"[" * 70_000, b'{"a":' + b" " * 70_000 + b"x}", b'"' + b"\xff" * 70_000 + b'"']
)
def test_large_bodies_that_are_no_json(body: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        read_json(body)


def test_a_replacement_among_what_is_no_item() -> None:
    kind = next(kind for kind in served_kinds() if kind.kind == "Secret")
    value = {"metadata": {"ownerReferences": [{"uid": "1"}]}}
    patch = {"metadata": {"ownerReferences": [{"$patch": "replace"}, 5]}}
    with pytest.raises(PatchError, match="must be objects"):
        strategic_patched(value, patch, kind.node, kind.definitions)


def test_repeated_fields_are_counted_once_each() -> None:
    value, repeated = read_json(b"{" + b'"a":1,' * 200_000 + b'"b":1,"b":2}')
    assert value == {"a": 1, "b": 2}
    assert repeated == ["a", "b"]


def test_large_sets_are_merged_in_order() -> None:
    kind = next(kind for kind in served_kinds() if kind.kind == "Secret")
    old = [f"a/{n}" for n in range(20_000)]
    new = [f"a/{n}" for n in range(10_000, 30_000)]
    patch: dict[str, Any] = {"finalizers": new, "$setElementOrder/finalizers": [*new, *old]}
    value = {"metadata": {"finalizers": old}}
    made = strategic_patched(value, {"metadata": patch}, kind.node, kind.definitions)
    assert sorted(made["metadata"]["finalizers"]) == sorted({*old, *new})


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("labelSelector=" + "%2C".join(f"!a{n}" for n in range(TERMS_MAX)), 200),
        ("labelSelector=" + "%2C".join(f"!a{n}" for n in range(TERMS_MAX + 1)), 400),
        ("fieldSelector=" + "%2C".join(["metadata.name!%3Dx"] * TERMS_MAX), 200),
        ("fieldSelector=" + "%2C".join(["metadata.name!%3Dx"] * (TERMS_MAX + 1)), 400),
    ],
    ids=["labels", "many labels", "fields", "many fields"],
)
async def test_selectors_have_few_parts(tmp_path: Path, query: str, code: int) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        response, _ = await admin.raw("GET", f"{EXPORTERS}?{query}", None, {})
        assert response.status == code
        response, _ = await admin.raw("DELETE", f"{EXPORTERS}?{query}", None, {})
        assert response.status == code
