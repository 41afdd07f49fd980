"""HTTP GET for the harness, over one connection each time."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

TIMEOUT_S = 30.0


def get(url: str) -> tuple[int, bytes]:
    """Status and body of what a URL answers. Raises OSError, whatever is wrong."""
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
