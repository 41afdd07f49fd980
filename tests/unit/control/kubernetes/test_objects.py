"""Objects, pages and lines of a watch: what is kept, and what of bad input costs a neighbour."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.control.kubernetes.errors import ExpiredError, MalformedAnswerError, ThrottledError
from relay.control.kubernetes.objects import (
    ApiObject,
    ApiResource,
    Bookmark,
    ObjectEvent,
    Unusable,
    WatchDecoder,
    read_object,
    read_page,
)

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
NAMESPACES = ApiResource("", "v1", "namespaces", "Namespace", namespaced=False)


def document(name: str = "a", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": "u", "resourceVersion": "7"}
    return {"metadata": metadata, **more}


def raw(value: object) -> bytes:
    return json.dumps(value).encode()


def line(verb: str, value: object) -> bytes:
    return raw({"type": verb, "object": value}) + b"\n"


def test_paths() -> None:
    assert EXPORTERS.path() == "/apis/telemetry.datumapis.com/v1alpha1/exporters"
    assert EXPORTERS.path("n", "a", "status").endswith("/namespaces/n/exporters/a/status")
    assert NAMESPACES.path("n", "a") == "/api/v1/namespaces/a"


def test_only_what_is_read_is_content() -> None:
    one = document(spec={"b": 1, "a": 2}, status={"x": 1})
    other = document(spec={"a": 2, "b": 1}, status={"x": 2}, kind="Exporter")
    other["metadata"] |= {"resourceVersion": "8", "managedFields": [{"manager": "m"}]}
    other["metadata"]["annotations"] = {f"a/{number}": "x" * 2_600 for number in range(95)}
    first, second = (read_object(raw(each), EXPORTERS) for each in (one, other))
    assert isinstance(first, ApiObject)
    assert isinstance(second, ApiObject)
    assert first.content == second.content
    assert (first.resource_version, second.resource_version) == ("7", "8")
    assert (first.status, second.status) == (b'{"x":1}', b'{"x":2}')
    assert first.document()["apiVersion"] == "telemetry.datumapis.com/v1alpha1"


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        (b"1", None),
        (b"{", None),
        (b'{"metadata": {"name": 5}}', None),
        (b'{"metadata": {"name": "a", "namespace": "n"}}', ("n", "a")),
        (raw(document()).replace(b'"u"', b'""'), ("n", "a")),
        (raw(document()).replace(b'"7"', b"7"), ("n", "a")),
        (raw(document(spec="x")).replace(b'"x"', b"[" * 100_000), None),
        (raw(document(spec="x")).replace(b"x", b"\xff"), ("n", "a")),
    ],
)
def test_an_unusable_object_is_named_where_it_can_be(
    bad: bytes, key: tuple[str, str] | None
) -> None:
    found = read_object(bad, EXPORTERS)
    assert isinstance(found, Unusable)
    assert found.key == key
    assert found.why


def test_a_namespace_where_none_belongs() -> None:
    found = read_object(raw(document()), NAMESPACES)
    assert isinstance(found, Unusable)
    assert "has a namespace" in found.why


def test_a_page() -> None:
    metadata = {"resourceVersion": "9", "continue": "t"}
    page = read_page(raw({"metadata": metadata, "items": [document(), 5]}))
    assert (len(page.items), page.resource_version, page.continue_token) == (2, "9", "t")
    assert read_page(raw({"metadata": {"resourceVersion": "9"}, "items": None})).items == ()


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b'{"metadata":{}}', b'{"items":5}'])
def test_what_is_no_page(bad: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        read_page(bad)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_watch_in_any_pieces(size: int) -> None:
    metadata = {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}
    body = (
        line("ADDED", document("a"))
        + line("MODIFIED", document("b", spec={"text": "line\nbreak"}))
        + line("BOOKMARK", {"metadata": metadata})
        + line("DELETED", document("a"))
        + b"\n"
        + line("ADDED", {"metadata": {"name": "c", "namespace": "n"}})
        + line("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})
    )
    decoder = WatchDecoder(EXPORTERS)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    events = [event for piece in pieces for event in decoder.feed(piece)]
    assert [type(event) for event in events] == [
        ObjectEvent,
        ObjectEvent,
        Bookmark,
        ObjectEvent,
        Unusable,
        ExpiredError,
    ]
    assert events[2] == Bookmark("9", initial_end=True)
    assert not decoder.unfinished


def test_errors_in_the_stream_keep_their_type() -> None:
    (event,) = WatchDecoder(EXPORTERS).feed(
        line("ERROR", {"code": 429, "details": {"retryAfterSeconds": 3}})
    )
    assert isinstance(event, ThrottledError)
    assert event.retry_after_s == 3
    (event,) = WatchDecoder(EXPORTERS).feed(line("ERROR", {"odd": 1}))
    assert isinstance(event, ThrottledError)  # as any server error


def test_a_line_that_is_too_long_costs_only_itself() -> None:
    decoder = WatchDecoder(EXPORTERS, line_bytes_max=1000)
    long = line("MODIFIED", document(spec={"x": "y" * 5000}))
    body = line("ADDED", document("a")) + long + line("ADDED", document("b"))
    events = [e for at in range(0, len(body), 100) for e in decoder.feed(body[at : at + 100])]
    assert [type(event) for event in events] == [ObjectEvent, Unusable, ObjectEvent]
    assert not events[1].relist  # type: ignore[union-attr]
    assert [type(e) for e in decoder.feed(long)] == [Unusable]


@pytest.mark.parametrize(
    "bad",
    [
        line("DELETED", {"metadata": {"name": "a"}}),
        b"garbage\n",
        line("BOOKMARK", {"metadata": {}}),
        line("DELETED", document(spec={"x": "y" * 5000})),
    ],
)
def test_what_may_have_been_a_deletion_asks_for_a_list(bad: bytes) -> None:
    (event,) = WatchDecoder(EXPORTERS, line_bytes_max=1000).feed(bad)
    assert isinstance(event, Unusable)
    assert event.relist


def test_no_message_controls_a_terminal() -> None:
    (event,) = WatchDecoder(EXPORTERS).feed(line("\x1b[2J" * 100, document()))
    assert isinstance(event, Unusable)
    assert "\x1b" not in event.why
    assert len(event.why) < 1000


@pytest.mark.parametrize(
    ("given", "found"), [(None, ()), (["a/b", "c"], ("a/b", "c")), ("a/b", ()), ([7], ("7",))]
)
def test_finalizers_are_texts_whatever_comes(given: object, found: tuple[str, ...]) -> None:
    one = document()
    one["metadata"]["finalizers"] = given
    read = read_object(raw(one), EXPORTERS)
    assert isinstance(read, ApiObject)
    assert read.finalizers == found
