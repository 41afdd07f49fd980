"""The released version before this one, built from the repository's history.

It is built once, beside the peers of ``make peers``, which takes a minute or two.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from bench import newest
from tests.kit.paths import ROOT

_SUBJECT = "^relay: version [0-9]"


def _git(*arguments: str) -> bytes:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"it is built from git's history: {done.stderr.decode()}"
    return done.stdout


class PreviousVersion:
    """A checkout of the version before, built; ``command`` begins its command line."""

    def __init__(self) -> None:
        commit = _git("log", "-1", "--format=%H", f"--grep={_SUBJECT}").decode().strip()
        assert commit, "no commit in the history is a version: the clone is shallow"
        self.folder = newest.directory() / f"relay-{commit[:12]}"
        if not (self.folder / "built").exists():
            self._build(commit)
        init = (self.folder / "relay/__init__.py").read_text(encoding="utf-8")
        found = re.search(r'^__version__ = "(.+)"$', init, re.MULTILINE)
        assert found is not None
        self.version = found[1]

    @property
    def command(self) -> list[str]:
        """Return the beginning of its command line, for any working directory."""
        place = str(self.folder)
        return ["env", "-C", place, f"PYTHONPATH={place}", sys.executable, "-m", "relay"]

    def _build(self, commit: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["tar", "-x", "-C", str(self.folder)], input=_git("archive", commit), check=True
        )
        subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=900,
        )
        (self.folder / "built").touch()


def run(command: list[str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a relay's command to its end."""
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
