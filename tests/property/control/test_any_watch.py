"""Whatever bytes a control plane sends: events or unusable ones, the same in any pieces."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.control.kubernetes.errors import AnswerError, MalformedAnswerError
from relay.control.kubernetes.lease import read_lease
from relay.control.kubernetes.objects import (
    ApiObject,
    ApiResource,
    Bookmark,
    ObjectEvent,
    Unusable,
    WatchDecoder,
    read_object,
    read_page,
    read_status,
    status_error,
)
from relay.control.kubernetes.status_body import parts_of, read_conditions
from tests.kit.examples import examples

RESOURCE = ApiResource("g", "v1", "things", "Thing")
LINE_BYTES_MAX = 400
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(["a", "n", "7", ""]) | JSON
        for name in ("name", "namespace", "uid", "resourceVersion", "generation", "annotations")
    },
)
OBJECTS = st.fixed_dictionaries({"metadata": METADATA}, optional={"spec": JSON, "status": JSON})
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["ADDED", "DELETED", "BOOKMARK", "ERROR"]) | st.text(max_size=5)},
    optional={"object": OBJECTS | JSON},
)
GOOD = {
    "type": "ADDED",
    "object": {"metadata": {"name": "good", "namespace": "n", "uid": "u", "resourceVersion": "1"}},
}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


LINES = EVENTS.map(encoded) | JSON.map(encoded) | st.binary(max_size=60) | st.just(b"x" * 1000)


@given(st.lists(LINES, max_size=8), st.lists(st.integers(1, 300), min_size=1, max_size=20))
@examples(300)
def test_events_in_any_pieces(lines: list[bytes], sizes: list[int]) -> None:
    body = b"".join(line + b"\n" + encoded(GOOD) + b"\n" for line in lines)
    whole = list(WatchDecoder(RESOURCE, line_bytes_max=LINE_BYTES_MAX).feed(body))
    decoder = WatchDecoder(RESOURCE, line_bytes_max=LINE_BYTES_MAX)
    pieces, at, turn = [], 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        pieces += list(decoder.feed(body[at : at + size]))
        at, turn = at + size, turn + 1
    assert list(map(shown, pieces)) == list(map(shown, whole))
    good = [one for one in whole if isinstance(one, ObjectEvent) and one.object.name == "good"]
    assert len(good) >= len(lines), "no line costs its neighbours anything"


def shown(event: object) -> object:
    if isinstance(event, AnswerError):
        return type(event), str(event)
    assert isinstance(event, ObjectEvent | Bookmark | Unusable)
    return event


@given(OBJECTS.map(encoded) | JSON.map(encoded) | st.binary(max_size=100))
@examples(300)
def test_any_object(raw: bytes) -> None:
    found = read_object(raw, RESOURCE)
    if isinstance(found, ApiObject):
        assert found.name
        assert found.uid
        assert found.document()["kind"] == "Thing"
        again = read_object(
            encoded(
                found.document()
                | {"metadata": found.document()["metadata"] | {"resourceVersion": "9"}}
            ),
            RESOURCE,
        )
        assert isinstance(again, ApiObject)
        assert again.content == found.content
    else:
        assert found.why


@given(
    st.fixed_dictionaries({"metadata": METADATA, "items": JSON | st.lists(OBJECTS)}).map(encoded)
    | JSON.map(encoded)
    | st.binary(max_size=100)
)
@examples(300)
def test_any_answer(body: bytes) -> None:
    for read in (read_page, read_lease):
        try:
            read(body)
        except MalformedAnswerError:
            continue
    assert str(status_error(read_status(body)))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "conditions": JSON
            | st.lists(
                st.dictionaries(
                    st.sampled_from(
                        [
                            "type",
                            "status",
                            "reason",
                            "message",
                            "observedGeneration",
                            "lastTransitionTime",
                        ]
                    ),
                    JSON | st.sampled_from(["True", "2020-01-01T00:00:00Z"]),
                )
            ),
            "sinks": JSON | st.lists(OBJECTS),
        },
    )
)
@examples(200)
def test_any_status(document: dict[str, Any]) -> None:
    parts_of(document)
    read_conditions(document)
