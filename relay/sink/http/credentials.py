"""Builds authentication headers from secrets, and removes credentials from texts.

Rules:

* A value that could end a header (CR, LF, NUL, any control character) or that is not ASCII is
  refused: HTTP says of the latter only that recipients should treat it as opaque (RFC 9110 5.5).
* No error and no text that passed :func:`redact` holds a credential.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping

from relay.config.exporter.types import Authentication, SecretRef
from relay.runtime.errors import SecretError

SecretLookup = Callable[[SecretRef, str], str]
"""(reference, key where the reference names none) -> value. Raises SecretError."""

_REDACTED = "[redacted]"
_PREFIX_CHARS = 8
"""Length from which a prefix of a credential is redacted: a truncated echo leaves one."""


def credential_headers(authentication: Authentication, secrets: SecretLookup) -> dict[str, str]:
    """Return the headers that a request needs, {} for ``none``. Raise SecretError without a value.

    ``bearerToken``: RFC 6750 2.1. ``basicAuth``: RFC 7617, UTF-8 before base64. ``apiKey``: the
    value alone, in the header that the resource names. Default keys: ``token``, ``username`` and
    ``password``, ``apiKey``.
    """
    if authentication.type == "none":
        return {}
    reference = authentication.secret
    assert reference is not None, "validation lets no authentication through without its secret"
    if authentication.type == "bearerToken":
        token = _header_value(secrets(reference, "token"), reference, "token")
        if " " in token:
            raise _fault(reference, "token", "must not hold a space")
        return {"Authorization": f"Bearer {token}"}
    if authentication.type == "apiKey":
        assert authentication.header, "validation lets no apiKey through without its header"
        value = _header_value(secrets(reference, "apiKey"), reference, "apiKey")
        return {authentication.header: value}
    user_password = ":".join(_basic_parts(reference, secrets))
    encoded = base64.b64encode(user_password.encode()).decode("ascii")
    return {"Authorization": f"Basic {encoded}"}


def redact(text: str, headers: Mapping[str, str]) -> str:
    """Return ``text`` without the credentials in ``headers``, whole or truncated.

    Endpoints do echo what they refuse ("invalid token abc..."); their answers go to status and
    logs.
    """
    for secret in sorted(_spellings(headers.values()), key=len, reverse=True):
        cut_off = re.escape(secret[:_PREFIX_CHARS]) + r"\S*"
        text = re.sub(f"{re.escape(secret)}|{cut_off}", _REDACTED, text)
    return text


def _basic_parts(reference: SecretRef, secrets: SecretLookup) -> tuple[str, str]:
    if reference.key:
        username, colon, password = secrets(reference, "").partition(":")
        if not colon:
            raise _fault(reference, "", "must have the form username:password")
    else:
        username = secrets(reference, "username")
        password = secrets(reference, "password")
        if ":" in username:
            raise _fault(reference, "username", "must not hold a colon")
    for part, key in ((username, "username"), (password, "password")):
        # RFC 7617 2: neither part may hold control characters.
        if any(_is_control(c) for c in part):
            raise _fault(reference, key, "holds a control character")
    return username, password


def _header_value(value: str, reference: SecretRef, key: str) -> str:
    if not value:
        raise _fault(reference, key, "is empty")
    if not value.isascii() or any(_is_control(c) for c in value):
        raise _fault(reference, key, "holds a character that is not allowed in a header")
    if value != value.strip():
        raise _fault(reference, key, "begins or ends with a space")
    return value


def _is_control(character: str) -> bool:
    return character < " " or character == "\x7f"


def _fault(reference: SecretRef, default_key: str, message: str) -> SecretError:
    key = reference.key or default_key
    return SecretError(f'secret "{reference.name}", key "{key}" {message}')


def _spellings(values: Iterable[str]) -> set[str]:
    """Return every form in which a header's credential may be echoed."""
    found: set[str] = set()
    for value in values:
        scheme, _, credential = value.partition(" ")
        found.add(credential if scheme in ("Bearer", "Basic") else value)
        if scheme == "Basic":
            decoded = base64.b64decode(credential).decode()
            found |= {decoded, decoded.partition(":")[2]}
    return {spelling for spelling in found if spelling}
