"""Keys that a JSON Schema library may take for numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath

EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: a}}
spec:
  sources: [{{name: all, metrics: {{metricsql: '{{}}'}}}}]
  sinks:
    - name: s
      otlp_http:
        endpoint: http://127.0.0.1:9
        headers: {headers}
---
apiVersion: v1
kind: Secret
metadata: {{name: x}}
stringData: {secret}
"""


@pytest.mark.parametrize("key", ["0", "1", "01", "007", "+1", "+01", "18446744073709551616", "1_0"])
@pytest.mark.parametrize("others", [(), ("1", "01", "+1", "2")])
def test_a_fault_names_the_very_key(key: str, others: tuple[str, ...], tmp_path: Path) -> None:
    good = "".join(f'"{other}": x, ' for other in others if other != key)
    written = f'{{{good}"{key}": 5}}'
    (tmp_path / "a.yaml").write_text(EXPORTER.format(headers=written, secret=written))
    result = load_exporters([ExporterPath(tmp_path)])
    places = [str(fault) for fault in result.faults if "must be a string" in str(fault)]
    assert len(places) == 2, result.faults
    for place, field in zip(places, ("headers", "stringData"), strict=True):
        assert f'{field}["{key}"]' in place, place
