"""Which build of the hot path runs: the switch, stale extensions, and missing ones."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from relay.hot_path import MODULES, SWITCH
from tests.support.processes import ROOT

ASK = "from relay.hot_path import BUILD, WHY_INTERPRETED; print(BUILD, WHY_INTERPRETED)"
WHERE = "import relay.pipeline.kernel as kernel; print(kernel.__file__)"


def ask(package: Path, code: str, switch: str = "") -> subprocess.CompletedProcess[str]:
    """Run code with the package in that directory."""
    environment = {name: value for name, value in os.environ.items() if name != SWITCH}
    if switch:
        environment[SWITCH] = switch
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the sources that the choice looks at, nothing built."""
    for name in ("relay.__init__", "relay.hot_path", "relay.pipeline.shapes", *MODULES):
        for suffix in (".py", ".pyx", ".pxd"):
            source = Path(*name.split(".")).with_suffix(suffix)
            if (ROOT / source).is_file():
                (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / source).write_bytes((ROOT / source).read_bytes())
    return tmp_path


def build(package: Path, names: tuple[str, ...] = MODULES, *, age_s: float = 0) -> None:
    """Put files where extensions would be; nobody loads them here."""
    for name in names:
        path = package / Path(*name.split(".")).with_suffix(EXTENSION_SUFFIXES[0])
        path.touch()
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)


def test_without_extensions_the_plain_modules_run(package: Path) -> None:
    assert ask(package, ASK).stdout == "interpreted it was not built\n"


def test_where_all_are_built_they_run(package: Path) -> None:
    build(package)
    assert ask(package, ASK).stdout == "compiled \n"


def test_half_a_build_is_none(package: Path) -> None:
    build(package, MODULES[1:])
    assert ask(package, ASK).stdout == f"interpreted {MODULES[0]} was not built\n"


def test_a_stale_extension_never_runs(package: Path) -> None:
    build(package)
    build(package, MODULES[2:3], age_s=3600)
    assert ask(package, ASK).stdout == f"interpreted {MODULES[2]} is older than its source\n"


@pytest.mark.parametrize(
    ("declarations", "stale"),
    [
        ("relay.pipeline.shapes", "relay.pipeline.guesses"),  # inlined
        ("relay.wire.arena", "relay.pipeline.intake"),  # by way of those of the batch, too
    ],
)
def test_an_extension_is_older_than_declarations_that_it_takes_from_others(
    package: Path, declarations: str, stale: str
) -> None:
    build(package, age_s=3600)
    for path in package.rglob("*.p[yx]*"):
        os.utime(path, (path.stat().st_mtime - 7200,) * 2)
    build(package)
    assert ask(package, ASK).stdout == "compiled \n"
    changed = package / Path(*declarations.split(".")).with_suffix(".pxd")
    os.utime(changed, (changed.stat().st_mtime + 14_400,) * 2)
    build(package, (declarations,) if declarations in MODULES else (), age_s=-36_000)
    told = ask(package, ASK).stdout
    assert told.startswith("interpreted ")
    assert f"{stale} is older" in told


def test_the_switch_takes_the_plain_modules(package: Path) -> None:
    build(package)
    assert ask(package, ASK, "interpreted").stdout == f"interpreted {SWITCH} says so\n"
    assert ask(ROOT, WHERE, "interpreted").stdout.endswith("kernel.py\n")


def test_the_switch_insists_on_extensions(package: Path) -> None:
    done = ask(package, ASK, "compiled")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ImportError: RELAY_BUILD is compiled, but it was not built; "
        "with a C compiler, pip install . builds it\n"
    )
    build(package)
    assert ask(package, ASK, "compiled").stdout == "compiled \n"


def test_a_switch_that_says_nothing_known_is_an_error(package: Path) -> None:
    done = ask(package, ASK, "fast")
    assert done.returncode == 1
    assert "RELAY_BUILD is 'fast'; it may be compiled, interpreted, or unset" in done.stderr
