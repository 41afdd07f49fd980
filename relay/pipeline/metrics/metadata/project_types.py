"""Metric types and metadata of one project; the rules are those of ``type_store``.

Typings of names are remembered for as long as series ask for them, so that what is learned can tell
which of them it changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from relay.codec.otlp.metrics import Kind, MetricIdentity
from relay.pipeline.metrics.metadata.metric_types import (
    COUNTER,
    FAMILY_CHARS_MAX,
    HELP_CHARS_MAX,
    NOTHING_SAID,
    STATE_SET,
    SUFFIXES,
    UNIT_CHARS_MAX,
    UNKNOWN,
    FamilyMetadata,
    MetadataOf,
    Part,
    Typing,
    declared_typing,
    family_of,
    native_identity,
    sibling_family,
    type_name,
    type_of,
)
from relay.pipeline.metrics.metadata.ordered_parts import OrderedParts

if TYPE_CHECKING:
    from relay.pipeline.metrics.metadata.type_store import TypeStore

CONFIRMED_S: Final = 600.0
"""Time for which a type resists contradiction, s: ten times senders' metadata interval."""
CONTRADICTIONS_MAX: Final = 100
"""Families of one project whose contradictions are named."""

RESTORED: Final = -1.0
"""Time of entries restored from an earlier process."""

_SUFFIXES: Final = frozenset(SUFFIXES)
_NAMES: Final = ("", *SUFFIXES)
"""Suffixes that names of a family may have."""


class Declaration:
    """Metadata that series declare themselves; one shared object for equal declarations."""

    __slots__ = ("__weakref__", "is_kept", "metadata")

    def __init__(self, metadata: FamilyMetadata) -> None:
        self.metadata: Final = metadata
        self.is_kept = False
        """True if it counts in the share of the project that declared it first."""

    def __repr__(self) -> str:
        return f"<Declaration {self.metadata!r}>"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A family of one project for which senders declare different types.

    ``kept`` holds for series that declare nothing, ``other`` was declared last, ``count`` is the
    number of contradictions.
    """

    project: str
    family: str
    kept: str
    other: str
    count: int


@dataclass(slots=True)
class _Family:
    """Metadata of one family; times on the monotonic clock, s, or :data:`RESTORED`.

    ``confirmed`` is when its type was last sent, ``seen`` when any metadata was.
    """

    metadata: FamilyMetadata | None = None
    siblings: Part = ""
    confirmed: float = 0.0
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class KnownFamily:
    """The saved form of one family."""

    metadata: FamilyMetadata | None
    siblings: Part = ""


class ProjectTypes:
    """Metric metadata of one project; ``platform`` is the fallback."""

    __slots__ = (
        "__weakref__",
        "_contradicted",
        "_declared",
        "_families",
        "_forgot",
        "_old",
        "_owned",
        "_platform",
        "_said",
        "_spare",
        "home",
        "project",
        "share",
        "teaches",
        "users",
        "young",
    )

    def __init__(
        self, home: TypeStore, project: str, share: str, platform: ProjectTypes | None
    ) -> None:
        self.project: Final = project
        self.share = share
        self.teaches: Final = bool(project) or not home.has_tenancy
        """True if series of this project add metadata; those without a project do not."""
        self.home = home
        self._platform = platform
        self._families: OrderedParts[_Family] = OrderedParts()
        self._spare: OrderedParts[None] = OrderedParts()
        """Families that no series asked for, the oldest first."""
        self.young: dict[str, Typing] = {}
        """Typings of names looked up since the last turn; ``_old``: before it."""
        self._old: dict[str, Typing] = {}
        self._owned: dict[str, dict[Declaration, Typing]] = {}
        """Typings of declared types looked up since the last turn."""
        self._forgot = False
        self._declared: WeakSet[Declaration] = WeakSet()
        self._contradicted: dict[str, Contradiction] = {}
        self.users: dict[str, set[ProjectTypes]] = {}
        """For the platform: projects with metadata of a name but without its type."""
        self._said: tuple[MetadataOf, ...]
        if platform is not None:
            self._said = (self.metadata, self._with_platform)
        elif home.has_tenancy and not home.shares_platform:
            self._said = (self._wordless,)
        else:
            self._said = (self.metadata,)

    def metadata(self, family: str) -> FamilyMetadata | None:
        """Return this project's metadata of a family."""
        known = self._families.get(family)
        return known.metadata if known is not None else None

    def siblings(self, family: str) -> Part:
        """Return the kind of components seen of a family in this project."""
        known = self._families.get(family)
        return known.siblings if known is not None else ""

    def learn(self, family: str, metadata: FamilyMetadata) -> bool:
        """Store metadata of a family; return True if a name in use has a new identity.

        An unknown or unsupported type does not replace a known one.
        """
        home = self.home
        if len(family) > FAMILY_CHARS_MAX or len(metadata.unit) > UNIT_CHARS_MAX:
            home.refused += 1
            return False
        entry = self._families.get(family)
        if entry is None:
            entry = self._make(family)
            if entry is None:
                return home.take_changed()
        entry.seen = home.tick
        if entry.confirmed == RESTORED:
            entry.confirmed = home.tick
        known = entry.metadata or NOTHING_SAID
        kind = metadata.type if COUNTER <= metadata.type <= STATE_SET else known.type
        if kind != known.type != UNKNOWN and home.tick - entry.confirmed < CONFIRMED_S:
            self._contradict(family, known.type, kind)
            kind = known.type
        elif kind == metadata.type:
            entry.confirmed = home.tick
        learned = FamilyMetadata(
            kind, known.help or metadata.help[:HELP_CHARS_MAX], known.unit or metadata.unit
        )
        if entry.metadata == learned:
            return home.take_changed()
        entry.metadata = learned
        home.version += 1
        home.told(self.project, family)
        self._change(family)
        return home.take_changed()

    def declare(self, name: str, declared: Declaration) -> bool:
        """Store what a series declares, for others of its family; return as :meth:`learn` does."""
        metadata = declared.metadata
        return self.learn(family_of(name, metadata.type), metadata)

    def see_sibling(self, name: str, part: Part) -> bool:
        """Note a series with a bound label, "bucket" or "quantile"; return like :meth:`learn`."""
        family = sibling_family(name, part)
        return bool(family) and self.see_family(family, part)

    def see_family(self, family: str, part: Part) -> bool:
        """Note a bound label by the family's name; return as :meth:`learn` does."""
        home = self.home
        entry = self._families.get(family)
        if not home.infer or (entry is not None and entry.siblings in (part, "bucket")):
            return False
        if entry is None:
            entry = self._make(family)
            if entry is None:
                return home.take_changed()
        entry.seen = home.tick
        entry.siblings = part
        home.version += 1
        self._change(family)
        return home.take_changed()

    def believed(self, declared: Declaration) -> Declaration:
        """Return the declaration to keep: its type alone if the project has its share of texts."""
        if declared.is_kept:
            return declared
        home = self.home
        if home.declarations > home.shares.entries_max:
            even = home.shares.entries_max // max(1, home.projects)
            bare = home.declaration(declared.metadata.type, "", "")
            if len(self._declared) >= even and bare is not None:
                return bare
        declared.is_kept = True
        self._declared.add(declared)
        return declared

    def typing(self, name: str, declared: Declaration | None = None) -> Typing:
        """Return the typing of a series of this name; cached until it changes."""
        if declared is not None and declared.metadata.type != UNKNOWN:
            owned = self._owned.get(name)
            found = owned.get(declared) if owned is not None else None
            return found if found is not None else self._first_own(name, declared)
        if self._platform is not None and not self._knows(name):
            return self._platform.typing(name)
        typing = self.young.get(name)
        if typing is None:
            typing = self._old.pop(name, None)
            if typing is None:
                typing = self._first(name)
            self._remember(name, typing)
        return typing

    def look(self, name: str, declared: Declaration | None = None) -> Typing:
        """Return the typing for diagnostics, without caching it."""
        if declared is not None and declared.metadata.type != UNKNOWN:
            return declared_typing(name, self._filled(name, declared))
        return self._describe(name)

    def is_unsure(self, name: str) -> bool:
        """Return True if no metadata describes the name, so that later metadata may change it."""
        known = self.remembered(name) or self._describe(name)
        return known.evidence not in ("declared", "metadata")

    def remembered(self, name: str) -> Typing | None:
        """Return the cached typing of a name, or None."""
        found = self.young.get(name)
        return found if found is not None else self._old.get(name)

    def identity(self, name: str) -> MetricIdentity:
        """Return the identity of a series of this name as number points."""
        return self.typing(name).identity

    def histogram(
        self, name: str, kind: Kind, declared: Declaration | None = None
    ) -> MetricIdentity:
        """Return the identity of native histograms in a series of this name."""
        metadata = self._in_words(name) if declared is None else self._filled(name, declared)
        return native_identity(name, kind, metadata)

    def known(self) -> dict[str, KnownFamily]:
        """Return the learned metadata by family; a copy."""
        return {
            name: KnownFamily(family.metadata, family.siblings)
            for name, family in self._families.items()
        }

    def contradiction(self, name: str) -> Contradiction | None:
        """Return the contradiction that concerns this name, or None."""
        found = self._contradicted.get(name)
        at = name.rfind("_")
        if found is None and at > 0 and name[at:] in _SUFFIXES:
            found = self._contradicted.get(name[:at])
        return found

    def contradicted(self) -> Iterator[Contradiction]:
        """Yield families with contradicting types."""
        return iter(self._contradicted.values())

    def names(self) -> list[str]:
        """Return the families; a copy."""
        return [name for name, _ in self._families.items()]

    def claim(self) -> None:
        """Count the entries as this project's own from now on."""
        shares = self.home.shares
        if self._families:
            shares.remove(self.share, len(self._families))
            shares.add(self.project, len(self._families))
        self.share = self.project

    def turn(self) -> None:
        """Expire cached typings of names that were not looked up since the last turn."""
        if self._platform is not None:
            for name in self._old:
                self._platform.unuse(name, self)
        self._old = self.young
        self.young = {}
        self._owned = {}

    def look_after(self, family: str, before: float) -> None:
        """Forget a family without metadata or look-ups since ``before``."""
        entry = self._families.get(family)
        if entry is None or self._is_asked(family):
            return
        if entry.seen == RESTORED:
            entry.seen = self.home.tick
        if entry.seen < before:
            self._drop(family)
            self.home.version += 1
        else:
            self._spare.add(family, None)

    def give_up(self, *, only_spare: bool) -> bool:
        """Evict one family for another; return False if all are in use and ``only_spare``."""
        spare = self._spare.first()
        if spare is None:
            spare = None if only_spare else self._families.first()
        if spare is None:
            return False
        self._drop(spare)
        return True

    def _make(self, family: str) -> _Family | None:
        home = self.home
        if not home.make_room(self):
            home.refused += 1
            return None
        entry = _Family(seen=home.tick)
        self._families.add(family, entry)
        if not self._is_asked(family):
            self._spare.add(family, None)
        home.shares.add(self.share)
        home.keep(self, has_families=True)
        return entry

    def _drop(self, family: str) -> None:
        self._families.pop(family)
        self._spare.pop(family)
        self._contradicted.pop(family, None)
        home = self.home
        home.shares.remove(self.share)
        home.forgotten += 1
        if not self._families:
            home.keep(self, has_families=False)
        self._change(family)

    def _knows(self, name: str) -> bool:
        """Return True if anything is stored that the name may depend on."""
        families = self._families
        if not families:
            return False
        if name in families:
            return True
        at = name.rfind("_")
        return at > 0 and name[:at] in families and name[at:] in _SUFFIXES

    def _is_asked(self, family: str) -> bool:
        """Return True if a series looked up one of the family's names lately."""
        for suffix in _NAMES:
            name = family + suffix
            if name in self.young or name in self._old or name in self.users:
                return True
        return False

    def _contradict(self, family: str, kept: int, other: int) -> None:
        self.home.contradictions += 1
        before = self._contradicted.get(family)
        if before is None and len(self._contradicted) >= CONTRADICTIONS_MAX:
            return
        count = before.count + 1 if before is not None else 1
        self._contradicted[family] = Contradiction(
            self.project, family, type_name(kept), type_name(other), count
        )

    def _change(self, family: str) -> None:
        """Drop cached typings of the family's names that changed."""
        home = self.home
        changed = 0
        for suffix in _NAMES:
            name = family + suffix
            for users in (self, *self.users.get(name, ())):
                changed += users.reconsider(name)
        home.retyped += changed
        home.changed |= bool(changed) or self._forgot

    def reconsider(self, name: str) -> bool:
        """Drop the cached typing of a name if it changed; return whether it did."""
        changed = False
        owned = self._owned.get(name)
        if owned is not None:
            changed = any(self.look(name, one) != typing for one, typing in owned.items())
            if changed:
                del self._owned[name]
        before = self.remembered(name)
        if before is None and self._platform is not None:
            # It may have been looked up here before anything was stored here.
            before = self._platform.remembered(name)
        if before is None or self._describe(name) == before:
            return changed
        self.young.pop(name, None)
        self._old.pop(name, None)
        return True

    def _first(self, name: str) -> Typing:
        """Compute the typing of a name; mark the entries it depends on as in use."""
        self.use(name)
        if self._platform is not None:
            self._platform.use(name)
            self._platform.users.setdefault(name, set()).add(self)
        return self._describe(name)

    def _first_own(self, name: str, declared: Declaration) -> Typing:
        """Compute the typing of a declaration; mark its family as in use for help and unit."""
        self.typing(name)
        typing = self.look(name, declared)
        self._owned.setdefault(name, {})[declared] = typing
        return typing

    def use(self, name: str) -> None:
        """Note that a series looks up a name."""
        self._spare.pop(name)
        at = name.rfind("_")
        if at > 0 and name[at:] in _SUFFIXES:
            self._spare.pop(name[:at])

    def unuse(self, name: str, user: ProjectTypes) -> None:
        """Note that a project no longer looks up a name."""
        users = self.users.get(name)
        if users is not None:
            users.discard(user)
            if not users:
                del self.users[name]

    def _remember(self, name: str, typing: Typing) -> None:
        if len(self.young) >= 4 * self.home.shares.entries_max:
            self.turn()
            self._forgot = True  # from now on, learn() cannot tell which names are in use
        self.young[name] = typing

    def _describe(self, name: str) -> Typing:
        return type_of(name, self._said, self.siblings, infer=self.home.infer)

    def _with_platform(self, family: str) -> FamilyMetadata | None:
        """Return the platform's metadata of a family, with the texts that this project may see."""
        assert self._platform is not None
        theirs = self._platform.metadata(family)
        if theirs is None:
            return None
        own = self.metadata(family) or NOTHING_SAID
        if not self.home.shares_platform:
            return FamilyMetadata(theirs.type, own.help, own.unit)
        return FamilyMetadata(theirs.type, own.help or theirs.help, own.unit or theirs.unit)

    def _wordless(self, family: str) -> FamilyMetadata | None:
        """Return the platform's metadata of a family without help and unit."""
        known = self.metadata(family)
        return None if known is None else FamilyMetadata(known.type)

    def _in_words(self, family: str) -> FamilyMetadata:
        """Return a family's help and unit, as far as known and visible."""
        own = self.metadata(family)
        if self._platform is not None and self.home.shares_platform:
            own = self._with_platform(family) or own
        return own or NOTHING_SAID

    def _filled(self, name: str, declared: Declaration) -> FamilyMetadata:
        """Fill a declaration's missing help and unit from the family."""
        metadata = declared.metadata
        if metadata.help and metadata.unit:
            return metadata
        known = self._in_words(family_of(name, metadata.type))
        return FamilyMetadata(
            metadata.type, metadata.help or known.help, metadata.unit or known.unit
        )

    def __repr__(self) -> str:
        return f"<ProjectTypes {self.project!r} {len(self._families)} families>"
