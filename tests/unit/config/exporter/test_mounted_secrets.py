"""A rotated mounted secret is noticed, however it was rotated, and for whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.config.exporter.mounted_secrets import MountedSecrets


def write(root: Path, path: str, value: str = "x") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value)
    return file


def kubernetes_volume(directory: Path, value: str, generation: int) -> None:
    """Lay out or rotate a volume as kubelet does: keys link through ``..data``."""
    data = directory / f"..2026_{generation}"
    write(data, "token", value)
    link = directory / "..data_tmp"
    link.symlink_to(data.name)
    os.replace(link, directory / "..data")
    if generation == 1:
        (directory / "token").symlink_to("..data/token")


def test_the_first_look_and_an_equal_one_find_nothing(tmp_path: Path) -> None:
    write(tmp_path, "acme/default/grafana/token")
    secrets = MountedSecrets(tmp_path, tenancy=True)
    assert secrets.changed() == frozenset()
    assert secrets.changed() == frozenset()


@pytest.mark.parametrize("change", ["rewritten", "removed", "added"])
def test_a_change_is_of_its_namespace_alone(tmp_path: Path, change: str) -> None:
    file = write(tmp_path, "acme/default/grafana/token")
    write(tmp_path, "globex/default/grafana/token")
    secrets = MountedSecrets(tmp_path, tenancy=True)
    secrets.changed()
    match change:
        case "rewritten":
            file.write_text("longer")
        case "removed":
            file.unlink()
        case _:
            write(tmp_path, "acme/default/other/token")
    assert secrets.changed() == {("acme", "default")}
    assert secrets.changed() == frozenset()


def test_kubernetes_rotates_a_link(tmp_path: Path) -> None:
    volume = tmp_path / "acme/default/grafana"
    volume.mkdir(parents=True)
    kubernetes_volume(volume, "old", 1)
    secrets = MountedSecrets(tmp_path, tenancy=True)
    secrets.changed()
    kubernetes_volume(volume, "new", 2)
    assert secrets.changed() == {("acme", "default")}


def test_without_tenancy_a_secret_without_namespace_concerns_all(tmp_path: Path) -> None:
    shared = write(tmp_path, "grafana/token")
    own = write(tmp_path, "default/vendor/token")
    secrets = MountedSecrets(tmp_path, tenancy=False)
    secrets.changed()
    own.write_text("longer")
    assert secrets.changed() == {("", "default")}
    shared.write_text("longer")
    assert secrets.changed() is None


def test_loops_and_absent_directories_are_no_errors(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to(".")
    secrets = MountedSecrets(tmp_path, tenancy=False)
    assert secrets.changed() == frozenset()
    assert MountedSecrets(tmp_path / "absent", tenancy=False).changed() == frozenset()
    assert MountedSecrets(None, tenancy=True).changed() == frozenset()
