"""A control plane tells objects that are deleted from those that only do not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter.types import Exporter, id_of, names_of
from relay.config.settings.kubernetes import KubernetesProjects
from relay.control.cluster.resources import EXPORTERS, NAMESPACES
from relay.sink.spill.owner import Owner, owner_of
from tests.integration.control.cluster.test_cluster_source import (
    LABEL,
    Rig,
    put_exporter,
    put_namespace,
    rig_of,
    settings_of,
)
from tests.kit.kubernetes.fake_api import FakeApi, Fault, failing
from tests.kit.processes import eventually


def owner(rig: Rig, name: str) -> Owner:
    """The owner of the queue of an Exporter that runs."""
    (one,) = [one for one in rig.state.loaded.exporters if one.name == name]
    return owner_of(one, one.sinks[0])


async def test_an_object_that_is_gone_or_made_anew(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_exporter(api, "a")
        put_exporter(api, "b")
        async with rig_of(settings_of(tmp_path, api)) as rig:
            await rig.runs("default/a", "default/b")
            first, other = owner(rig, "a"), owner(rig, "b")
            assert first.control_plane == "kubernetes"
            assert not rig.source.is_deleted(first)
            api.delete(EXPORTERS.path(), "a")
            await rig.runs("default/b")
            assert rig.source.is_deleted(first)
            put_exporter(api, "a")
            await rig.runs("default/a", "default/b")
            assert rig.source.is_deleted(first), "the one of today is another object"
            assert not rig.source.is_deleted(owner(rig, "a"))
            assert not rig.source.is_deleted(other)


async def test_an_object_whose_namespace_has_no_project_is_still_there(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_namespace(api, "team", "acme")
        put_exporter(api, "a", "team")
        projects = KubernetesProjects(namespace_label=LABEL)
        async with rig_of(settings_of(tmp_path, api, projects=projects)) as rig:
            await rig.runs("acme/team/a")
            one = owner(rig, "a")
            put_namespace(api, "team", "")
            await rig.runs()
            assert not rig.source.is_deleted(one)
            api.delete(NAMESPACES.path(), "team", "")
            api.delete(EXPORTERS.path(), "a", "team")
            await eventually("it is deleted", lambda: rig.source.is_deleted(one), timeout_s=10)


async def test_a_control_plane_that_is_away_cannot_tell(tmp_path: Path) -> None:
    async with FakeApi() as api:
        api.watch_s_max = 0.2
        put_exporter(api, "a")
        async with rig_of(settings_of(tmp_path, api)) as rig:
            one = owner(rig, "a")
            gone = Owner(one.exporter, one.sink, one.host, "another uid", one.control_plane)
            assert rig.source.is_deleted(gone)
            away = Fault(failing(503, "ServiceUnavailable"), 10_000, lambda _: True)
            api.faults.append(away)
            await eventually("away", lambda: not rig.source.is_deleted(gone), timeout_s=10)
            api.faults.remove(away)
            await eventually("back", lambda: rig.source.is_deleted(gone), timeout_s=20)


async def test_what_nobody_looks_at_is_not_called_deleted(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_exporter(api, "a")
        async with rig_of(settings_of(tmp_path, api, namespaces=("default",))) as rig:
            for name, plane in (("team/a", "kubernetes"), ("default/a", "kubernetes gone")):
                assert not rig.source.is_deleted(Owner(name, "out", "", "uid", plane))
            assert not rig.source.is_deleted(Owner("default/a", "out", "", "uid", "api"))


@pytest.mark.parametrize("kind", ["Exporter", "ExportPolicy"])
@pytest.mark.parametrize("project", ["", "acme"])
def test_an_id_tells_its_names(kind: str, project: str) -> None:
    parts = (kind, project, "team", "a")
    assert names_of(id_of(*parts)) == parts
    one = Exporter(project, "team", "a", (), (), kind=kind)  # type: ignore[arg-type]
    assert names_of(one.id) == parts
