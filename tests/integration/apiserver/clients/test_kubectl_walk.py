"""The same commands of kubectl against kube-apiserver and against the relay's API."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from bench import newest
from tests.kit.apiserver.kubectl_steps import STEPS
from tests.kit.apiserver.kubectl_walk import walk
from tests.kit.apiserver.running import ApiProcess
from tests.kit.kubernetes.kubectl import VERSIONS
from tests.kit.kubernetes.servers import defined_api

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

_MASKED: Final = "values of Secrets read as ****"
_SERVED: Final = "serves a few kinds"
_ROLES: Final = "has roles of its own"
_CAUSE: Final = "says which operation of the patch fails"

DIFFERENCES: Final = {
    'patch exporter acme --type=json -p [{"op":"test","path":"/metadata/labels/c","value":"e"}]': (
        _CAUSE
    ),
    'patch exporter acme --type=json -p [{"op":"remove","path":"/metadata/labels/none"}]': _CAUSE,
    'patch exporter acme --type=merge --dry-run=server -p {"spec":{"sinks":[]}}': (
        "has the words of relay check, where a CRD has those of a schema"
    ),
    "apply --validate=strict --server-side -f unknown.yaml": (
        "answers 400 for a client's fault, where kube-apiserver answers 500"
    ),
    "get exporter acme --subresource=scale": "names no object for what it does not serve",
    "scale exporter/acme --replicas=2": "names no object for what it does not serve",
    "diff -f changed-secret.yaml": f"{_MASKED}, before and after",
    "get secret tok -o=jsonpath={.data.token}": _MASKED,
    "get secret tok -o yaml": _MASKED,
    "describe secret tok": _MASKED,
    "apply view-last-applied secret tok": _MASKED,
    "auth can-i create nosuch": _SERVED,
    "auth can-i --list": _ROLES,
    "auth whoami": _ROLES,
    "get pods": _SERVED,
    "run web --image=none": _SERVED,
    "cluster-info": f"{_SERVED}, and no Services, which kubectl asks for first",
    "api-versions": _SERVED,
    "version": "names the version of Kubernetes whose behaviour it follows",
}
"""Commands whose output may differ, and what is different at the relay's API."""


@pytest.mark.parametrize("version", VERSIONS)
async def test_kubectl_says_the_same(tmp_path: Path, version: str) -> None:
    kubectl = str(newest.binary(version))
    own = ApiProcess(tmp_path / "own")
    own.folder.mkdir()
    own.prepare()
    async with defined_api(tmp_path / "real") as real, own.running():
        walks = []
        for name, kubeconfig in (("real", real.kubeconfig), ("own", own.kubeconfig)):
            folder = tmp_path / f"walk-{name}"
            folder.mkdir()
            walks.append(walk(kubectl, kubeconfig, folder))
        expected, found = await asyncio.gather(*walks)
    assert len(expected) == len(STEPS) > 150
    for of_real, of_own in zip(expected, found, strict=True):
        if of_real.command not in DIFFERENCES:
            assert of_own == of_real, of_real.command
    differing = {one.command for one, other in zip(expected, found, strict=True) if one != other}
    assert differing == DIFFERENCES.keys(), "a difference that is gone is still listed"
