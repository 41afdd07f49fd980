"""``relay explain`` of an exporter that does not exist."""

from __future__ import annotations

import pytest

from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.explain import Explainer
from relay.runtime.errors import ConfigError
from relay.selector.metricsql.parser import parse_query


def exporter(name: str, *, kind: str = "Exporter") -> Exporter:
    """Return an exporter that takes everything."""
    sink = Sink("s", ("s",), OtlpHttp("https://otlp.example.com/v1/metrics"))
    return Exporter(
        "", "default", name, (Source("s", "{}", parse_query("{}")),), (sink,), kind=kind
    )


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("default/portal", "did you mean default/ExportPolicy/portal?"),
        ("portal", "did you mean default/ExportPolicy/portal?"),
        ("x/own", "did you mean default/own?"),
        ("default/none", "there are default/ExportPolicy/portal, default/own"),
    ],
)
def test_ids_that_may_be_meant_are_named(asked: str, complaint: str) -> None:
    explainer = Explainer.offline([exporter("portal", kind="ExportPolicy"), exporter("own")])
    with pytest.raises(ConfigError) as refused:
        explainer.require(asked, "--exporter")
    assert f"--exporter: there is no exporter {asked}; {complaint}" in str(refused.value)
    explainer.require("default/own", "--exporter")


def test_nothing_is_offered_where_there_is_no_exporter() -> None:
    with pytest.raises(ConfigError, match=r"there is no exporter a/b$"):
        Explainer.offline([]).require("a/b", "EXPORTER")
