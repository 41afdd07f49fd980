"""Objects of a control plane that change are as if read at once, and unchanged ones stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.config.exporter.loading.combine import Combiner, OriginResources
from relay.control.cluster.plane_objects import PlaneObjects
from relay.control.cluster.resources import EXPORTERS, NAMESPACES
from relay.control.kubernetes.objects import ApiObject, ApiResource, ObjectKey
from relay.selector.inventory.store import ManifestIndex, Object, StreamKey, UidKey

LABEL = "example.com/project"
NAMES = ("a", "b")
PROJECTS = ("", "acme", "umbrella", "Not A Project")


def object_of(namespace: str, name: str, uid: int, **content: Any) -> ApiObject:
    metadata = {"name": name, "uid": f"uid-{uid}", **content.pop("metadata", {})}
    if namespace:
        metadata["namespace"] = namespace
    document = {"metadata": metadata, **content}
    return ApiObject(namespace, name, f"uid-{uid}", "1", 1, json.dumps(document).encode())


def exporter(namespace: str, name: str, uid: int, query: str, secret: str) -> ApiObject:
    access = {"type": "bearerToken", "secretRef": {"name": secret}} if secret else {"type": "none"}
    return object_of(
        namespace,
        name,
        uid,
        apiVersion="telemetry.datumapis.com/v1alpha1",
        kind="Exporter",
        spec={
            "sources": [{"name": "s", "metrics": {"metricsql": query}}],
            "sinks": [
                {
                    "name": "o",
                    "otlp_http": {"endpoint": "https://a.example", "authentication": access},
                }
            ],
        },
    )


def namespace(name: str, uid: int, project: str, team: str) -> ApiObject:
    labels = {"team": team} | ({LABEL: project} if project else {})
    return object_of("", name, uid, metadata={"labels": labels})


def secret(home: str, name: str, token: str) -> ApiObject:
    return object_of(home, name, 7, apiVersion="v1", kind="Secret", data={"token": token})


Step = tuple[str, ApiResource | None, ObjectKey, ApiObject | None]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    home, name = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES))
    uid = draw(st.integers(0, 1))
    what = draw(st.sampled_from(("exporter", "namespace", "secret")))
    gone = draw(st.integers(0, 3)) == 0
    if what == "exporter":
        query = draw(st.sampled_from(("up", "down", "{")))
        made = exporter(home, name, uid, query, draw(st.sampled_from(("", "a", "b"))))
        return what, EXPORTERS, (home, name), None if gone else made
    if what == "namespace":
        project, team = draw(st.sampled_from(PROJECTS)), draw(st.sampled_from(NAMES))
        # No two Namespaces have one uid.
        made = namespace(home, uid + 2 * NAMES.index(home), project, team)
        return what, NAMESPACES, ("", home), None if gone else made
    return what, None, (home, name), None if gone else secret(home, name, draw(st.just("YQ==")))


class World:
    """The objects as they are, and as one that follows their changes has them."""

    def __init__(self) -> None:
        self.there: dict[tuple[ApiResource | None, ObjectKey], ApiObject] = {}
        self.objects = PlaneObjects("", "", namespace_label=LABEL)
        self.index = ManifestIndex()
        self.combiner = Combiner(tenancy=True)

    def apply(self, batch: list[Step]) -> None:
        changes: dict[ApiResource, dict[ObjectKey, ApiObject | None]] = {}
        secrets: dict[ObjectKey, ApiObject | None] = {}
        for _, resource, key, found in batch:
            if found is None:
                self.there.pop((resource, key), None)
            else:
                self.there[resource, key] = found
            (changes.setdefault(resource, {}) if resource else secrets)[key] = found
        self.objects.apply(changes, secrets)
        self.index = self.index.with_changes(*self.objects.take_namespaces())

    def anew(self) -> PlaneObjects:
        """Return the same objects, read at once."""
        made = PlaneObjects("", "", namespace_label=LABEL)
        changes: dict[ApiResource, dict[ObjectKey, ApiObject | None]] = {}
        secrets: dict[ObjectKey, ApiObject | None] = {}
        for (resource, key), found in self.there.items():
            (changes.setdefault(resource, {}) if resource else secrets)[key] = found
        made.apply(changes, secrets)
        return made


def outcomes(objects: PlaneObjects, combiner: Combiner) -> Iterator[object]:
    loaded = combiner.combine([OriginResources(objects.resources)])
    yield {one.key: (one.uid, one.exporter, one.faults, one.lacks) for one in loaded.objects}
    yield {one.id: one for one in loaded.exporters}
    yield set(loaded.faults)


def keys_of(objects: tuple[Object, ...]) -> set[StreamKey | UidKey]:
    return {key for one in objects for key in (one.key, UidKey(one.project, one.uid))}


@given(st.lists(st.lists(steps(), min_size=1, max_size=4), max_size=12))
def test_following_changes_is_as_good_as_reading_all(batches: list[list[Step]]) -> None:
    world = World()
    for batch in batches:
        before = {id(one): one for one in world.objects.resources}
        index, known = world.index, keys_of(world.objects.namespaces)
        world.apply(batch)
        anew = world.anew()
        assert list(outcomes(world.objects, world.combiner)) == list(
            outcomes(anew, Combiner(tenancy=True))
        )
        assert world.objects.faults == anew.faults
        assert {one.project for one in world.objects.resources} <= {"", "acme", "umbrella"}
        for one in world.objects.resources:
            if not one.project:
                assert one.exporter is one.draft is one.data is None
                assert [fault.reason for fault in one.faults] == ["NoProject"]
        changed = {key for _, _, key, _ in batch}
        moved = {key[1] for key in changed if not key[0]}
        for one in world.objects.resources:
            assert one.identity is not None
            if (one.identity[2], one.identity[3]) not in changed and one.identity[2] not in moved:
                assert id(one) in before, "what has not changed is not read again"
        full = ManifestIndex(world.objects.namespaces)
        for key in known | keys_of(world.objects.namespaces):
            if isinstance(key, StreamKey):
                assert world.index.by_name("", key) == full.by_name("", key)
            else:
                assert world.index.by_uid(key) == full.by_uid(key)
        assert world.index.changed_since(index) >= full.changed_since(index)


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=3),
    st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=3)),
)
def test_two_layers_are_one_index(
    upper: list[tuple[str, str]], lowers: list[list[tuple[str, str]]]
) -> None:
    def objects(pairs: list[tuple[str, str]]) -> list[Object]:
        by_name = dict(pairs)
        return [
            Object("p", "", "Namespace", "", name, f"uid-{name}", {"team": team})
            for name, team in by_name.items()
        ]

    above, below = ManifestIndex(objects(upper)), ManifestIndex()
    both = above.over(below)
    known: list[Object] = []
    last: list[Object] = []
    for lower in lowers:
        now = objects(lower)
        before, below = both, below.with_changes(known, now)
        known = now
        both = above.over(below, base=before)
        full = ManifestIndex((*objects(upper), *now))
        for name in NAMES:
            key = StreamKey("p", "namespace", "", name)
            assert both.by_name("", key) == full.by_name("", key)
            assert both.by_uid(UidKey("p", f"uid-{name}")) == full.by_uid(
                UidKey("p", f"uid-{name}")
            )
        unknown = ManifestIndex()
        assert both.changed_since(unknown) == full.changed_since(unknown)
        was = ManifestIndex((*objects(upper), *last))
        assert both.changed_since(before) >= full.changed_since(was)
        last = now
