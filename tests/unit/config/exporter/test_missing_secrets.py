"""What an owner reads of a Secret that is missing: one fault, and how to create the Secret."""

from __future__ import annotations

from pathlib import Path

from relay.config.exporter.load_result import ObjectKey
from relay.config.exporter.loading.combine import Combiner, OriginResources
from relay.config.exporter.loading.object_reader import ObjectIdentity, read_object_value
from relay.config.exporter.manifest_loader import Manifests
from relay.config.exporter.types import ExporterPath

AUTHENTICATION = {"type": "basicAuth", "secretRef": {"name": "login"}}
VALUE = {
    "apiVersion": "telemetry.datumapis.com/v1alpha1",
    "kind": "Exporter",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "sources": [{"name": "all", "metrics": {"metricsql": "up"}}],
        "sinks": [
            {
                "name": "out",
                "otlp_http": {"endpoint": "https://a.example", "authentication": AUTHENTICATION},
            }
        ],
    },
}
MANIFEST = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: web, namespace: shop}
spec:
  sources: [{name: all, metrics: {metricsql: up}}]
  sinks:
    - name: out
      otlp_http:
        endpoint: https://a.example
        authentication: {type: basicAuth, secretRef: {name: login}}
"""


def test_an_object_reads_the_command_once_with_both_keys() -> None:
    key = ObjectKey("kubernetes", "", "Exporter", "acme", "shop", "web")
    resource = read_object_value(
        VALUE, ObjectIdentity("Exporter", "shop", "web", "acme", "kubernetes", key)
    )
    (found,) = Combiner(tenancy=True).combine([OriginResources((resource,))]).objects
    assert found.lacks
    (fault,) = found.faults
    assert fault.message == (
        "secret shop/login, key username: there is no such secret; create it: kubectl -n shop "
        "create secret generic login --from-literal=username=USERNAME "
        "--from-literal=password=PASSWORD"
    )


def test_a_file_reads_of_manifests_once(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFEST)
    (fault,) = Manifests([ExporterPath(tmp_path)]).load().faults
    assert fault.message.startswith(
        "secret shop/login, key username: there is no such secret; add its manifest"
    )


def test_each_key_that_a_secret_lacks_is_named(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: login, namespace: shop}\n"
    (tmp_path / "web.yaml").write_text(f"{MANIFEST}---\n{secret}stringData: {{other: x}}\n")
    faults = Manifests([ExporterPath(tmp_path)]).load().faults
    assert [one.message.partition(":")[0] for one in faults] == [
        "secret shop/login, key username",
        "secret shop/login, key password",
    ]
