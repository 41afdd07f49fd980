"""Selectors of whole traces that name attributes of spans."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from tests.kit.exporter_yaml import exporter_of

SINKS = [{"name": "s", "otlp_http": {"endpoint": "https://otlp.example.com"}}]


def warnings(folder: Path, selector: str, keep: str) -> list[str]:
    file = folder / "e.yaml"
    source = {"name": "t", "traces": {"selector": selector, "keep": keep}}
    file.write_text(exporter_of("x", [source], SINKS))
    result = load_exporters([ExporterPath(file)])
    assert not result.faults
    return [warning.text for warning in result.exporters[0].warnings]


@pytest.mark.parametrize("name", ["http.route", "db.system", "url.path"])
def test_a_quoted_attribute_of_spans_has_a_warning(name: str, tmp_path: Path) -> None:
    selector = f'{{service_name="shop", "{name}"="/x"}}'
    (warning,) = warnings(tmp_path, selector, "trace")
    assert f'"{name}" is one of spans' in warning
    assert warnings(tmp_path, selector, "span") == []


@pytest.mark.parametrize("name", ["tier", "service.name", "milo.project.id", "httpd.version"])
def test_a_quoted_name_that_resources_may_have_has_none(name: str, tmp_path: Path) -> None:
    assert warnings(tmp_path, f'{{"{name}"="x"}}', "trace") == []
