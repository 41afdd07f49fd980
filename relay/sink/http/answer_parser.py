"""Parses the answer to one request; no I/O. The parser is llhttp, by ``httptools``.

Rules:

* Interim answers (1xx) are skipped, but for 101: a switch was not asked for, so it ends the answer.
* The body ends by its length, its last chunk, or the connection's end (RFC 9112 6.3).
* Bytes behind the answer are never read as another one: the connection is not used again.
* At most :data:`FRAMING_BYTES_MAX` besides the body, :data:`HEADS_MAX` heads, :data:`FIELDS_MAX`
  header fields of :data:`FIELD_BYTES_MAX`, and
  :data:`~relay.sink.http.response.RESPONSE_BYTES_MAX` of body.
"""

from __future__ import annotations

import httptools

from relay.sink.http.response import (
    RESPONSE_BYTES_MAX,
    HttpFailure,
    HttpResponse,
    RequestFailedError,
)

FRAMING_BYTES_MAX = 512 * 1024
"""Maximum size of an answer besides its body, bytes: heads, chunk sizes and extensions."""

HEADS_MAX = 16
"""Heads of one answer: the final one, and interim ones before it."""

FIELDS_MAX = 256
FIELD_BYTES_MAX = 8190
"""Header fields of one request's answer, and the bytes of one."""

DISCONNECTED = HttpFailure("disconnected", "the connection ended before a whole answer")

_NOT_HTTP = HttpFailure("invalid_http", "the answer is not HTTP")

_NAME = b"HTTP/"
_VERSIONS = ("1.0", "1.1")
"""Name and versions of the protocol. The parser knows others, and tells the version only."""


class _StopParsing(Exception):  # noqa: N818 - not an error: the only way to stop the parser
    """Raised in a callback: nothing behind this point is parsed."""


class AnswerParser:
    """Feed it until it is complete; then ``response`` is set. Call :meth:`close` in any case."""

    __slots__ = (
        "_body",
        "_field_count",
        "_framing_bytes",
        "_head_complete",
        "_headers",
        "_heads",
        "_parser",
        "_problem",
        "_progress",
        "_start",
        "_status",
        "_unfinished_bytes",
        "response",
        "reusable",
    )

    def __init__(self) -> None:
        self.response: HttpResponse | None = None
        self.reusable = False
        """True if the connection may carry another request; only once complete."""
        self._body = bytearray()
        self._headers: dict[str, str] = {}
        self._status = 0
        self._heads = 0
        self._head_complete = False
        self._field_count = 0
        self._framing_bytes = 0
        self._unfinished_bytes = 0
        """Bytes since the last header field that is complete: what the parser copies again."""
        self._progress = False
        self._start = b""
        """The first bytes of the answer, as many as there are in ``HTTP/``."""
        self._problem: HttpFailure | None = None
        parser = httptools.HttpResponseParser(self)
        self._parser: httptools.HttpResponseParser | None = parser
        # Liberal where it cannot change where the answer ends: servers that are not strict exist,
        # and refusing their success would send the same data again and again.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; return whether the answer is complete. Raises RequestFailedError."""
        assert self._parser is not None
        if len(self._start) < len(_NAME):
            # RFC 9112 2.2: empty lines may come before.
            self._start = (self._start + data).lstrip(b"\r\n")[: len(_NAME)]
            if not _NAME.startswith(self._start):
                raise RequestFailedError(_NOT_HTTP)
        body_before = len(self._body)
        self._progress = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Ours, from a callback, or the parser's. Behind a complete answer nothing matters.
            self.reusable = False
            if self._problem is None and self.response is None:
                self._problem = _NOT_HTTP
        if self._problem is not None:
            raise RequestFailedError(self._problem)
        if self.response is not None:
            return True
        self._framing_bytes += len(data) - (len(self._body) - body_before)
        if self._framing_bytes > FRAMING_BYTES_MAX:
            raise RequestFailedError(DISCONNECTED)
        if not self._head_complete:
            self._unfinished_bytes = 0 if self._progress else self._unfinished_bytes + len(data)
            if self._unfinished_bytes > FRAMING_BYTES_MAX // 8:
                raise RequestFailedError(_NOT_HTTP)
        return False

    def end(self) -> bool:
        """Note the end of the connection; return whether that completes the answer."""
        if self.response is None and self._ends_with_connection():
            self._complete()
        self.reusable = False
        return self.response is not None

    def close(self) -> None:
        """Release the parser, whose callbacks refer back to this object."""
        self._parser = None

    def _ends_with_connection(self) -> bool:
        if not self._head_complete or self._problem is not None:
            return False
        coding = self._headers.get("transfer-encoding")
        if coding is not None:
            return coding.rpartition(",")[2].strip().lower() != "chunked"
        return "content-length" not in self._headers

    def _complete(self) -> None:
        self.response = HttpResponse(self._status, self._headers, bytes(self._body))

    def _stop(self, problem: HttpFailure) -> None:
        self._problem = problem
        raise _StopParsing

    # Callbacks of httptools, by their names there.

    def on_message_begin(self) -> None:
        """Begin a head."""
        if self.response is not None:
            self.reusable = False
            raise _StopParsing
        self._head_complete = False
        self._heads += 1
        if self._heads > HEADS_MAX:
            self._stop(DISCONNECTED)

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Take a header field, or one of a trailer."""
        value = value or b""
        self._progress = True
        self._field_count += 1
        if self._field_count > FIELDS_MAX or len(name) + len(value) > FIELD_BYTES_MAX:
            self._stop(_NOT_HTTP)
        if not self._head_complete:  # a trailer never replaces what the head said
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip(" \t")

    def on_headers_complete(self) -> None:
        """Check a head that is complete."""
        assert self._parser is not None
        status = self._status = self._parser.get_status_code()
        self._head_complete = True
        if status < 100:
            # No interim answer, so nothing need follow.
            self._stop(_NOT_HTTP)
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            self._stop(HttpFailure("invalid_http", f"the answer is HTTP/{version}, not HTTP/1.1"))
        if status == 101:
            self._complete()
            raise _StopParsing

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self._body += data
        if len(self._body) > RESPONSE_BYTES_MAX:
            limit = f"{RESPONSE_BYTES_MAX // 1024**2} MiB"
            text = f"HTTP {self._status} with a body of more than {limit}"
            self._stop(HttpFailure("response_too_large", text))

    def on_message_complete(self) -> None:
        """End an answer, or an interim one, behind which another head follows."""
        assert self._parser is not None
        if self._status < 200:
            # RFC 9110 15.2: another head follows.
            self._headers.clear()
            self._head_complete = False
            return
        self.reusable = self._parser.should_keep_alive()
        self._complete()
