"""An API server that knows our kinds, and kubectl.

It is kube-apiserver with the CRDs as they are shipped, unless a test names others by
``@pytest.mark.parametrize("api", SERVERS, indirect=True)``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.servers import KUBERNETES, ObjectServer, object_server


@pytest.fixture
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ObjectServer]:
    folder = tmp_path / "api"
    folder.mkdir()
    async with object_server(getattr(request, "param", KUBERNETES), folder) as api:
        yield api


@pytest.fixture
def kubectl(api: ObjectServer, tmp_path: Path) -> Kubectl:
    return Kubectl(api.kubeconfig, tmp_path)
