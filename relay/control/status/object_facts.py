"""Collect the facts of one loaded object: whether it is accepted, what it lacks, and what runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from relay.config.export_policy.conditions import policy_conditions, sink_conditions
from relay.config.export_policy.dialect import KIND as EXPORT_POLICY
from relay.config.exporter.load_result import ObjectResult, SourceName
from relay.config.exporter.types import Exporter
from relay.control.reconcile.sink_entry import RunningExporter
from relay.control.status.assess import ObjectFacts, ObjectVerdicts, Problem
from relay.control.status.conditions import ConditionVerdict, listed
from relay.control.status.facts import (
    REF_NOT_USABLE,
    Unresolved,
    last_good_sinks,
    sink_facts,
)
from relay.control.status.history import Amend
from relay.runtime.errors import Fault

FAULTS_SHOWN_MAX: Final = 5
"""Most faults that a message lists."""


class LoadedObject(msgspec.Struct, frozen=True):
    """One object as it was loaded.

    ``wanted`` is what is to run of it: its present version, or the last good one of a faulty
    object; None: nothing. ``winner`` names the object that has its name, with a conflict.
    """

    result: ObjectResult
    wanted: Exporter | None = None
    winner: str = ""


def facts_of(
    loaded: LoadedObject, running: RunningExporter | None, unresolved: Unresolved, *, now: float
) -> ObjectFacts:
    """Return the facts of an object; ``running`` is what runs of it. ``now``: wall clock, s."""
    result, wanted = loaded.result, loaded.wanted
    if result.conflict:
        message = (
            f"the name is taken by {loaded.winner}, which counts: give this object another name, "
            "or delete one of the two"
        )
        return ObjectFacts((), refused=Problem("Conflict", message))
    if result.exporter is None:
        sinks = last_good_sinks(running, unresolved, now=now) if running is not None else ()
        problem = Problem(_reason(result.faults), _listed(result.faults))
        if result.lacks:
            return ObjectFacts(sinks, unresolved=(replace(problem, reason=REF_NOT_USABLE),))
        return ObjectFacts(sinks, refused=problem)
    if wanted is None:
        message = "it cannot run beside an object with overflow: block, which runs already"
        return ObjectFacts((), refused=Problem("Invalid", _listed(result.faults) or message))
    is_present = running is not None and (running.exporter is wanted or running.exporter == wanted)
    sinks = sink_facts(wanted, running if is_present else None, unresolved, now=now)
    return ObjectFacts(sinks, warnings=tuple(one.text for one in wanted.warnings))


def name_of(result: ObjectResult | None, *, of: SourceName = "files") -> str:
    """Return an object in words, for the message of another one of its name from ``of``.

    Owners of objects of a cluster are not told the paths of the relay's files.
    """
    if result is None:
        return "an earlier object"
    key = result.key
    if key.group:
        return f"the {key.kind} {key.namespace}/{key.name} of {key.group} in Kubernetes"
    is_open = of in (key.source, "files")
    if is_open and result.exporter is not None and result.exporter.origin:
        return f"the one in {result.exporter.origin}"
    place = {"files": "the relay's files", "kubernetes": "Kubernetes", "api": "the relay's API"}
    plane = f", control plane {key.plane}" if key.plane else ""
    return f"the one in {place[key.source]}{plane}"


def words_of_policy(loaded: LoadedObject) -> Amend:
    """Return what gives an ExportPolicy the conditions that the platform's operator writes."""
    result = loaded.result

    def amend(verdicts: ObjectVerdicts) -> None:
        if result.key.kind != EXPORT_POLICY:
            return
        policy = (loaded.wanted or result.exporter) if result.exporter is not None else None
        if policy is None or result.conflict:
            message = verdicts.conditions["Accepted"].message
            if result.lacks:
                message = verdicts.conditions["ResolvedRefs"].message
            found = ConditionVerdict("False", "SinksNotAccepted", message)
            verdicts.conditions["Ready"] = found
            return
        for one in policy_conditions(policy):
            verdicts.conditions[one.type] = ConditionVerdict(one.status, one.reason, one.message)
        for name, one in sink_conditions(policy):
            verdicts.sinks[name][one.type] = ConditionVerdict(one.status, one.reason, one.message)

    return amend


def of_older_version(loaded: LoadedObject, running: RunningExporter | None) -> Amend:
    """Return what marks the delivery by a last good version as that version's."""

    def amend(verdicts: ObjectVerdicts) -> None:
        if loaded.result.exporter is not None or running is None:
            return
        for one in (verdicts.conditions, *verdicts.sinks.values()):
            one["Delivering"] = replace(one["Delivering"], generation=running.exporter.generation)

    return amend


def _reason(faults: Sequence[Fault]) -> str:
    """Return the reason of a refusal: that of the first fault that names one."""
    return next((one.reason for one in faults if one.reason), "Invalid")


def _listed(faults: Sequence[Fault]) -> str:
    """Return faults in the words of ``relay check``."""
    texts = [one.text for one in faults]
    return listed(texts, FAULTS_SHOWN_MAX, see=": relay check shows all")
