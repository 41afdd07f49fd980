"""What ``relay check`` of manifests leaves alone, since editors and hooks run it at every save."""

from __future__ import annotations

import subprocess
import sys

from tests.kit.paths import ROOT

NOT_NEEDED = ("aiohttp", "relay.apiserver", "relay.control.kubernetes.client", "relay.sink")
CHILD = """
import sys
from relay.cli.main import main
status = main(["check", sys.argv[1], "--without-secrets"])
print(status, *sys.modules)
"""


def test_manifests_are_checked_without_what_talks_to_anybody() -> None:
    command = [sys.executable, "-c", CHILD, str(ROOT / "config" / "examples")]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    status, *modules = child.stdout.splitlines()[-1].split()
    assert status == "0"
    assert "relay.cli.check" in modules
    assert not [
        one for one in modules for name in NOT_NEEDED if one == name or one.startswith(f"{name}.")
    ]
