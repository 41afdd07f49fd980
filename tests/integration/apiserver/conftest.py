"""Where kube-apiserver is not built, its tests are left out, and this says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.kit.kubernetes.real_api import directory, is_built

HERE = Path(__file__).parent
_left_out: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_built() and shutil.which("etcd"):
        return
    needing = [
        item for item in items if item.path.parent == HERE and item.get_closest_marker("newest")
    ]
    if needing:
        _left_out.extend(item.nodeid for item in needing)
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.write_line(
            f"NOT running {len(_left_out)} tests against a real API server: they need etcd "
            f"(apt-get install etcd-server) and kube-apiserver in {directory()}",
            yellow=True,
        )
