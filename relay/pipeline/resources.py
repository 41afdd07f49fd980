"""What ``target_info`` says of a target, joined to all series of its job and instance.

Rules:

* ``target_info`` is no metric: its labels become attributes of the resource, keys unaltered
  (reference, section B).
* The join is by project, ``job`` and ``instance``, and works across requests, in either order. It
  is made when a series is first seen; what is learned later moves :attr:`Resource.version`, and the
  series of that target are translated once more.
* A resource is known as long as a series of its target is: the bound is that of the series table.
  The one that was asked for last is known besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from relay.pipeline.route import Fact
from relay.selector.ast import NAME
from relay.wire.otlp import ScopeGroup

TARGET_INFO = "target_info"

KEY_LABELS: Final = ("job", "instance")
"""The labels that name a target."""

TargetKey: TypeAlias = tuple[str | None, ...]
"""The values of :data:`KEY_LABELS`, None for one that is not there."""

_NO_TARGET: Final[TargetKey] = (None, None)


class Resource(Fact):
    """What is known of one target besides its job and instance.

    ``home`` is the translator's: where the points of series are that say no more of their resource
    and scope; None until the first one comes, and after each change.
    """

    __slots__ = ("__weakref__", "attributes", "home")

    def __init__(self) -> None:
        super().__init__()
        self.attributes: tuple[tuple[str, str], ...] = ()
        self.home: ScopeGroup | None = None

    def __repr__(self) -> str:
        return f"<Resource {self.attributes!r}>"


class Resources:
    """Every target that has a series. ``changed``: series must be translated anew."""

    def __init__(self) -> None:
        self._targets: WeakValueDictionary[tuple[str, TargetKey], Resource] = WeakValueDictionary()
        self._none = Resource()
        self._latest: tuple[tuple[str, TargetKey], tuple[Resource]] = (
            ("", _NO_TARGET),
            (self._none,),
        )
        self.changed = False

    def find(self, labels: Mapping[str, str], project: str) -> Resource:
        """The target of a project's series; keep it as long as the series is kept."""
        return self.facts((labels.get("job"), labels.get("instance")), project)[0]

    def facts(self, target: TargetKey, project: str) -> tuple[Resource]:
        """The same as what a series rests on, by the values of :data:`KEY_LABELS`; series of one
        target come one behind the other and share it."""
        key = (project, target)
        latest, facts = self._latest
        if key == latest:
            return facts
        if target == _NO_TARGET:
            resource = self._none
        else:
            found = self._targets.get(key)
            if found is None:
                found = self._targets[key] = Resource()
            resource = found
        facts = (resource,)
        self._latest = key, facts
        return facts

    def learn(self, labels: Mapping[str, str], project: str) -> None:
        """Take in a ``target_info`` series: it replaces what another one said of the target."""
        resource = self.find(labels, project)
        if resource is self._none:
            return
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
            self.changed = True

    def take_changed(self) -> bool:
        """Whether anything was learned since this was asked last."""
        changed, self.changed = self.changed, False
        return changed

    def __len__(self) -> int:
        return len(self._targets)

    def __repr__(self) -> str:
        return f"<Resources {len(self)} targets>"
