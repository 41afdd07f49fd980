"""How the project is built and installed: compiler, locks, what is packed."""

from __future__ import annotations

import re
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from setuptools import build_meta

from build_support import backend, compiler, interpreters

ROOT = Path(__file__).parents[2]
LOCKS = ("run", "build", "compiler", "dev", "release")


# Which compiler.


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on whose PATH nothing is."""
    for variable in ("CC", compiler.SWITCH):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def pretend_zig_is_installed(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Put a ziglang package in front whose compiler only knows its version."""
    package = path / "ziglang"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "zig").write_text("#!/bin/sh\necho 0.99.0\n", encoding="utf-8")
    (package / "zig").chmod(0o755)
    monkeypatch.syspath_prepend(path)


@pytest.fixture(params=compiler.ZIG_TARGETS)
def abi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pretend to build for a platform on which zig is used."""
    monkeypatch.setattr(compiler, "_abi", lambda: request.param)
    return str(request.param)


@pytest.mark.usefixtures("abi")
def test_without_a_compiler_the_build_asks_for_one(
    no_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_zig_binary", lambda: None)
    monkeypatch.setattr(build_meta, "get_requires_for_build_wheel", lambda _settings: ["wheel"])
    assert compiler.missing_requirements() == [compiler.ZIG_REQUIREMENT]
    assert backend.get_requires_for_build_wheel() == ["wheel", compiler.ZIG_REQUIREMENT]
    with pytest.raises(compiler.CompilerError, match=r"install one \(gcc\), or pip install"):
        compiler.zig()


def test_zig_compiles_for_a_named_target_and_processor(
    no_compiler: None, abi: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_zig_is_installed(monkeypatch, tmp_path)
    assert compiler.missing_requirements() == []
    found = compiler.zig()
    assert found.is_zig
    assert "zig cc 0.99.0" in found.title
    for command in (found.compile, found.link):
        target = command[command.index("-target") + 1]
        assert target.split("-")[0] == abi.split("-", maxsplit=1)[0]
        (processor,) = [word for word in command if word.startswith("-mcpu=")]
        assert processor in ("-mcpu=x86_64_v2", "-mcpu=generic"), "never the build machine's"


def test_every_target_of_zig_names_a_processor() -> None:
    for triple, processor in compiler.ZIG_TARGETS.values():
        assert processor not in ("", "native")
        assert triple.endswith("musl") or re.search(r"-gnu\.2\.17$", triple)


def test_a_compiler_that_was_asked_for_has_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", sys.executable)
    with pytest.raises(compiler.CompilerError, match=r"CC is .* cannot compile"):
        compiler.find_system()
    monkeypatch.setenv(compiler.SWITCH, "tcc")
    with pytest.raises(compiler.CompilerError, match="RELAY_CC is 'tcc'; it may be"):
        compiler.find_system()


def test_a_build_for_tests_may_be_optimized_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiler.OPTIMIZE, raising=False)
    made = compiler.Compiler("some", ("cc",), ("cc",))
    assert [made.level_of(is_small) for is_small in (False, True)] == ["-O3", "-Os"]
    monkeypatch.setenv(compiler.OPTIMIZE, "-O1")
    assert [made.level_of(is_small) for is_small in (False, True)] == ["-O1", "-O1"]


def test_a_compiler_without_the_c_librarys_headers_does_not_count(
    no_compiler: None, tmp_path: Path
) -> None:
    for name in ("cc", "gcc"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    assert compiler.find_system() is None


def test_a_python_without_headers_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(compiler.CompilerError, match=f"no Python.h in {re.escape(str(tmp_path))}"):
        compiler.check_headers()


# Which Python.


def test_a_python_is_found_by_version_or_not_at_all(tmp_path: Path) -> None:
    ours = "{}.{}".format(*sys.version_info)
    assert interpreters.version_of(Path(sys.executable)) == ours
    assert interpreters.version_of(tmp_path / "python") == ""
    assert interpreters.find("2.0") is None


def test_supported_pythons_are_the_classifiers() -> None:
    listed = [
        one.rpartition(" ")[2]
        for one in pyproject()["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", one)
    ]
    assert tuple(listed) == interpreters.SUPPORTED
    assert pyproject()["project"]["requires-python"] == f">={listed[0]}"


# Locks.


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def lock(name: str) -> dict[str, str]:
    """Normalized name to version of everything in a lock; the first, where there are several."""
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
    found: dict[str, str] = {}
    for one, version in re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE):
        found.setdefault(normalized(one), version)
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name)[0]).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_everything_with_hashes_and_names_no_machine(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
    assert not re.search(r"https?:|file:|^-|/(home|root|tmp|work)/", text, re.MULTILINE)
    entries = re.split(r"\n(?=[a-zA-Z])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE))
    for entry in filter(None, entries):
        assert re.match(r"[\w.-]+==[\w.]+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_pyproject_asks_for(name: str) -> None:
    groups = pyproject()["dependency-groups"]
    wanted = pyproject()["project"]["dependencies"] if name == "run" else groups[name]
    assert {normalized(one) for one in wanted} <= set(lock(name))


def test_locks_agree_where_they_overlap() -> None:
    together: dict[str, str] = {}
    for name in LOCKS:
        for one, version in lock(name).items():
            assert together.setdefault(one, version) == version, one


def test_what_a_build_needs_is_said_twice_the_same() -> None:
    found = pyproject()
    assert set(found["build-system"]["requires"]) == set(found["dependency-groups"]["build"])
    assert found["dependency-groups"]["compiler"] == [compiler.ZIG_REQUIREMENT]


# What is packed.


@pytest.mark.slow
def test_the_sdist_has_what_building_and_testing_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    name = build_meta.build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as archive:
        packed = {member.name.partition("/")[2] for member in archive if member.isfile()}
    # Every folder there is, so that a new one is not forgotten; not what is made in a checkout.
    made_folders = ("build", "dist", "data", "__pycache__")
    folders = [
        path
        for path in ROOT.iterdir()
        if path.is_dir() and path.name not in made_folders and path.suffix != ".egg-info"
        if not path.name.startswith(".") or path.name == ".ci"
    ]
    made = re.compile(r"\.so$|\.py[cod]$|/_build\.json$|^bench/results/")
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }
    wanted = {one for one in wanted if not made.search(one)}
    wanted |= {"Makefile", "CHANGELOG.md", "LICENSE", "README.md", "Dockerfile", ".dockerignore"}
    assert wanted <= packed
    assert not {one for one in packed if re.search(r"\.so$|\.pyc$|_build\.json$", one)}


def test_examples_are_apart_from_what_runs() -> None:
    examples = ROOT / "config/examples"
    assert {path.suffix for path in examples.iterdir()} == {".yaml"}
    assert "exporters" not in yaml.safe_load((ROOT / "config/relay.yaml").read_text("utf-8"))
