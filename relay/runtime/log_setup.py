"""Set up standard library logging: one line per record, as text or as JSON.

* Control characters are escaped, so that no sender, endpoint or exception can forge a line.
* Never pass a secret to a logger. :func:`redact` is the last line of defence, mostly against
  exception texts of libraries: it removes credentials and the user part of URLs from every string.
* ``extra={…}`` fields become fields of the line. They never replace ``ts``, ``level``, ``logger``,
  ``msg`` or ``exception``.
* Do not log per sample or per request; count instead.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from relay.runtime.errors import Fault
from relay.runtime.excerpt import escaped, printable

Format = Literal["text", "json"]

REDACTED = "[redacted]"
TEXT_CHARS_MAX = 16 * 1024
"""Longest string of a line, in characters; longer ones are cut."""
DEPTH_MAX = 4
"""Depth to which ``extra`` values keep their structure; deeper values are written as text."""

# These patterns run over untrusted text: each must take linear time.
_CREDENTIALS = (
    # `Authorization: anything`, also as in the repr of a header mapping.
    (
        re.compile(
            r"""(?i)\b((?:proxy-)?authorization["']?\s{0,8}[:=]\s{0,8}["']?)[^\r\n"',;}\]]+"""
        ),
        rf"\1{REDACTED}",
    ),
    # A credential on its own: `Bearer eyJ…`, `Basic dXNlcjpwYXNz`. Prose about them is kept.
    (
        re.compile(
            r"(?i)\b(bearer|basic)(\s{1,8})"
            r"(?!(?:auth|authentication|authorization|credentials?|tokens?)\b(?![.~+/=-]\w))"
            r"[\w.~+/=-]{6,}"
        ),
        rf"\1\2{REDACTED}",
    ),
    # `https://user:password@host`; the last `@` before the path ends the user part.
    (re.compile(r"""(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/?#"'<>]{1,4096}@"""), rf"\1{REDACTED}@"),
)
_SECRET_KEY = re.compile(r"(?i)(authorization|password|passwd|token|api[-_]?key|cookie)$")

_RESERVED = frozenset({"ts", "level", "logger", "msg", "exception"})
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes of every log record; any other key of ``__dict__`` came from ``extra``."""


def redact(text: str) -> str:
    """Return the text with everything that matches :data:`_CREDENTIALS` replaced."""
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def _clean(text: str) -> str:
    """Redact a text, cut it to size and escape lone surrogates, which UTF-8 cannot encode."""
    # Redact before cutting: half a credential would not be recognised.
    kept = redact(text[: 2 * TEXT_CHARS_MAX])
    if len(text) > TEXT_CHARS_MAX:
        kept = f"{kept[:TEXT_CHARS_MAX]}… ({len(text)} characters)"
    return kept.encode("utf-8", "backslashreplace").decode()


def _plain(value: object, depth: int = 0) -> Any:
    """Convert a value to JSON types; clean strings, and write unknown types as text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    if depth < DEPTH_MAX:
        if isinstance(value, Mapping):
            return {
                _clean(str(key)): REDACTED
                if _SECRET_KEY.search(str(key))
                else _plain(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, depth + 1) for item in value]
    return _clean(str(value))


class _Formatter(logging.Formatter):
    """Collect the fields of a record, in order and redacted; base of both formats."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return ``ts`` (UTC, RFC 3339), ``level``, ``logger``, ``msg``, extras, ``exception``."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "ts": moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _clean(record.getMessage()),
        }
        extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        for key, value in _plain(extra).items():
            fields[f"extra_{key}" if key in _RESERVED else key] = value
        if record.exc_info:
            fields["exception"] = _clean(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = _clean(self.formatStack(record.stack_info))
        return fields


class JsonFormatter(_Formatter):
    """Format a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON, without the newline."""
        return msgspec.json.encode(self.fields(record)).decode()


class TextFormatter(_Formatter):
    """Format a record as ``2026-11-22T09:16:00.123Z INFO  relay.sink message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, without the newline; values are quoted where needed."""
        fields = self.fields(record)
        start = f"{fields.pop('ts')} {fields.pop('level').upper():<5} {fields.pop('logger')} "
        message = escaped(fields.pop("msg"))
        return start + " ".join(
            [message, *(f"{escaped(k)}={_quote(v)}" for k, v in fields.items())]
        )


def _quote(value: object) -> str:
    if isinstance(value, str):
        if value and value.isprintable() and not re.search(r'[\s"=]', value):
            return value
        value = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped(value)}"'
    return msgspec.json.encode(value).decode()


class RelayHandler(logging.StreamHandler[TextIO]):
    """Handler installed by :func:`configure`; its type lets the next call replace it."""


def report_fatal(faults: Sequence[Fault], layout: Format) -> None:
    """Report why the process cannot start: as JSON log lines, or as plain text with excerpts."""
    for fault in faults:
        if layout == "json":
            extra = {"excerpt": fault.excerpt} if fault.excerpt else None
            logging.getLogger("relay.start").error("cannot start: %s", fault.summary, extra=extra)
        else:
            print(printable(f"relay: {fault}"), file=sys.stderr, flush=True)


def configure(layout: Format, level: str, stream: TextIO | None = None) -> None:
    """Send records of at least ``level`` (``debug``, ``info``, …) to ``stream`` or standard error.

    Calling it again replaces the previous handler and leaves other handlers alone.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, RelayHandler):
            root.removeHandler(handler)
    handler = RelayHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if layout == "json" else TextFormatter())
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    # Requests are counted, not logged.
    logging.getLogger("aiohttp.access").disabled = True
