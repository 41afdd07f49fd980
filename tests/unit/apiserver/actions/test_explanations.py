"""SeriesExplanations: of labels or texts, by the project's exporters alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.actions.explanations import LABELS_MAX, SERIES_CHARS_MAX
from relay.config.yaml.document import Document
from relay.control.explain_records import OTHERS_MAX
from relay.control.preview.manifest import read_document
from tests.kit.apiserver.projects import (
    NEIGHBOUR,
    ActingApi,
    acting_api,
    causes,
    exporter,
    has_neighbour,
)
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


LOGS = {"minSeverity": "WARN", "selector": '{service_name="a"}'}
LOUD = {"severityNumber": 17, "body": {"stringValue": "loud"}}
QUIET = {"severityNumber": 5, "body": {"stringValue": "quiet"}}


def resource(*records: Any, project: str = "") -> dict[str, Any]:
    """A resource of a request of logs."""
    pairs = {"service.name": "a", **({"milo.project.id": project} if project else {})}
    attributes = [{"key": key, "value": {"stringValue": own}} for key, own in pairs.items()]
    return {
        "resource": {"attributes": attributes},
        "scopeLogs": [{"logRecords": list(records)}],
    }


def of_lines(api: ActingApi) -> None:
    """Let an exporter of logs run, and one of the neighbour."""
    for project, name in (("acme", "logs"), ("globex", NEIGHBOUR)):
        manifest = exporter(name, "up")
        manifest["spec"]["sources"] = [{"name": "lines", "logs": LOGS}, {"name": "t", "traces": {}}]
        read = read_document(Document.of_value(manifest, ""), project, need_sinks=True)
        api.projects.running.append(read)


@pytest.mark.parametrize(
    "asked",
    [
        {"records": {"resourceLogs": [resource(LOUD, QUIET)]}},
        {"records": resource(LOUD, QUIET, project="acme")},
        {"records": json.dumps({"resourceLogs": [resource(LOUD, QUIET)]}, indent=1)},
        {"records": [LOUD, QUIET], "series": '{service.name="a"}'},
        {"records": json.dumps([LOUD, QUIET]), "labels": {"service.name": "a"}},
        {
            "records": f"{json.dumps(LOUD)}\n\n{json.dumps(QUIET)}\n",
            "labels": {"service.name": "a"},
        },
    ],
)
async def test_records_are_explained_one_by_one(tmp_path: Path, asked: dict[str, Any]) -> None:
    async with acting_api(tmp_path) as api:
        of_lines(api)
        code, made = await api.ask(KIND, {"signal": "logs", **asked}, token=VIEWER)
        assert code == 201, made
        status = made["status"]
        assert status["takenBy"] == [{"exporter": "acme/default/logs", "source": "lines"}]
        start = [one.startswith("acme/default/logs") for one in status["lines"]].index(True)
        summary, _, *lines = status["lines"][start : start + 4]
        assert summary == "acme/default/logs takes 1 of 2 log records:"
        assert lines == [
            "    lines: takes 1 of them, to one",
            '      not "quiet": its severity DEBUG is less than WARN',
        ]
        assert not has_neighbour(made)


async def test_records_of_another_project_are_not_taken(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        of_lines(api)
        request = {"resourceLogs": [resource(LOUD, project="globex"), resource(LOUD)]}
        asked = {"signal": "logs", "records": request}
        code, made = await api.ask(KIND, asked)
        assert code == 201, made
        told = "acme/default/logs takes 1 of 1 log records; 1 more are not of its project:"
        assert told in made["status"]["lines"]
        assert not has_neighbour(made["status"])


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"records": LOUD}, "spec.signal", "logs or traces, beside spec.records"),
        ({"signal": "spans", "series": "{}"}, "spec.signal", 'Unsupported value: "spans"'),
        ({"signal": "log", "records": LOUD}, "spec.signal", 'supported values: "metrics", "logs"'),
        ({"signal": "logs", "records": "loud"}, "spec.records", "is no JSON"),
        ({"signal": "logs", "records": {"msg": "x"}}, "spec.records", "has 'msg', which a log"),
        ({"signal": "logs", "records": "[]"}, "spec.records", "has no log records"),
        ({"signal": "logs", "records": 3}, "spec.records", "holds what is no object"),
        (
            {"signal": "traces", "records": {"resourceLogs": [resource(LOUD)]}},
            "spec.records",
            "has log records, and traces are asked for",
        ),
        (
            {"signal": "traces", "records": {"traceId": "not hex"}},
            "spec.records",
            "traceId is not a text of hexadecimal digits",
        ),
        (
            {"signal": "logs", "records": resource(LOUD), "series": '{service.name="a"}'},
            "spec.series",
            "the records have their resource",
        ),
        ({"signal": "logs", "records": [LOUD] * 101}, "spec.records", "more than 100"),
        ({"signal": "logs", "records": " " * 65537}, "spec.records", "more than 65536"),
    ],
)
async def test_records_that_cannot_be_explained(
    tmp_path: Path, spec: dict[str, Any], field: str, said: str
) -> None:
    async with acting_api(tmp_path) as api:
        code, status = await api.ask(KIND, spec)
        assert code == 422, status
        assert [place for place, _ in causes(status)] == [field]
        assert said in status["message"]


async def test_of_many_exporters_those_that_take_no_record_are_counted(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        for number in range(OTHERS_MAX + 3):
            api.projects.running.append(
                read_document(
                    Document.of_value(exporter(f"x{number}", "up"), ""), "acme", need_sinks=True
                )
            )
        asked = {"signal": "logs", "records": LOUD}
        _, made = await api.ask(KIND, asked)
        few = made["status"]["lines"]
        assert len(few) == OTHERS_MAX + 1
        assert few[-1].endswith("more exporters take none of them")
        _, made = await api.ask(KIND, {**asked, "all": True})
        assert len(made["status"]["lines"]) == len(api.projects.running) - 1
