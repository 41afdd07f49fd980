"""Copies of queued requests with other fields."""

from __future__ import annotations

from copy import copy

from relay.sink.queue.payload import EncodedRequest


def changed(request: EncodedRequest, **fields: object) -> EncodedRequest:
    """Return a copy of a request in which these fields are others."""
    other = copy(request)
    for name, value in fields.items():
        setattr(other, name, value)
    return other
