"""Authenticate senders against the settings."""

from __future__ import annotations

import base64
import binascii
import hmac

from relay.config.settings.settings import SenderAuthentication


class Authenticator:
    """Check ``Authorization`` headers against the one credential of the settings.

    Credentials are compared as bytes in constant time, so that the delay does not reveal how much
    of a guess was right.
    """

    def __init__(self, settings: SenderAuthentication) -> None:
        self._scheme = settings.type
        self._expected = (
            f"{settings.username}:{settings.password}"
            if settings.type == "basic"
            else settings.token
        ).encode()
        # An empty credential would admit every request that sends an empty one.
        assert settings.type == "none" or self._expected not in {b"", b":"}

    @property
    def challenge(self) -> str:
        """Value of ``WWW-Authenticate`` (RFC 9110, 11.6.1); "" without authentication."""
        match self._scheme:
            case "bearer":
                return 'Bearer realm="relay"'
            case "basic":
                return 'Basic realm="relay", charset="UTF-8"'
            case _:
                return ""

    def allows(self, header: str | None) -> bool:
        """Return whether the ``Authorization`` header, None if absent, has the credential."""
        if self._scheme == "none":
            return True
        scheme, _, credential = (header or "").strip().partition(" ")
        if scheme.lower() != self._scheme:
            return False
        # aiohttp decodes headers as UTF-8 with surrogate escapes; undo that.
        presented = credential.strip().encode("utf-8", "surrogateescape")
        if self._scheme == "basic":
            try:
                presented = base64.b64decode(presented, validate=True)
            except binascii.Error:
                return False
        return hmac.compare_digest(presented, self._expected)

    def __repr__(self) -> str:
        return f"<Authenticator {self._scheme}>"
