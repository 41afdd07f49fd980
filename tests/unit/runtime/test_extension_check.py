"""Extensions that are missing, foreign or not made of these sources: one line, and no start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from relay.runtime import extension_check
from relay.runtime.extension_check import (
    BUILD_COMMAND,
    MANIFEST,
    MODULES,
    source_digests,
    stale_modules,
)
from tests.kit.processes import ROOT

KERNEL = "relay.pipeline.metrics.hotpath.v1_loop"


def extension(checkout: Path, name: str) -> Path:
    """Where the extension of a module is."""
    return checkout / Path(*name.split(".")).with_suffix(EXTENSION_SUFFIXES[0])


def run_python(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory, whose packages come first."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def refusal(directory: Path, command: str = "version") -> str:
    """What a command says instead of its answer: exactly one line."""
    done = run_python(directory, "-m", "relay", command)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout's package, whose extensions are those of this checkout."""
    shutil.copytree(
        ROOT / "relay", tmp_path / "relay", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    for name in MODULES:
        extension(tmp_path, name).symlink_to(extension(ROOT, name))
    shutil.copytree(
        ROOT / "build_support",
        tmp_path / "build_support",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def installed(checkout: Path) -> Path:
    """The same as an installer leaves it: nothing beside the package, no digests in it."""
    for path in checkout.iterdir():
        if path.is_file():
            path.unlink()
    (checkout / "relay" / MANIFEST).unlink()
    return checkout


@pytest.mark.slow
def test_a_whole_build_runs(checkout: Path) -> None:
    done = run_python(checkout, "-m", "relay", "version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("relay ")
    where = run_python(checkout, "-c", f"import {KERNEL} as kernel; print(kernel.__file__)")
    assert where.stdout == f"{extension(checkout, KERNEL)}\n"


def test_a_missing_extension_is_told_in_one_line(checkout: Path) -> None:
    extension(checkout, KERNEL).unlink()
    assert refusal(checkout) == (
        f'relay: extension module {KERNEL} was not built; run "{BUILD_COMMAND}" in {checkout}'
    )


def test_who_imports_the_package_gets_an_import_error(checkout: Path) -> None:
    extension(checkout, KERNEL).unlink()
    code = "try:\n    import relay\nexcept ImportError as error:\n    print(error)"
    done = run_python(checkout, "-c", code)
    assert done.stdout.startswith(f"extension module {KERNEL} was not built; run ")
    other = run_python(checkout, "-c", "try:\n    import relay\nexcept ImportError:\n    1 / 0")
    assert other.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "Traceback" in other.stderr, "other errors keep their traceback"


def test_an_installed_package_without_an_extension_says_to_install_a_wheel(installed: Path) -> None:
    extension(installed, KERNEL).unlink()
    suffix = EXTENSION_SUFFIXES[0].strip(".")
    assert refusal(installed) == (
        f"relay: extension module {KERNEL} was not built; "
        f"install telemetry-relay again, from a wheel for {suffix}"
    )


def test_an_extension_for_another_python_is_told(installed: Path) -> None:
    ours = extension(installed, KERNEL)
    ours.rename(ours.with_name("v1_loop.cpython-27-sparc-linux-gnu.so"))
    assert f"{KERNEL} was built for another Python or platform (v1_loop.cpython-27-" in refusal(
        installed
    )


def test_an_extension_that_does_not_load_is_told(installed: Path) -> None:
    """Right by its name, and made for another machine, or cut off."""
    path = extension(installed, "relay.codec.otlp.point_buffer")
    path.unlink()
    path.write_bytes(b"not for this machine")
    told = refusal(installed, "run")
    assert told.startswith(
        "relay: extension module relay.codec.otlp.point_buffer does not load here ("
    )
    assert "install telemetry-relay again" in told


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("relay/pipeline/metrics/hotpath/v1_loop.pyx", {"relay.pipeline.metrics.hotpath.v1_loop"}),
        ("relay/pipeline/batching/emitter.py", {"relay.pipeline.batching.emitter"}),
        ("relay/codec/snappy_block.pyx", {"relay.codec.snappy_block"}),
        ("relay/pipeline/contract.py", set()),  # not compiled
        # Inlined in both.
        (
            "relay/codec/remote_write/common_sample.pxd",
            {"relay.pipeline.metrics.series.hash_index", "relay.pipeline.metrics.hotpath.v1_loop"},
        ),
        # By way of the declarations of others, too.
        (
            "relay/codec/otlp/point_buffer.pxd",
            {
                "relay.codec.otlp.point_buffer",
                "relay.codec.otlp.batch",
                "relay.pipeline.metrics.hotpath.v1_loop",
            },
        ),
    ],
)
def test_an_edit_is_noticed(checkout: Path, changed: str, stale: set[str]) -> None:
    assert stale_modules(checkout / "relay") == []
    path = checkout / changed
    times = path.stat()
    path.write_bytes(path.read_bytes() + b"\n# edited\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = stale_modules(checkout / "relay")
    assert stale <= set(found)
    assert bool(found) == bool(stale)


def test_an_edit_keeps_it_from_running(checkout: Path) -> None:
    path = checkout / "relay/codec/remote_write/common_sample.pxd"
    path.write_bytes(path.read_bytes() + b"\n")
    assert refusal(checkout) == (
        "relay: extension module relay.pipeline.metrics.series.hash_index (and 2 more) was not "
        "built from these "
        f'sources; run "{BUILD_COMMAND}" in {checkout}'
    )


@pytest.mark.slow
@pytest.mark.parametrize("shift_s", [-100_000_000, 100_000_000])
def test_file_times_say_nothing(checkout: Path, shift_s: int) -> None:
    """An installer, a copy, or a change of branches and back writes files anew."""
    for path in (checkout / "relay").rglob("*.p*"):
        os.utime(path, (path.stat().st_mtime + shift_s,) * 2)
    assert stale_modules(checkout / "relay") == []
    assert run_python(checkout, "-m", "relay", "version").returncode == 0


@pytest.mark.slow
def test_an_installed_package_is_not_compared_with_its_sources(installed: Path) -> None:
    for path in (installed / "relay").rglob("*.pyx"):
        path.write_text("edited\n", encoding="utf-8")
    for path in (installed / "relay").rglob("*.pxd"):
        path.unlink()
    assert run_python(installed, "-m", "relay", "version").returncode == 0


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"pipeline/kernel": 1}'])
def test_without_digests_a_checkout_is_built_anew(checkout: Path, content: str | None) -> None:
    manifest = checkout / "relay" / MANIFEST
    if content is None:
        manifest.unlink()
    else:
        manifest.write_text(content, encoding="utf-8")
    assert stale_modules(checkout / "relay") == list(MODULES)
    assert f"(and {len(MODULES) - 1} more) was not built from these sources" in refusal(checkout)


def test_other_directives_are_other_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_digests()
    monkeypatch.setattr(extension_check, "DIRECTIVES", {"language_level": "3"})
    assert not set(before.values()) & set(source_digests().values())


@pytest.mark.slow
def test_a_build_compiles_what_differs_and_nothing_else(checkout: Path) -> None:
    build = ("setup.py", "--quiet", "build_ext", "--inplace")
    untouched = run_python(checkout, *build)
    assert (untouched.returncode, untouched.stdout) == (0, "")
    manifest = checkout / "relay" / MANIFEST
    entries = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**entries, "codec/gone.so": "0" * 64}), encoding="utf-8")
    source = checkout / "relay/codec/snappy_block.pyx"
    good = source.read_text(encoding="utf-8")
    source.write_text(good + "\nEDITED = 1\n", encoding="utf-8")
    assert "relay.codec.snappy_block was not built from these sources" in refusal(checkout)
    built = extension(checkout, "relay.codec.snappy_block")
    built.unlink()  # or what is linked to would be written over
    edited = run_python(checkout, *build)
    assert edited.returncode == 0, edited.stderr
    assert edited.stdout == "1/1 relay.codec.snappy_block\n"
    asked = run_python(
        checkout, "-c", "import relay.codec.snappy_block as made; print(made.EDITED)"
    )
    assert asked.stdout == "1\n"
    kept = json.loads(manifest.read_bytes())
    assert kept.keys() == entries.keys(), "a module that is gone leaves no entry"
    # What does not compile fails the build, and stays stale, also where the source goes back.
    source.write_text(good + "\ncdef int broken(:\n", encoding="utf-8")
    failed = run_python(checkout, *build)
    assert failed.returncode != 0
    source.write_text(good + "\nEDITED = 1\n", encoding="utf-8")
    assert stale_modules(checkout / "relay") == ["relay.codec.snappy_block"]
