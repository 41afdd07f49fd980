"""A Secret that comes later and changes, and labels of Namespaces that change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.kubernetes.kubectl import Kubectl, object_text
from tests.kit.kubernetes.relays import Load
from tests.kit.kubernetes.servers import KUBERNETES, SERVERS, ObjectServer
from tests.kit.processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

API = "telemetry.datumapis.com/v1alpha1"
PROJECT = "resourcemanager.miloapis.com/project-name"
TOKEN = {"type": "bearerToken", "secretRef": {"name": "token", "key": "token"}}
SOON = {"batch": {"timeout": "100ms"}}


def exporter(name: str, endpoint: str, metrics: Any, **otlp: Any) -> str:
    """An Exporter of one source and one sink."""
    sink = {"name": "collector", "otlp_http": {"endpoint": endpoint, **otlp}, **SOON}
    spec = {"sources": [{"name": "some", "metrics": metrics}], "sinks": [sink]}
    return object_text("Exporter", name, {"spec": spec}, api=API)


def secret(token: str) -> str:
    return object_text("Secret", "token", {"stringData": {"token": token}})


def texts(received: list[Received]) -> Iterator[str]:
    """The exports as text, for a search in them."""
    return (str(one.message) for one in received)


@pytest.mark.parametrize("api", SERVERS, indirect=True)
async def test_a_secret_that_comes_later_and_changes(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    wanted = ["Bearer right"]

    def answer(received: Received) -> Reply:
        return Reply(200 if received.headers.get("Authorization") in wanted else 401)

    async with (
        OtlpServer(answer) as server,
        api.relay(tmp_path / "relay") as relay,
        Load(relay.url).running() as load,
    ):
        await kubectl.apply(
            exporter("late", server.origin, {"metricsql": ""}, authentication=TOKEN)
        )
        found = await kubectl.wait_for("exporter", "late", kind="ResolvedRefs", status="False")
        assert "secret" in found["message"]
        assert "token" in found["message"]
        assert (await kubectl.condition("exporter", "late"))["status"] != "True"
        assert not server.received

        await kubectl.apply(secret("wrong"))
        await kubectl.wait_for("exporter", "late", kind="ResolvedRefs", status="True", timeout_s=20)
        found = await kubectl.wait_for("exporter", "late", status="False", reason="Failing")
        assert "401" in found["message"]
        assert "token" in found["message"]

        await kubectl.apply(secret("right"))
        await kubectl.wait_for("exporter", "late", status="True", timeout_s=40)
        assert (await kubectl.get("exporter", "late"))["metadata"]["generation"] == 1

        wanted.append("Bearer next")
        await kubectl.apply(secret("next"))
        await eventually(
            "the next token is used",
            lambda: server.taken[-1].headers["Authorization"] == "Bearer next",
            timeout_s=20,
        )
        await kubectl("delete", "secret", "token")
        await kubectl.wait_for(
            "exporter", "late", kind="ResolvedRefs", status="False", timeout_s=20
        )
        log = relay.log()
        for token in ("right", "next", "wrong"):
            assert f"Bearer {token}" not in log
            assert f"Bearer {token}" not in await kubectl("get", "exporter", "late", "-o", "yaml")
    assert load.sent


@pytest.mark.parametrize("api", [KUBERNETES], indirect=True)
async def test_a_namespace_that_gets_a_project_and_loses_it(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    settings = {
        "kubernetes": {"projects": {"namespaceLabel": PROJECT}},
        "tenancy": {"label": "project"},
        "allowPrivateEndpoints": True,
    }
    async with (
        OtlpServer() as server,
        api.relay(tmp_path / "relay", **settings) as relay,
        Load(relay.url, project="acme").running(),
        Load(relay.url, project="globex", name="theirs").running(),
    ):

        def has(project: str, since: int) -> bool:
            return any(f'"{project}"' in text for text in texts(server.taken[since:]))

        await kubectl("create", "namespace", "team")
        text = exporter("all", server.origin, {"metricsql": ""})
        await kubectl("apply", "-n", "team", "-f", "-", text=text)
        await kubectl.apply(object_text("Namespace", "other", {"metadata": {"labels": {}}}))
        words = ("-n", "team", "exporter", "all")
        assert not server.received

        await kubectl("label", "namespace", "team", f"{PROJECT}=acme")
        await kubectl.wait_for(*words, status="True", timeout_s=30)
        assert has("acme", 0)
        assert not has("globex", 0)

        await kubectl("label", "--overwrite", "namespace", "team", f"{PROJECT}=globex")
        await eventually("the other project's", lambda: has("globex", 0), timeout_s=20)
        seen = len(server.taken)
        await eventually("more of it", lambda: has("globex", seen), timeout_s=10)
        assert not has("acme", seen)

        await kubectl("label", "namespace", "team", f"{PROJECT}-")

        async def is_gone() -> bool:
            return not (await relay.status())["exporters"]

        await eventually("it is nobody's", is_gone, timeout_s=20)


@pytest.mark.parametrize("api", SERVERS, indirect=True)
async def test_labels_of_namespaces_select_resources(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    selectors = [
        {
            "namespaceSelector": {"matchLabels": {"environment": "production"}},
            "kinds": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
        }
    ]
    resource = {
        "service_name": "apps",
        "resource_kind": "Deployment",
        "resource_namespace": "shop",
        "resource_name": "web",
    }
    async with (
        OtlpServer() as server,
        api.relay(tmp_path / "relay") as relay,
        Load(relay.url, **resource).running(),
    ):
        await kubectl("create", "namespace", "shop")
        await kubectl.apply(exporter("shops", server.origin, {"resourceSelectors": selectors}))
        await kubectl.wait_for("exporter", "shops", kind="Programmed", status="True")
        await kubectl.wait_for("exporter", "shops", status="Unknown", reason="NoData")
        assert not server.received

        await kubectl("label", "namespace", "shop", "environment=production")
        await kubectl.wait_for("exporter", "shops", status="True", timeout_s=30)

        await kubectl("label", "--overwrite", "namespace", "shop", "environment=test")

        async def silent() -> bool:
            before = len(server.taken)
            await asyncio.sleep(1)
            return len(server.taken) == before

        await eventually("nothing is selected any more", silent, timeout_s=30)
