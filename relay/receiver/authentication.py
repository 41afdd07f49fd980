"""Whether a sender is who the settings say it must be."""

from __future__ import annotations

import base64
import binascii
import hmac

from relay.config.settings.settings import SenderAuthentication


class Authenticator:
    """Checks ``Authorization`` headers against the one credential of the settings.

    Credentials are compared as bytes in constant time, so that an answer's delay tells nothing
    about how much of a guess was right.
    """

    def __init__(self, settings: SenderAuthentication) -> None:
        self._scheme = settings.type
        self._expected = (
            f"{settings.username}:{settings.password}"
            if settings.type == "basic"
            else settings.token
        ).encode()
        # An empty credential would let everyone in who sends an empty one.
        assert settings.type == "none" or self._expected not in {b"", b":"}

    @property
    def challenge(self) -> str:
        """The value of ``WWW-Authenticate`` (RFC 9110, 11.6.1), "" where nobody is refused."""
        match self._scheme:
            case "bearer":
                return 'Bearer realm="relay"'
            case "basic":
                return 'Basic realm="relay", charset="UTF-8"'
            case _:
                return ""

    def allows(self, header: str | None) -> bool:
        """Whether the ``Authorization`` header, None where absent, proves what is asked for."""
        if self._scheme == "none":
            return True
        scheme, _, credential = (header or "").strip().partition(" ")
        if scheme.lower() != self._scheme:
            return False
        # aiohttp decodes headers as UTF-8 with surrogate escapes; this gives the bytes back.
        presented = credential.strip().encode("utf-8", "surrogateescape")
        if self._scheme == "basic":
            try:
                presented = base64.b64decode(presented, validate=True)
            except binascii.Error:
                return False
        return hmac.compare_digest(presented, self._expected)

    def __repr__(self) -> str:
        return f"<Authenticator {self._scheme}>"
