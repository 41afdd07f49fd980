"""A control plane that is removed ends before another one of its name begins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.config.settings.kubernetes import KubernetesProjects, KubernetesSettings
from relay.control.cluster import plane_set
from relay.control.cluster.control_plane import ControlPlane, PlaneOptions
from relay.control.cluster.plane_set import PlaneSet
from tests.kit.processes import eventually

KUBECONFIG = """
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: x, context: {cluster: c}}]
current-context: x
"""


async def test_one_of_the_same_name_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_set, "DIRECTORY_INTERVAL_S", 0.01)
    told: list[str] = []
    written = asyncio.Event()

    async def run(self: ControlPlane) -> None:
        number = sum(line.startswith("begin") for line in told)
        told.append(f"begin {number}")
        try:
            await asyncio.sleep(3600)
        finally:
            await written.wait()
            told.append(f"end {number}")

    monkeypatch.setattr(ControlPlane, "run", run)
    file = tmp_path / "acme.yaml"
    file.write_text(KUBECONFIG)
    planes = PlaneSet(
        KubernetesSettings(projects=KubernetesProjects(kubeconfigs=tmp_path)),
        options=PlaneOptions(),
    )
    await planes.start()
    await eventually("it runs", lambda: told == ["begin 0"], timeout_s=5)
    file.unlink()
    await eventually("it is gone", lambda: not planes.planes, timeout_s=5)
    file.write_text(KUBECONFIG)
    await eventually("it is back", lambda: len(planes.planes) == 1, timeout_s=5)
    assert told == ["begin 0"]
    written.set()
    await eventually("the next runs", lambda: told[1:] == ["end 0", "begin 1"], timeout_s=5)
    file.unlink()
    await eventually("it is gone", lambda: not planes.planes, timeout_s=5)
    await planes.stop()
    assert told[-1] == "end 1"


@pytest.mark.parametrize("goes", [True, False])
async def test_a_directory_that_goes_while_it_is_read_takes_no_control_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes: bool
) -> None:
    monkeypatch.setattr(plane_set, "DIRECTORY_INTERVAL_S", 0.01)
    folder = tmp_path / "planes"
    folder.mkdir()
    (folder / "acme.yaml").write_text(KUBECONFIG)
    planes = PlaneSet(
        KubernetesSettings(projects=KubernetesProjects(kubeconfigs=folder)),
        options=PlaneOptions(),
    )
    await planes.start()
    usual = plane_set.dns_subdomain_problem

    def lose(project: str) -> str | None:
        if goes and folder.exists():
            folder.rename(tmp_path / "away")
        elif not goes:
            (folder / "acme.yaml").unlink(missing_ok=True)
        return usual(project)

    monkeypatch.setattr(plane_set, "dns_subdomain_problem", lose)
    if goes:
        await eventually("it is said", lambda: bool(planes.faults), timeout_s=5)
        assert "cannot be read" in planes.faults[0].summary
        assert len(planes.planes) == 1
    else:
        await eventually("it is gone", lambda: not planes.planes, timeout_s=5)
        assert not planes.faults
    await planes.stop()
