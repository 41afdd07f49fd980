"""Define every exception that the relay raises on purpose.

* The type says which side is at fault and whether a retry can help; messages are for people only.
* A bug is an ``AssertionError``, never one of these.
* Exceptions of libraries (aiohttp, OSError, codecs) are translated once, where they enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.runtime.excerpt import excerpt, indented, line_at


class RelayError(Exception):
    """Base class of every error that the relay raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Describe one fault in a configuration file.

    ``path`` is the field in the author's notation (``spec.sinks[0].retry.backoff``); ``message``
    says what is wrong and what is allowed; ``origin`` names file, line, column and document.
    ``project`` is the tenant that owns the file ("" without tenancy and for the operator's files);
    only that tenant may see the fault. ``excerpt`` is the source line with a caret below the fault,
    or "". ``file`` and ``place`` (line, column) are for sorting. ``reason`` is that of a condition,
    "" for a fault of the resource itself.
    """

    path: str
    message: str
    origin: str = ""
    project: str = ""
    excerpt: str = field(default="", compare=False)
    place: tuple[int, int] = field(default=(0, 0), compare=False)
    file: str = field(default="", compare=False)
    reason: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.summary + indented(self.excerpt)

    @property
    def summary(self) -> str:
        """Return the fault on one line: ``origin: path: message``."""
        return (f"{self.origin}: " if self.origin else "") + self.text

    @property
    def text(self) -> str:
        """Return the fault without its file: ``path: message``."""
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(RelayError):
    """Report every fault at once in the operator's settings or in customers' resources."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        assert faults, "a ConfigError needs at least one fault"
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class QuantityError(RelayError):
    """Report a text that is no duration or size.

    The message says what is accepted; the caller adds the field.
    """


class SecretError(RelayError):
    """Report a missing or unreadable secret or key. Never contains a secret's value."""


class MissingSecretError(SecretError):
    """Report a secret that is not there at all, whichever key of it is asked for."""


class SelectorError(RelayError):
    """Report a selector that the relay does not accept.

    ``offset`` counts characters from the start of ``text``; ``hint`` is a suggested correction or
    "". ``str()`` is one line; :meth:`caret` shows the place.
    """

    def __init__(self, message: str, *, text: str, offset: int, hint: str = "") -> None:
        self.message = message
        self.text = text
        self.offset = offset
        self.hint = hint
        super().__init__(f"{message} at offset {offset}" + (f"; {hint}" if hint else ""))

    def caret(self) -> str:
        """Return the line of the selector at ``offset``, with a caret below the character."""
        return excerpt(*line_at(self.text, self.offset))


class WireError(RelayError):
    """Report a request that cannot be accepted as it stands; the sender is at fault."""


class DecodeError(WireError):
    """Report bytes that do not follow their format. ``offset``: decompressed bytes, or -1."""

    def __init__(self, message: str, *, offset: int = -1) -> None:
        self.offset = offset
        super().__init__(message if offset < 0 else f"{message} at byte {offset}")


class TooLargeError(WireError):
    """Report a body over a configured limit, detected before the memory is allocated."""


class UnsupportedMediaError(WireError):
    """Report an unsupported content type or encoding, known from the headers alone."""


class OverloadedError(RelayError):
    """Report that the relay itself is the cause: retry after ``retry_after_s`` seconds."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ForbiddenAddressError(RelayError):
    """Report that an endpoint resolved to an address that customers must not reach."""


class BackupError(RelayError):
    """Report a backup that cannot be made, read or restored. Nothing was changed."""


class StorageError(RelayError):
    """Report a disk operation that failed and had no effect."""
