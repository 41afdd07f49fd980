"""The shipped CRDs in a real kube-apiserver: what they take, refuse, and show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.config.yaml.document import read_documents
from relay.control.kubernetes.client import APPLY, ApiClient, WatchTarget
from relay.control.kubernetes.errors import AbsentError, RequestRefusedError
from relay.control.kubernetes.kubeconfig import read_kubeconfig
from relay.control.kubernetes.objects import ApiObject, ApiResource, read_object
from relay.control.kubernetes.status_body import FIELD_MANAGER, apply_body, status_document
from relay.control.status.conditions import TYPES, StatusCondition
from relay.control.status.object_status import (
    LedgerCounts,
    ObjectStatus,
    SinkStatus,
    UsageFigures,
)
from tests.kit.kubernetes.real_api import real_api
from tests.kit.paths import ROOT
from tests.kit.processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

CRDS = ApiResource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
RESOURCES = {
    (f"{group}/v1alpha1", kind): ApiResource(group, "v1alpha1", f"{plural}", kind)
    for group, kind, plural in (
        ("telemetry.datumapis.com", "Exporter", "exporters"),
        ("telemetry.datumapis.com", "ExportPolicy", "exportpolicies"),
        ("telemetry.miloapis.com", "ExportPolicy", "exportpolicies"),
    )
}
EXPORTERS = RESOURCES["telemetry.datumapis.com/v1alpha1", "Exporter"]
POLICIES = RESOURCES["telemetry.miloapis.com/v1alpha1", "ExportPolicy"]
GOOD = [
    *sorted((ROOT / "tests/data/exporters/good").glob("*.yaml")),
    *sorted((ROOT / "tests/data/export_policies/good").glob("*.yaml")),
    *sorted((ROOT / "config/examples").glob("*.yaml")),
]
SAME_WORDS = [
    f"exporters/bad/{name}.yaml"
    for name in (
        "authentication-header-missing",
        "authentication-header-unused",
        "authentication-none-with-secret",
        "batch-timeout",
        "endpoint-bad-host",
        "endpoint-blank",
        "endpoint-query",
        "endpoint-scheme",
        "endpoint-user",
        "metricsql-and-resource-selectors",
        "metricsql-missing",
        "queue-max-age-below-batch-timeout",
        "remote-write-and-otlp",
        "remote-write-version-of-victoriametrics",
        "secret-ref-name",
        "sink-without-target",
        "tls-without-https",
    )
]
"""Bad files of which the API server says the same as ``relay check``."""
SAID_CHARS = 40
"""Characters of a message that are compared: the client shows 200 of an answer."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[ApiClient]:
    """With the shipped CRDs in service."""
    async with (
        real_api(tmp_path) as api,
        ApiClient(read_kubeconfig(api.kubeconfig)) as client,
    ):
        for file in sorted((ROOT / "config/crds").glob("*telemetry*.yaml")):
            definition = yaml.safe_load(file.read_text(encoding="utf-8"))
            await client.request("POST", CRDS.path(), document=definition)

        async def served() -> bool:
            try:
                for resource in RESOURCES.values():
                    await client.list_page(WatchTarget(resource))
            except AbsentError:
                return False
            return True

        await eventually("the CRDs are served", served, timeout_s=30)
        yield client


def resources_of(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the Exporters and ExportPolicies of a file, without their namespaces."""
    for document in read_documents(file):
        for one in document.value.get("items", [document.value]):
            if (one.get("apiVersion"), one.get("kind")) in RESOURCES:
                metadata = {
                    key: one["metadata"][key]
                    for key in ("name", "labels")
                    if key in one["metadata"]
                }
                yield {**one, "metadata": metadata}


async def post(client: ApiClient, document: dict[str, Any], **query: str) -> bytes:
    resource = RESOURCES[document["apiVersion"], document["kind"]]
    query = {"fieldValidation": "Strict", **query}
    return await client.request("POST", resource.path("default"), query=query, document=document)


async def test_every_good_file_is_taken(client: ApiClient) -> None:
    taken = 0
    for file in GOOD:
        for document in resources_of(file):
            await post(client, document, dryRun="All")
            taken += 1
    assert taken > 20, "some files have Secrets only"


async def test_what_is_refused_is_so_in_the_words_of_the_check(client: ApiClient) -> None:
    for name in SAME_WORDS:
        file = ROOT / "tests/data" / name
        faults = load_exporters([ExporterPath(file)], need_secrets=False).faults
        for document in resources_of(file):
            with pytest.raises(RequestRefusedError) as refused:
                await post(client, document, dryRun="All")
            said = str(refused.value)
            for fault in faults:
                assert fault.path in said, name
                assert fault.message[:SAID_CHARS] in said, name


def a_status(at: float) -> ObjectStatus:
    conditions = tuple(
        StatusCondition(name, "True", name, f"about {name}", 1, at) for name in TYPES
    )
    usage = UsageFigures(12, 24, 48, 1)
    ledger = LedgerCounts(matched=5, delivered=3, rejected=1, queued=1)
    sink = SinkStatus("endpoint", conditions, at, at, "503", ledger, usage)
    return ObjectStatus(conditions, (sink,), usage, {"all": usage}, "2 of 3")


async def test_a_status_is_kept_whole_and_shown_in_columns(client: ApiClient) -> None:
    file = ROOT / "tests/data/exporters/good"
    exporter = next(resources_of(min(file.glob("*.yaml"))))
    policy = next(resources_of(min((ROOT / "tests/data/export_policies/good").glob("*.yaml"))))
    policy["apiVersion"] = POLICIES.api_version
    for resource, document in ((EXPORTERS, exporter), (POLICIES, policy)):
        target = read_object(await post(client, document), resource)
        assert isinstance(target, ApiObject)
        status = status_document(a_status(1_700_000_000))
        path = resource.path("default", target.name, "status")
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        body = apply_body(resource, target, status)
        await client.request("PATCH", path, query=query, document=body, content_type=APPLY)
        others = {"type": "Foreign", "status": "True", "reason": "R", "message": "theirs"}
        others |= {"lastTransitionTime": "2026-01-01T00:00:00Z"}
        body = apply_body(resource, target, {"conditions": [others]})
        del body["metadata"]["resourceVersion"]
        await client.request(
            "PATCH", path, query={"fieldManager": "another"}, document=body, content_type=APPLY
        )
        kept = msgspec.json.decode(await client.request("GET", path))["status"]
        assert others in kept["conditions"]
        kept["conditions"].remove(others)
        assert kept == status

        table = msgspec.json.decode(
            await client.request("GET", resource.path("default"), accept=TABLE)
        )
        columns = [one["name"] for one in table["columnDefinitions"]]
        (row,) = [dict(zip(columns, one["cells"], strict=True)) for one in table["rows"]]
        assert (
            row["Accepted"] == row["Delivering"] == row["Resolved"] == row["Programmed"] == "True"
        )
        assert (row["Reason"], row["Message"]) == ("Delivering", "about Delivering")
        assert (row["Series"], row["Samples/min"], row["Relays"]) == (12, 24, "2 of 3")
