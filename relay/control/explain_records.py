"""Explain which sources take the log records or spans of a resource, and why others do not.

A question has the attributes of a resource, as a selector writes them:
``{service.name="svc-1", "log.category"="access"}``. Where a source asks something that the question
does not have, the answer says so: records may have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from relay.codec.signal_names import SignalName
from relay.config.exporter.records.outputs import sources_of
from relay.config.exporter.types import Exporter, OtlpHttp, RecordSource
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from relay.pipeline.signals import Signals
from relay.runtime.errors import ConfigError, Fault, SelectorError
from relay.selector.inventory.store import Inventory
from relay.selector.quoting import quote_name, quote_string
from relay.selector.records.compile import Attributes, CompiledRecords
from relay.selector.records.logql import parse_selector
from relay.selector.records.selection import AttributeMatcher, plain_name
from relay.selector.resources.compiler import Compiler

OTHERS_MAX = 20
"""Most exporters that are listed one by one although they take nothing."""


@dataclass(frozen=True, slots=True)
class RecordRules:
    """The settings that decide about records."""

    tenants: ResourceTenants
    compiler: Compiler
    inventory: Inventory
    category_attribute: str


def rules_of(signals: Signals) -> RecordRules:
    """Return the rules of running pipelines."""
    logs = signals.logs
    return RecordRules(
        logs.tenants,
        logs.router.compiler,
        logs.router.inventory,
        logs.options.category_attribute,
    )


def parse_attributes(text: str) -> list[tuple[str, str]]:
    """Parse the attributes of a resource. Raise SelectorError."""
    selector = parse_selector(text)
    groups = selector.groups or ((),)
    if len(groups) != 1 or selector.lines:
        hint = 'write it like {service.name="svc-1"}'
        raise SelectorError("a resource has one set of attributes", text=text, offset=0, hint=hint)
    for matcher in groups[0]:
        if matcher.op != "=":
            raise SelectorError(
                f"a resource has values, not conditions: {matcher}",
                text=text,
                offset=max(0, matcher.offset),
                hint="use = for every attribute",
            )
    return [(_written(text, one), one.value) for one in groups[0]]


def resource_text(attributes: Iterable[tuple[str, str]]) -> str:
    """Return attributes in a selector's form."""
    pairs = (f"{quote_name(name)}={quote_string(text)}" for name, text in attributes)
    return f"{{{', '.join(pairs)}}}"


def _written(text: str, matcher: AttributeMatcher) -> str:
    """Return an attribute's name with the dots that it has in the question."""
    if matcher.is_exact:
        return matcher.name
    return text[matcher.offset : matcher.offset + len(matcher.name)]


def explain_records(
    exporters: Mapping[str, Exporter],
    signal: SignalName,
    attributes: Iterable[tuple[str, str]],
    rules: RecordRules,
    *,
    origin: IngestPath,
    exporter: str = "",
    every: bool = False,
) -> Iterator[str]:
    """Yield lines: the exporters that may take records of a resource, and why others do not.

    ``exporter`` is the only one to examine, if given.
    """
    attributes = list(attributes)
    found = Attributes(attributes)
    project = _project_of(attributes, rules, origin)
    if project is None:
        names = " or ".join(rules.tenants.attributes)
        yield f"no project: neither its path nor {names} names one, or they disagree"
        return
    asked = {exporter: exporters[exporter]} if exporter else exporters
    left = 0
    for name, one in asked.items():
        if one.project != project:
            if exporter:
                yield f"{name}: no: it is of project {one.project}, not of {project}"
            continue
        lines, takes = _answers(one, signal, found, rules)
        if takes or exporter or every or left < OTHERS_MAX:
            yield f"{name}:"
            yield from lines
        left += not takes
    if not asked:
        yield "there is no exporter: what is received is not exported"


def record_takers(
    exporters: Mapping[str, Exporter],
    signal: SignalName,
    attributes: Iterable[tuple[str, str]],
    rules: RecordRules,
    *,
    origin: IngestPath,
) -> Iterator[tuple[str, str]]:
    """Yield exporter and source of each source that may take records of a resource, in order."""
    attributes = list(attributes)
    found = Attributes(attributes)
    project = _project_of(attributes, rules, origin)
    for name, one in sorted(exporters.items()):
        if one.project != project:
            continue
        for source, compiled in compiled_sources(one, signal, rules):
            if compiled.decide(found, found) is not None:
                yield name, source.name


def path_for(project: str, attributes: Iterable[tuple[str, str]], rules: RecordRules) -> IngestPath:
    """Return a path on which a resource is the project's. Raise ConfigError."""
    if not rules.tenants.enabled:
        return ANYWHERE
    attributes = list(attributes)
    found = Attributes(attributes)
    is_named = any(found.plain.get(plain_name(name)) for name in rules.tenants.attributes)
    origin = ANYWHERE if is_named else IngestPath(project)
    if _project_of(attributes, rules, origin) != project:
        names = " or ".join(rules.tenants.attributes)
        raise ConfigError([Fault("series", f"{names} names another project: leave it out")])
    return origin


def compiled_sources(
    exporter: Exporter, signal: SignalName, rules: RecordRules
) -> Iterator[tuple[RecordSource, CompiledRecords]]:
    """Yield the sources of a signal with their compiled selections."""
    objects = rules.inventory.for_project(exporter.project)
    for source in sources_of(exporter, signal):
        yield (
            source,
            CompiledRecords(
                source.selection,
                compiler=rules.compiler,
                objects=objects,
                category_attribute=rules.category_attribute,
            ),
        )


def to_sinks(exporter: Exporter, source: RecordSource) -> str:
    """Return in words which sinks get what a source takes."""
    to = [
        sink.name
        for sink in exporter.sinks
        if source.name in sink.sources and isinstance(sink.endpoint, OtlpHttp)
    ]
    return f" to {', '.join(to)}" if to else ", and no sink takes the source"


def _answers(
    exporter: Exporter, signal: SignalName, found: Attributes, rules: RecordRules
) -> tuple[list[str], bool]:
    """Return the lines of an exporter, and whether one of its sources may take records."""
    lines, any_takes = [], False
    unit = "spans" if signal == "traces" else "records"
    for source, compiled in compiled_sources(exporter, signal, rules):
        takes, text = compiled.explain(found, found)
        any_takes = any_takes or takes
        if not takes:
            lines.append(f"  {source.name}: no: {text}")
            continue
        condition = f", {unit} with {text}" if text else f", all {unit}"
        lines.append(f"  {source.name}: yes{condition}{to_sinks(exporter, source)}")
        lines += [
            f"    {action} attribute {quote_string(name)}"
            for name, action in source.selection.redactions
        ]
    if not lines:
        lines.append(f"  no source of {signal}")
    return lines, any_takes


def _project_of(
    attributes: Iterable[tuple[str, str]], rules: RecordRules, origin: IngestPath
) -> str | None:
    """Return the project of a resource; a question may write its attributes' names plainly."""
    exact = {plain_name(name): name for name in rules.tenants.attributes}
    named = [(exact.get(plain_name(name), name), text) for name, text in attributes]
    return rules.tenants.project_of(named, origin)
