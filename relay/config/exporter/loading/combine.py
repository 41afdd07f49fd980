"""Checks resources of all origins against each other, and builds the result of a load.

Rules:

* The first resource of a name claims it, even where it is faulty: which of two runs must not depend
  on the other's faults. The order is that of the origins: files, Kubernetes, API.
* An exporter that did not change is the same object as before. What depends on several resources
  (names, secrets, ``overflow``) is put together anew each time; secrets are looked up again only
  for exporters that had a fault, and where a Secret of their namespace is another one.
* A change costs as little as possible for each of the others: there may be 20,000 resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter, is_
from pathlib import Path

import msgspec

from relay.config.export_policy.refusal import merged, refused_sinks
from relay.config.exporter import secrets as secrets_module
from relay.config.exporter.cross_checks import (
    Candidate,
    check_cost,
    check_overflow,
    check_secrets,
    patterns_of,
)
from relay.config.exporter.load_result import LoadResult, ObjectResult
from relay.config.exporter.loading.resource import ManifestResource
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import id_of
from relay.config.limits.limit_checks import check_limits
from relay.config.limits.project_limits import UNLIMITED, LimitSettings, ProjectLimits
from relay.config.yaml.document import shown
from relay.config.yaml.report import Report
from relay.runtime.errors import Fault
from relay.runtime.event_loop import yield_to_loop

WAITING_MAX = 1_000
"""Exporters without their secrets that :meth:`Combiner.secrets_have_come` looks at."""

AT_ONCE = 32
"""Resources between two looks at the time that threaded work may take."""

_Identity = tuple[str, str, str, str]
"""Kind, project, namespace and name."""
_Namespace = tuple[str, str]
"""Project and namespace."""
_Secrets = dict[_Namespace, dict[str, tuple[str, Mapping[str, bytes]]]]


class OriginResources(msgspec.Struct, frozen=True):
    """Resources of one origin (a file, a control plane), and faults of none of them.

    ``file`` is the path of a file of which a part could not even be recognised, else "".
    """

    resources: Sequence[ManifestResource]
    faults: tuple[Fault, ...] = ()
    file: str = ""


class Combiner:
    """Everything that is remembered between two combinations; not thread-safe.

    Without ``need_secrets`` an exporter with missing secrets counts as valid: it is only inspected,
    not run.
    """

    def __init__(
        self,
        *,
        secrets_root: Path | None = None,
        tenancy: bool = False,
        need_secrets: bool = True,
        limits: LimitSettings = UNLIMITED,
    ) -> None:
        self._limits = limits
        self._secrets_root = secrets_root
        self._tenancy = tenancy
        self._need_secrets = need_secrets
        self._waiting: list[ManifestResource] = []
        """Exporters with faulty secrets."""
        self._store = SecretStore()
        self._renewed: frozenset[_Namespace] = frozenset()
        self._secrets: _Secrets = {}
        self._collected: list[ManifestResource] | None = None
        """The Secrets in ``_store``, in order; None if some of them were refused."""

    def combine(
        self, origins: Sequence[OriginResources], faults: Iterable[Fault] = ()
    ) -> LoadResult:
        """Return the result of all resources; ``faults`` come first in it."""
        resources = [one for origin in origins for one in origin.resources]
        surroundings: dict[int, Report] = {}
        claims, conflicts = _claim(resources, surroundings)
        self._store = self._collect_secrets(resources, surroundings)
        self._waiting = []
        lacking: dict[int, Report] = {}
        good = self._with_secrets(resources, surroundings, lacking)
        good = _without_refused(_block_refused, good, surroundings)
        good = _without_refused(_cost_refused, good, surroundings)
        if self._limits.any:
            refused_of = partial(_too_many_refused, limits_of=self._limits.lookup())
            good = _without_refused(refused_of, good, surroundings)
        accepted = {id(one) for one in good}
        found = [*faults, *(fault for origin in origins for fault in origin.faults)]
        objects: list[ObjectResult] = []
        for one in _yielding(resources):
            last, number = one.result, id(one)
            if (
                last is not None
                and last.exporter is one.accepted
                and number in accepted
                and number not in surroundings
                and number not in lacking
                and not (one.faults or last.faults or last.conflict or last.lacks)
            ):
                objects.append(last)
                continue
            own = _faults_of(one, (lacking.get(id(one)), surroundings.get(id(one))))
            found += own
            if one.key is not None:
                result = ObjectResult(
                    one.key,
                    one.uid,
                    one.generation,
                    one.accepted if id(one) in accepted else None,
                    own,
                    conflict=id(one) in conflicts,
                    lacks=id(one) in lacking and not one.faults and id(one) not in surroundings,
                )
                objects.append(one.keep_result(result))
        running = {one.identity for one in good}
        return LoadResult(
            tuple(one.accepted for one in good if one.accepted is not None),
            tuple(found),
            self._store,
            faulty=frozenset(
                id_of(*claim)
                for claim in claims
                if claim[0] != secrets_module.KIND and claim not in running
            ),
            faulty_files=frozenset(one.file for one in origins if one.file),
            renewed=self._renewed,
            warnings=tuple(one for resource in resources for one in resource.warnings),
            objects=tuple(objects),
        )

    def secrets_have_come(self) -> bool:
        """Return True if an exporter that lacked only secrets has other ones now."""
        for one in self._waiting[:WAITING_MAX]:
            assert one.exporter is not None, "only good exporters wait"
            candidate = Candidate(one.exporter, one.where, one.report.another())
            check_secrets(candidate, self._store)
            if candidate.report.count != one.missing:
                return True
        return False

    def _with_secrets(
        self,
        resources: Iterable[ManifestResource],
        surroundings: dict[int, Report],
        lacking: dict[int, Report],
    ) -> list[ManifestResource]:
        """Accept the valid exporters that have their secrets; ``lacking`` gets other ones' faults.

        A policy runs without the sinks that lack theirs.
        """
        good: list[ManifestResource] = []
        for one in _yielding(resources):
            if one.key is not None and one.key.source != "files" and not one.has_good_secrets:
                self._store.note_cluster(one.key.project, one.key.namespace)
            if one.draft is not None and one.draft.namespace and self._need_secrets:
                report = surroundings.setdefault(id(one), one.report.another())
                check_secrets(Candidate(one.draft, one.where, report), self._store)
            if one.exporter is None or id(one) in surroundings:
                continue
            refused = one.refused
            if self._need_secrets and not one.has_good_secrets:
                report = self._look_up_secrets(one)
                if report.faulty:
                    lacking[id(one)] = report
                    without = refused_sinks(one.exporter, one.where, report)
                    if without is None:
                        continue
                    refused = merged(refused, without)
            one.accept(refused)
            good.append(one)
        return good

    def _look_up_secrets(self, one: ManifestResource) -> Report:
        """Return the faults of an exporter's secrets; look at them again soon if there are any."""
        assert one.exporter is not None, "only good exporters are asked for their secrets"
        candidate = Candidate(one.exporter, one.where, one.report.another())
        check_secrets(candidate, self._store)
        one.has_good_secrets = not candidate.report.faulty
        one.missing = candidate.report.count
        if candidate.report.faulty:
            self._waiting.append(one)
        return candidate.report

    def _collect_secrets(
        self, resources: Iterable[ManifestResource], surroundings: Mapping[int, Report]
    ) -> SecretStore:
        """Return a store of all Secrets; let exporters beside a new one look again.

        It is the store of the last time if no Secret has come, changed or gone.
        """
        found = [
            one for one in resources if one.identity and one.identity[0] == secrets_module.KIND
        ]
        refused = any(id(one) in surroundings for one in found)
        known, self._collected = self._collected, None if refused else found
        is_same = known is not None and len(known) == len(found) and all(map(is_, known, found))
        if is_same and not refused:
            self._renewed = frozenset()
            return self._store
        store = SecretStore(self._secrets_root, tenancy=self._tenancy)
        secrets: _Secrets = {}
        for one in _yielding(found):
            if one.data is not None and one.identity is not None and id(one) not in surroundings:
                _, project, namespace, name = one.identity
                is_new = store.add(project, namespace, name, one.data, one.type)
                assert is_new, "the first that claims a name adds it"
                secrets.setdefault((project, namespace), {})[name] = (one.type, one.data)
            elif one.data is None and one.identity and one.identity[0] == secrets_module.KIND:
                store.note_faulty(*one.identity[1:])
        before, self._secrets = self._secrets, secrets
        self._renewed = frozenset(
            home for home in {*before, *secrets} if before.get(home) != secrets.get(home)
        )
        for one in resources:
            exporter = one.exporter
            if exporter is not None and (exporter.project, exporter.namespace) in self._renewed:
                one.has_good_secrets = False
        return store

    def __repr__(self) -> str:
        return f"<Combiner {self._store!r}, {len(self._waiting)} wait for secrets>"


def _claim(
    resources: Iterable[ManifestResource], surroundings: dict[int, Report]
) -> tuple[Iterable[_Identity], set[int]]:
    """Give each name to the first that has it; report a fault of any other.

    Return all names, and which resources have another one's.
    """
    claims: dict[_Identity, ManifestResource] = {}
    conflicts: set[int] = set()
    for one in resources:
        if one.identity is None:
            continue
        first = claims.setdefault(one.identity, one)
        if first is not one:
            conflicts.add(id(one))
            origin = first.report.document.origin(first.where)
            if first.key is not None and first.key.group:
                origin = f"{first.report.origin()} of {first.key.group}"
            report = surroundings.setdefault(id(one), one.report.another())
            report.fault(
                (*one.where, "metadata", "name"),
                f"{shown(one.identity[3])} is already taken by {origin}; the first one counts",
            )
    return claims, conflicts


def _without_refused(
    refused_of: Callable[[list[ManifestResource]], list[tuple[ManifestResource, Report]]],
    good: list[ManifestResource],
    surroundings: dict[int, Report],
) -> list[ManifestResource]:
    """Return the valid exporters that may run beside each other by one rule."""
    refused = {id(one): report for one, report in refused_of(good)}
    surroundings.update(refused)
    return [one for one in good if id(one) not in refused]


def _block_refused(good: list[ManifestResource]) -> list[tuple[ManifestResource, Report]]:
    candidates = [
        (one, Candidate(one.exporter, one.where, one.report.another()))
        for one in good
        if one.exporter is not None
        and any(sink.queue.overflow == "block" for sink in one.exporter.sinks)
    ]
    check_overflow((candidate for _, candidate in candidates), exporters=len(good))
    return [(one, candidate.report) for one, candidate in candidates if candidate.report.faulty]


def _cost_refused(good: list[ManifestResource]) -> list[tuple[ManifestResource, Report]]:
    candidates = [
        (one, Candidate(one.exporter, one.where, one.report.another()))
        for one in good
        if one.exporter is not None and one.exporter.project and _has_patterns(one)
    ]
    check_cost(candidate for _, candidate in candidates)
    return [(one, candidate.report) for one, candidate in candidates if candidate.report.faulty]


def _has_patterns(one: ManifestResource) -> bool:
    """Return whether a valid exporter has regular expressions; the others cost nothing."""
    if one.has_patterns is None:
        assert one.exporter is not None, "only good exporters are asked"
        one.has_patterns = bool(patterns_of(one.exporter))
    return one.has_patterns


def _yielding(resources: Iterable[ManifestResource]) -> Iterator[ManifestResource]:
    """Yield the resources, and let the event loop run where that has taken long."""
    for number, one in enumerate(resources):
        if not number % AT_ONCE:
            yield_to_loop()
        yield one


def _too_many_refused(
    good: list[ManifestResource], *, limits_of: Callable[[str], ProjectLimits]
) -> list[tuple[ManifestResource, Report]]:
    candidates = [
        (one, Candidate(one.accepted, one.where, one.report.another()))
        for one in good
        if one.accepted is not None
    ]
    check_limits((candidate for _, candidate in candidates), limits_of)
    return [(one, candidate.report) for one, candidate in candidates if candidate.report.faulty]


def _faults_of(one: ManifestResource, reports: Iterable[Report | None]) -> tuple[Fault, ...]:
    """Return all faults of a resource in the order of its document, marked with its project."""
    found = one.faults
    for report in reports:
        if report is not None:
            found = tuple(sorted((*found, *report.faults), key=attrgetter("place")))
    return of_project(one.project, found)


def of_project(project: str, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """Return the faults, marked with a project."""
    return tuple(replace(fault, project=project) for fault in faults) if project else faults
