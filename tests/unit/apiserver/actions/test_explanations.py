"""SeriesExplanations: of labels or texts, by the project's exporters alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.actions.explanations import LABELS_MAX, SERIES_CHARS_MAX
from relay.config.yaml.document import Document
from relay.control.preview.manifest import read_document
from tests.kit.apiserver.projects import acting_api, causes, exporter, has_neighbour
from tests.kit.apiserver.running import VIEWER

KIND = "SeriesExplanation"


@pytest.mark.parametrize(
    "spec",
    [
        {"series": 'up{job="a"}'},
        {"labels": {"__name__": "up", "job": "a", "empty": ""}},
        {"series": 'up{job="a"}', "exporter": "web"},
    ],
)
async def test_sources_that_take_it(tmp_path: Path, spec: dict[str, Any]) -> None:
    async with acting_api(tmp_path) as api:
        await api.store(exporter("web", "up"))
        code, made = await api.ask(KIND, spec, token=VIEWER)
        assert code == 201
        status = made["status"]
        assert status["series"] == 'up{job="a"}'
        assert status["takenBy"] == [{"exporter": "acme/default/web", "source": "some"}]
        assert status["lines"][:2] == [
            "acme/default/web",
            "  yes: source some takes it, to one",
        ]
        assert any(line.startswith("As OTLP") for line in status["lines"])
        assert not has_neighbour(made)


async def test_a_series_that_the_neighbour_takes(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        code, made = await api.ask(KIND, {"series": "other", "all": True})
        assert (code, made["status"]["takenBy"]) == (201, [])
        assert not has_neighbour(made)
        text = 'other{tenant="globex"}'
        code, status = await api.ask(KIND, {"series": text})
        assert (code, causes(status)) == (422, [("spec.series", "FieldValueInvalid")])
        assert "names another project" in status["message"]


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"series": "up{"}, "spec.series", "FieldValueInvalid"),
        ({"series": 'up{a=~"b"}'}, "spec.series", "FieldValueInvalid"),
        ({"labels": {"job": "a"}}, "spec.labels[__name__]", "FieldValueRequired"),
        ({"all": True}, "spec.series", "FieldValueRequired"),
        ({"series": "up", "labels": {"a": "b"}}, "spec.series", "FieldValueForbidden"),
        ({"series": "u" * (SERIES_CHARS_MAX + 1)}, "spec.series", "FieldValueTooLong"),
        ({"labels": {"__name__": "u" * SERIES_CHARS_MAX}}, "spec.labels", "FieldValueTooLong"),
        (
            {"labels": {"__name__": "up", **{f"l{n}": "x" for n in range(LABELS_MAX)}}},
            "spec.labels",
            "FieldValueTooMany",
        ),
        ({"series": "up", "exporter": "none"}, "spec.exporter", "FieldValueNotFound"),
        ({"series": "up", "exporter": "secretive"}, "spec.exporter", "FieldValueNotFound"),
    ],
)
async def test_what_cannot_be_explained(
    tmp_path: Path, spec: dict[str, Any], field: str, reason: str
) -> None:
    async with acting_api(tmp_path) as api:
        code, status = await api.ask(KIND, spec)
        assert code == 422
        assert (field, reason) in causes(status), status
        assert len(str(status)) < 4000


async def test_records_of_a_resource(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        manifest = exporter("logs", "up")
        manifest["spec"]["sources"] = [{"name": "lines", "logs": {"minSeverity": "WARN"}}]
        api.projects.running.append(
            read_document(Document.of_value(manifest, ""), "acme", need_sinks=True)
        )
        await api.store(manifest)
        for asked in ({"series": '{service.name="a"}'}, {"labels": {"service.name": "a"}}):
            code, made = await api.ask(KIND, {"signal": "logs", **asked}, token=VIEWER)
            assert code == 201, made
            status = made["status"]
            assert status["series"] == '{service.name="a"}'
            assert status["takenBy"] == [{"exporter": "acme/default/logs", "source": "lines"}]
            assert "severity WARN or more" in "\n".join(status["lines"])
            assert not has_neighbour(made)
        code, status = await api.ask(KIND, {"signal": "logs", "series": "up"})
        assert (code, causes(status)) == (422, [("spec.series", "FieldValueInvalid")])
        text = '{milo.project.id="globex"}'
        code, status = await api.ask(KIND, {"signal": "traces", "series": text})
        assert (code, causes(status)) == (422, [("spec.series", "FieldValueInvalid")])
        assert "names another project" in status["message"]
