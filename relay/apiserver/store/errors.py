"""Errors of the API's store."""

from __future__ import annotations

from relay.runtime.errors import RelayError


class StoreUnusableError(RelayError):
    """Report a database that cannot be opened, written or read; the message names the file."""


class StoreFullError(StoreUnusableError):
    """Report that the disk has no room for a write; nothing of it is stored."""
