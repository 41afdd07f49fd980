"""``relay import vector``: what it prints, writes and refuses."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from relay.cli.main import main
from relay.config.settings.settings import load_settings
from tests.kit.remote_write.vector_config import OWNER, rendered


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file with the portal's policy."""
    path = tmp_path / "vector.json"
    path.write_text(json.dumps(rendered()))
    return path


def run(*arguments: object) -> int:
    """The exit status of the command."""
    return main(["import", "vector", *map(str, arguments)])


def test_manifests_are_printed_with_their_project(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("# default/grafana-export-policy, project acme-prod\n---\n")
    assert [one["kind"] for one in yaml.safe_load_all(said.out)] == ["Secret", "ExportPolicy"]


def test_files_are_for_the_owner_alone_and_the_settings_name_them(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "policies"
    assert run(config, "--out", out) == 0
    file = out / "acme-prod/default-grafana-export-policy.yaml"
    assert [path for path in out.rglob("*") if path.is_file()] == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (tmp_path / "new", out, file.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    settings = tmp_path / "relay.yaml"
    settings.write_text("tenancy: {label: project}\n" + capsys.readouterr().out)
    (entry,) = load_settings(settings).exporters
    assert (entry.path, entry.project) == (file.parent, "acme-prod")


def test_without_a_project_each_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = rendered()
    for section in ("sources", "sinks"):
        config[section] = {
            key.removeprefix(f"{OWNER}:"): one for key, one in config[section].items()
        }
    config["sinks"]["grafana-cloud-metrics-sink"]["inputs"] = ["datum-metrics-source"]
    (tmp_path / "v.json").write_text(json.dumps(config))
    assert run(tmp_path / "v.json", "--out", tmp_path / "out", "--namespace", "edge") == 0
    (entry,) = yaml.safe_load(capsys.readouterr().out)["exporters"]
    assert entry == {"path": str(tmp_path / "out/edge-imported.yaml")}
    assert Path(entry["path"]).is_file()


def test_a_file_that_differs_is_kept(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(config, "--out", out) == 0
    assert run(config, "--out", out) == 0  # the same again
    file = out / "acme-prod/default-grafana-export-policy.yaml"
    file.write_text("mine\n")
    file.chmod(0o644)
    capsys.readouterr()
    assert run(config, "--out", out) == 1
    assert file.read_text() == "mine\n"
    assert capsys.readouterr().err == (
        f"relay: {file}: is there already and differs: compare them, or use --force\n"
    )
    assert run(config, "--out", out, "--force") == 0
    assert "ExportPolicy" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_nothing_is_written_if_one_file_differs(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(rendered()).replace(":acme-prod:", ":zeta:"))
    (tmp_path / "out/zeta").mkdir(parents=True)
    (tmp_path / "out/zeta/default-grafana-export-policy.yaml").write_text("mine\n")
    assert run(config, other, "--out", tmp_path / "out") == 1
    assert not (tmp_path / "out/acme-prod").exists()
    assert "zeta" in capsys.readouterr().err


def test_names_that_meet_in_one_file_name_get_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, names in enumerate((":a-b:c:", ":a:b-c:")):
        text = json.dumps(rendered()).replace(":default:grafana-export-policy:", names)
        (tmp_path / f"{number}.json").write_text(text)
    files = sorted(tmp_path.glob("*.json"))
    assert run(*files, "--out", tmp_path / "out") == 0
    found = sorted(path.name for path in (tmp_path / "out/acme-prod").iterdir())
    assert found == ["a-b-c-2.yaml", "a-b-c.yaml"]
    assert len(yaml.safe_load(capsys.readouterr().out)["exporters"]) == 1


def test_notes_go_to_stderr_and_do_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps(rendered() | {"transforms": {}}))
    assert run(path) == 0
    assert capsys.readouterr().err == (
        "not carried over  transforms: is Vector's own and has no place in an ExportPolicy\n"
    )


def test_nothing_that_comes_out_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v.yaml"
    path.write_text("sinks:\n  con\x7fsole: {type: console}\n".replace("\x7f", ""))
    assert run(path) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("relay: no ExportPolicy came out\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe\x00", "is not UTF-8 text: byte 0 does not belong"),
        (b"\x7fELF\x00\x01", ": "),
        (b"x" * (16 * 1024 * 1024 + 1), "cannot be read: larger than 16777216 bytes"),
        (b"", "holds no Vector configuration"),
    ],
    ids=["missing", "not UTF-8", "binary", "huge", "empty"],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "vector"
    if content is not None:
        path.write_bytes(content)
    assert run(path) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"relay: {path}")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.err[:-1].isprintable()


def test_a_folder_and_a_pipe_are_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert run(path) == 2
        assert capsys.readouterr().err.startswith(f"relay: {path}: cannot be read: ")


def test_stdin_is_read_as_a_dash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(rendered()).encode())))
    assert run("-") == 0
    assert "kind: ExportPolicy" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_named(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert run(config, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said == f"relay: {tmp_path / 'out/acme-prod'}: cannot be written: Not a directory\n"


def test_a_namespace_must_be_one(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(config, "--namespace", "../x")
    assert ended.value.code == 2
    assert "argument --namespace: must be 1 to 63" in capsys.readouterr().err


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "import" in capsys.readouterr().out


def test_a_project_of_digits_stays_a_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps(rendered()).replace(":acme-prod:", ":1e5:"))
    out = tmp_path / "n\x85l"
    assert run(path, "--out", out) == 0
    settings = tmp_path / "relay.yaml"
    settings.write_text("tenancy: {label: project}\n" + capsys.readouterr().out)
    (entry,) = load_settings(settings).exporters
    assert (entry.path, entry.project) == (out / "1e5", "1e5")


@pytest.mark.parametrize("written", [True, False], ids=["files", "stdout"])
def test_what_came_out_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: bool
) -> None:
    content = rendered()
    for sink in content["sinks"].values():
        sink["endpoint"] += "?tenant=1"
    path = tmp_path / "vector.json"
    path.write_text(json.dumps(content))
    assert run(path, *(("--out", tmp_path / "out") if written else ())) == 1
    said = capsys.readouterr().err
    assert said.startswith("fault    ")
    assert 'must not contain a query ("?")' in said
    assert "relay-import-" not in said
    assert (str(tmp_path / "out") in said) == written
