"""Two objects that want one name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.kubernetes.test_customers_commands import DATUM, MILO, manifest
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.servers import SERVERS, ObjectServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
    pytest.mark.parametrize("api", SERVERS, indirect=True),
]


async def test_a_name_that_another_object_has(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with OtlpServer() as server, api.relay(tmp_path / "relay"):
        await kubectl.apply(manifest(DATUM, "one", server.origin))
        await kubectl.wait_for(DATUM, "one", kind="Accepted", status="True")
        await kubectl.apply(manifest(MILO, "one", server.origin))
        found = await kubectl.wait_for(MILO, "one", kind="Accepted", status="False")
        assert found["reason"] == "Conflict"
        assert "one" in found["message"]
        assert (await kubectl.condition(DATUM, "one", kind="Accepted"))["status"] == "True"

        await kubectl("delete", DATUM, "one")
        await kubectl.wait_for(MILO, "one", kind="Accepted", status="True")
