"""Form and text of an Exporter follow each other, and lose nothing."""

from __future__ import annotations

from html import unescape
from typing import Any
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from relay.ui.authoring.controls import all_controls
from relay.ui.authoring.draft import (
    Draft,
    draft_of,
    empty_value,
    get,
    read_draft,
    shown_value,
    text_of,
)
from relay.ui.rendering import Rendering
from relay.ui.static_files import StaticFiles
from relay.ui.visit import parsed_form

NAME = st.text("abc-", min_size=1, max_size=6)
TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
DURATION = st.sampled_from(["1s", "5s", "250ms", "x"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


AUTHENTICATION = st.one_of(
    st.builds(lambda name: {"type": "bearerToken", "secretRef": {"name": name}}, NAME),
    st.builds(lambda name: {"type": "basicAuth", "secretRef": {"name": name, "key": "pair"}}, NAME),
    st.builds(
        lambda name: {"type": "apiKey", "header": "x-key", "secretRef": {"name": name}}, NAME
    ),
)
HTTP = st.fixed_dictionaries(
    {"endpoint": st.just("https://otlp.example")},
    optional={
        "authentication": AUTHENTICATION,
        "profile": st.sampled_from(["datadog", "generic"]),
        "headers": st.dictionaries(NAME, NAME, min_size=1, max_size=2),
        "timeout": DURATION,
        "tls": st.just({"serverName": "a.example"}),
        "promoteLabels": st.just(["job"]),
    },
)
SINK = st.builds(
    lambda name, field, http, rest: {"name": name, field: http, **rest},
    NAME,
    st.sampled_from(["otlp_http", "prometheusRemoteWrite"]),
    HTTP,
    optional(
        batch=optional(maxSize=st.integers(1, 9), timeout=DURATION, enabled=st.booleans()),
        queue=optional(overflow=st.just("dropNewest"), drain=st.just("freshFirst")),
        paused=st.booleans(),
    ),
)
SOURCE = st.builds(
    lambda name, text: {"name": name, "metrics": {"metricsql": text}}, NAME, TEXT
) | st.just({"name": "r", "metrics": {"resourceSelectors": [{"kinds": []}]}})
VALUE = st.builds(
    lambda sources, sinks, labels: {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": "acme", "namespace": "default", **labels},
        "spec": {"sources": sources, "sinks": sinks},
    },
    st.lists(SOURCE, max_size=3),
    st.lists(SINK, max_size=3),
    optional(labels=st.dictionaries(NAME, NAME, min_size=1, max_size=2)),
)


def sent(draft: Draft) -> dict[str, str]:
    """The fields that a browser sends of the form of a draft, unchanged."""
    fields = {
        "base": draft.base,
        "digest": draft.digest,
        "text": draft.text,
        "version": draft.version,
        "metadata.name": draft.name,
        "metadata.namespace": draft.namespace,
    }
    for path, control in all_controls(draft.value):
        fields[path] = shown_value(draft.value, path, control)
    for index, sink in enumerate(draft.sinks):
        kind = "otlp_http" if "otlp_http" in sink else "prometheusRemoteWrite"
        given = sink[kind].get("authentication", {"type": "none"})
        fields[f"kind[{index}]"] = kind
        fields[f"authentication[{index}]"] = given["type"]
        fields[f"secret[{index}]"] = given.get("secretRef", {}).get("name", "")
        fields[f"header[{index}]"] = given.get("header", "")
    return fields


def whole(value: dict[str, Any]) -> dict[str, Any]:
    """A value without what is empty, which says nothing."""
    sinks = [
        {key: own for key, own in sink.items() if own != {}} for sink in value["spec"]["sinks"]
    ]
    return {**value, "spec": {**value["spec"], "sinks": sinks}}


@given(VALUE)
def test_a_form_that_is_sent_back_changes_nothing(value: dict[str, Any]) -> None:
    draft = Draft(value, text_of(value), "7")
    again = read_draft(sent(draft))
    assert whole(again.value) == whole(value)
    assert again.version == "7"
    assert not again.is_text


@given(VALUE, st.data())
def test_a_change_of_one_field_changes_that_field(
    value: dict[str, Any], data: st.DataObject
) -> None:
    draft = Draft(value, text_of(value))
    texts = [
        path
        for path, control in all_controls(value)
        if control.kind in ("text", "long") and not path.endswith("].name")
    ]
    if not texts:
        return
    path = data.draw(st.sampled_from(texts))
    fields = sent(draft)
    fields[path] = "changed"
    again = read_draft(fields)
    assert get(again.value, path) == "changed"
    fields[path] = shown_value(value, path, dict(all_controls(value))[path])
    fields |= {"base": again.base, "digest": again.digest, "text": again.text}
    back = read_draft(fields).value
    assert whole(back) == whole(value) or get(value, path) in (None, "")


@given(VALUE)
def test_a_text_that_was_changed_counts(after: dict[str, Any]) -> None:
    draft = Draft(empty_value("other"), text_of(empty_value("other")))
    text = text_of(after)
    again = read_draft({**sent(draft), "text": text})
    assert again.value == after
    assert again.text == text
    assert again.is_text


def test_a_text_that_cannot_be_read_keeps_what_was() -> None:
    draft = Draft(empty_value(), text_of(empty_value()))
    again = read_draft({**sent(draft), "text": "spec: ["})
    assert again.problems
    assert again.text == "spec: ["
    assert again.value == draft.value


@given(st.dictionaries(st.sampled_from(["base", "digest", "text", "version", "do"]), TEXT))
def test_any_fields_are_a_draft(fields: dict[str, str]) -> None:
    draft = read_draft(fields)
    assert isinstance(draft.value, dict)
    draft.sources, draft.sinks, draft.name, draft.namespace  # noqa: B018 - none of them raises


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
)


@given(
    st.fixed_dictionaries({"metadata": JSON, "spec": JSON})
    | st.fixed_dictionaries({"spec": st.fixed_dictionaries({"sources": JSON, "sinks": JSON})})
)
def test_a_base_of_any_shape_is_a_draft(base: dict[str, Any]) -> None:
    draft = Draft(base, text_of(base))
    fields = {"base": draft.base, "digest": draft.digest, "text": draft.text}
    fields |= {path: "x" for path, _ in all_controls(base)}
    fields |= {"metadata.name": "n", "authentication[0]": "bearerToken", "kind[0]": "otlp_http"}
    read_draft(fields)


def test_a_kind_that_is_changed_keeps_endpoint_and_credential() -> None:
    value = empty_value()
    http = {
        "endpoint": "https://a.example",
        "profile": "datadog",
        "authentication": {"type": "bearerToken", "secretRef": {"name": "s"}},
    }
    value["spec"]["sinks"] = [{"name": "a", "otlp_http": http}]
    fields = sent(Draft(value, text_of(value)))
    fields["kind[0]"] = "prometheusRemoteWrite"
    (sink,) = read_draft(fields).sinks
    assert "otlp_http" not in sink
    assert sink["prometheusRemoteWrite"]["endpoint"] == "https://a.example"
    assert sink["prometheusRemoteWrite"]["authentication"] == http["authentication"]


def test_credentials_are_in_no_text() -> None:
    value = empty_value()
    value["spec"]["sinks"] = [{"name": "a", "otlp_http": {"endpoint": "https://a.example"}}]
    fields = sent(Draft(value, text_of(value)))
    fields |= {
        "authentication[0]": "bearerToken",
        "secret[0]": "s",
        "credential[0].token": "s3cret",
    }
    draft = read_draft(fields)
    assert draft.credentials == {(0, "token"): "s3cret"}
    assert "s3cret" not in draft.text + draft.base


def test_a_sink_gets_the_sources_that_are_chosen() -> None:
    value = empty_value()
    value["spec"]["sources"].append({"name": "more", "metrics": {"metricsql": "a"}})
    value["spec"]["sinks"] = [{"name": "a", "otlp_http": {"endpoint": "https://a.example"}}]
    fields = {**sent(Draft(value, text_of(value))), "sources-of[0]": "1"}
    assert read_draft({**fields, "source-of[0][1]": "1"}).sinks[0]["sources"] == ["more"]
    both = {"source-of[0][0]": "1", "source-of[0][1]": "1"}
    assert "sources" not in read_draft({**fields, **both}).sinks[0]


def test_the_draft_of_a_stored_object_has_its_version() -> None:
    value = empty_value()
    value["metadata"] |= {"resourceVersion": "12", "uid": "x", "managedFields": []}
    value["status"] = {"conditions": []}
    draft = draft_of(value)
    assert draft.version == draft.digest
    value["metadata"]["resourceVersion"] = "13"
    assert draft_of(value).version == draft.version
    value["spec"]["sources"][0]["name"] = "other"
    assert draft_of(value).version != draft.version
    assert "uid" not in draft.text
    assert "status" not in draft.value


ODD = st.text(
    st.sampled_from(
        "a\0\x1b\x85\u202e\u2028\u200b\ufeff\U000e0041e\u0301\u0301\u0301\n\r\t\"\\'{}<>&"
    ),
    min_size=1,
    max_size=30,
)

RENDERING = Rendering(StaticFiles())


@given(ODD)
def test_what_a_page_cannot_hold_is_not_lost(text: str) -> None:
    value = empty_value()
    value["spec"]["sources"][0]["metrics"]["metricsql"] = text
    draft = Draft(value, text_of(value))
    html = RENDERING.text("write_text.html", {"draft": draft})
    fields = sent(draft)
    fields |= {name: browsers(own) for name, own in fields.items()}
    fields["text"] = browsers(unescape(html.partition(">\n")[2].rpartition("</textarea>")[0]))
    again = read_draft(parsed_form(urlencode(fields).encode()))
    assert not again.is_text
    assert again.value == value


def browsers(text: str) -> str:
    """A value as a browser has it in a control, and sends it (HTML standard, form submission)."""
    return (
        text.replace("\0", "\ufffd").replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    )
