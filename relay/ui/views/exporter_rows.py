"""Lines of the list of exporters: filtered, counted and cut into pages. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from relay.apiserver.objects.metadata import FILE_ANNOTATION
from relay.control.status.sink_history import SinkNow
from relay.ui.authoring.signals import SIGNALS
from relay.ui.views.states import FILTERS, ShownCondition, ShownState, state_of

PAGE_ROWS: Final = 100
QUERY_CHARS_MAX: Final = 200


class _Http(msgspec.Struct, frozen=True):
    endpoint: str = ""


class _Sink(msgspec.Struct, frozen=True):
    name: str = ""
    otlp_http: _Http = _Http()
    remote_write: _Http = msgspec.field(name="prometheusRemoteWrite", default=_Http())
    target: dict[str, Any] = {}


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct, frozen=True):
    sinks: list[_Sink] = []


class _Status(msgspec.Struct, frozen=True):
    conditions: list[ShownCondition] = []


class _Object(msgspec.Struct, frozen=True):
    kind: str = ""
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()


_decoder: Final = msgspec.json.Decoder(_Object)


@dataclass(frozen=True, slots=True)
class ExporterSummary:
    """One exporter in the list, without its figures."""

    kind: str
    group: str
    namespace: str
    name: str
    state: ShownState
    destinations: tuple[str, ...]
    file: str

    @property
    def key(self) -> str:
        """Name of its line, unique in a project and fit for an id in HTML.

        Names have hyphens, but neither low lines nor dots at an end.
        """
        parts = (self.kind, self.namespace, self.name, self.group)
        return "__".join(part.replace(".", "_") for part in parts)

    @property
    def reason(self) -> str:
        """The fault of a bad state; "" where there is none, or the state itself says it."""
        is_told = self.state.tone not in ("bad", "warn") or self.state.key == "nothing"
        return "" if is_told else self.state.message

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Its place in the order of the list."""
        return (self.name, self.namespace, self.kind, self.group)

    def matches(self, words: Sequence[str]) -> bool:
        """Return True if every word is in its name, namespace or a destination."""
        texts = (self.name, self.namespace, *self.destinations)
        return all(any(word in text.lower() for text in texts) for word in words)


def summary_of(shown: bytes, group: str = "") -> ExporterSummary:
    """Return the summary of an object in JSON, however incomplete."""
    try:
        found = _decoder.decode(shown)
    except msgspec.MsgspecError:
        # The status of an object can be written by others.
        found = _Object(**_readable(shown))
    metadata = found.metadata
    return ExporterSummary(
        found.kind,
        group,
        metadata.namespace,
        metadata.name,
        state_of(found.status.conditions),
        tuple(dict.fromkeys(map(_destination, found.spec.sinks))),
        metadata.annotations.get(FILE_ANNOTATION, ""),
    )


def _readable(shown: bytes) -> dict[str, Any]:
    value = msgspec.json.decode(shown)
    metadata = value.get("metadata", {})
    named = _Metadata(str(metadata.get("name", "")), str(metadata.get("namespace", "")))
    return {"kind": str(value.get("kind", "")), "metadata": named}


def _destination(sink: _Sink) -> str:
    """Return the host of a sink's endpoint, or the sink's name where it has none."""
    url = sink.otlp_http.endpoint or sink.remote_write.endpoint
    if not url:
        policy = sink.target.get("prometheusRemoteWrite") or {}
        url = str(policy.get("endpoint", "")) if isinstance(policy, dict) else ""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return host or sink.name


@dataclass(frozen=True, slots=True)
class ExporterListPage:
    """One page: its lines, the number of all by filter, and where the next and this one begin."""

    rows: tuple[ExporterSummary, ...]
    counts: tuple[tuple[str, str, int], ...]
    """Key, word and number of each state that occurs."""
    all: int
    found: int
    first: int
    """Number of lines before the page's."""
    before: str
    """Cursor of the page before; "" on the first two."""
    has_before: bool
    after: str
    """Cursor of the page behind, "" on the last."""


def list_page(
    summaries: Iterable[ExporterSummary], *, state: str = "", query: str = "", after: str = ""
) -> ExporterListPage:
    """Return the page behind the cursor ``after``: names in order, all of ``state`` or any."""
    words = query[:QUERY_CHARS_MAX].lower().split()
    everything = list(summaries)
    named = [one for one in everything if one.matches(words)] if words else everything
    counted = Counter(one.state.key for one in named)
    counts = tuple((key, word, counted[key]) for key, word in FILTERS if counted[key])
    wanted = [one for one in named if not state or one.state.key == state]
    wanted.sort(key=lambda one: one.place)
    cursor = _read_cursor(after)
    start = sum(1 for one in wanted if one.place <= cursor) if cursor else 0
    rows = wanted[start : start + PAGE_ROWS]
    end = start + len(rows)
    back = start - PAGE_ROWS
    return ExporterListPage(
        rows=tuple(rows),
        counts=counts,
        all=len(named),
        found=len(wanted),
        first=start,
        before=_cursor(wanted[back - 1]) if back > 0 else "",
        has_before=start > 0,
        after=_cursor(rows[-1]) if rows and end < len(wanted) else "",
    )


def _cursor(one: ExporterSummary) -> str:
    return "/".join(one.place)


def _read_cursor(text: str) -> tuple[str, ...] | None:
    """Return the place that a cursor stands for; group and kind hold no slash."""
    parts = tuple(text.split("/"))
    return parts if len(parts) == 4 else None


@dataclass(frozen=True, slots=True)
class ExporterRow:
    """One line of the list. Times are wall clock, s; None: unknown, or never.

    Figures of each signal have its unit: ``per_s`` of all that are sent, ``lost`` of those that
    have lost something; () where nothing is known yet.
    """

    summary: ExporterSummary
    series: int | None
    per_s: tuple[tuple[str, float], ...]
    oldest_s: float | None
    lost: tuple[tuple[str, int], ...]
    is_known: bool
    last_success: float | None


def row_of(
    summary: ExporterSummary, computed: Mapping[str, Any] | None, now: SinkNow | None
) -> ExporterRow:
    """Return a line; ``computed`` is what the relay adds to the status when it is read."""
    status = computed or {}
    sinks = status.get("sinks", ())
    times = [time for sink in sinks if (time := read_time(sink.get("lastSuccess"))) is not None]
    usage = status.get("usage") or {}
    ledgers = _ledgers(sinks)
    if now is not None:
        per_s, lost = now.per_s, now.lost_in_day
    else:
        per_s, lost = dict.fromkeys(ledgers, 0.0), ledgers
    sent = [row for row in SIGNALS if row.field in (ledgers or per_s)]
    return ExporterRow(
        summary,
        usage.get("activeSeries"),
        tuple((row.unit, per_s[row.field]) for row in sent if row.field in per_s),
        now.oldest_s if now is not None else None,
        tuple((row.unit, number) for row in sent if (number := lost.get(row.field, 0))),
        now is not None or bool(ledgers),
        max(times) if times else None,
    )


def _ledgers(sinks: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
    """Return by signal what sinks that send it have lost."""
    found: Counter[str] = Counter()
    for sink in sinks:
        for one in sink.get("signals") or ({**sink, "signal": "metrics"},):
            found[str(one.get("signal"))] += lost_points(one.get("ledger") or {})
    return found


def lost_points(ledger: Mapping[str, Any]) -> int:
    """Return the points, records or spans of a ledger that will not arrive."""
    return sum(int(ledger.get(name, 0)) for name in ("rejected", "expired", "dropped"))


def read_time(text: object) -> float | None:
    """Return the wall clock, s, of a time of the API, None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo is not None else None
