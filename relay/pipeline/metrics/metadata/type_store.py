"""Metric types by project, learned from metadata and from sibling series.

Rules:

* Metadata of a project holds in that project only; where it has none, the platform's (metadata
  without an owner) gives the type. The platform's help and unit are exported to projects only if
  the settings say so. Without tenancy there is one project.
* A series that declares its type has that type (remote write 2.0: metadata is a field of the
  series). The declaration is also learned for the project's series without one.
* Help and unit are set once, as targets of different versions may differ: an identity must not
  alternate. For the same reason a type holds until it was not confirmed for
  :data:`~relay.pipeline.metrics.metadata.project_types.CONFIRMED_S`; contradictions are reported.
* ``families_max`` families are shared among projects (:mod:`relay.runtime.project_shares`). The
  oldest unused families of a project are evicted first. A project without unused ones learns no
  more; used ones are evicted only for other projects.
* A family without metadata or look-ups for ``idle_s`` is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final
from weakref import WeakValueDictionary

from relay.codec.remote_write.v1 import Metadata
from relay.pipeline.metrics.metadata.metric_types import (
    COUNTER,
    HELP_CHARS_MAX,
    NOTHING_SAID,
    STATE_SET,
    UNIT_CHARS_MAX,
    UNKNOWN,
    FamilyMetadata,
)
from relay.pipeline.metrics.metadata.project_types import (
    RESTORED,
    Contradiction,
    Declaration,
    KnownFamily,
    ProjectTypes,
)
from relay.runtime.project_shares import UNCLAIMED, Shares

SWEEP_MAX: Final = 200
"""Families that one call of :meth:`TypeStore.sweep` checks: below half a millisecond."""


@dataclass(frozen=True, slots=True)
class KnownTypesStatistics:
    """A snapshot.

    ``families`` known; ``refused`` for lack of space; ``retyped`` names after first use;
    ``contradictions`` of a type that another sender confirms, and by family in ``contradicted``;
    ``forgotten`` because idle or evicted; ``unowned`` metadata of no project that was left out.
    """

    families: int
    refused: int
    retyped: int
    contradictions: int
    contradicted: tuple[Contradiction, ...] = ()
    forgotten: int = 0
    unowned: int = 0


class TypeStore:
    """Metric types of all projects; ``families_max`` is the total."""

    def __init__(
        self,
        *,
        families_max: int,
        infer: bool = True,
        has_tenancy: bool = False,
        shares_platform: bool = False,
        idle_s: float = 3600.0,
    ) -> None:
        self.tick = 0.0
        """The monotonic clock of the metadata being learned, s."""
        self.version = 0
        """Changes with everything that is learned."""
        self.infer: Final = infer
        self.has_tenancy: Final = has_tenancy
        self.shares_platform: Final = shares_platform
        self.shares = Shares(families_max)
        self.told: Callable[[str, str], object] = _nobody_asks
        """Called with the project ("": the platform) and the family that has new metadata."""
        self.changed = False
        """True if names in use have a new identity since :meth:`take_changed`."""
        self.refused = self.retyped = self.contradictions = self.forgotten = self.unowned = 0
        self._idle_s = idle_s
        self._projects: WeakValueDictionary[str, ProjectTypes] = WeakValueDictionary()
        self._with_families: dict[str, ProjectTypes] = {}
        """Projects with families, which must be kept."""
        self._claimed: set[str] = {""}
        self._declarations: WeakValueDictionary[FamilyMetadata, Declaration] = WeakValueDictionary()
        self._sweep: Iterator[tuple[ProjectTypes, str]] = iter(())
        self._sweep_at = idle_s
        self._latest: ProjectTypes | None = None
        self.platform: Final = ProjectTypes(self, "", "", None)
        self._projects[""] = self.platform

    def of(self, project: str) -> ProjectTypes:
        """Return the types of one project; "" is the platform, or everything without tenancy."""
        types: ProjectTypes | None = self._latest
        if types is not None and types.project == project:
            return types
        types = self._projects.get(project)
        if types is None:
            share = project if project in self._claimed else UNCLAIMED
            types = ProjectTypes(self, project, share, self.platform)
            self._projects[project] = types
        self._latest = types
        return types

    def claim(self, project: str) -> None:
        """Give a share of its own to a project that has an exporter now."""
        if project not in self._claimed:
            self._claimed.add(project)
            types = self._projects.get(project)
            if types is not None:
                types.claim()

    def learn(self, owner: str | None, metadata: Metadata) -> bool:
        """Store metadata for a project; return True if the type of a name in use changed."""
        if owner is None:
            self.unowned += 1
            return False
        said = FamilyMetadata(metadata.type, metadata.help, metadata.unit)
        return self.of(owner).learn(metadata.family, said)

    def declaration(self, type_: int, help_: str, unit: str) -> Declaration | None:
        """Return the declaration of a series; None if it has no valid content."""
        if len(unit) > UNIT_CHARS_MAX:
            self.refused += 1
            return None
        kind = type_ if COUNTER <= type_ <= STATE_SET else UNKNOWN
        metadata = FamilyMetadata(kind, help_[:HELP_CHARS_MAX], unit)
        if metadata == NOTHING_SAID:
            return None
        found = self._declarations.get(metadata)
        if found is None:
            found = self._declarations[metadata] = Declaration(metadata)
        return found

    @property
    def declarations(self) -> int:
        """Return the number of different declarations that series hold."""
        return len(self._declarations)

    @property
    def projects(self) -> int:
        """Return the number of projects with entries."""
        return len(self._with_families)

    def take_changed(self) -> bool:
        """Return True if names in use have a new identity since the last call."""
        changed, self.changed = self.changed, False
        return changed

    def sweep(self, tick: float) -> None:
        """Forget a few families that are idle; to be called often."""
        self.tick = tick
        looked = 0
        for types, family in islice(self._sweep, SWEEP_MAX):
            types.look_after(family, tick - self._idle_s)
            looked += 1
        if not looked and tick >= self._sweep_at:
            self._sweep_at = tick + self._idle_s
            kept = list(self._with_families.values())
            for types in kept:
                types.turn()
            self._sweep = ((types, family) for types in kept for family in types.names())

    def families(self) -> dict[str, dict[str, KnownFamily]]:
        """Return all learned metadata by project and family; a copy."""
        return {project: types.known() for project, types in self._with_families.items()}

    def forget(self, project: str, most: int) -> int:
        """Forget up to so many families of a project that is gone; return how many."""
        count = 0
        while count < most:
            types = self._with_families.get(project)
            if types is None or not types.give_up(only_spare=False):
                break
            count += 1
        self.version += bool(count)
        return count

    def restore(self, families: dict[str, dict[str, KnownFamily]]) -> None:
        """Restore the metadata of an earlier process; before anything else is learned."""
        self.tick = RESTORED
        for project, known in families.items():
            if project and not self.has_tenancy:
                continue  # of a time when the operator had projects
            types = self.of(project)
            for name, family in known.items():
                if family.metadata is not None:
                    types.learn(name, family.metadata)
                if family.siblings:
                    types.see_family(name, family.siblings)

    def keep(self, types: ProjectTypes, *, has_families: bool) -> None:
        """Note whether a project has entries."""
        if has_families:
            self._with_families[types.project] = types
        else:
            self._with_families.pop(types.project, None)

    def make_room(self, types: ProjectTypes) -> bool:
        """Evict a family to add one to a project; return False if that is not possible."""
        share = self.shares.must_evict(types.share)
        if share is None:
            return True
        is_own = share == types.share
        for other in list(self._with_families.values()) if share == UNCLAIMED else ():
            if other.share == UNCLAIMED and other.give_up(only_spare=is_own):
                return True
        if share == UNCLAIMED:
            return False
        return self._with_families[share].give_up(only_spare=is_own)

    def statistics(self) -> KnownTypesStatistics:
        """Return a snapshot."""
        return KnownTypesStatistics(
            self.shares.total,
            self.refused,
            self.retyped,
            self.contradictions,
            tuple(one for types in self._with_families.values() for one in types.contradicted()),
            self.forgotten,
            self.unowned,
        )

    def __repr__(self) -> str:
        return f"<TypeStore {self.shares.total} families of {len(self._with_families)} projects>"


def _nobody_asks(project: str, family: str) -> None:
    """Ignore the change: the default of :attr:`TypeStore.told`."""
