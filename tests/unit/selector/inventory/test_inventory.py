"""The inventory: manifests, info series, what wins, what is forgotten, and what changes touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter.types import ExporterPath
from relay.config.inventory_manifests import InventoryFiles, load_inventory
from relay.selector.inventory.info_series import InfoReader, InfoSeries, InfoSeriesClaim, StreamKey
from relay.selector.inventory.store import Inventory, ManifestIndex, Object, UidKey
from relay.selector.resources.object_lookup import ObjectLabels, ObjectRef

LIST = """
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Namespace
    metadata: {name: prod, uid: u-1, labels: {environment: production}}
  - apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: g, namespace: prod, labels: {app.kubernetes.io/name: web}}
    spec: {whatever: [1, 2.5, null]}
"""


def namespace(name: str, project: str = "", **labels: str) -> Object:
    return Object(project, "", "Namespace", "", name, "", labels)


def says(name: str, project: str = "", **labels: str) -> InfoSeriesClaim:
    return InfoSeriesClaim(StreamKey(project, "namespace", "", name), labels)


def value(inventory: Inventory, name: str, key: str = "env", project: str = "") -> str | None:
    found = inventory.for_project(project).namespace(name)
    return found.get(key) if found is not None else None


def test_manifests_are_read_for_labels_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(LIST)
    loaded = load_inventory([ExporterPath(tmp_path, "acme")])
    assert loaded.faults == ()
    first, second = loaded.objects
    assert first == Object(
        "acme", "", "Namespace", "", "prod", "u-1", {"environment": "production"}
    )
    assert second.key == StreamKey("acme", "gateway", "prod", "g")
    assert (second.group, second.labels) == (
        "gateway.networking.k8s.io",
        {"app.kubernetes.io/name": "web"},
    )


def test_faulty_manifests_hide_no_neighbours(tmp_path: Path) -> None:
    file = tmp_path / "mixed.yaml"
    file.write_text(
        "just text\n---\nkind: Namespace\nmetadata: {name: a}\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: b, labels: {n: 1, t: x}}\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: c, labels: [t]}\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: d\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: e}\n"
    )
    loaded = load_inventory([ExporterPath(file), ExporterPath(tmp_path / "missing.yaml")])
    assert [(one.name, one.labels) for one in loaded.objects] == [("b", {"t": "x"}), ("e", {})]
    texts = [f"{fault.path}: {fault.message}" for fault in loaded.faults]
    assert texts[:4] == [
        ': must be a Kubernetes object, not "just text"',
        "apiVersion: must be a string: every Kubernetes object has it",
        "metadata.labels.n: must be a string: put it in quotes",
        "metadata.labels: must be a mapping of at most 128 labels",
    ]
    assert len(texts) == 6
    assert loaded.faults[2].origin.startswith(f"{file}:8:33 ")


def test_only_changed_files_are_read_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(LIST.replace("name: prod", f"name: {name}"))
    files = InventoryFiles([ExporterPath(tmp_path)])
    assert len(files.load().objects) == 4
    assert files.load() == files.load()
    assert files.statistics().read == 2
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: new}\n")
    (tmp_path / "b.yaml").unlink()
    assert [one.name for one in files.load().objects] == ["new"]
    assert (files.statistics().read, files.statistics().files) == (3, 1)


def test_an_index_is_made_only_of_changed_objects(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(LIST)
    files = InventoryFiles([ExporterPath(file)])
    first = files.load().index
    file.write_text(f"# a comment\n{LIST}")
    assert files.load().index is first
    file.write_text(LIST.replace("production", "testing"))
    second = files.load().index
    prod = StreamKey("", "namespace", "", "prod")
    assert second.changed_since(first) == {prod, UidKey("", "u-1")}
    assert second.changed_since(ManifestIndex()) >= {prod, StreamKey("", "gateway", "prod", "g")}
    assert repr(second) == "<ManifestIndex 2 objects>"


def test_a_faulty_edit_keeps_what_was_known(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(LIST)
    files = InventoryFiles([ExporterPath(tmp_path)])
    before = files.load().objects
    file.write_text(LIST.replace("name: g,", "name: g: {"))
    broken = files.load()
    assert broken.faults
    assert {one.name for one in broken.objects} == {one.name for one in before}
    file.write_text(LIST.replace("name: g,", "name: h,"))
    assert [one.name for one in files.load().objects] == ["prod", "h"]


def test_projects_do_not_see_each_other() -> None:
    inventory = Inventory()
    inventory.replace_manifests(ManifestIndex([namespace("n", "acme", env="a")]))
    inventory.apply_info_series(says("n", "zeta", env="z"), begins=True)
    found = {project: value(inventory, "n", project=project) for project in ("acme", "zeta", "")}
    assert found == {"acme": "a", "zeta": "z", "": None}


def test_a_manifest_goes_before_the_stream() -> None:
    inventory = Inventory()
    inventory.apply_info_series(says("n", env="stream", extra="x"), begins=True)
    inventory.replace_manifests(ManifestIndex([namespace("n", env="manifest")]))
    assert value(inventory, "n") == "manifest"
    assert value(inventory, "n", "extra") is None, "a manifest tells all labels"
    inventory.replace_manifests(ManifestIndex([]))
    assert value(inventory, "n") == "stream"


def test_resources_by_uid_and_by_names() -> None:
    inventory = Inventory()
    one = Object("", "a.io", "Gateway", "prod", "g", "u-1", {"k": "manifest"})
    inventory.replace_manifests(ManifestIndex([one]))
    inventory.apply_info_series(
        InfoSeriesClaim(StreamKey("", "gateway", "prod", "h"), {"k": "stream"}), begins=True
    )
    kinds = frozenset(("gateway", "gateways"))

    def asked(group: str, name: str, uid: str = "") -> str | None:
        found = inventory.for_project("").resource(ObjectRef(group, kinds, "prod", name, uid))
        return found.get("k") if found is not None else None

    assert asked("a.io", "g") == "manifest"
    assert asked("b.io", "g") is None
    assert asked("b.io", "whatever", "u-1") == "manifest"
    assert asked("b.io", "h", "u-2") == "stream", "a stream names no groups"
    assert asked("b.io", "") is None


def test_the_series_that_began_last_counts() -> None:
    inventory = Inventory()
    old, new = says("n", env="old"), says("n", env="new")
    inventory.apply_info_series(old, begins=True)
    inventory.apply_info_series(new, begins=True)
    assert value(inventory, "n") == "new"
    inventory.apply_info_series(old, begins=False)
    assert value(inventory, "n") == "new", "its stale marker"
    inventory.apply_info_series(new, begins=False)
    inventory.apply_info_series(old, begins=False)
    assert value(inventory, "n") == "new"
    inventory.apply_info_series(old, begins=False)
    assert value(inventory, "n") == "old", "changed back: seen twice, the other not in between"


def test_two_replicas_of_the_exporter_do_not_flap() -> None:
    inventory = Inventory()
    a, b = says("n", env="a"), says("n", env="b")
    for claim in (a, b):
        inventory.apply_info_series(claim, begins=True)
    value(inventory, "n")
    for _ in range(5):
        inventory.apply_info_series(a, begins=False)
        inventory.apply_info_series(b, begins=False)
    assert inventory.take_changed() == set()


def test_only_what_was_asked_for_matters_when_it_changes() -> None:
    inventory = Inventory()
    inventory.apply_info_series(says("n", "acme", env="a"), begins=True)
    assert inventory.take_changed() == set()
    value(inventory, "n", project="acme")
    value(inventory, "unknown", project="zeta")
    inventory.apply_info_series(says("n", "acme", env="a"), begins=False)
    assert inventory.take_changed() == set(), "it says the same"
    inventory.apply_info_series(says("n", "acme", env="b"), begins=True)
    inventory.apply_info_series(says("other", "zeta", env="b"), begins=True)
    assert inventory.take_changed() == {"acme"}
    inventory.apply_info_series(says("unknown", "zeta"), begins=True)
    assert inventory.take_changed() == {"zeta"}, "unknown was an answer too"
    inventory.replace_manifests(
        ManifestIndex([namespace("n", "acme", env="c"), namespace("m", "acme")])
    )
    assert inventory.take_changed() == {"acme"}
    inventory.replace_manifests(ManifestIndex([namespace("n", "acme", env="c")]))
    assert inventory.take_changed() == set()
    assert inventory.statistics().changes == 3


def test_the_stream_cannot_fill_the_memory() -> None:
    inventory = Inventory(objects_max=10)
    for number in range(1_000):
        inventory.apply_info_series(says("steady", env="x"), begins=not number)
        inventory.apply_info_series(says(f"n{number}", env="x"), begins=True)
    assert inventory.statistics().from_stream <= 10
    assert value(inventory, "steady") == "x", "what is heard of stays"
    assert value(inventory, "n0") is None
    assert repr(inventory).startswith("<Inventory 0 from manifests, ")


@pytest.mark.parametrize(
    ("labels", "key", "own"),
    [
        (
            {"__name__": "kube_namespace_labels", "namespace": "prod", "label_env": "production"},
            ("namespace", "", "prod"),
            {"env": "production"},
        ),
        (
            {"__name__": "kube_pod_labels", "namespace": "a", "pod": "p", "label_x_y": "1"},
            ("pod", "a", "p"),
            {"x_y": "1"},
        ),
        (
            {"__name__": "kube_job_labels", "namespace": "a", "job_name": "j", "job": "ksm"},
            ("job", "a", "j"),
            {},
        ),
        ({"__name__": "kube_node_labels", "node": "n1"}, ("node", "", "n1"), {}),
        ({"__name__": "kube_pod_labels", "namespace": "a"}, None, {}),
        ({"__name__": "kube_pod_info", "namespace": "a", "pod": "p"}, None, {}),
        ({"__name__": "xkube_pod_labels", "namespace": "a", "pod": "p"}, None, {}),
    ],
)
def test_info_series(
    labels: dict[str, str], key: tuple[str, str, str] | None, own: dict[str, str]
) -> None:
    claim = InfoReader().claim(labels, "acme")
    assert claim == (InfoSeriesClaim(StreamKey("acme", *key), own) if key is not None else None)


def test_info_series_of_another_make() -> None:
    rule = InfoSeries("platform_workload_info", "Workload", "ns", "workload", "l_")
    labels = {"__name__": "platform_workload_info", "ns": "a", "workload": "w", "l_app": "x"}
    claim = InfoReader([rule]).claim(labels, "")
    assert claim == InfoSeriesClaim(StreamKey("", "workload", "a", "w"), {"app": "x"})
    assert "platform_workload_info" in repr(InfoReader([rule]))


def test_labels_of_objects_compare_by_value() -> None:
    assert ObjectLabels({"a": "b"}) == ObjectLabels({"a": "b"}) != ObjectLabels({"a": "b"}, False)
