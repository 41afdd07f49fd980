"""The same commands of kubectl against kube-apiserver and against the relay's API."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import newest
from tests.integration.apiserver.servers import real_with_crds
from tests.kit.apiserver.kubectl_walk import walk
from tests.kit.apiserver.running import ApiProcess
from tests.kit.kubernetes.kubectl import VERSIONS

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest, pytest.mark.timeout(300)]


@pytest.mark.parametrize("version", VERSIONS)
async def test_kubectl_says_the_same(tmp_path: Path, version: str) -> None:
    kubectl = str(newest.binary(version))
    own = ApiProcess(tmp_path / "own")
    own.folder.mkdir()
    own.prepare()
    async with real_with_crds(tmp_path) as real, own.running():
        said = []
        for name, kubeconfig in (("real", real.kubeconfig), ("own", own.kubeconfig)):
            folder = tmp_path / f"walk-{name}"
            folder.mkdir()
            said.append(await walk(kubectl, kubeconfig, folder))
        for expected, found in zip(*said, strict=True):
            assert found == expected, expected.command
