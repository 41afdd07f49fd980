"""``relay explain`` of an exporter that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli.main import main
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


def test_an_id_without_its_project_is_looked_for_in_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "relay.yaml"
    settings.write_text(
        "tenancy: {label: project}\n"
        "exporters: [{path: a.yaml, project: acme}, {path: g.yaml, project: globex}]\n"
    )
    for name in "ag":
        (tmp_path / f"{name}.yaml").write_text(f"""
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: {name}}}
spec:
  sources: [{{name: all, metrics: {{metricsql: ""}}}}]
  sinks: [{{name: s, otlp_http: {{endpoint: "https://otlp.example.com"}}}}]
""")
    assert main(["explain", "--config", str(settings), "--exporter", "default/g", "up"]) == 1
    assert "did you mean globex/default/g?" in capsys.readouterr().err
    assert main(["explain", "--config", str(settings), "--exporter", "acme/default/g", "up"]) == 1
    told = capsys.readouterr().err
    assert "there are acme/default/a" in told
    assert "globex" not in told
