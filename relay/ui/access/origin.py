"""The origin of a change: pages of others must not make a browser change anything. Pure.

A browser sends ``Origin`` with every request that is not GET or HEAD (Fetch standard, section
3.2), and names the relation to the page in ``Sec-Fetch-Site``. A request with neither is refused:
a program uses the API, not the pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


def foreign_origin(method: str, scheme: str, headers: Mapping[str, str]) -> str:
    """Return why a request is refused by its origin, "" if it is not."""
    if method in SAFE_METHODS:
        return ""
    origin = headers.get("Origin", "")
    if origin:
        if origin.lower() == f"{scheme}://{headers.get('Host', '')}".lower():
            return ""
        return f'a change must come from this page, not from one of "{origin[:80]}"'
    if headers.get("Sec-Fetch-Site") == "same-origin":
        return ""
    return "a change must come from this page: the request has no Origin"
