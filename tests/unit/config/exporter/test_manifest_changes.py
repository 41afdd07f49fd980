"""Manifests that change: only what changed is read again, and nothing else is disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter import file_reader, manifest_loader
from relay.config.exporter.load_result import LoadResult, keep_last_good
from relay.config.exporter.manifest_loader import Manifests
from relay.config.exporter.types import ExporterPath, SecretRef
from relay.selector.matchers import Selector

GOOD = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: %s}
spec:
  sources:
    - {name: all, metrics: {metricsql: '%s'}}
  sinks:
    - {name: s, otlp_http: {endpoint: "https://localhost:4318"}}
"""
WITH_SECRET = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: %s}
spec:
  sources:
    - {name: all, metrics: {metricsql: ''}}
  sinks:
    - name: s
      otlp_http:
        endpoint: "https://localhost:4318"
        authentication: {type: bearerToken, secretRef: {name: credentials}}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: credentials}\nstringData: {token: %s}\n"


class Directory:
    """Manifests below a directory, a clock, and a count of the files that were read."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.secrets = path.parent / "secrets"
        self.secrets.mkdir()
        self.manifests = Manifests([ExporterPath(path)], secrets_root=self.secrets)
        self.now = 0.0
        self.read: list[str] = []
        original = file_reader.read_documents

        def counting(file: Path) -> object:
            self.read.append(file.name)
            return original(file)

        monkeypatch.setattr(file_reader, "read_documents", counting)

    def write(self, name: str, text: str) -> None:
        fresh = self.path / f".{name}"
        fresh.write_text(text)
        fresh.rename(self.path / name)

    def poll(self) -> LoadResult | None:
        """What a watch sees of changes that are some seconds old."""
        self.read.clear()
        assert self.manifests.poll(self.now) is None or not self.manifests.restless
        self.now += 1.0
        result = self.manifests.poll(self.now)
        self.now += 1.0
        return result


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directory:
    path = tmp_path / "exporters"
    path.mkdir()
    return Directory(path, monkeypatch)


def names(loaded: LoadResult | None) -> list[str]:
    assert loaded is not None
    return [exporter.name for exporter in loaded.exporters]


def test_only_what_changed_is_read_again(directory: Directory) -> None:
    for name in ("a", "b", "c"):
        directory.write(f"{name}.yaml", GOOD % (name, ""))
    first = directory.manifests.load()
    assert directory.read == ["a.yaml", "b.yaml", "c.yaml"]
    assert directory.poll() is None
    assert directory.read == []
    directory.write("b.yaml", GOOD % ("b", "up"))
    second = directory.poll()
    assert directory.read == ["b.yaml"]
    assert second is not None
    assert names(second) == ["a", "b", "c"]
    assert [x is y for x, y in zip(first.exporters, second.exporters, strict=True)] == [
        True,
        False,
        True,
    ]
    assert second.exporters[1].sources[0].selector != Selector(())


def test_files_that_come_and_go(directory: Directory) -> None:
    directory.write("b.yaml", GOOD % ("b", ""))
    directory.manifests.load()
    directory.write("a.yaml", GOOD % ("a", ""))
    assert names(directory.poll()) == ["a", "b"]
    (directory.path / "b.yaml").unlink()
    assert names(directory.poll()) == ["a"]
    assert directory.read == []
    assert repr(directory.manifests) == "<Manifests 1 files>"


def test_a_fault_comes_and_goes_with_its_line(directory: Directory) -> None:
    directory.write("a.yaml", GOOD % ("a", ""))
    good = directory.manifests.load()
    directory.write("a.yaml", GOOD % ("a", "up{"))
    bad = directory.poll()
    assert bad is not None
    assert [fault.path for fault in bad.faults] == ["spec.sources[0].metrics.metricsql"]
    assert bad.faults[0].origin.startswith(f"{directory.path / 'a.yaml'}:6")
    assert keep_last_good(good.exporters, bad).exporters == good.exporters
    directory.write("b.yaml", GOOD % ("b", ""))
    again = directory.poll()
    assert again is not None
    assert again.faults == bad.faults, "from memory, as exact as before"
    directory.write("a.yaml", GOOD % ("a", ""))
    assert directory.poll().faults == ()  # type: ignore[union-attr]


def test_a_name_that_is_freed_goes_to_the_next(directory: Directory) -> None:
    directory.write("a.yaml", GOOD % ("same", "up"))
    directory.write("b.yaml", GOOD % ("same", "down"))
    loaded = directory.manifests.load()
    (fault,) = loaded.faults
    assert fault.origin.startswith(f"{directory.path / 'b.yaml'}:3")
    assert f"already taken by {directory.path / 'a.yaml'}:1" in fault.message
    (directory.path / "a.yaml").unlink()
    loaded = directory.poll()  # type: ignore[assignment]
    assert loaded.faults == ()
    assert loaded.exporters[0].sources[0].query == "down"
    assert directory.read == []


def test_a_secret_that_is_mounted_later_is_found_without_a_change_of_manifests(
    directory: Directory,
) -> None:
    directory.write("a.yaml", WITH_SECRET % "a")
    (fault,) = directory.manifests.load().faults
    assert "no such secret" in fault.message
    assert directory.poll() is None
    mounted = directory.secrets / "default/credentials"
    mounted.mkdir(parents=True)
    (mounted / "token").write_text("fake-token")
    loaded = directory.manifests.poll(directory.now)
    assert names(loaded) == ["a"]
    assert loaded is not None
    assert loaded.faults == ()


def test_a_secret_in_the_manifests_touches_its_namespace_only(directory: Directory) -> None:
    directory.write("a.yaml", WITH_SECRET % "a")
    directory.write("s.yaml", SECRET % "one")
    first = directory.manifests.load()
    assert names(first) == ["a"]
    assert first.renewed == {("", "default")}
    directory.write("s.yaml", SECRET % "two")
    second = directory.poll()
    assert second is not None
    assert second.renewed == {("", "default")}
    assert second.exporters[0] is first.exporters[0]
    directory.write("b.yaml", GOOD % ("b", ""))
    third = directory.poll()
    assert third is not None
    assert third.renewed == frozenset()
    (directory.path / "s.yaml").unlink()
    fourth = directory.poll()
    assert names(fourth) == ["b"]


def test_a_directory_that_is_away_takes_no_exporter_with_it(directory: Directory) -> None:
    """A mount that is late, or whose rights are wrong for a while."""
    for name in ("a", "b"):
        directory.write(f"{name}.yaml", GOOD % (name, ""))
    before = directory.manifests.load()
    away = directory.path.with_name("away")
    directory.path.rename(away)
    for loaded in (directory.poll(), directory.manifests.load()):
        assert loaded is not None
        assert loaded.exporters == before.exporters
        assert [fault.message for fault in loaded.faults] == [
            "cannot be read: No such file or directory"
        ]
    (away / "b.yaml").unlink()
    away.rename(directory.path)
    assert names(directory.poll()) == ["a"]


def test_a_lost_subdirectory_keeps_its_exporters(directory: Directory) -> None:
    folder = directory.path / "team"
    folder.mkdir()
    (folder / "a.yaml").write_text(GOOD % ("a", ""))
    directory.manifests.load()
    original = manifest_loader.manifest_files

    def without_rights(path: Path, note: object, lose: object) -> object:
        lose(folder)  # type: ignore[operator]
        found = original(path, note)  # type: ignore[arg-type]
        return {file: one for file, one in found.items() if file.parent != folder}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_loader, "manifest_files", without_rights)
        assert names(directory.manifests.load()) == ["a"]
    (folder / "a.yaml").unlink()
    folder.rmdir()
    assert names(directory.poll()) == []


@pytest.mark.parametrize("left", ["", "# nothing yet\n", "---\n---\n", "apiVersion: [", "\t"])
def test_a_file_that_was_cut_short_keeps_what_it_held(directory: Directory, left: str) -> None:
    good = WITH_SECRET % "a" + "---\n" + SECRET % "one"
    directory.write("a.yaml", good)
    running = directory.manifests.load()
    assert names(running) == ["a"]
    for _ in range(2):
        directory.write("a.yaml", left)
        loaded = keep_last_good(running.exporters, directory.manifests.load())
        assert loaded.exporters == running.exporters
        (fault,) = loaded.faults
        assert "a.yaml" in fault.origin
        if left.strip("#- \n") in ("", "nothing yet"):
            assert "is empty: its last contents stay in effect" in fault.message
        reference = SecretRef("credentials", "token")
        assert loaded.secrets.get("", "default", reference, "token") == "one"
    directory.write("a.yaml", good.replace("one", "two"))
    loaded = directory.manifests.load()
    assert (names(loaded), loaded.faults) == (["a"], ())
    assert loaded.renewed == {("", "default")}
    (directory.path / "a.yaml").unlink()
    loaded = keep_last_good(running.exporters, directory.manifests.load())
    assert (loaded.exporters, loaded.faults) == ((), ())


def test_a_file_that_never_held_anything_may_be_empty(directory: Directory) -> None:
    for text in ("", "# later\n", ""):
        directory.write("a.yaml", text)
        assert directory.manifests.load().faults == ()


def test_a_bug_in_one_file_costs_no_other_one_anything(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        directory.write(f"{name}.yaml", GOOD % (name, ""))
    running = directory.manifests.load()
    original = file_reader.read_documents

    def failing(file: Path) -> object:
        if file.name == "a.yaml":
            raise KeyError("7")
        return original(file)

    monkeypatch.setattr(file_reader, "read_documents", failing)
    directory.write("a.yaml", GOOD % ("a", "up"))
    directory.write("c.yaml", GOOD % ("c", "up"))
    for selector in ("down", "left"):
        faulty = directory.poll()
        assert faulty is not None
        assert [fault.message for fault in faulty.faults] == [
            "cannot be read: a bug in the relay, see its log"
        ]
        assert names(faulty) == ["b", "c"]
        kept = keep_last_good(running.exporters, faulty)
        assert sorted(one.name for one in kept.exporters) == ["a", "b", "c"]
        directory.write("c.yaml", GOOD % ("c", selector))
    assert "bug in the relay" in caplog.text
