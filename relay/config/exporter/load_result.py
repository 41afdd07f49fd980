"""The result of loading manifests, and the exporters to run after it.

An Exporter that became faulty keeps running in its last good version; so does a sink of an
ExportPolicy whose other sinks are good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, ResourceKind, Sink, id_of
from relay.runtime.errors import Fault

SourceName = Literal["files", "kubernetes", "api"]
SOURCE_ORDER: Final[tuple[SourceName, ...]] = ("files", "kubernetes", "api")
"""Of several objects of the same project, namespace, name and kind the first one's counts."""


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """The name of an Exporter or ExportPolicy among all sources.

    ``plane`` is the name of its control plane, "" for files and the API. ``group`` is the API group
    of an ExportPolicy of a control plane, which may have that kind in two groups; else "".
    """

    source: SourceName
    plane: str
    kind: ResourceKind
    project: str
    namespace: str
    name: str
    group: str = ""

    @property
    def id(self) -> str:
        """The exporter's id; that of an object with a conflict is another object's as well."""
        return id_of(self.kind, self.project, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """The outcome of one Exporter or ExportPolicy, whether or not it can run.

    ``exporter`` is the valid resource without its refused sinks, None if it is refused as a whole;
    then ``faults`` say why. ``conflict``: an earlier object has its name. ``lacks``: nothing but
    Secrets that it refers to is wrong.
    """

    key: ObjectKey
    uid: str
    generation: int
    exporter: Exporter | None
    faults: tuple[Fault, ...] = ()
    conflict: bool = False
    lacks: bool = False


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Valid exporters, faults of the others, and the secrets of both.

    ``faulty`` are the ids of Exporters that were recognised but cannot run, ``faulty_files`` the
    files of which a part could not even be recognised.
    """

    exporters: tuple[Exporter, ...]
    faults: tuple[Fault, ...]
    secrets: SecretStore
    faulty: frozenset[str] = frozenset()
    faulty_files: frozenset[str] = frozenset()
    renewed: frozenset[tuple[str, str]] = frozenset()
    """Project and namespace of Secrets in the manifests that changed since the last load."""
    warnings: tuple[Fault, ...] = ()
    """Of all Exporters, faulty ones among them."""
    objects: tuple[ObjectResult, ...] = field(default=(), repr=False)
    """Every object that could be recognised, in the order of the sources."""


def keep_last_good(running: Iterable[Exporter], loaded: LoadResult) -> LoadResult:
    """Return the exporters to run after a reload: those loaded, and those running but faulty now.

    An exporter that is missing from its file is kept only if a part of that file cannot be read, as
    it may be in there. A faulty object does not get the version of another one that had its name,
    which their uids tell. One with ``overflow: block``, which must be the only exporter, stays:
    exporters added beside it are refused, with a fault each, because its queue must not be lost.
    """
    running = tuple(running)
    if any(exporter.refused for exporter in loaded.exporters):
        loaded = _with_last_good_sinks({one.id: one for one in running}, loaded)
    if not loaded.faulty and not loaded.faulty_files:
        return loaded
    present = {exporter.id for exporter in loaded.exporters}
    uids = {one.key.id: one.uid for one in loaded.objects if not one.conflict}
    kept = [
        exporter
        for exporter in running
        if exporter.id not in present
        and (exporter.id in loaded.faulty or exporter.file in loaded.faulty_files)
        and not is_successor(exporter.uid, uids.get(exporter.id, ""))
    ]
    blocking = next((one for one in kept if _blocks(one)), None)
    if blocking is None:
        return replace(loaded, exporters=(*loaded.exporters, *kept))
    others = [one for one in (*loaded.exporters, *kept) if one is not blocking]
    faults = [
        Fault(
            "metadata.name",
            f"cannot run beside {blocking.id}, which has overflow: block and runs already",
            one.origin,
        )
        for one in others
    ]
    return replace(
        loaded,
        exporters=(blocking,),
        faults=(*loaded.faults, *faults),
        faulty=loaded.faulty | {one.id for one in others},
    )


def _with_last_good_sinks(running: Mapping[str, Exporter], loaded: LoadResult) -> LoadResult:
    """Return the result with the running sinks that are refused now.

    They keep those of their sources that are still there: without any, a sink delivers what its
    queue holds.
    """
    exporters: list[Exporter] = []
    for new in loaded.exporters:
        old, names = running.get(new.id), {one.name for one in new.refused}
        sources = {source.name for source in new.sources}
        kept: list[Sink] = []
        if old is not None and not is_successor(old.uid, new.uid):
            kept = [
                replace(sink, sources=tuple(name for name in sink.sources if name in sources))
                for sink in old.sinks
                if sink.name in names
            ]
        exporters.append(replace(new, sinks=(*new.sinks, *kept)) if kept else new)
    return replace(loaded, exporters=tuple(exporters))


def is_successor(before: str, now: str) -> bool:
    """Return True if two uids of one name are those of different objects."""
    return bool(before and now) and before != now


def _blocks(exporter: Exporter) -> bool:
    return any(sink.queue.overflow == "block" for sink in exporter.sinks)
