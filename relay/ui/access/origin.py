"""The origin of a change: pages of others must not make a browser change anything. Pure.

A browser names the relation of a request to its page in ``Sec-Fetch-Site`` (Fetch Metadata), which
no script can set, and sends ``Origin`` with every request that is not GET or HEAD (Fetch standard,
section 3.2). A request with neither is refused: a program uses the API, not the pages.

Behind a proxy of this machine that terminates TLS, the page is of https, and ``Host`` may be the
proxy's own word: ``Sec-Fetch-Site`` is what browsers say there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_HTTPS: Final = "https"


def foreign_origin(method: str, scheme: str, headers: Mapping[str, str]) -> str:
    """Return why a request is refused by its origin, "" if it is not."""
    if method in SAFE_METHODS:
        return ""
    site, origin = headers.get("Sec-Fetch-Site", ""), headers.get("Origin", "")
    if site == "same-origin":
        return ""
    if not origin:
        return "a change must come from this page: the request has no Origin"
    host = headers.get("Host", "")
    own = {f"{one}://{host}".lower() for one in (scheme, _HTTPS)}
    # "none" is the browser's own doing, such as sending a form anew.
    if origin.lower() in own and site in ("", "none"):
        return ""
    return f'a change must come from this page, not from one of "{origin[:80]}"'


def scheme_of_page(scheme: str, headers: Mapping[str, str]) -> str:
    """Return the scheme by which a browser came, to the relay or to a proxy before it.

    Without TLS only this machine connects, so that only a proxy on it can say so.
    """
    said = headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    origin = headers.get("Origin", "").lower()
    is_https = _HTTPS in (scheme, said) or origin.startswith(f"{_HTTPS}://")
    return _HTTPS if is_https else scheme
