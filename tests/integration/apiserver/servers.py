"""A kube-apiserver that knows our kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from bench import newest
from tests.kit.kubernetes.real_api import RealApi, new_etcd, real_api
from tests.kit.paths import ROOT
from tests.kit.processes import eventually

NEWEST = str(newest.binary("kubectl-1.37"))


async def kubectl(api: RealApi, *arguments: str) -> int:
    """Run kubectl against the real API server; return its exit status."""
    process = await asyncio.create_subprocess_exec(
        NEWEST,
        f"--kubeconfig={api.kubeconfig}",
        f"--cache-dir={api.folder / 'cache'}",
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


@asynccontextmanager
async def real_with_crds(folder: Path) -> AsyncIterator[RealApi]:
    """Run kube-apiserver with our definitions; ``kubeconfig`` leads to it without checking TLS."""
    (folder / "real").mkdir()
    async with real_api(folder / "real", etcd=new_etcd()) as api:
        document = yaml.safe_load(api.kubeconfig.read_text())
        document["clusters"][0]["cluster"] = {"server": api.url, "insecure-skip-tls-verify": True}
        api.kubeconfig.write_text(yaml.safe_dump(document))
        assert await kubectl(api, "apply", "-k", str(ROOT / "config/crds")) == 0

        async def is_served() -> bool:
            kinds = "exporters,exportpolicies"
            return await kubectl(api, "get", kinds, "--request-timeout=5s") == 0

        await eventually("our kinds are served", is_served, timeout_s=60)
        yield api
