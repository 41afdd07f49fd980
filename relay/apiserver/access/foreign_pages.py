"""Refuse what a web page of somebody else makes a browser send to an API without authentication.

A browser tells of it: ``Host`` is the page's own name if that name was made to resolve to this
machine (DNS rebinding); ``Origin`` is the page's with what it sends or reads by script; and
``Sec-Fetch-Site`` says the same of images, scripts and the like. Only pages of the very address
that is asked are taken, not those of another port of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.config.settings.addresses import is_loopback

_SHOWN_CHARS_MAX = 80


def foreign_page(headers: Mapping[str, str]) -> str:
    """Return why a request may come from a page of somebody else, "" if it cannot."""
    host = headers.get("Host", "").strip().lower()
    name = _name_of(host)
    if host and not is_loopback(name):
        return f'the Host "{name[:_SHOWN_CHARS_MAX]}" is not a name of this machine'
    origin = headers.get("Origin")
    if origin is not None and (not host or origin.lower().partition("://")[2] != host):
        return f'requests of pages of "{origin[:_SHOWN_CHARS_MAX]}" are not taken'
    site, mode = headers.get("Sec-Fetch-Site", "none"), headers.get("Sec-Fetch-Mode", "")
    if site not in ("none", "same-origin") and mode != "navigate":
        return "requests of pages of others are not taken"
    return ""


def _name_of(authority: str) -> str:
    """Return the host of ``host:port``."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]
