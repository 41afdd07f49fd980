"""Messages name controls and sinks, not paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ui.authoring.path_words import in_words

VALUE = {"spec": {"sinks": [{"name": "grafana", "otlp_http": {}}], "sources": [{"name": "all"}]}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spec.sinks[0].otlp_http.endpoint: it is", "Endpoint of grafana: it is"),
        (
            "spec.sinks[0].otlp_http.authentication.secretRef: secret",
            "Authentication of grafana: secret",
        ),
        ("spec.sources[0].metrics.metricsql: no", "Which metrics of all: no"),
        ("see spec.sinks[0].paused.", "see Pause of grafana."),
        ("spec.sinks[7].name: no", "Name: no"),
        ("spec.sinks[0].otlp_http.new: no", "otlp_http.new of grafana: no"),
        ("spec.sinks[0] of", "grafana of"),
        ("spec.sinks[9]: x", "spec.sinks[9]: x"),
        ("spec.replicas: x", "spec.replicas: x"),
        ("metadata.name: no", "Name: no"),
    ],
)
def test_paths_become_words(text: str, said: str) -> None:
    assert in_words(text, VALUE) == said


@given(st.text("spec.ink[]01()* ", max_size=40), st.none() | st.just(VALUE))
def test_any_text_is_read(text: str, value: object) -> None:
    assert isinstance(in_words(text, value), str)
