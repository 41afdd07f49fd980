"""The body of a request to a sink. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Body(NamedTuple):
    """The body of one request, compressed; ``encoded_bytes`` is its size before compression.

    ``lone_exemplars``: how many exemplars are in no body because the protocol has no form for them.
    """

    data: bytes
    points: int
    encoded_bytes: int
    lone_exemplars: int = 0
