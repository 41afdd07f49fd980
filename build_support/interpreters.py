"""Find the Pythons of this machine: ``python -m build_support.interpreters 3.11``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13")

_PROBE = """
import ensurepip, sys, venv
print("%d.%d" % sys.version_info[:2])
"""


def find(version: str) -> Path | None:
    """Return a Python of that version (3.11) that makes virtual environments, or None."""
    for candidate in _candidates(version):
        if version_of(candidate) == version:
            return candidate
    return None


def version_of(python: Path) -> str:
    """Return the version of a Python, "" where it does not run or makes no environments."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _candidates(version: str) -> Iterator[Path]:
    for name in (f"python{version}", "python3"):
        for directory in os.get_exec_path():
            if (found := shutil.which(name, path=directory)) is not None:
                yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)


def main(versions: list[str]) -> int:
    """Print the first of the versions that is there; 1 where none is."""
    for version in versions:
        if (found := find(version)) is not None:
            print(found)
            return 0
    print(f"no Python {' or '.join(versions)} on PATH or below ~/.pyenv", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(reversed(SUPPORTED))))
