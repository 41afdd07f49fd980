"""An object whose name one of a file has already."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.servers import KUBERNETES, OWN_READ, ObjectServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
    pytest.mark.parametrize("api", [KUBERNETES, OWN_READ], indirect=True),
]


async def test_the_file_counts_and_the_object_says_so(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with OtlpServer() as server:
        text = exporter_yaml("one", server.origin)
        manifest = tmp_path / "exporters.yaml"
        manifest.write_text(text + exporter_yaml("other", server.origin))
        files = [{"path": str(manifest)}]
        async with api.relay(tmp_path / "relay", exporters=files):
            await kubectl.apply(text)
            found = await kubectl.wait_for("exporter", "one", kind="Accepted", status="False")
            assert found["reason"] == "Conflict"
            assert "taken by the one in the relay's files" in found["message"], found

            manifest.write_text(exporter_yaml("other", server.origin))
            await kubectl.wait_for("exporter", "one", kind="Accepted", status="True", timeout_s=20)
