"""A real API server with the CRDs as they are shipped, and kubectl."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.real_api import RealApi, real_api
from tests.kit.kubernetes.relays import define


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RealApi]:
    folder = tmp_path / "api"
    folder.mkdir()
    async with real_api(folder) as api:
        await define(Kubectl(api.kubeconfig, folder))
        yield api


@pytest.fixture
def kubectl(api: RealApi, tmp_path: Path) -> Kubectl:
    return Kubectl(api.kubeconfig, tmp_path)
