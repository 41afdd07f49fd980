"""The page of one exporter: its sources, sinks, conditions and events. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from relay.control.status.sink_history import HistoryMinute
from relay.ui.authoring.signals import SIGNALS, SignalRow
from relay.ui.views.exporter_rows import read_time
from relay.ui.views.history import ShownHistory
from relay.ui.views.source_views import SourceView, signals_of, source_view
from relay.ui.views.states import ShownCondition, ShownState, state_of
from relay.ui.views.values import mapping_of, mappings_in, number_in, numbers_of

EVENTS_MAX: Final = 50
_BAR_UNITS: Final = 1000
_CREDENTIAL: Final = re.compile(r"\b(?:401|403)\b|secret", re.IGNORECASE)
_LEAST_UNITS: Final = 6
"""Width of a part that is not nothing, so that it is seen."""
PARTS: Final = (
    ("delivered", "Delivered", "taken by the endpoint"),
    ("queued", "Waiting", "in the batch, in the queue or on the way"),
    ("rejected", "Rejected", "refused by the endpoint for good"),
    ("expired", "Expired", "waited for longer than queue.maxAge"),
    ("dropped", "Dropped", "given up by the relay"),
)
"""Parts of a ledger: their fields, words and meaning."""
LOSSES: Final = {
    "rejected": "the endpoint refused these {unit} for good: read its last error, and send others",
    "expired": "these {unit} waited for longer than the queue keeps them: mend the endpoint, or "
    "let {unit} wait longer",
    "dropped": "the queue was full, or the relay gave these {unit} up: mend the endpoint, or give "
    "it a larger queue",
}
"""Fates of points, log records or spans that were lost, and remedies, by the part of a ledger."""
_CREATE: Final = "; create it: "
_LOSS: Final = "a part of the data was lost"
"""First words of the message of a sink that delivers, and has lost something lately."""


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """One part of a ledger; ``x`` and ``width`` are in thousandths of the bar."""

    field: str
    word: str
    meaning: str
    points: int
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class LedgerPicture:
    """A ledger: what was matched is the sum of its parts. ``unit`` is what it counts."""

    matched: int
    parts: tuple[LedgerPart, ...]
    unit: str = "points"

    @property
    def losses(self) -> tuple[tuple[str, str], ...]:
        """Words and explanations of the parts that are lost."""
        return tuple(
            (part.word, LOSSES[part.field].format(unit=self.unit))
            for part in self.parts
            if part.points and part.field in LOSSES
        )

    @property
    def is_balanced(self) -> bool:
        """True if the parts add up; they do but for what happens while they are read."""
        return self.matched == sum(part.points for part in self.parts)


@dataclass(frozen=True, slots=True)
class OutputView:
    """One signal that a sink sends. Times are wall clock, s; None: never.

    ``name`` is the relay's name of it, ``suffix`` "" for the first of a sink.
    """

    name: str
    signal: str
    word: str
    unit: str
    suffix: str
    ledger: LedgerPicture | None
    last_success: float | None
    last_error: str
    last_error_at: float | None


@dataclass(frozen=True, slots=True)
class SinkView:
    """One sink. Times are wall clock, s; None: never. ``outputs`` has one at least."""

    index: int
    name: str
    kind: str
    endpoint: str
    profile: str
    sources: tuple[str, ...]
    state: ShownState
    conditions: tuple[ShownCondition, ...]
    paused: bool
    ledger: LedgerPicture | None
    last_success: float | None
    last_error: str
    last_error_at: float | None
    usage: Mapping[str, int]
    secret: str
    secret_key: str
    outputs: tuple[OutputView, ...]

    @property
    def told(self) -> tuple[str, str]:
        """The fault, in the endpoint's own words if they are known, and its remedy."""
        message = self.state.message
        if self.last_error and message.startswith(f"{self.last_error}: "):
            return self.last_error, message.removeprefix(f"{self.last_error}: ")
        said, _, command = message.partition(_CREATE)
        return said, f"enter its value, or run: {command}" if command else ""

    @property
    def needs_credential(self) -> bool:
        """True if another value of its Secret may help."""
        said = self.told[0]
        return bool(self.secret) and self.state.tone == "bad" and bool(_CREDENTIAL.search(said))


@dataclass(frozen=True, slots=True)
class EventView:
    """One Event; ``at`` is its last time, wall clock, s."""

    at: float | None
    is_warning: bool
    reason: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class ExporterDetails:
    """One exporter."""

    kind: str
    group: str
    namespace: str
    name: str
    state: ShownState
    file: str
    created: float | None
    generation: int
    sources: tuple[SourceView, ...]
    sinks: tuple[SinkView, ...]
    conditions: tuple[ShownCondition, ...]
    usage: Mapping[str, int]
    signals: tuple[str, ...]
    """The signals of its sources."""
    is_deleting: bool

    @property
    def rates(self) -> tuple[tuple[str, int | None], ...]:
        """Words and figures a minute of its usage, of all sinks."""
        units = [row.unit for row in SIGNALS if row.field in self.signals]
        found = []
        if "metrics" in self.signals:
            del units[0]
            found.append(("Samples", self.usage.get("samplesPerMinute")))
        if units:
            word = " and ".join(units).capitalize()
            found.append((word, self.usage.get("recordsPerMinute")))
        return tuple(found)

    @property
    def waiting(self) -> dict[str, int]:
        """Numbers that wait to be sent, by unit; {} for nothing."""
        found: dict[str, int] = {}
        for sink in self.sinks:
            for output in sink.outputs:
                for part in output.ledger.parts if output.ledger is not None else ():
                    if part.field == "queued" and part.points:
                        found[output.unit] = found.get(output.unit, 0) + part.points
        return found

    @property
    def troubles(self) -> tuple[SinkView, ...]:
        """Sinks that want attention, of those that were judged."""
        return tuple(
            one for one in self.sinks if one.conditions and one.state.tone in ("bad", "warn")
        )

    @property
    def lacking(self) -> tuple[SinkView, ...]:
        """Sinks that were not judged for want of a credential."""
        return tuple(one for one in self.sinks if not one.conditions and one.needs_credential)


def details_of(value: Mapping[str, Any], file: str = "") -> ExporterDetails:
    """Return the details of an object of the API, whatever others wrote into its status."""
    metadata, spec = mapping_of(value.get("metadata")), mapping_of(value.get("spec"))
    status = mapping_of(value.get("status"))
    conditions = _conditions(status)
    state = state_of(conditions)
    usages = {
        str(one.get("name")): mapping_of(one.get("usage")) for one in mappings_in(status, "sources")
    }
    totals: dict[str, int] = {}
    for one in mappings_in(spec, "sources"):
        for row in signals_of(one):
            count = number_in(usages.get(str(one.get("name")), {}), row.per_minute) or 0
            totals[row.field] = totals.get(row.field, 0) + count
    states = {str(one.get("name")): one for one in mappings_in(status, "sinks")}
    signals = {str(one.get("name")): signals_of(one) for one in mappings_in(spec, "sources")}
    return ExporterDetails(
        kind=str(value.get("kind", "")),
        group=str(value.get("apiVersion", "")).partition("/")[0],
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        state=state,
        file=file,
        created=read_time(metadata.get("creationTimestamp")),
        generation=number_in(metadata, "generation") or 0,
        sources=tuple(
            source_view(one, row, usages.get(str(one.get("name")), {}), totals[row.field])
            for one in mappings_in(spec, "sources")
            for row in signals_of(one)
        ),
        sinks=tuple(
            _sink(index, one, states.get(str(one.get("name")), {}), signals, state)
            for index, one in enumerate(mappings_in(spec, "sinks"))
        ),
        conditions=conditions,
        usage=numbers_of(mapping_of(status.get("usage"))),
        signals=tuple(totals),
        is_deleting="deletionTimestamp" in metadata,
    )


_KEYS: Final = {"basicAuth": "password", "bearerToken": "token", "apiKey": "apiKey"}
"""Keys of Secrets, by the type of authentication (of a pair that which is secret)."""


_KINDS: Final = {
    "otlp_http": "OTLP over HTTP",
    "prometheusRemoteWrite": "Prometheus remote write",
}


def _outputs(
    name: str, signals: Sequence[SignalRow], status: Mapping[str, Any]
) -> Iterator[OutputView]:
    """Yield what a sink sends of each signal, in the order of the table."""
    known = {str(one.get("signal")): one for one in mappings_in(status, "signals")}
    for number, row in enumerate(signals):
        own = known.get(row.field, status if row.field == "metrics" else {})
        error = mapping_of(own.get("lastError"))
        yield OutputView(
            name if row.field == "metrics" else f"{name}/{row.field}",
            row.field,
            row.word,
            row.unit,
            f"-{row.field}" if number else "",
            ledger_picture(mapping_of(own["ledger"]), row.unit) if "ledger" in own else None,
            read_time(own.get("lastSuccess")),
            str(error.get("message", "")),
            read_time(error.get("time")),
        )


def _sink(
    index: int,
    sink: Mapping[str, Any],
    status: Mapping[str, Any],
    signals: Mapping[str, Sequence[SignalRow]],
    exporter: ShownState,
) -> SinkView:
    """Return a sink; one without conditions is as its exporter is."""
    field = next((name for name in _KINDS if name in sink), "")
    endpoint = mapping_of(sink.get(field))
    is_otlp = field == "otlp_http"
    if not field:
        target = mapping_of(sink.get("target"))
        is_otlp = "openTelemetry" in target
        field = next((name for name in _KINDS if name in target), "prometheusRemoteWrite")
        endpoint = mapping_of(target.get(field))
        if is_otlp:
            field, endpoint = "otlp_http", mapping_of(target.get("openTelemetry"))
            endpoint = {**endpoint, **mapping_of(endpoint.get("http"))}
    conditions = _conditions(status)
    error = mapping_of(status.get("lastError"))
    name = str(sink.get("name", ""))
    wanted = [str(one) for one in sink.get("sources") or signals]
    sent = {row.field for one in wanted for row in signals.get(one, ())}
    rows = [row for row in SIGNALS if row.field in sent and (row.field == "metrics" or is_otlp)]
    outputs = tuple(_outputs(name, rows or SIGNALS[:1], status))
    state = state_of(conditions) if conditions else exporter
    if state.tone == "good" and state.message.startswith(_LOSS):
        state = state._replace(tone="warn")
    authentication = mapping_of(endpoint.get("authentication"))
    secret = mapping_of(authentication.get("secretRef"))
    return SinkView(
        index=index,
        name=name,
        kind=_KINDS.get(field, ""),
        endpoint=str(endpoint.get("endpoint", "")),
        profile=str(endpoint.get("profile", "")),
        sources=tuple(str(one) for one in sink.get("sources") or ()),
        state=state,
        conditions=conditions,
        paused=sink.get("paused") is True,
        ledger=outputs[0].ledger,
        last_success=read_time(status.get("lastSuccess")),
        last_error=str(error.get("message", "")),
        last_error_at=read_time(error.get("time")),
        usage=numbers_of(mapping_of(status.get("usage"))),
        secret=str(secret.get("name", "")),
        secret_key=str(secret.get("key") or _KEYS.get(str(authentication.get("type")), "")),
        outputs=outputs,
    )


def ledger_picture(ledger: Mapping[str, Any], unit: str = "points") -> LedgerPicture:
    """Return a ledger as parts of a bar; every part that is not nothing can be seen."""
    points = {field: max(0, number_in(ledger, field) or 0) for field, _, _ in PARTS}
    total = sum(points.values())
    widths = {
        field: max(_LEAST_UNITS, round(_BAR_UNITS * number / total)) if number else 0
        for field, number in points.items()
    }
    excess = sum(widths.values()) - _BAR_UNITS
    if total:
        largest = max(widths, key=lambda field: widths[field])
        widths[largest] -= excess
    parts, x = [], 0
    for field, word, meaning in PARTS:
        parts.append(LedgerPart(field, word, meaning, points[field], x, widths[field]))
        x += widths[field]
    return LedgerPicture(number_in(ledger, "matched") or 0, tuple(parts), unit)


def events_of(listed: Mapping[str, Any], uid: str) -> tuple[EventView, ...]:
    """Return the Events of one object, the newest first."""
    found = [
        EventView(
            read_time(one.get("lastTimestamp")),
            one.get("type") == "Warning",
            str(one.get("reason", "")),
            str(one.get("message", "")),
            number_in(one, "count") or 1,
        )
        for one in mappings_in(listed, "items")
        if mapping_of(one.get("involvedObject")).get("uid") in (uid, None)
    ]
    found.sort(key=lambda one: one.at or 0.0, reverse=True)
    return tuple(found[:EVENTS_MAX])


@dataclass(frozen=True, slots=True)
class SinkChart:
    """Points or records a second and mean seconds of a request, by minute of the last hour."""

    minutes: tuple[HistoryMinute, ...]

    @property
    def data(self) -> str:
        """The columns as JSON: times in s, points a second, seconds of a request or null."""
        return msgspec.json.encode(
            [
                [one.at for one in self.minutes],
                [round(one.delivered / 60, 3) for one in self.minutes],
                [
                    round(one.request_s / one.requests, 4) if one.requests else None
                    for one in self.minutes
                ],
            ]
        ).decode()

    @property
    def mean_rate(self) -> float | None:
        """Points a second over the time that is shown, None without any."""
        if not self.minutes:
            return None
        return sum(one.delivered for one in self.minutes) / (60 * len(self.minutes))

    @property
    def mean_request_s(self) -> float | None:
        """Mean duration of a request, s, None without any."""
        requests = sum(one.requests for one in self.minutes)
        return sum(one.request_s for one in self.minutes) / requests if requests else None

    @property
    def line(self) -> str:
        """Points a second as the points of an SVG line of 600 by 100."""
        most = max((one.delivered for one in self.minutes), default=0.0)
        steps = max(1, len(self.minutes) - 1)
        return " ".join(
            f"{600 * number / steps:.1f},{98 - (94 * one.delivered / most if most else 0):.1f}"
            for number, one in enumerate(self.minutes)
        )


def chart_of(history: ShownHistory | None) -> SinkChart:
    """Return the chart of a sink; without a history it is empty."""
    return SinkChart(history.columns() if history is not None else ())


def kubectl_command(*arguments: str, namespace: str = "") -> str:
    """Return a command of kubectl, quoted for a shell."""
    place = ("-n", namespace) if namespace and namespace != "default" else ()
    return shlex.join(("kubectl", *place, *arguments))


def pause_patch(index: int, name: str, *, paused: bool) -> list[dict[str, Any]]:
    """Return the JSON patch that pauses or resumes a sink, if it is still at its place."""
    return [
        {"op": "test", "path": f"/spec/sinks/{index}/name", "value": name},
        {"op": "add", "path": f"/spec/sinks/{index}/paused", "value": paused},
    ]


def _conditions(status: Mapping[str, Any]) -> tuple[ShownCondition, ...]:
    found = []
    for one in mappings_in(status, "conditions"):
        words = ("type", "status", "reason", "message", "lastTransitionTime")
        texts = [one.get(word) if isinstance(one.get(word), str) else "" for word in words]
        found.append(ShownCondition(*map(str, texts)))
    return tuple(found)
