"""HTTP requests of the harness, with one connection for each."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

TIMEOUT_S = 30.0


def get(url: str) -> tuple[int, bytes]:
    """Return status and body of a GET. Raise OSError for any failure."""
    with _response("GET", url) as response:
        return response.status, response.read()


def post(url: str) -> tuple[int, bytes]:
    """Return status and body of a POST without a body. Raise OSError for any failure."""
    with _response("POST", url) as response:
        return response.status, response.read()


@contextmanager
def stream(url: str) -> Iterator[http.client.HTTPResponse]:
    """Open a stream of events, to be read in pieces. Raise OSError for any failure."""
    with _response("GET", url, {"Accept": "text/event-stream"}) as response:
        yield response


@contextmanager
def _response(
    method: str, url: str, headers: dict[str, str] | None = None
) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        connection.request(method, target, headers=headers or {})
        with connection.getresponse() as response:
            yield response
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error!r}") from error
    finally:
        connection.close()
