"""Ownership of fields: ``metadata.managedFields``, kept by updates, decided by server-side apply.

The rules are those of kube-apiserver's ``managedfields`` and of structured-merge-diff's ``merge``:

* A field that one manager changes is no longer owned by others; an apply is refused (a conflict)
  if it would change a field of somebody else, unless it is forced. Same values are shared.
* A field that a manager applied before and leaves out now goes, unless another one owns it.
* Objects whose managers were reset begin with ``before-first-apply`` at the next apply.

Every object has one version, so that nothing is converted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from relay.apiserver.merging.field_set import FieldSet, FieldSetError, Path, canonical, path_text
from relay.apiserver.merging.typed_values import (
    Comparison,
    TypeMismatchError,
    compare,
    equal,
    field_set_of,
    merge,
    mismatches,
    remove_items,
)
from relay.apiserver.merging.value_types import FieldType

JsonObject = dict[str, Any]

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
UPDATERS_MAX: Final = 10
"""Managers of updates that an object keeps apart; older ones are joined."""
_ANCIENT: Final = "ancient-changes"
_BEFORE_FIRST_APPLY: Final = "before-first-apply"
_NEVER_OWNED: Final = FieldSet.of(
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ),
)


@dataclass(frozen=True, slots=True)
class ManagerKey:
    """A manager as an object keeps it apart from others."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def text(self, time: str = "") -> str:
        """Return the manager as messages about conflicts have it."""
        said = json.dumps(self.name, ensure_ascii=False)
        if self.subresource:
            said += f' with subresource "{self.subresource}"'
        if self.operation == "Update":
            said += f" using {self.api_version}" + (f" at {time}" if time else "")
        return said


@dataclass(slots=True)
class _Owned:
    fields: FieldSet
    time: str


@dataclass(slots=True)
class ManagedFields:
    """The managers of an object with their fields."""

    owned: dict[ManagerKey, _Owned] = field(default_factory=dict)

    @classmethod
    def decode(cls, entries: object) -> ManagedFields:
        """Read ``metadata.managedFields``; raise FieldSetError for entries that are none."""
        made = cls()
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(entry, dict):
                raise FieldSetError(f"managedFields[{index}] must be an object")
            operation = entry.get("operation")
            if operation not in ("Apply", "Update"):
                raise FieldSetError("operation must be `Apply` or `Update`")
            version = str(entry.get("apiVersion") or "")
            if not version:
                raise FieldSetError("apiVersion must not be empty")
            if entry.get("fieldsType") != "FieldsV1":
                said = json.dumps(entry.get("fieldsType"))
                raise FieldSetError(f"invalid fieldsType {said} in managed fields entry {index}")
            key = ManagerKey(
                str(entry.get("manager") or ""),
                operation,
                version,
                str(entry.get("subresource") or ""),
            )
            fields = FieldSet.from_fields(entry.get("fieldsV1") or {})
            made.owned[key] = _Owned(fields, str(entry.get("time") or ""))
        return made

    @classmethod
    def decode_or_empty(cls, entries: object) -> ManagedFields:
        """Read ``metadata.managedFields``; return no managers for what cannot be read."""
        try:
            return cls.decode(entries)
        except FieldSetError:
            return cls()

    def encode(self) -> list[JsonObject]:
        """Return ``metadata.managedFields``."""
        ordered = sorted(
            self.owned.items(),
            key=lambda item: (
                item[0].operation,
                item[1].time,
                item[0].name,
                item[0].api_version,
                item[0].subresource,
            ),
        )
        return [_entry(key, one) for key, one in ordered]


def _entry(key: ManagerKey, owned: _Owned) -> JsonObject:
    entry: JsonObject = {
        "manager": key.name,
        "operation": key.operation,
        "apiVersion": key.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.fields.to_fields(),
        "subresource": key.subresource,
    }
    return {name: value for name, value in entry.items() if value != ""}


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that an apply would change although another manager owns it."""

    manager: ManagerKey
    path: Path

    @property
    def field(self) -> str:
        """The path as messages have it."""
        return path_text(self.path)

    @property
    def message(self) -> str:
        """The text of the cause."""
        return f"conflict with {self.manager.text()}"


class ApplyConflictError(Exception):
    """An apply would change fields of other managers."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__(conflict_message(conflicts))
        self.conflicts: Final = conflicts


class NotApplicableError(Exception):
    """A configuration does not fit the kind; ``without_values`` says so and shows none of it."""

    def __init__(self, wrong: list[str], of_what: str = "") -> None:
        super().__init__(of_what + _listed(wrong))
        self.without_values: Final = of_what + _listed(
            [one.partition(", got ")[0] for one in wrong]
        )


def conflict_message(conflicts: list[Conflict]) -> str:
    """Return kube-apiserver's words for conflicts."""
    if len(conflicts) == 1:
        only = conflicts[0]
        return f"Apply failed with 1 conflict: {only.message}: {only.field}"
    lines: list[str] = []
    for name in sorted({one.manager.text() for one in conflicts}):
        lines.append(f"conflicts with {name}:")
        lines += [f"- {one.field}" for one in conflicts if one.manager.text() == name]
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


@dataclass(frozen=True, slots=True)
class FieldManager:
    """Keeps the managed fields of objects of one kind.

    ``resets`` are the fields that a request cannot set, because the resource or subresource ignores
    them; nothing below them is owned through it.
    """

    kind: FieldType
    api_version: str
    subresource: str = ""
    resets: FieldSet = field(default_factory=FieldSet)

    def updated(
        self, live: JsonObject, new: JsonObject, manager: str, time: str
    ) -> list[JsonObject]:
        """Return the managed fields after ``new`` replaces ``live``; {} for an object that is new.

        ``time`` is RFC 3339 in seconds.
        """
        entries = new.get("metadata", {}).get("managedFields")
        is_reset = not self.subresource and entries in ([], [{}])
        managed = ManagedFields()
        if not is_reset:
            managed = ManagedFields.decode_or_empty(None if self.subresource else entries)
            if not managed.owned:
                live_entries = live.get("metadata", {}).get("managedFields")
                managed = ManagedFields.decode_or_empty(live_entries)
        if not managed.owned and live.get("metadata", {}).get("uid"):
            return []
        try:
            self._update(live, new, managed, manager, time)
        except TypeMismatchError:
            # Validation refuses what is new; what is stored must not keep it from being mended.
            kept: list[JsonObject] = live.get("metadata", {}).get("managedFields", [])
            return kept
        _cap(managed)
        return managed.encode()

    def _update(
        self, live: JsonObject, new: JsonObject, managed: ManagedFields, manager: str, time: str
    ) -> None:
        found = self._compared(_plain(live), _plain(new))
        self._take_from_others(managed, found, None)
        taken = found.modified.union(found.added).without_below(self.resets)
        taken = taken.difference(_NEVER_OWNED)
        if not taken:
            return
        key = ManagerKey(manager or "unknown", "Update", self.api_version, self.subresource)
        if key in managed.owned:
            taken = taken.union(managed.owned[key].fields)
        managed.owned[key] = _Owned(taken, time)

    def applied(
        self, live: JsonObject, config: JsonObject, manager: str, time: str, *, force: bool
    ) -> tuple[JsonObject, list[JsonObject]]:
        """Return the object with ``config`` applied, and its managed fields.

        ``live`` is {} with apiVersion, kind and metadata for an object that is new. Raise
        ApplyConflictError for fields of others, NotApplicableError for what the schema refuses.
        """
        wrong = list(mismatches(self.kind, config))
        if wrong:
            raise NotApplicableError(wrong)
        wrong = list(mismatches(self.kind, _plain(live), duplicates_allowed=True))
        if wrong:
            raise NotApplicableError(wrong, "the stored object does not fit the schema: ")
        annotations = live.get("metadata", {}).get("annotations") or {}
        try:
            made, managed = self._apply(live, config, manager, time, force=force)
        except ApplyConflictError as error:
            if manager != "kubectl":
                raise
            allowed = self._set_by_last_apply(live, annotations.get(LAST_APPLIED, ""))
            if allowed is None:
                raise
            left = [one for one in error.conflicts if not allowed.has(one.path)]
            if left:
                raise ApplyConflictError(left) from None
            made, managed = self._apply(live, config, manager, time, force=True)
        if manager == "kubectl" and (made["metadata"].get("annotations") or {}).get(LAST_APPLIED):
            made = _with_annotation(made, LAST_APPLIED, last_applied_text(config))
        return made, managed.encode()

    def _apply(
        self, live: JsonObject, config: JsonObject, manager: str, time: str, *, force: bool
    ) -> tuple[JsonObject, ManagedFields]:
        managed = ManagedFields.decode_or_empty(live.get("metadata", {}).get("managedFields"))
        before = _plain(live)
        if not managed.owned:
            empty = {"apiVersion": live.get("apiVersion"), "kind": live.get("kind")}
            self._update(empty, before, managed, _BEFORE_FIRST_APPLY, time)
        merged = merge(self.kind, before, config)
        key = ManagerKey(manager, "Apply", self.api_version, self.subresource)
        former = next((one for one in managed.owned if _is_same_applier(one, key)), None)
        last = managed.owned.pop(former) if former is not None else None
        fields = field_set_of(self.kind, config).without_below(self.resets)
        managed.owned[key] = _Owned(fields, "" if last is None else last.time)
        if last is not None and last.fields:
            merged = self._without_dropped(merged, managed, last.fields)
        found = self._compared(before, merged)
        conflicts = self._conflicts(managed, found, key)
        if conflicts and not force:
            raise ApplyConflictError(conflicts)
        self._take_from_others(managed, found, key)
        own = managed.owned.get(key)
        if own is not None:
            own.fields = own.fields.difference(_NEVER_OWNED)
            if not equal(before, merged):
                own.time = time
            if not own.fields:
                del managed.owned[key]
        return merged, managed

    def _compared(self, old: JsonObject, new: JsonObject) -> Comparison:
        found = compare(self.kind, old, new)
        if self.resets:
            found.added = found.added.without_below(self.resets)
            found.modified = found.modified.without_below(self.resets)
            found.removed = found.removed.without_below(self.resets)
        return found

    def _conflicts(
        self, managed: ManagedFields, found: Comparison, own: ManagerKey
    ) -> list[Conflict]:
        changed = found.modified.union(found.added)
        return [
            Conflict(key, path)
            for key, one in managed.owned.items()
            if key != own
            for path in one.fields.intersection(changed).paths()
        ]

    def _take_from_others(
        self, managed: ManagedFields, found: Comparison, own: ManagerKey | None
    ) -> None:
        changed = found.modified.union(found.added).union(found.removed)
        for key, one in list(managed.owned.items()):
            if key != own:
                one.fields = one.fields.difference(changed)
            if not one.fields:
                del managed.owned[key]

    def _without_dropped(self, merged: Any, managed: ManagedFields, last: FieldSet) -> Any:
        """Return the object without what its manager applied before and nobody owns now."""
        kind = self.kind
        pruned = remove_items(kind, merged, last.with_named_fields(kind))
        everyone = FieldSet()
        for one in managed.owned.values():
            everyone = everyone.union(one.fields)
        whole = field_set_of(kind, merged).with_named_fields(kind)
        kept = field_set_of(kind, pruned).with_named_fields(kind)
        kept = kept.union(everyone.with_named_fields(kind))
        pruned = remove_items(kind, merged, whole.difference(kept))
        kept = field_set_of(kind, pruned).with_named_fields(kind)
        dropped = whole.difference(kept).intersection(last.with_named_fields(kind))
        return remove_items(kind, merged, dropped)

    def _set_by_last_apply(self, live: JsonObject, text: str) -> FieldSet | None:
        """Return the fields that client-side apply set and that are as it set them."""
        try:
            config = json.loads(text)
        except ValueError:
            return None
        if not isinstance(config, dict) or config.get("apiVersion") != self.api_version:
            return None
        if any(mismatches(self.kind, config)):
            return None
        found = compare(self.kind, config, live)
        own = field_set_of(self.kind, config)
        return own.difference(found.modified).difference(found.added).difference(found.removed)


def _is_same_applier(one: ManagerKey, other: ManagerKey) -> bool:
    return (one.name, one.operation, one.subresource) == (
        other.name,
        other.operation,
        other.subresource,
    )


def _listed(wrong: list[str]) -> str:
    """Return errors as structured-merge-diff prints them."""
    if len(wrong) == 1:
        return wrong[0]
    return "errors:\n" + "\n".join(f"  {one}" for one in wrong)


def _plain(value: JsonObject) -> JsonObject:
    """Return an object without its managed fields."""
    if "managedFields" not in value.get("metadata", {}):
        return value
    metadata = {key: own for key, own in value["metadata"].items() if key != "managedFields"}
    return {**value, "metadata": metadata}


def _with_annotation(value: JsonObject, name: str, text: str) -> JsonObject:
    metadata = value["metadata"]
    annotations = {**(metadata.get("annotations") or {}), name: text}
    return {**value, "metadata": {**metadata, "annotations": annotations}}


def last_applied_text(config: JsonObject) -> str:
    """Return the annotation in which kubectl keeps what it applied."""
    metadata = dict(config.get("metadata") or {})
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key != LAST_APPLIED
    }
    if "annotations" in metadata:
        metadata["annotations"] = annotations
    return canonical(_sorted({**config, "metadata": metadata})) + "\n"


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def _cap(managed: ManagedFields) -> None:
    """Join the oldest updaters, so that at most :data:`UPDATERS_MAX` remain."""
    updaters = [key for key in managed.owned if key.operation == "Update"]
    left = len(updaters)
    updaters.sort(key=lambda key: (managed.owned[key].time, key.name, key.subresource))
    first: dict[str, ManagerKey] = {}
    for key in updaters:
        if left <= UPDATERS_MAX:
            return
        version = key.api_version
        if version not in first:
            first[version] = key
            continue
        bucket = ManagerKey(_ANCIENT, "Update", version)
        if bucket not in managed.owned:
            managed.owned[bucket] = managed.owned.pop(first[version])
        one = managed.owned[bucket]
        joined = managed.owned.pop(key) if key != bucket else one
        managed.owned[bucket] = _Owned(one.fields.union(joined.fields), joined.time)
        left -= 1
