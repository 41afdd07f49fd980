"""What the pages write as YAML is what the relay reads, and kubectl."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from relay.apiserver.objects.kinds import served_kinds
from relay.ui.authoring.manifest_text import (
    in_order,
    manifest_text,
    read_manifest_text,
    without_defaults,
)

ODD = ["", "yes", "No", "null", "~", "1e3", "012", "1:30", "0x10", "2026-11-29", "1.0", "- a"]
ODD += ["a: b", "#x", "a #b", "!tag", "&a", "*a", "%x", "@x", "`x`", "{}", "[]", ".inf", "a\nb"]
ODD += ["\ttab", "\x85", "---", "...", "? x", "=", "<<"]
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20) | st.sampled_from(ODD)
NUMBER = st.integers(-(2**53), 2**53) | st.booleans() | st.none()
VALUE = st.recursive(
    TEXT | NUMBER,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
OBJECT = st.dictionaries(TEXT.filter(bool), VALUE, min_size=1, max_size=4)


@given(OBJECT)
def test_a_text_reads_as_what_it_was_made_of(value: dict[str, Any]) -> None:
    text = manifest_text(value)
    assert read_manifest_text(text) == value
    assert yaml.safe_load(text) == value


EXPORTER = next(kind for kind in served_kinds() if kind.kind == "Exporter").node


@given(OBJECT)
def test_order_changes_no_value(value: dict[str, Any]) -> None:
    assert in_order(value, EXPORTER) == value


def test_fields_come_in_the_order_of_the_schema() -> None:
    sink = {"queue": {}, "batch": {"maxSize": 1, "timeout": "1s"}, "otlp_http": {}, "name": "a"}
    spec = {"sinks": [sink], "sources": [{"metrics": {}, "name": "b"}]}
    ordered = in_order({"spec": spec}, EXPORTER)["spec"]
    assert list(ordered) == ["sources", "sinks"]
    assert list(ordered["sinks"][0]) == ["name", "otlp_http", "batch", "queue"]
    assert list(ordered["sinks"][0]["batch"]) == ["timeout", "maxSize"]


def test_only_defaults_are_left_out() -> None:
    sink = {
        "name": "a",
        "paused": False,
        "otlp_http": {
            "endpoint": "https://x",
            "timeout": "10s",
            "profile": "generic",
            "compression": "gzip",
            "authentication": {"type": "none"},
        },
        "batch": {"enabled": True, "timeout": "1s", "maxSize": 500},
        "retry": {"enabled": True},
    }
    shown = without_defaults({"spec": {"sinks": [sink]}}, EXPORTER)["spec"]["sinks"][0]
    assert shown == {
        "name": "a",
        "otlp_http": {"endpoint": "https://x", "compression": "gzip"},
        "batch": {"timeout": "1s"},
    }
