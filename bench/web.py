"""HTTP GET for the harness, with one connection per request."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

TIMEOUT_S = 30.0


def get(url: str) -> tuple[int, bytes]:
    """Return status and body of a GET. Raise OSError for any failure."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error!r}") from error
    finally:
        connection.close()
