"""Run the Dockerfile's steps by hand, in an empty place: an image cannot be pulled everywhere.

    python3 .ci/dockerfile_steps.py PYTHON

Every RUN and every COPY of the Dockerfile is carried out as it stands, in order, as root. PYTHON
stands in for the base image's ``python``. It happens in a mount namespace of its own, where what
the commands write to (/src, /opt, /var/lib/relay, /etc) is laid over with empty or throw-away file
systems: nothing but installed Debian packages is left afterwards.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "--inside"
LAID_OVER = ("/src", "/opt", "/var/lib/relay")


def instructions() -> Iterator[tuple[str, str]]:
    """Yield the Dockerfile's instructions and their arguments, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def build_context(target: Path) -> None:
    """Copy what a builder would be given: the checkout less .dockerignore, the last match wins."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        kept = True
        for rule in rules:
            if _matches(name, rule.removeprefix("!")):
                kept = rule.startswith("!")
        if kept:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _matches(name: str, rule: str) -> bool:
    parts = [name, *(str(parent) for parent in Path(name).parents)]
    pattern = rule.removeprefix("**/")
    if pattern != rule:
        parts += [part.rpartition("/")[2] for part in parts]
    return any(fnmatch.fnmatchcase(part, pattern) for part in parts)


def lay_over(scratch: Path) -> None:
    """Put throw-away file systems over what the commands write to."""
    for place in LAID_OVER:
        _run("mount", "-t", "tmpfs", "tmpfs", place)
    upper, work = scratch / "etc", scratch / "work"
    upper.mkdir()
    work.mkdir()
    _run(
        *("mount", "-t", "overlay", "overlay", "/etc"),
        *("-o", f"lowerdir=/etc,upperdir={upper},workdir={work}"),
    )


def carry_out(context: Path, environment: dict[str, str]) -> None:
    """Run every stage. Raises CalledProcessError for a command that fails."""
    directory = Path("/")
    for name, rest in instructions():
        if name == "FROM":
            directory = Path("/")
        elif name == "WORKDIR":
            directory = Path(rest)
            directory.mkdir(parents=True, exist_ok=True)
        elif name == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                _copy(context / source, directory / target)
        elif name == "RUN":
            print(f"-- RUN {rest}", flush=True)
            subprocess.run(
                ["/bin/sh", "-c", rest],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                check=True,
            )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def in_a_namespace(python: str) -> int:
    """Run this script again where mounts are seen by nobody else."""
    made = [place for place in map(Path, LAID_OVER) if not place.exists()]
    for place in made:
        place.mkdir()
    command = ["unshare", "--mount", sys.executable, __file__, INSIDE, python]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    finally:
        for place in made:
            place.rmdir()


def main() -> int:
    """Carry everything out, then run what was built as the image would."""
    if sys.argv[1] != INSIDE:
        return in_a_namespace(sys.argv[1])
    python = Path(shutil.which(sys.argv[2]) or sys.argv[2]).resolve(strict=True)
    # On a file system of its own: an overlay's upper directory cannot be on another overlay.
    _run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    scratch = Path("/mnt")
    (scratch / "bin").mkdir()
    (scratch / "bin/python").symlink_to(python)
    context = scratch / "context"
    context.mkdir()
    build_context(context)
    lay_over(scratch)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "PATH": f"{scratch / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    carry_out(context, environment)
    (entry,) = [rest for name, rest in instructions() if name == "ENTRYPOINT"]
    for command in ("version", "demo --seconds 5"):
        words = [f"/opt/relay/bin/{re.sub(r'[^a-z]', '', entry)}", *shlex.split(command)]
        print("--", *words, flush=True)
        subprocess.run(words, cwd="/", env=environment, stdin=subprocess.DEVNULL, check=True)
    print("dockerfile_steps: every step of the Dockerfile succeeded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
