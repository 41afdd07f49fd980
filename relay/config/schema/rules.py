"""Rules over several fields, which a schema names in ``x-relay-rules``.

A rule is stated as CEL, which goes into the CRD, and beside it in Python, which the loader runs; a
test shows that both agree. ``{path}`` in a message is the text of a field. A rule says nothing
where a field that it ``reads`` has a fault of its own; ``*`` is any entry of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from relay.codec.signal_names import SIGNALS
from relay.config.schema.kind_spelling import spelling_of_kind
from relay.config.schema.words import nearest
from relay.config.yaml.document import Step, Where, shown
from relay.runtime.quantity import parse_duration_s

Path = tuple[Step, ...]
Faults = Iterator[tuple[Where, str]]


class Rule(msgspec.Struct, frozen=True):
    """One rule of the value ``self``, which is valid except for fields that it does not read.

    ``field`` is the subject of the message, "" for the value itself. ``find`` replaces ``holds`` if
    the fault lies deeper or its text depends on more; it yields places below ``self``, and
    ``message`` is then the CRD's text, unless ``cel_message`` is CEL for one.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    field: str = ""
    reads: tuple[Path, ...] = ()
    find: Callable[[Any], Faults] | None = None
    cel_message: str = ""

    def faults(self, value: Any) -> Faults:
        """Yield the faults, each with its place below ``value``."""
        if self.find is not None:
            yield from self.find(value)
            return
        assert self.holds is not None, "a rule has one of the two"
        if not self.holds(value):
            yield (tuple(self.field.split(".")) if self.field else ()), self.text(value)

    def text(self, value: Any) -> str:
        """Return the message for a value."""
        parts = self.message.split("{")
        said = parts[0]
        for part in parts[1:]:
            path, _, rest = part.partition("}")
            found = value
            for step in path.split("."):
                found = found[step]
            said += f"{found}{rest}"
        return said


def _sources_of_sinks(spec: Any) -> Faults:
    known = [source["name"] for source in spec["sources"]]
    sinks = spec.get("sinks")
    for index, sink in enumerate(sinks if isinstance(sinks, list) else ()):
        names = sink.get("sources", ()) if isinstance(sink, dict) else ()
        for number, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name and name not in (*known, *names[:number]):
                hint = nearest(name, known) or f"sources are {', '.join(known)}"
                place = ("sinks", index, "sources", number)
                yield place, f"no source has the name {shown(name)}; {hint}"


def _header_taken(otlp: Any) -> str:
    kind = otlp["authentication"]["type"]
    if kind == "apiKey":
        return str(otlp["authentication"].get("header", "")).lower()
    return "" if kind == "none" else "authorization"


def _headers_twice(headers: Any) -> Faults:
    seen: set[str] = set()
    for name in headers:
        if name.lower() in seen:
            yield (name,), "is given twice; header names ignore case"
        seen.add(name.lower())


def _header_of_authentication(otlp: Any) -> Faults:
    taken = _header_taken(otlp)
    seen: set[str] = set()
    for name in otlp.get("headers", ()):
        if name.lower() == taken and name.lower() not in seen:
            yield ("headers", name), "is set by authentication and must not be given too"
        seen.add(name.lower())


def _is_longer(sink: Any) -> bool:
    batch = sink["batch"]
    if not batch["enabled"]:
        return True
    return parse_duration_s(sink["queue"]["maxAge"]) > parse_duration_s(batch["timeout"])


def _needs(field: str, *kinds: str) -> Callable[[Any], bool]:
    return lambda self: self["type"] not in kinds or field in self


_TYPE: Final = (("type",),)

RULES: Final[dict[str, Rule]] = {
    "oneSelector": Rule(
        cel="!(has(self.metricsql) && has(self.resourceSelectors))",
        holds=lambda self: not ("metricsql" in self and "resourceSelectors" in self),
        message="metricsql and resourceSelectors are mutually exclusive: remove one",
    ),
    "anySelector": Rule(
        cel="has(self.metricsql) || has(self.resourceSelectors)",
        holds=lambda self: "metricsql" in self or "resourceSelectors" in self,
        message="metricsql or resourceSelectors is required; "
        'write metricsql: "" to export every metric',
    ),
    "oneSignal": Rule(
        cel="!(has(self.metrics) && has(self.logs)) && !(has(self.metrics) && has(self.traces)) "
        "&& !(has(self.logs) && has(self.traces))",
        holds=lambda self: sum(name in self for name in SIGNALS) <= 1,
        message="metrics, logs and traces are mutually exclusive: write a source for each",
    ),
    "anySignal": Rule(
        cel="has(self.metrics) || has(self.logs) || has(self.traces)",
        holds=lambda self: any(name in self for name in SIGNALS),
        message="metrics, logs or traces is required",
        reads=tuple((name,) for name in SIGNALS),
    ),
    "oneRecordSelector": Rule(
        cel="!(has(self.selector) && has(self.resourceSelectors))",
        holds=lambda self: not ("selector" in self and "resourceSelectors" in self),
        message="selector and resourceSelectors are mutually exclusive: remove one",
    ),
    "valuesOfIn": Rule(
        cel="!(self.operator in ['In', 'NotIn']) || has(self.values) && size(self.values) > 0",
        holds=lambda self: self["operator"] not in ("In", "NotIn") or bool(self.get("values")),
        message="is required with operator {operator}, one value at least",
        field="values",
        reads=(("operator",), ("values",)),
    ),
    "valuesOfExists": Rule(
        cel="!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) "
        "|| size(self.values) == 0",
        holds=lambda self: (
            self["operator"] not in ("Exists", "DoesNotExist") or not self.get("values")
        ),
        message="has no meaning with operator {operator}",
        field="values",
        reads=(("operator",), ("values",)),
    ),
    "spellingOfKind": Rule(
        cel="!(has(self.group) && (has(self.apiGroups) || has(self.resources)))",
        find=spelling_of_kind,
        message="group belongs to another spelling than apiGroups and resources",
        reads=(("group",), ("apiGroups",), ("resources",)),
    ),
    "sourcesOfSinks": Rule(
        cel="self.sinks.all(sink, !has(sink.sources) || sink.sources.all(name, "
        "self.sources.exists(source, source.name == name)))",
        find=_sources_of_sinks,
        message="a sink names a source that does not exist",
        reads=(("sources",), ("sources", "*"), ("sources", "*", "name")),
    ),
    "oneEndpoint": Rule(
        cel="!(has(self.otlp_http) && has(self.prometheusRemoteWrite))",
        holds=lambda self: not ("otlp_http" in self and "prometheusRemoteWrite" in self),
        message="otlp_http and prometheusRemoteWrite are mutually exclusive: write a sink for each",
    ),
    "anyEndpoint": Rule(
        cel="has(self.otlp_http) || has(self.prometheusRemoteWrite)",
        holds=lambda self: "otlp_http" in self or "prometheusRemoteWrite" in self,
        message="otlp_http or prometheusRemoteWrite is required",
        reads=(("otlp_http",), ("prometheusRemoteWrite",)),
    ),
    "versionOfProfile": Rule(
        cel="!(self.profile == 'victoriametrics' && self.protocolVersion == '2.0')",
        holds=lambda self: self["profile"] != "victoriametrics" or self["protocolVersion"] != "2.0",
        message="VictoriaMetrics does not speak 2.0: it answers as if it had taken the data, and "
        "stores nothing",
        field="protocolVersion",
        reads=(("profile",), ("protocolVersion",)),
    ),
    "secretNeeded": Rule(
        cel="self.type == 'none' || has(self.secretRef)",
        holds=_needs("secretRef", "bearerToken", "basicAuth", "apiKey"),
        message="is required",
        field="secretRef",
        reads=_TYPE,
    ),
    "secretUnused": Rule(
        cel="self.type != 'none' || !has(self.secretRef)",
        holds=lambda self: self["type"] != "none" or "secretRef" not in self,
        message="has no meaning with type: none",
        field="secretRef",
        reads=_TYPE,
    ),
    "headerNeeded": Rule(
        cel="self.type != 'apiKey' || has(self.header)",
        holds=_needs("header", "apiKey"),
        message="is required",
        field="header",
        reads=_TYPE,
    ),
    "headerUnused": Rule(
        cel="self.type == 'apiKey' || !has(self.header)",
        holds=lambda self: self["type"] == "apiKey" or "header" not in self,
        message="only has a meaning with type: apiKey",
        field="header",
        reads=_TYPE,
    ),
    "headersOnce": Rule(
        cel="self.all(a, self.exists_one(b, a.lowerAscii() == b.lowerAscii()))",
        find=_headers_twice,
        message="a header is given twice; header names ignore case",
    ),
    "headerOfAuthentication": Rule(
        cel="!has(self.headers) || self.headers.all(name, name.lowerAscii() != "
        "(self.authentication.type == 'none' ? '' : self.authentication.type != 'apiKey' ? "
        "'authorization' : has(self.authentication.header) ? "
        "self.authentication.header.lowerAscii() : ''))",
        find=_header_of_authentication,
        message="a header is set by authentication and must not be given too",
        reads=(
            ("headers",),
            ("authentication",),
            ("authentication", "type"),
            ("authentication", "header"),
        ),
    ),
    "tlsNeedsHttps": Rule(
        cel="!has(self.tls) || !self.endpoint.matches('^[Hh][Tt][Tt][Pp]:')",
        holds=lambda self: (
            "tls" not in self or not str(self["endpoint"]).lower().startswith("http:")
        ),
        message="needs an https endpoint",
        field="tls",
        reads=(("endpoint",),),
    ),
    "certificateKey": Rule(
        cel="!has(self.key)",
        holds=lambda self: "key" not in self,
        message="must be left out: the keys are always tls.crt and tls.key",
        field="key",
        reads=(("key",),),
    ),
    "ageAboveBatchTimeout": Rule(
        cel="!self.batch.enabled || duration(self.queue.maxAge) > duration(self.batch.timeout)",
        holds=_is_longer,
        message="must be longer than batch.timeout ({batch.timeout}), or points expire before they "
        "are sent",
        field="queue.maxAge",
        reads=(
            ("batch",),
            ("batch", "enabled"),
            ("batch", "timeout"),
            ("queue",),
            ("queue", "maxAge"),
        ),
    ),
}
"""Rules of the Exporter by name."""
