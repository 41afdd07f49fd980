"""Where peers are not built, their tests are left out, and this says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.kubernetes.real_api import directory, is_built, new_etcd

HERE = Path(__file__).parent
_left_out: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_built() and new_etcd() and os.access(directory() / "informer", os.X_OK):
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
            f"NOT running {len(_left_out)} tests of the API against its peers: they need etcd, "
            f"kube-apiserver, kubectl and informer in {directory()}",
            yellow=True,
        )
