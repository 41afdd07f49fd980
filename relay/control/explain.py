"""Explains one series: which sources take it, why, and the form in which sinks get it.

And the other way round: which series of a captured request an exporter would take. Both ask a
:class:`~relay.pipeline.routing.router.Router`, the running relay's or one that is made for the
question, so the answer is what happens, not what a second implementation thinks would happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

from relay.codec.remote_write.v1 import SeriesFault, WriteProtocol, label_key, parse_labels
from relay.codec.signal_names import SignalName
from relay.config.exporter.types import Exporter
from relay.control.captured_streams import captured_streams
from relay.control.explain_lines import is_raw, otlp_lines, said, source_lines
from relay.control.explain_records import (
    RecordRules,
    explain_records,
    parse_attributes,
    record_takers,
)
from relay.control.explain_streams import Asked, find_stream, stream_lines
from relay.control.time_slicing import Turns
from relay.pipeline.contract import Tenant
from relay.pipeline.drop_counters import DropTable
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.metrics.decoders import DECODERS, DEFAULT_PROTOCOL
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.translate.translator import Translator
from relay.pipeline.pacing import UNPACED, Pace
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.router import Router
from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, ANYWHERE, IngestPath, Tenancy
from relay.pipeline.statistics import Exported
from relay.runtime.errors import ConfigError, Fault, SelectorError
from relay.runtime.event_loop import run_in_thread
from relay.selector.evaluate import render
from relay.selector.histogram_coverage import possible_families
from relay.selector.inventory.info_series import InfoReader
from relay.selector.inventory.store import Inventory
from relay.selector.matchers import NAME
from relay.selector.metricsql.parser import parse_selector
from relay.selector.named_views import NamedViews
from relay.selector.quoting import quote_name, quote_string
from relay.selector.resources.compiler import Compiler

OTHERS_MAX = 20
"""Limit of exporters that do not take a series and are listed one by one, unless requested."""

ANSWER_CHARS_MAX = 1024 * 1024
"""Maximum length of a running relay's answer, characters."""
LINES_AT_ONCE = 200
"""Lines produced between two turns for requests."""

_LABELS_MAX = 10_000
_IDS_TOLD_MAX = 10


def parse_series(text: str) -> dict[str, str]:
    """Parse a series in the form ``name{label="value", ...}``. Raises SelectorError."""
    selector = parse_selector(text)
    if len(selector.groups) != 1:
        raise SelectorError(
            "a series has one set of labels",
            text=text,
            offset=0,
            hint='write it like http_requests_total{code="200"}',
        )
    labels: dict[str, str] = {}
    for matcher in selector.groups[0]:
        if matcher.op != "=":
            raise SelectorError(
                f"a series has values, not conditions: {render(matcher)}",
                text=text,
                offset=max(0, text.find(matcher.op)),
                hint="use = for every label",
            )
        if labels.setdefault(matcher.label, matcher.value) != matcher.value:
            raise SelectorError(f"label {matcher.label} is given two values", text=text, offset=0)
    labels = {label: value for label, value in labels.items() if value}
    if NAME not in labels:
        raise SelectorError(
            "a series needs a metric name",
            text=text,
            offset=0,
            hint='write it like http_requests_total{code="200"}; a resource of logs or traces is '
            "asked for with that signal (--signal logs)",
        )
    return labels


@dataclass(frozen=True, slots=True)
class ExplainQuery:
    """A question about one series, as asked at the admin listener.

    ``series`` in PromQL form; ``tenant`` of the path to which it is delivered; ``exporter`` is the
    only one to examine, "" for all; ``every``: list also each one that does not take it.
    """

    series: str
    tenant: Tenant | None = None
    exporter: str = ""
    every: bool = False
    signal: SignalName = "metrics"
    """With another one, ``series`` is the attributes of a resource."""


class Explainer:
    """Answers questions about the exporters of a router; ``exporters`` are these, by id.

    ``engine``, if one runs, provides metric types and target labels.
    """

    def __init__(
        self,
        router: Router,
        exporters: Mapping[str, Exporter],
        *,
        engine: MetricsPipeline | None = None,
        infer_types: bool = True,
    ) -> None:
        self._router = router
        self._exporters = exporters
        self._engine = engine
        self._infer_types = infer_types
        self._drops = engine.drops if engine is not None else DropTable()
        self.rules: RecordRules | None = None
        """Rules of logs and traces, where they can be explained."""

    @classmethod
    def offline(
        cls,
        exporters: Iterable[Exporter],
        *,
        tenancy: Tenancy | None = None,
        compiler: Compiler | None = None,
        inventory: Inventory | None = None,
        infer_types: bool = True,
    ) -> Explainer:
        """Return an explainer of exporters that do not run in this process."""
        router = Router(tenancy=tenancy, compiler=compiler, inventory=inventory)
        by_id = {exporter.id: exporter for exporter in exporters}
        for exporter in by_id.values():
            sources = [(source.name, source.selector, ()) for source in exporter.sources]
            router.add(exporter.id, exporter.project, sources)
        return cls(router, by_id, infer_types=infer_types)

    @classmethod
    def running(
        cls,
        engine: MetricsPipeline,
        exporters: Mapping[str, Exporter],
        rules: RecordRules | None = None,
    ) -> Explainer:
        """Return an explainer of running pipelines; ``rules`` are those of logs and traces."""
        made = cls(engine.router, exporters, engine=engine)
        made.rules = rules
        return made

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the ingest path of a request's tenant."""
        return self._router.tenancy.path_of(tenant)

    def require(self, exporter: str, field: str) -> None:
        """Raise ConfigError, with ids that may be meant, if there is no such exporter."""
        if exporter not in self._exporters:
            message = unknown_exporter(exporter, self._exporters)
            raise ConfigError([Fault(field, message)])

    @contextmanager
    def paced(self, pace: Pace) -> Iterator[None]:
        """Pause between regular expressions."""
        self._router.pause = pace.pause
        try:
            yield
        finally:
            self._router.pause = UNPACED.pause

    def series(
        self,
        labels: Mapping[str, str],
        *,
        origin: IngestPath = ANYWHERE,
        exporter: str = "",
        every: bool = False,
    ) -> Iterator[str]:
        """Yield lines: the sources that take a series, the reasons, and its OTLP form.

        ``exporter`` is the only one to examine, if given; otherwise those that do not take it are
        listed one by one if they are few, or ``every`` is set.
        """
        asked = self._asked(labels, origin)
        if asked.stream is not None:
            yield f"{written(asked.labels)} came by OTLP"
        described = self._describe(labels, origin)
        if exporter:
            yield from self._answer(exporter, asked)
        else:
            subscribers = self._router.subscribers(asked.views, asked.project)
            taken = {counter.exporter for counter in subscribers}
            others = [name for name in self._exporters if name not in taken]
            for name in self._exporters:
                if name in taken:
                    yield from self._answer(name, asked)
            if every or len(others) <= OTHERS_MAX:
                for name in others:
                    yield from self._answer(name, asked)
            else:
                yield f"{len(taken)} exporters take it, {len(others)} do not"
            if not self._exporters and self._router.tenancy.enabled:
                yield "no exporter may see it: no exporter belongs to its project"
            elif not self._exporters:
                yield "there is no exporter: received samples are not exported"
        yield ""
        if asked.stream is not None:
            yield from stream_lines(asked.stream)
        elif self._is_only_raw(asked):
            yield "As it came: no sink that takes it needs its type"
        else:
            pairs = sorted(asked.labels.items())
            translation = Translator().translate(pairs, target=described.attributes)
            yield from otlp_lines(translation, described)

    def takers(
        self, labels: Mapping[str, str], origin: IngestPath = ANYWHERE
    ) -> list[tuple[str, str]]:
        """Return exporter and source of each source that takes a series, in order."""
        asked = self._asked(labels, origin)
        counters = self._router.subscribers(asked.views, asked.project)
        found = [(counter.exporter, counter.source) for counter in counters]
        return sorted(one for one in found if one[0] in self._exporters)

    def records(self, question: ExplainQuery, origin: IngestPath) -> Iterator[str]:
        """Yield lines about log records or spans of a resource. Raises ConfigError."""
        attributes = read_attributes(question.series)
        return self.resource(
            question.signal, attributes, origin, exporter=question.exporter, every=question.every
        )

    def resource(
        self,
        signal: SignalName,
        attributes: Iterable[tuple[str, str]],
        origin: IngestPath,
        *,
        exporter: str = "",
        every: bool = False,
    ) -> Iterator[str]:
        """Yield lines about log records or spans of a resource with these attributes."""
        assert self.rules is not None, "only of running pipelines"
        return explain_records(
            self._exporters,
            signal,
            attributes,
            self.rules,
            origin=origin,
            exporter=exporter,
            every=every,
        )

    def resource_takers(
        self, signal: SignalName, attributes: Iterable[tuple[str, str]], origin: IngestPath
    ) -> list[tuple[str, str]]:
        """Return exporter and source of each source that may take records of a resource."""
        assert self.rules is not None, "only of running pipelines"
        return list(record_takers(self._exporters, signal, attributes, self.rules, origin=origin))

    def captured(
        self,
        body: bytes,
        exporter: str,
        *,
        reader: InfoReader,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = DEFAULT_PROTOCOL,
    ) -> Iterator[str]:
        """Yield lines: the series of a decompressed request that an exporter takes, by source.

        Info series in the request are learned first. Raises DecodeError.
        """
        tenancy = self._router.tenancy
        owner, sources = self._router.selections(exporter)
        seen: dict[bytes, dict[str, str]] = {}
        faulty = 0
        for key in DECODERS[protocol].series_keys(body):
            if key not in seen:
                try:
                    seen[key] = dict(parse_labels(key, labels_max=_LABELS_MAX))
                except SeriesFault:
                    seen[key] = {}
                    faulty += 1
        good = [labels for labels in seen.values() if labels]
        for labels in good:
            claim = reader.claim(labels, tenancy.project_of(labels, origin))
            if claim is not None:
                self._router.inventory.apply_info_series(claim, begins=True)
        count = 0
        for labels in good:
            if tenancy.project_of(labels, origin) != owner:
                continue
            visible = _visible(labels, origin)
            names = [name for name, compiled in sources.items() if compiled.matches(visible)]
            if names:
                count += 1
                yield f"{', '.join(names)}: {written(visible)}"
        unusable = f"; {faulty} more are faulty" if faulty else ""
        yield f"{exporter} takes {count} of {len(good)} series{unusable}"

    def captured_streams(
        self,
        body: bytes,
        exporter: str,
        *,
        tenants: ResourceTenants,
        origin: IngestPath = ANYWHERE,
    ) -> Iterator[str]:
        """Yield lines: the streams of a request of OTLP metrics that an exporter takes, by source.

        Raises DecodeError.
        """
        owner, sources = self._router.selections(exporter)
        count = all_ = 0
        for names, labels in captured_streams(body, owner, sources, tenants=tenants, origin=origin):
            all_ += 1
            if names:
                count += 1
                yield f"{', '.join(names)}: {written(labels)}"
        yield f"{exporter} takes {count} of {all_} series"

    def _describe(self, labels: Mapping[str, str], origin: IngestPath) -> Exported:
        if self._engine is not None:
            return described(self._engine, labels, origin)
        types = TypeStore(families_max=2, infer=self._infer_types).platform
        if "le" in labels or "vmrange" in labels:
            types.see_sibling(labels[NAME], "bucket")
        return Exported(types.look(labels[NAME]))

    def _asked(self, labels: Mapping[str, str], origin: IngestPath) -> Asked:
        """Return the series or stream that is meant: of equal ones, the series."""
        project = self._router.tenancy.project_of(labels, origin)
        visible, engine = _visible(labels, origin), self._engine
        # Without a path or a project in the question any project's stream may be meant; a series
        # that is nobody's is not another's stream.
        tenancy = self._router.tenancy
        is_open = origin == ANYWHERE and not labels.get(tenancy.label)
        may_be = project or not tenancy.enabled or is_open
        if (
            engine is not None
            and may_be
            and not engine.table.look(origin, label_key(sorted(labels.items())))
        ):
            stream = find_stream(engine.streams.known, visible, project, self._router.pause)
            if stream is not None:
                return Asked(stream.views, stream.project, stream)
        return Asked(NamedViews((visible,)), project)

    def _is_only_raw(self, asked: Asked) -> bool:
        """Return True if sinks take the series, and all of them as it came."""
        sinks = [
            sink
            for counter in self._router.subscribers(asked.views, asked.project)
            if counter.exporter in self._exporters  # others have come since they were listed
            for sink in self._exporters[counter.exporter].sinks
            if counter.source in sink.sources
        ]
        return bool(sinks) and all(map(is_raw, sinks))

    def _answer(self, name: str, asked: Asked) -> Iterator[str]:
        yield name
        exporter = self._exporters[name]
        if not self._router.routes(name):
            yield "  it has just been removed"
            return
        owner, sources = self._router.selections(name)
        if owner != asked.project:
            # Show neither the series' project nor parts of its selectors: they are another
            # customer's.
            yield "  no: the series is not of this exporter's project"
            return
        sink_lines = None if asked.stream is None else asked.sink_lines
        for source, compiled in sources.items():
            sinks = [sink for sink in exporter.sinks if source in sink.sources]
            yield from source_lines(source, sinks, compiled, asked.views, sink_lines)
        for drop in self._drops.of(name, possible_families(asked.labels[NAME])):
            yield f"  {said(drop)}"

    def __repr__(self) -> str:
        return f"<Explainer of {self._router!r}>"


def described(
    engine: MetricsPipeline, labels: Mapping[str, str], origin: IngestPath = ANYWHERE
) -> Exported:
    """Return the present exported form of a series with these labels, without caching it."""
    project = engine.router.tenancy.project_of(labels, origin)
    types = engine.types.of(project)
    name = labels[NAME]
    # Correct for senders that sort their labels; for others, the project's metadata is shown.
    series = engine.table.look(origin, label_key(sorted(labels.items())))
    declared = series.declared if series is not None and not series.fault else None
    typing = types.look(name, declared)
    if typing.is_unsure and ("le" in labels or "vmrange" in labels):
        alone = TypeStore(families_max=1, infer=engine.types.infer).platform
        alone.see_sibling(name, "bucket")
        typing = alone.look(name)
    attributes = engine.resources.find(labels, project).attributes
    return Exported(typing, attributes, types.contradiction(name))


def unknown_exporter(name: str, known: Iterable[str]) -> str:
    """Say that there is no exporter of this id, with those of the same name or some others."""
    ids = sorted(known)
    last = name.rpartition("/")[2]
    meant = [one for one in ids if one.rpartition("/")[2] == last][:_IDS_TOLD_MAX]
    if meant:
        return f"there is no exporter {name}; did you mean {' or '.join(meant)}?"
    if ids:
        return f"there is no exporter {name}; there are {', '.join(ids[:_IDS_TOLD_MAX])}"
    return f"there is no exporter {name}"


async def answer(question: ExplainQuery, explainer: Explainer, turns: Turns) -> list[str]:
    """Return the answer's lines, at most :data:`ANSWER_CHARS_MAX` characters."""
    if question.exporter:
        explainer.require(question.exporter, "exporter")
    origin = explainer.path_of(question.tenant)
    if question.signal != "metrics":
        return await collected(explainer.records(question, origin), explainer, turns)
    labels = await read_series(question.series)
    lines = explainer.series(
        labels, origin=origin, exporter=question.exporter, every=question.every
    )
    return await collected(lines, explainer, turns)


def read_attributes(text: str) -> list[tuple[str, str]]:
    """Return the attributes of a resource in a selector's form; raise ConfigError."""
    try:
        return parse_attributes(text)
    except SelectorError as error:
        raise ConfigError([Fault("series", f"{error}\n{error.caret()}")]) from error


async def read_series(text: str) -> dict[str, str]:
    """Return the labels of a series in PromQL form; raise ConfigError."""
    try:
        return await run_in_thread(partial(parse_series, text))
    except SelectorError as error:
        raise ConfigError([Fault("series", f"{error}\n{error.caret()}")]) from error


async def collected(lines: Iterator[str], explainer: Explainer, turns: Turns) -> list[str]:
    """Return lines of an explainer, at most :data:`ANSWER_CHARS_MAX` characters, in turns."""
    found: list[str] = []
    chars = 0

    def some(*, pace: Pace) -> bool:
        """Produce some lines; return whether there are more."""
        nonlocal chars
        pace.final = True  # what was taken from the lines cannot be put back
        before = len(found)
        with explainer.paced(pace):
            for line in islice(lines, LINES_AT_ONCE):
                found.append(line)
                chars += len(line)
                pace.pause()
                if chars > ANSWER_CHARS_MAX:
                    found.append("… and more: ask for one exporter")
                    return False
        return len(found) - before == LINES_AT_ONCE

    while await turns.run(some, lambda _: None, repeatable=False):
        pass
    return found


def written(labels: Mapping[str, str]) -> str:
    """Return a series in PromQL form, which :func:`parse_series` reads."""
    rest = sorted((name, value) for name, value in labels.items() if name != NAME)
    inside = ",".join(f"{quote_name(name)}={quote_string(value)}" for name, value in rest)
    return f"{quote_name(labels[NAME])}{{{inside}}}"


def _visible(labels: Mapping[str, str], origin: IngestPath) -> Mapping[str, str]:
    """Return the labels without those by which the multitenant path names the account."""
    if not origin.by_labels:
        return labels
    return {name: value for name, value in labels.items() if name not in ACCOUNT_LABELS}
