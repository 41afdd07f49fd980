"""ExporterPreviews: by name and as objects, beside the stored version, of own series alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.actions.subjects import EXPORTER_BYTES_MAX
from relay.control.preview import service
from tests.kit.apiserver.projects import acting_api, causes, exporter, has_neighbour
from tests.kit.apiserver.running import VIEWER

KIND = "ExporterPreview"


def spec(wanted: Any, measure: int = 0) -> dict[str, Any]:
    return {"exporter": wanted, "measureSeconds": measure}


async def test_a_stored_exporter_by_its_name(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        await api.store(exporter("late", '{job="job-0"}'))  # stored, and not running yet
        code, made = await api.ask(KIND, spec("late"), token=VIEWER)
        assert code == 201
        status = made["status"]
        assert status["exporter"] == "acme/default/late"
        assert (status["projectSeries"], status["total"]["series"]) == (5, 2)
        (source,) = status["sources"]
        assert source["name"] == "some"
        assert source["topMetrics"] == [{"name": "down", "series": 1}, {"name": "up", "series": 1}]
        assert source["firstSeries"][0] == 'down{job="job-0",tenant="acme"}'
        assert not {"added", "removed"} & status.keys()
        assert "samplesPerMinute" not in source
        assert not has_neighbour(made)


async def test_an_object_beside_its_stored_version(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        code, made = await api.ask(KIND, spec(exporter("new", "{}")))
        assert (code, made["status"]["total"]["series"]) == (201, 5)
        assert "added" not in made["status"]
        await api.store(exporter("new", '{job="job-0"}'))
        changed = exporter("new", "up")
        del changed["apiVersion"], changed["kind"]
        changed["spec"]["sinks"] = [{"name": "faulty"}]  # does not matter
        code, made = await api.ask(KIND, spec(changed))
        assert code == 201
        status = made["status"]
        assert (status["added"]["series"], status["removed"]["series"]) == (3, 1)
        assert status["removed"]["firstSeries"] == ['down{job="job-0",tenant="acme"}']
        assert not has_neighbour(made)


async def test_samples_are_measured(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        code, made = await api.ask(KIND, spec(exporter("new", "up"), 1))
        assert code == 201
        assert made["status"]["measuredSeconds"] >= 0.5
        assert made["status"]["sources"][0]["samplesPerMinute"] == 0


@pytest.mark.parametrize(
    ("wanted", "field", "reason"),
    [
        ("none", "spec.exporter", "FieldValueNotFound"),
        ("secretive", "spec.exporter", "FieldValueNotFound"),
        ("globex/default/secretive", "spec.exporter", "FieldValueNotFound"),
        ("../../globex", "spec.exporter", "FieldValueNotFound"),
        ("ExportPolicy/web", "spec.exporter", "FieldValueNotFound"),
        (1, "spec.exporter", "FieldValueTypeInvalid"),
        ([], "spec.exporter", "FieldValueRequired"),
        ([1], "spec.exporter", "FieldValueTypeInvalid"),
        ({"a": 1}, "spec.exporter.metadata.name", "FieldValueRequired"),
        (
            {"metadata": {"name": "x", "namespace": "other"}},
            "spec.exporter.metadata.namespace",
            "FieldValueInvalid",
        ),
        (
            exporter("x", "{"),
            "spec.exporter.spec.sources[0].metrics.metricsql",
            "FieldValueInvalid",
        ),
        ({**exporter("x", "{}"), "kind": "Secret"}, "spec.exporter", "FieldValueInvalid"),
        ({**exporter("x", "{}"), "kind": []}, "spec.exporter", "FieldValueInvalid"),
        ({"metadata": {"name": "x"}}, "spec.exporter.spec", "FieldValueRequired"),
        (
            {"metadata": {"name": "x"}, "junk": "j" * EXPORTER_BYTES_MAX},
            "spec.exporter",
            "FieldValueTooLong",
        ),
    ],
)
async def test_what_cannot_be_previewed(
    tmp_path: Path, wanted: Any, field: str, reason: str
) -> None:
    async with acting_api(tmp_path) as api:
        code, status = await api.ask(KIND, spec(wanted))
        assert code == 422
        assert (field, reason) in causes(status)
        assert len(str(status)) < 4000


@pytest.mark.parametrize("measure", [-1, 61, 10**30, 1.5])
async def test_how_long_samples_are_measured(tmp_path: Path, measure: Any) -> None:
    async with acting_api(tmp_path) as api:
        code, status = await api.ask(KIND, {"exporter": "web", "measureSeconds": measure})
        assert code in (400, 422)
        if code == 422:
            assert causes(status)[0][0] == "spec.measureSeconds"


async def test_too_many_previews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with acting_api(tmp_path) as api:
        monkeypatch.setattr(api.projects.tools.preview._slots, "_slots_max", 0)
        code, status = await api.ask(KIND, spec(exporter("new", "up")))
        assert (code, status["reason"]) == (429, "TooManyRequests")
        assert service.WAITING_MAX == 8
