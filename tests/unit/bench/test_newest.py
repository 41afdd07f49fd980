"""The newest peers: recipes, and what is said of those that are missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import newest
from bench.newest import RECIPES, binary, is_built, main


def built(name: str, stamp: str | None = None) -> None:
    """Leave what :func:`bench.newest.build` leaves."""
    binary(name).parent.mkdir(parents=True, exist_ok=True)
    binary(name).write_text("#!/bin/sh\n")
    binary(name).chmod(0o755)
    stamp_file = newest.directory() / f"{name}.stamp"
    stamp_file.write_text(RECIPES[name].stamp if stamp is None else stamp)


def test_peers_are_in_a_cache_outside_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_PEERS", "/somewhere")
    assert newest.directory() == Path("/somewhere")
    monkeypatch.delenv("RELAY_PEERS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert newest.directory() == Path("/cache/relay-peers")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/one")
    assert newest.directory() == Path("/home/one/.cache/relay-peers")


def test_peers_of_another_recipe_or_without_a_binary_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELAY_PEERS", str(tmp_path))
    for name in RECIPES:
        built(name)
    assert main(["--missing", "--require"]) == 0
    assert capsys.readouterr().out.strip() == ""
    built("vmagent", stamp="v1.79.5 0123456789abcdef\n")
    binary("otelcol").unlink()
    assert [name for name in RECIPES if not is_built(name)] == ["vmagent", "otelcol"]
    assert main(["--missing"]) == 0
    assert capsys.readouterr().out.split() == ["vmagent", "otelcol"]
    assert main(["--missing", "--require"]) == 1


def test_what_cannot_be_built_is_said_and_fails_where_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELAY_PEERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["prometheus"]) == 0
    said = capsys.readouterr().err
    assert "prometheus v0.316.0: NOT BUILT: there is no Go" in said
    assert said.endswith("newest peers: MISSING: prometheus\n")
    assert main(["prometheus", "--require"]) == 1


def test_a_go_that_is_too_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELAY_PEERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.19.8\n")
    go.chmod(0o755)
    assert main(["vmagent", "--require"]) == 1
    assert f"{go} is 'go1.19.8'; 1.21 or newer is needed" in capsys.readouterr().err


def test_a_recipe_that_changes_in_any_way_is_built_again() -> None:
    assert len({recipe.stamp for recipe in RECIPES.values()}) == len(RECIPES)
    for recipe in RECIPES.values():
        assert all(version.startswith("v") for version in recipe.modules.values())
        assert recipe.stamp.split()[0] == recipe.version


def test_folders_of_kubernetes_are_replaced_by_what_is_published() -> None:
    folder = {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}}
    fork = {"Old": {"Path": "a.b/c", "Version": "v1.0.0"}, "New": {"Path": "d", "Version": "v2"}}
    server, vmagent = RECIPES["kube-apiserver"], RECIPES["vmagent"]
    assert newest._replacement(folder, server.folders) == "\tk8s.io/api  => k8s.io/api v0.37.2\n"
    assert newest._replacement(folder, vmagent.folders) == ""
    assert newest._replacement(fork, server.folders) == "\ta.b/c v1.0.0 => d v2\n"


@pytest.mark.newest
@pytest.mark.parametrize(
    ("name", "option", "version"),
    [
        ("vmagent", "-version", "vmagent-v1.153.0"),
        ("victoria-metrics", "-version", "victoria-metrics-v1.153.0"),
        ("victoria-logs", "-version", "victoria-logs-v1.52.2"),
        ("prometheus", "--version", "prometheus, version 3.16.0"),
        ("otelcol", "--version", "otelcol version 0.165.0"),
        ("helm", "version", "v3.22"),
        ("kube-apiserver", "--version", "Kubernetes v1.37.2"),
        ("kubectl-1.37", "version --client", "Client Version: v1.37.2"),
        ("kubectl-1.32", "version --client", "Client Version: v1.32.13"),
        ("etcd", "--version", "etcd Version: 3.6.5"),
    ],
)
def test_each_peer_runs_and_is_the_version_that_is_pinned(
    name: str, option: str, version: str
) -> None:
    command = [binary(name), *option.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert version in done.stdout + done.stderr
