"""The outcome of every object of manifests: accepted, refused, without its name or Secret."""

from __future__ import annotations

from pathlib import Path

from relay.config.exporter.load_result import LoadResult, ObjectKey, ObjectResult
from relay.config.exporter.manifest_loader import Manifests
from relay.config.exporter.types import ExporterPath

EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: %s, namespace: shop, uid: "%s", generation: 3}
spec:
  sources: [{name: all, metrics: {metricsql: up}}]
  sinks:
    - name: out
      sources: [all]
      otlp_http: {endpoint: "%s"%s}
"""
TOKEN = ", authentication: {type: bearerToken, secretRef: {name: token}}"
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: shop}
stringData: {token: abc}
"""


def exporter(name: str, uid: str = "u", endpoint: str = "https://a.example", more: str = "") -> str:
    return EXPORTER % (name, uid, endpoint, more)


def key_of(name: str, project: str = "") -> ObjectKey:
    return ObjectKey("files", "", "Exporter", project, "shop", name)


def by_uid(loaded: LoadResult) -> dict[str, ObjectResult]:
    return {one.uid: one for one in loaded.objects}


def test_each_object_has_its_outcome(tmp_path: Path) -> None:
    documents = (
        exporter("good", "1"),
        exporter("bad", "2", endpoint="ftp://a"),
        exporter("good", "3"),
        exporter("lacking", "4", more=TOKEN),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
    )
    (tmp_path / "all.yaml").write_text("\n---\n".join(documents))
    manifests = Manifests([ExporterPath(tmp_path)])
    found = by_uid(manifests.load())
    assert list(found) == ["1", "2", "3", "4"]
    assert {one.generation for one in found.values()} == {3}
    assert [one.key for one in found.values()] == [
        key_of("good"),
        key_of("bad"),
        key_of("good"),
        key_of("lacking"),
    ]
    good, bad, second, lacking = found.values()
    assert good.exporter is not None
    assert good.exporter.generation == 3
    assert (good.faults, good.conflict, good.lacks) == ((), False, False)
    assert (bad.exporter, bad.conflict, bad.lacks) == (None, False, False)
    assert [fault.path for fault in bad.faults] == ["spec.sinks[0].otlp_http.endpoint"]
    assert (second.exporter, second.conflict, second.lacks) == (None, True, False)
    assert f"already taken by {tmp_path / 'all.yaml'}:2" in second.faults[0].message
    assert (lacking.exporter, lacking.conflict, lacking.lacks) == (None, False, True)
    assert "there is no such secret" in lacking.faults[0].message


def test_an_outcome_that_is_as_before_is_the_same_object(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(exporter("one", "1"))
    (tmp_path / "two.yaml").write_text(exporter("two", "2", more=TOKEN))
    manifests = Manifests([ExporterPath(tmp_path)])
    before = by_uid(manifests.load())
    (tmp_path / "secret.yaml").write_text(SECRET)
    after = by_uid(manifests.load())
    assert after["1"] is before["1"]
    assert before["2"].lacks
    assert after["2"].exporter is not None
    assert not after["2"].lacks
    assert manifests.load().objects[0] is after["1"]


def test_faults_of_outcomes_belong_to_their_project(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(exporter("bad", endpoint="ftp://a"))
    loaded = Manifests([ExporterPath(tmp_path, "acme")], tenancy=True).load()
    (result,) = loaded.objects
    assert result.key == key_of("bad", "acme")
    assert result.key.id == "acme/shop/bad"
    assert {fault.project for fault in result.faults} == {"acme"}
    assert result.faults == loaded.faults
