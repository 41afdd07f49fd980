"""Decides which metadata goes to remote-write sinks, and when.

Rules:

* 1.0 has metadata by family, apart from series. It is *due* when a series of the family is first
  routed to a sink, when what is known of the family changes, and every :data:`REPEAT_S`, because
  Prometheus keeps metadata in memory only. It leaves with points of the sink, as a rider of a
  batch, is no point itself, and does not survive a restart.
* 2.0 has it beside each series, in its prefix: what the series declared, else what is known of its
  family. A :class:`Subject` is a dependency of the series that are told so.
* A project's series are told what the project itself declared. Of the platform's metadata they get
  the type, and help and unit if the settings say so: the boundary is that of types.
* Bounded: ``names_max`` metric names are remembered, shared among projects
  (:mod:`relay.runtime.project_shares`). Of a name that was forgotten, changes and repetitions are
  not sent until a new series has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from relay.codec.otlp.batch import OpenBatch
from relay.codec.remote_write.raw.entries import metadata_rider
from relay.codec.remote_write.raw.label_table import RawGroup
from relay.codec.remote_write.v1 import Metadata
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.metadata.metric_types import (
    MEMBERS,
    NOTHING_SAID,
    SUFFIXES,
    FamilyMetadata,
)
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.routing.match_set import SinkOutputSpec
from relay.pipeline.routing.route import VersionedDependency
from relay.runtime.project_shares import SharedTable

REPEAT_S: Final = 300.0
SEND_MAX: Final = 500
"""Pieces of metadata that one request brings to batches: some milliseconds."""
LOOKS_MAX: Final = 500
"""Names that one request checks for the repetition."""
LOOK_SINKS_MAX: Final = 5_000
"""Sinks of these names from which on a request checks no further name: a millisecond."""
DUE_MAX: Final = 20_000
"""Pieces of metadata that are due at once to one sink; beyond, the repetition makes up for it."""
NAMES_MAX: Final = 200_000

_NAMES: Final = ("", *SUFFIXES)


class _Sink:
    """One sink of 1.0: its open batches, and the projects and families that are due to it."""

    __slots__ = ("batches", "due")

    def __init__(self, batches: tuple[OpenBatch, ...]) -> None:
        self.batches: Final = batches
        self.due: dict[tuple[str, str], None] = {}

    @property
    def is_removed(self) -> bool:
        """True if nobody takes its batches any more."""
        return self.batches[0].sink is None


class Subject(VersionedDependency):
    """A metric name of a project that is routed to sinks that get metadata.

    ``sinks`` are of 1.0, in order; ``fed`` is the last group of their targets, all of which are in
    it. ``is_dependency``: series depend on it, and ``version`` changes with
    ``known``, what is known of the name's family. ``alone``: a tuple of it, shared by its series.
    """

    __slots__ = ("alone", "fed", "is_dependency", "known", "name", "project", "sinks")

    def __init__(self, project: str, name: str) -> None:
        super().__init__()
        self.project: Final = project
        self.name: Final = name
        self.sinks: dict[_Sink, None] = {}
        self.fed: tuple[SinkOutputSpec, ...] = ()
        self.is_dependency = False
        self.known: FamilyMetadata | None = None
        self.alone: tuple[VersionedDependency, ...] = (self,)

    def __repr__(self) -> str:
        return f"<Subject {self.name} of {self.project!r} to {len(self.sinks)} sinks>"


class RawMetadata:
    """Metadata of the series that go to remote-write sinks. ``changed``: resolve series anew."""

    def __init__(self, types: TypeStore, *, names_max: int = NAMES_MAX) -> None:
        self.changed = False
        self._types = types
        self._subjects: SharedTable[str, Subject] = SharedTable(names_max, forgets=self._forget)
        self._by_name: dict[str, dict[str, Subject]] = {}
        """Subjects by name and project."""
        self._sinks: dict[OpenBatch, _Sink] = {}
        self._due: dict[_Sink, None] = {}
        """Sinks to which anything is due."""
        self._repeat_at: float | None = None
        self._repeated: Iterator[Subject] = iter(())
        self._is_repeating = False

    def subject(self, project: str, name: str) -> Subject:
        """Return the subject that series of this name depend on."""
        found = self._subject(project, name)
        if not found.is_dependency:
            found.is_dependency = True
            found.known = self._known_of(found)
        return found

    def forget(self, project: str, most: int) -> int:
        """Forget up to so many metrics of a project that is gone; return how many."""
        return self._subjects.forget(project, most)

    def feed(self, project: str, name: str, targets: tuple[SinkOutputSpec, ...]) -> None:
        """Note that a series of this name is routed to sinks of 1.0."""
        subject = self._subject(project, name)
        if subject.fed is targets:
            return  # nearly always: a metric has many series, and there may be thousands of sinks
        subject.fed = targets
        for target in targets:
            sink = self._sinks.get(target.shards[0])
            if sink is None:
                sink = _Sink(target.shards)
                self._sinks.update(dict.fromkeys(sink.batches, sink))
            if sink not in subject.sinks:
                subject.sinks[sink] = None
                for family in self._families(subject):
                    self._let_be_due(sink, project, family)

    def known(self, project: str, family: str) -> FamilyMetadata | None:
        """Return what sinks of a project are told of a family; None for nothing."""
        types = self._types
        own = types.of(project).metadata(family) or NOTHING_SAID
        theirs = types.platform.metadata(family) if project else None
        if theirs is not None:
            texts = theirs if types.shares_platform else NOTHING_SAID
            own = FamilyMetadata(
                own.type or theirs.type, own.help or texts.help, own.unit or texts.unit
            )
        return own if own != NOTHING_SAID else None

    def learned(self, project: str, family: str) -> None:
        """Note that metadata of a family changed; ``project`` is "" for the platform."""
        if not self._by_name:
            return
        for suffix in _NAMES:
            subjects = self._by_name.get(family + suffix)
            if subjects is None:
                continue
            if not project:
                for subject in subjects.values():
                    self._change(subject, family)
            elif project in subjects:
                self._change(subjects[project], family)

    def take_changed(self) -> bool:
        """Return True if prefixes of series changed since the last call."""
        changed, self.changed = self.changed, False
        return changed

    def tick(self, tick: float) -> None:
        """Let known metadata be due again from time to time; ``tick`` in s, monotonic."""
        if self._repeat_at is None:
            self._repeat_at = tick + REPEAT_S if self._sinks else None
            return
        if tick >= self._repeat_at and not self._is_repeating:
            self._is_repeating = True
            self._repeat_at = tick + REPEAT_S
            self._sinks = {
                batch: sink for batch, sink in self._sinks.items() if not sink.is_removed
            }
            self._due = {sink: None for sink in self._due if not sink.is_removed}
            self._repeated = iter(list(self._subjects.values()))
        if self._is_repeating:
            self._repeat()

    def _repeat(self) -> None:
        left = LOOK_SINKS_MAX
        for _ in range(LOOKS_MAX):
            subject = next(self._repeated, None)
            if subject is None:
                self._is_repeating = False
                return
            if any(sink.is_removed for sink in subject.sinks):
                subject.sinks = {sink: None for sink in subject.sinks if not sink.is_removed}
                subject.fed = ()
            for family in self._families(subject) if subject.sinks else ():
                for sink in subject.sinks:
                    self._let_be_due(sink, subject.project, family)
            left -= len(subject.sinks)
            if left <= 0:
                return

    def send(self, transaction: BatchTransaction, group: RawGroup) -> None:
        """Append some of what is due to the batches that a request has written to."""
        if not self._due:
            return
        left = SEND_MAX
        for batch in [snapshot.batch for snapshot in transaction.snapshots]:
            sink = self._sinks.get(batch)
            if sink is None or not sink.due:
                continue
            for project, family in list(islice(sink.due, left)):
                known = self.known(project, family)
                if known is not None:
                    metadata = Metadata(known.type, family, known.help, known.unit)
                    if not transaction.append_rider(batch, group, metadata_rider(metadata)):
                        break
                del sink.due[project, family]
                left -= 1
            if not sink.due:
                del self._due[sink]
            if not left:
                break

    def _subject(self, project: str, name: str) -> Subject:
        by_project = self._by_name.setdefault(name, {})
        found = by_project.get(project)
        if found is None:
            found = by_project[project] = Subject(project, name)
            self._subjects.add(self._subjects.part(project), name, found)
        return found

    def _forget(self, subject: Subject) -> None:
        by_project = self._by_name[subject.name]
        del by_project[subject.project]
        if not by_project:
            del self._by_name[subject.name]

    def _change(self, subject: Subject, family: str) -> None:
        known = self.known(subject.project, family)
        if known is None or not _has_member(known, subject.name[len(family) :]):
            return
        if subject.is_dependency:
            subject.version += 1
            subject.known = self._known_of(subject)
            self.changed = True
        for sink in subject.sinks:
            self._let_be_due(sink, subject.project, family)

    def _let_be_due(self, sink: _Sink, project: str, family: str) -> None:
        if len(sink.due) < DUE_MAX:
            sink.due[project, family] = None
            self._due[sink] = None

    def _known_of(self, subject: Subject) -> FamilyMetadata | None:
        """Return what is known of the likeliest family of a name."""
        family = next(self._families(subject), None)
        return None if family is None else self.known(subject.project, family)

    def _families(self, subject: Subject) -> Iterator[str]:
        """Yield the families with metadata that a name belongs to."""
        for family in _candidates(subject.name):
            known = self.known(subject.project, family)
            if known is not None and _has_member(known, subject.name[len(family) :]):
                yield family

    def __repr__(self) -> str:
        return f"<RawMetadata of {len(self._subjects)} names to {len(self._sinks)} batches>"


def _candidates(name: str) -> tuple[str, ...]:
    """Return the families that a name may belong to, the likeliest first."""
    at = name.rfind("_")
    return (name, name[:at]) if at > 0 and name[at:] in SUFFIXES else (name,)


def _has_member(metadata: FamilyMetadata, suffix: str) -> bool:
    """Return whether a family of this type has a member with this suffix."""
    return not suffix or suffix in MEMBERS.get(metadata.type, ())
