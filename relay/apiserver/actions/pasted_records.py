"""Read log records and spans of a question: OTLP as JSON, in the forms that people have at hand.

A request, several of them a line each, one resource of a request, a record alone, or a list of
these. A record alone has the attributes of a resource beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.message import Message
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relay.codec.otlp.envelope import scan
from relay.codec.otlp.json_request import FIELD_NAMES, PATHS, protobuf_of
from relay.codec.signal_names import RECORD_UNITS, RecordSignal
from relay.runtime.errors import ConfigError, Fault, WireError

CHARS_MAX: Final = 64 * 1024
"""Longest text of records."""
RECORDS_MAX: Final = 100

_RECORDS: Final[Mapping[RecordSignal, type[Message]]] = {"logs": LogRecord, "traces": Span}
_FORM: Final = "it is a request, one of its records, or a list of these, as OTLP's JSON"


def read_records(
    records: object, signal: RecordSignal, attributes: Sequence[tuple[str, str]]
) -> bytes:
    """Return records as one OTLP request in protobuf. Raise ConfigError.

    ``records`` is their text, or what it stands for. ``attributes`` are of the resource of records
    that come alone.
    """
    text = records if isinstance(records, str) else msgspec.json.encode(records).decode()
    if len(text) > CHARS_MAX:
        raise _fault(f"has more than {CHARS_MAX} characters")
    try:
        resources = list(_resources(_documents(text), signal, attributes))
        document = {PATHS[signal][0]: resources}
        body = protobuf_of(msgspec.json.encode(document), signal)
        count = scan(body, entries_max=len(body)).count
    except (WireError, RecursionError) as error:
        raise _fault(str(error)) from error
    if not count:
        raise _fault(f"has no {RECORD_UNITS[signal]}; {_FORM}")
    if count > RECORDS_MAX:
        raise _fault(f"has {count} {RECORD_UNITS[signal]}, more than {RECORDS_MAX}")
    return body


def _documents(text: str) -> Iterator[Any]:
    """Yield the values of a text: one, those of a list, or one a line."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            values = [msgspec.json.decode(line) for line in lines if len(lines) > 1]
        except (msgspec.DecodeError, RecursionError):
            values = []
        if not values:
            raise _fault(f"is no JSON: {error}; {_FORM}") from error
        yield from values
        return
    yield from value if isinstance(value, list) else [value]


def _resources(
    documents: Iterator[Any], signal: RecordSignal, attributes: Sequence[tuple[str, str]]
) -> Iterator[Any]:
    """Yield the resources of a request, each with its records."""
    of_request, of_resource, of_scope = PATHS[signal]
    alone = []
    for one in documents:
        if not isinstance(one, dict):
            raise _fault(f"holds what is no object; {_FORM}")
        for other in _RECORDS:
            key = PATHS[other][0]
            if other != signal and (key in one or FIELD_NAMES[key] in one):
                raise _fault(f"has {RECORD_UNITS[other]}, and {signal} are asked for")
        if (found := one.get(of_request, one.get(FIELD_NAMES[of_request]))) is not None:
            yield from found if isinstance(found, list) else [found]
        elif of_resource in one or FIELD_NAMES[of_resource] in one:
            yield one
        else:
            _check_names(one, signal)
            alone.append(one)
    if alone:
        pairs = [{"key": name, "value": {"stringValue": text}} for name, text in attributes]
        yield {"resource": {"attributes": pairs}, of_resource: [{of_scope: alone}]}
    elif attributes:
        raise ConfigError(
            [Fault("series", "the records have their resource: leave out one of the two")]
        )


def _check_names(record: Mapping[str, Any], signal: RecordSignal) -> None:
    """Refuse what would be read as an empty record: OTLP ignores names that it does not know."""
    fields = _RECORDS[signal].DESCRIPTOR.fields
    known = {field.name for field in fields} | {field.json_name for field in fields}
    for name in record:
        if name not in known:
            article = "a log record" if signal == "logs" else "a span"
            raise _fault(f"has {name[:60]!r}, which {article} of OTLP has not; {_FORM}")


def _fault(message: str) -> ConfigError:
    return ConfigError([Fault("records", message)])
