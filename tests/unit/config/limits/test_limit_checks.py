"""Exporters, sinks and pairs beyond the limits of their project, as they are loaded."""

from __future__ import annotations

from pathlib import Path

from relay.cli.check import check
from relay.config.exporter.load_result import LoadResult, keep_last_good
from relay.config.exporter.manifest_loader import Manifests
from relay.config.exporter.types import ExporterPath
from relay.config.limits.limit_checks import LIMIT_EXCEEDED, ExporterCounts, counts_of
from relay.config.limits.project_limits import LimitSettings, OwnLimits, ProjectLimits
from tests.kit.exporter_yaml import exporter_of

SINK = {"otlp_http": {"endpoint": "https://otlp.example.com"}}


def manifest(name: str, *, sources: int = 1, sinks: int = 1) -> str:
    return exporter_of(
        name,
        [{"name": f"source-{n}", "metrics": {"metricsql": "up"}} for n in range(sources)],
        [{"name": f"sink-{n}", **SINK} for n in range(sinks)],
    )


def loaded(root: Path, limits: LimitSettings) -> LoadResult:
    paths = [ExporterPath(root / project, project) for project in ("acme", "globex")]
    return Manifests(paths, tenancy=True, limits=limits).load()


def write(root: Path, project: str, **manifests: str) -> None:
    (root / project).mkdir(exist_ok=True)
    for name, text in manifests.items():
        (root / project / f"{name}.yaml").write_text(text)


def ids(result: LoadResult) -> list[str]:
    return [one.id for one in result.exporters]


def test_exporters_beyond_the_limit_are_refused_and_no_other_project_is(tmp_path: Path) -> None:
    write(tmp_path, "acme", a=manifest("a"), b=manifest("b"), c=manifest("c"))
    write(tmp_path, "globex", a=manifest("a"), b=manifest("b"), c=manifest("c"))
    limits = LimitSettings(ProjectLimits(exporters_max=3), (OwnLimits(2, project="acme"),))
    result = loaded(tmp_path, limits)
    assert ids(result) == [
        "acme/default/a",
        "acme/default/b",
        "globex/default/a",
        "globex/default/b",
        "globex/default/c",
    ]
    (fault,) = result.faults
    assert fault.reason == LIMIT_EXCEEDED
    assert fault.project == "acme"
    assert fault.path == "metadata.name"
    assert fault.message.startswith(
        "the project acme has too much with this one: 3 exporters, at most 2; remove others"
    )


def test_sinks_and_pairs_are_summed_over_exporters(tmp_path: Path) -> None:
    write(
        tmp_path,
        "acme",
        a=manifest("a", sources=2, sinks=2),
        b=manifest("b", sources=3, sinks=1),
        c=manifest("c"),
    )
    write(tmp_path, "globex")
    assert [counts_of(one) for one in loaded(tmp_path, LimitSettings()).exporters] == [
        ExporterCounts(1, 2, 4),
        ExporterCounts(1, 1, 3),
        ExporterCounts(1, 1, 1),
    ]
    limits = LimitSettings(ProjectLimits(sinks_max=3, pairs_max=6))
    result = loaded(tmp_path, limits)
    assert ids(result) == ["acme/default/a", "acme/default/c"]
    assert "7 pairs of source and sink, at most 6" in result.faults[0].message


def test_the_oldest_objects_count(tmp_path: Path) -> None:
    texts = {}
    for name, day in (("a", 2), ("b", 1)):
        stamped = f"name: {name}\n  creationTimestamp: 2026-05-0{day}T00:00:00Z\n"
        texts[name] = manifest(name).replace(f"name: {name}\n", stamped, 1)
    write(tmp_path, "acme", **texts)
    write(tmp_path, "globex")
    result = loaded(tmp_path, LimitSettings(ProjectLimits(exporters_max=1)))
    assert ids(result) == ["acme/default/b"]


def test_one_that_grows_too_large_goes_on_in_its_last_good_version(tmp_path: Path) -> None:
    write(tmp_path, "acme", a=manifest("a"))
    write(tmp_path, "globex")
    limits = LimitSettings(ProjectLimits(sinks_max=1))
    before = loaded(tmp_path, limits)
    write(tmp_path, "acme", a=manifest("a", sinks=2))
    wanted = keep_last_good(before.exporters, loaded(tmp_path, limits))
    assert wanted.exporters == before.exporters
    assert wanted.faulty == {"acme/default/a"}


def test_check_tells_what_the_limits_of_the_settings_refuse(tmp_path: Path) -> None:
    write(tmp_path, "acme", a=manifest("a"), b=manifest("b"))
    (tmp_path / "relay.yaml").write_text(
        "tenancy: {label: t}\nlimits: {perProject: {maxExporters: 1}}\n"
        "exporters: [{path: acme, project: acme}]\n"
    )
    result = check([tmp_path / "relay.yaml"], need_secrets=False)
    (fault,) = result.faults
    assert "2 exporters, at most 1" in fault.message
