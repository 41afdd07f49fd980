"""Joins the labels of ``target_info`` to all series of its job and instance.

Rules:

* ``target_info`` is no metric: its labels become attributes of the resource, keys unaltered
  (reference, section B).
* The join is by project, ``job`` and ``instance``, and works across requests, in either order. It
  is made when a series is first seen; what is learned later changes the resource's version, and the
  series of that target are translated again.
* A resource is known as long as a series of its target is: the bound is that of the series table.
  The last one used is kept as well. Restored ones are kept for ``idle_s`` until a series of their
  target comes.
* Series without a project teach nothing: see :mod:`relay.pipeline.routing.tenancy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from relay.codec.otlp.groups import ScopeGroup
from relay.pipeline.routing.route import VersionedDependency
from relay.selector.matchers import NAME

TARGET_INFO = "target_info"

KEY_LABELS: Final = ("job", "instance")
"""The labels that name a target."""

TargetKey: TypeAlias = tuple[str | None, ...]
"""The values of :data:`KEY_LABELS`; None for an absent one."""

_NO_TARGET: Final[TargetKey] = (None, None)


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """The saved form of one target's labels."""

    project: str
    target: TargetKey
    attributes: tuple[tuple[str, str], ...]


class Resource(VersionedDependency):
    """Learned labels of one target besides its job and instance.

    ``home`` caches the translator's group for series without other resource or scope labels; None
    until the first such series, and after each change.
    """

    __slots__ = ("__weakref__", "attributes", "home")

    def __init__(self) -> None:
        super().__init__()
        self.attributes: tuple[tuple[str, str], ...] = ()
        self.home: ScopeGroup | None = None

    def __repr__(self) -> str:
        return f"<Resource {self.attributes!r}>"


class TargetInfoStore:
    """Resources of all targets that have series; ``changed``: series must be translated anew."""

    def __init__(self, *, idle_s: float = 3600.0) -> None:
        self._idle_s = idle_s
        self._restored: dict[tuple[str, TargetKey], Resource] = {}
        """Resources of an earlier process, until ``idle_s`` has passed."""
        self._restored_until: float | None = None
        self.version = 0
        """Changes with everything that is learned."""
        self._targets: WeakValueDictionary[tuple[str, TargetKey], Resource] = WeakValueDictionary()
        self._none = Resource()
        # The latest answer of facts, and what it was for.
        self._latest_project = ""
        self._latest_target: TargetKey = _NO_TARGET
        self._latest: tuple[Resource] = (self._none,)
        self.changed = False

    def find(self, labels: Mapping[str, str], project: str) -> Resource:
        """Return the resource of a series' target; keep it as long as the series."""
        return self.facts((labels.get("job"), labels.get("instance")), project)[0]

    def facts(self, target: TargetKey, project: str) -> tuple[Resource]:
        """Return the resource as a dependency tuple, by the values of :data:`KEY_LABELS`.

        Consecutive series of one target share the tuple.
        """
        is_latest = target is self._latest_target or target == self._latest_target
        if is_latest and project == self._latest_project:
            self._latest_target = target  # the caller's is compared by identity next time
            return self._latest
        if target == _NO_TARGET:
            resource = self._none
        else:
            found = self._targets.get((project, target))
            if found is None:
                found = self._targets[project, target] = Resource()
            resource = found
        self._latest_project, self._latest_target = project, target
        self._latest = (resource,)
        return self._latest

    def learn(self, labels: Mapping[str, str], project: str) -> Resource:
        """Learn a ``target_info`` series; return the resource whose labels it replaced."""
        resource = self.find(labels, project)
        if resource is self._none:
            return resource
        attributes = tuple(
            sorted(
                (key, value)
                for key, value in labels.items()
                if key != NAME and key not in KEY_LABELS
            )
        )
        if attributes != resource.attributes:
            resource.attributes = attributes
            resource.home = None
            resource.version += 1
            self.version += 1
            self.changed = True
        return resource

    def known(self) -> list[TargetInfo]:
        """Return the learned labels of all targets; a copy."""
        return [
            TargetInfo(project, target, resource.attributes)
            for (project, target), resource in list(self._targets.items())
            if resource.attributes
        ]

    def restore(self, targets: Iterable[TargetInfo]) -> None:
        """Restore the targets of an earlier process; before anything else is learned."""
        for one in targets:
            resource = self.facts(one.target, one.project)[0]
            if resource is not self._none:
                resource.attributes = one.attributes
                self._restored[one.project, one.target] = resource

    def forget(self, project: str) -> int:
        """Forget the labels of a project's targets; return of how many."""
        for key in [key for key in self._restored if key[0] == project]:
            del self._restored[key]
        count = 0
        for (owner, _), resource in list(self._targets.items()):
            if owner == project and resource.attributes:
                resource.attributes = ()
                resource.home = None
                resource.version += 1
                count += 1
        if count:
            self.version += 1
            self.changed = True
        return count

    def sweep(self, tick: float) -> None:
        """Advance the monotonic clock, s."""
        if self._restored:
            if self._restored_until is None:
                self._restored_until = tick + self._idle_s
            elif tick >= self._restored_until:
                self._restored.clear()

    def take_changed(self) -> bool:
        """Return True if anything was learned since the last call."""
        changed, self.changed = self.changed, False
        return changed

    def __len__(self) -> int:
        return len(self._targets)

    def __repr__(self) -> str:
        return f"<TargetInfoStore {len(self)} targets>"
