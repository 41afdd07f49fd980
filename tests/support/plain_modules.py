"""The plain twin of a module, whichever build the process runs: for tests of what only it has."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from tests.support.processes import ROOT


def plain_module(name: str) -> ModuleType:
    """The module made from its ``.py`` file, apart from the one that is imported by that name."""
    path = ROOT / Path(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(f"plain {name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
