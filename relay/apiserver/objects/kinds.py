"""The kinds that the API serves, with their schemas.

Custom kinds come from the sources of the CRDs (:mod:`relay.config.schema.generate`), the core kinds
from ``core.yaml``, those that can only be created from ``actions.yaml``, and what the subresource
``history`` answers from ``history.yaml`` beside this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from relay.apiserver.merging.field_set import FieldSet
from relay.apiserver.merging.managed_fields import FieldManager
from relay.apiserver.merging.value_types import REF_PREFIX, FieldType, Node, field_type
from relay.apiserver.objects.failures import ResourceName
from relay.config.export_policy.build import export_policy_schema
from relay.config.exporter.build import exporter_schema
from relay.config.schema.generate import crd_of
from relay.config.schema.source import load

META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
CORE: Final = "io.k8s.api.core.v1."
TAP: Final = "tap"
HISTORY: Final = "history"
COORDINATION: Final = "io.k8s.api.coordination.v1."
_VERBS: Final = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of the kind's table; ``priority`` above 0 is shown with ``-o wide`` only."""

    name: str
    type: str
    path: str
    description: str = ""
    priority: int = 0
    format: str = ""


@dataclass(frozen=True)
class ResourceKind:
    """One kind. ``definition`` is the name of its schema in ``definitions``."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    definition: str
    definitions: dict[str, Node] = field(repr=False, hash=False, compare=False)
    columns: tuple[PrinterColumn, ...] = ()
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = False
    """True if status is written through a subresource of its own."""
    is_custom: bool = False
    """True for a kind with the semantics of a CRD."""
    verbs: tuple[str, ...] = _VERBS
    is_action: bool = False
    """True for a kind that can only be created, and is not stored."""
    has_tap: bool = False
    """True for a kind with the subresource ``tap``."""
    has_history: bool = False
    """True for a kind with the subresource ``history``."""

    @property
    def subresources(self) -> tuple[str, ...]:
        """Names of its subresources, and "" for the object itself."""
        status = ("status",) * self.has_status
        return ("", *status, *(name for name, _ in self.read_only))

    @property
    def read_only(self) -> tuple[tuple[str, str], ...]:
        """Subresources that can only be read, each with the kind of its answer."""
        tap = ((TAP, self.kind),) * self.has_tap
        return (*tap, *((HISTORY, f"{self.kind}History"),) * self.has_history)

    def restricted(self, *, tap: bool, history: bool) -> ResourceKind:
        """Return the kind without the subresources that are not served."""
        return replace(self, has_tap=self.has_tap and tap, has_history=self.has_history and history)

    @property
    def api_version(self) -> str:
        """Group and version as objects have them."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """Kind of its lists."""
        return f"{self.kind}List"

    @property
    def path(self) -> str:
        """Root of its group and version: ``/api/v1`` or ``/apis/<group>/<version>``."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def storage_key(self) -> str:
        """Name of the kind in the store."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @cached_property
    def names(self) -> ResourceName:
        """Names of the kind as refusals have them."""
        return ResourceName(self.group, self.kind, self.plural)

    @cached_property
    def node(self) -> Node:
        """Schema of an object."""
        return self.definitions[self.definition]

    @cached_property
    def field_type(self) -> FieldType:
        """Type of an object for server-side apply."""
        return field_type(self.node, self.definitions)

    @cached_property
    def manager(self) -> FieldManager:
        """Field manager of the object itself."""
        resets = FieldSet.of(("f:status",)) if self.has_status else FieldSet()
        return FieldManager(self.field_type, self.api_version, resets=resets)

    @cached_property
    def status_manager(self) -> FieldManager:
        """Field manager of the status subresource."""
        resets = FieldSet.of(("f:metadata",), ("f:spec",))
        return FieldManager(self.field_type, self.api_version, "status", resets)

    def __repr__(self) -> str:
        return f"<ResourceKind {self.storage_key}>"


@cache
def core_definitions() -> dict[str, Node]:
    """Return the schemas of the core kinds and of what every kind uses."""
    with (Path(__file__).parent / "core.yaml").open("rb") as file:
        content: dict[str, Any] = yaml.safe_load(file)
    definitions: dict[str, Node] = content["definitions"]
    return definitions


@cache
def _history() -> Node:
    """Return the schema of a history, below its metadata."""
    with (Path(__file__).parent / "history.yaml").open("rb") as file:
        content: Node = yaml.safe_load(file)
    return content


def _reference(name: str) -> Node:
    return {"$ref": f"{REF_PREFIX}{name}"}


def _definition_name(group: str, version: str, kind: str) -> str:
    return ".".join([*reversed(group.split(".")), version, kind])


_METADATA: Final = (
    "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/"
    "sig-architecture/api-conventions.md#metadata"
)


def _custom(source_name: str, schema: Any, group: str) -> ResourceKind:
    crd = crd_of(load(source_name), schema, group)["spec"]
    names, (version,) = crd["names"], crd["versions"]
    kind, name = names["kind"], version["name"]
    definition = _definition_name(group, name, kind)
    root = dict(version["schema"]["openAPIV3Schema"])
    gvk = {"group": group, "version": name, "kind": kind}
    core = core_definitions()
    secret = core[f"{CORE}Secret"]["properties"]
    root["properties"] = {
        **root["properties"],
        "apiVersion": secret["apiVersion"],
        "kind": secret["kind"],
        "metadata": {"description": _METADATA, "allOf": [_reference(f"{META}ObjectMeta")]},
    }
    root["x-kubernetes-group-version-kind"] = [gvk]
    listed = {
        "description": f"{kind}List is a list of {kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": secret["apiVersion"],
            "items": {"type": "array", "items": _reference(definition)},
            "kind": secret["kind"],
            "metadata": {"allOf": [_reference(f"{META}ListMeta")]},
        },
        "x-kubernetes-group-version-kind": [{**gvk, "kind": f"{kind}List"}],
    }
    history = {
        **_history(),
        "properties": {
            "apiVersion": secret["apiVersion"],
            "kind": secret["kind"],
            "metadata": {"allOf": [_reference(f"{META}ObjectMeta")]},
            **_history()["properties"],
        },
    }
    return ResourceKind(
        group=group,
        version=name,
        kind=kind,
        plural=names["plural"],
        singular=names["singular"],
        definition=definition,
        definitions={
            **core,
            definition: root,
            f"{definition}List": listed,
            f"{definition}History": history,
        },
        columns=tuple(_columns(version["additionalPrinterColumns"])),
        short_names=tuple(names.get("shortNames", ())),
        has_status=True,
        is_custom=True,
        has_tap=kind == "Exporter",
        has_history=True,
    )


def _columns(nodes: list[Node]) -> list[PrinterColumn]:
    return [
        PrinterColumn(
            node["name"],
            node["type"],
            node["jsonPath"],
            node.get("description", ""),
            node.get("priority", 0),
            node.get("format", ""),
        )
        for node in nodes
    ]


_AGE: Final = PrinterColumn("Age", "string", ".metadata.creationTimestamp")
_PHASE: Final = PrinterColumn("Status", "string", ".status.phase", "The status of the namespace")
_EVENT_COLUMNS: Final = (
    PrinterColumn("Last Seen", "string", ".lastTimestamp"),
    PrinterColumn("Type", "string", ".type"),
    PrinterColumn("Reason", "string", ".reason"),
    PrinterColumn("Object", "string", ".involvedObject"),
    PrinterColumn("Subobject", "string", ".involvedObject.fieldPath", priority=1),
    PrinterColumn("Source", "string", ".source.component", priority=1),
    PrinterColumn("Message", "string", ".message"),
    PrinterColumn("First Seen", "string", ".firstTimestamp", priority=1),
    PrinterColumn("Count", "string", ".count", priority=1),
    PrinterColumn("Name", "string", ".metadata.name", priority=1),
)


def _core(
    kind: str, plural: str, columns: tuple[PrinterColumn, ...], *, group: str = "", **more: Any
) -> ResourceKind:
    return ResourceKind(
        group=group,
        version="v1",
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        definition=f"{COORDINATION if group else CORE}{kind}",
        definitions=core_definitions(),
        columns=columns,
        **more,
    )


@cache
def _action_sources() -> dict[str, Any]:
    with (Path(__file__).parent / "actions.yaml").open("rb") as file:
        content: dict[str, Any] = yaml.safe_load(file)
    return content


_PLURALS: Final = {
    "ExporterPreview": "exporterpreviews",
    "SinkTest": "sinktests",
    "SeriesExplanation": "seriesexplanations",
}


def _action(kind: str, plural: str) -> ResourceKind:
    group, version = load("exporter")["groups"][0], load("exporter")["version"]
    source, core = _action_sources()[kind], core_definitions()
    secret = core[f"{CORE}Secret"]["properties"]
    definition = _definition_name(group, version, kind)
    root = {
        "description": source["description"],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": secret["apiVersion"],
            "kind": secret["kind"],
            "metadata": {"allOf": [_reference(f"{META}ObjectMeta")]},
            "spec": source["spec"],
            "status": source["status"],
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": kind}],
    }
    return ResourceKind(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        definition=definition,
        definitions={**core, definition: root},
        verbs=("create",),
        is_custom=True,
        is_action=True,
    )


@cache
def served_kinds() -> tuple[ResourceKind, ...]:
    """Return every kind that is served, in the order of discovery."""
    return (
        _core(
            "Event",
            "events",
            _EVENT_COLUMNS,
            short_names=("ev",),
        ),
        _core(
            "Namespace",
            "namespaces",
            (
                PrinterColumn("Status", "string", ".status.phase", "The status of the namespace"),
                _AGE,
            ),
            short_names=("ns",),
            namespaced=False,
            verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        ),
        _core(
            "Secret",
            "secrets",
            (
                PrinterColumn("Type", "string", ".type"),
                PrinterColumn("Data", "string", ".data"),
                _AGE,
            ),
        ),
        _core(
            "Lease",
            "leases",
            (PrinterColumn("Holder", "string", ".spec.holderIdentity"), _AGE),
            group="coordination.k8s.io",
        ),
        _custom("exporter", exporter_schema(), load("exporter")["groups"][0]),
        *(
            _custom("export_policy", export_policy_schema(), group)
            for group in load("export_policy")["groups"]
        ),
    )


def stored_kind(storage_key: str) -> ResourceKind:
    """Return a kind that is served by its name in the store."""
    return next(kind for kind in served_kinds() if kind.storage_key == storage_key)


@cache
def action_kinds() -> tuple[ResourceKind, ...]:
    """Return the kinds that can only be created; each is served if somebody can answer it."""
    return tuple(_action(*one) for one in _PLURALS.items())
