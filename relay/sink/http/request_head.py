"""The head of a request, and which connections may carry it: computed once for a destination."""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Callable
from typing import NamedTuple

from opentelemetry.proto.version import __version__ as otlp_version

from relay import __version__
from relay.config.settings.proxy import Proxy
from relay.sink.http.interface import Destination
from relay.sink.http.response import HttpFailure, RequestFailedError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_URL_BREAKS = re.compile(r"[\x00-\x20\x7f]")
_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 5.6.2."""

_FRAMING = frozenset(("content-length", "transfer-encoding"))
"""Fields that say where a request ends: the client's alone."""

_PLAIN_URL = re.compile(
    r"(https?)://([a-z0-9]([a-z0-9.\-]*[a-z0-9])?)(?::([1-9][0-9]{0,4}))?"
    r"(/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*)?(\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/?]+)?"
)
"""URLs of nearly all endpoints, which are read without yarl."""

_PORT_MAX = 65_535

_BAD_URL = HttpFailure("connect_failed", "the endpoint's URL cannot be requested")


class Origin(NamedTuple):
    """Endpoint of a connection; requests of equal origin may share one.

    ``host`` is without brackets, ``server_name`` the name that a certificate must have.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str
    through_proxy: bool


class RequestHead(NamedTuple):
    """``head`` goes up to the length of the body."""

    origin: Origin
    head: bytes


class _Url(NamedTuple):
    """The parts of a URL; ``target`` is path and query, ``shown_host`` the host as people read it.

    ``authority`` is host and port, without the scheme's own.
    """

    scheme: str
    host: str
    shown_host: str
    port: int
    authority: str
    target: str


def user_agent() -> str:
    """OTLP exporter specification, "User Agent": our product before the exporter's identifier."""
    return f"relay/{__version__} OTel-OTLP-Exporter-Python/{otlp_version}"


def build_head(
    to: Destination, proxy: Proxy | None, default_tls: Callable[[], ssl.SSLContext]
) -> RequestHead:
    """Build the head of every request to a destination.

    ``default_tls`` returns the context for https without its own. Raises RequestFailedError for a
    URL that cannot be requested, ValueError for an invalid header field.
    """
    url = _plain_url(to.url) or _any_url(to.url)
    host = sys.intern(url.host)  # of thousands of sinks, most share theirs
    tls = (to.tls or default_tls()) if url.scheme == "https" else None
    through_proxy = proxy is not None and proxy.serves(url.shown_host)
    origin = Origin(host, url.port, tls, to.server_name or host.rstrip("."), through_proxy)
    fields = {name.lower(): (name, value) for name, value in to.headers.items()}
    ours = {
        "Host": url.authority,
        "User-Agent": user_agent(),
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }
    head_fields = [(name, value) for name, value in ours.items() if name.lower() not in fields]
    head_fields += [field for name, field in fields.items() if name not in _FRAMING]
    target = url.target
    if through_proxy and tls is None:
        # RFC 9112 3.2.2; inside a tunnel there is no proxy to tell.
        assert proxy is not None
        target = f"http://{url.authority}{target}"
        head_fields += proxy.headers.items()
    return RequestHead(origin, encode_head(f"POST {target} HTTP/1.1", head_fields))


def encode_head(first_line: str, fields: list[tuple[str, str]]) -> bytes:
    """Encode a request's first line and header fields, without the empty line.

    Raises ValueError where a text could end its line or its field's name.
    """
    lines = [first_line, *(f"{name}: {value}" for name, value in fields)]
    if any(_CONTROL.search(line) for line in lines):
        raise ValueError("a header holds a control character")
    if not all(_FIELD_NAME.fullmatch(name) for name, _ in fields):
        raise ValueError("a header's name is invalid")
    return "".join(f"{line}\r\n" for line in lines).encode()


def _plain_url(text: str) -> _Url | None:
    """Parse a URL of plain ASCII; None if it is another, or none."""
    found = _PLAIN_URL.fullmatch(text)
    if found is None or "xn--" in found[2] or ".." in found[2]:
        return None
    scheme, host = found[1], found[2]
    usual = 443 if scheme == "https" else 80
    port = int(found[4] or usual)
    if port > _PORT_MAX:
        return None
    authority = host if port == usual else f"{host}:{port}"
    return _Url(scheme, host, host, port, authority, f"{found[5] or '/'}{found[6] or ''}")


def _any_url(text: str) -> _Url:
    """Parse a URL as the customer wrote it: a path that is signed or routed by its bytes stays so.

    Raises RequestFailedError.
    """
    from yarl import URL  # noqa: PLC0415 - 2 MiB, for URLs that are not plain

    try:
        url = URL(text, encoded=True)
        port = url.port
    except ValueError as error:
        raise RequestFailedError(_BAD_URL) from error
    host = url.raw_host
    # Credentials belong into the sink's authentication; the schema refuses them here.
    is_faulty = url.raw_user is not None or _URL_BREAKS.search(text)
    if is_faulty or url.scheme not in ("http", "https") or not host or not port:
        raise RequestFailedError(_BAD_URL)
    authority = url.host_port_subcomponent or host
    return _Url(url.scheme, host, url.host or "", port, authority, url.raw_path_qs)
