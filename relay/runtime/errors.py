"""The whole exception hierarchy.

Rules:

* The *type* says who is at fault and whether trying again can help; messages are for people only.
* A bug is an ``AssertionError``, never one of these.
* Foreign exceptions (aiohttp, OSError, codec libraries) are translated once, where they enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.runtime.excerpt import excerpt, indented, line_at


class RelayError(Exception):
    """Base of every error that this project raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a configuration file.

    ``path`` is where, as the author would say it (``spec.sinks[0].retry.backoff``); ``message``
    says what is wrong and what is allowed; ``origin`` names the file, line, column and document.
    ``project`` is whose file it is, "" without tenancy and for the operator's own: nobody else may
    be told. ``excerpt`` is the line with a caret below the place, "" where there is none; ``file``
    and ``place``, line and column, are for the order of faults.
    """

    path: str
    message: str
    origin: str = ""
    project: str = ""
    excerpt: str = field(default="", compare=False)
    place: tuple[int, int] = field(default=(0, 0), compare=False)
    file: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.summary + indented(self.excerpt)

    @property
    def summary(self) -> str:
        """The fault on one line: ``origin: path: message``."""
        return (f"{self.origin}: " if self.origin else "") + self.text

    @property
    def text(self) -> str:
        """What is wrong, without the file: ``path: message``."""
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(RelayError):
    """The operator's settings or a customer's resource are wrong; carries every fault at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        assert faults, "a ConfigError needs at least one fault"
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class QuantityError(RelayError):
    """A text that is no duration or size. Says what is accepted; the caller adds where it stood."""


class SecretError(RelayError):
    """A referenced secret or key does not exist or cannot be read. Never holds a secret's value."""


class SelectorError(RelayError):
    """A selector that we do not accept.

    ``offset`` counts characters from the start of ``text``; ``hint`` is the suggested mend or "".
    ``str()`` is one line; :meth:`caret` points at the place.
    """

    def __init__(self, message: str, *, text: str, offset: int, hint: str = "") -> None:
        self.message = message
        self.text = text
        self.offset = offset
        self.hint = hint
        super().__init__(f"{message} at offset {offset}" + (f"; {hint}" if hint else ""))

    def caret(self) -> str:
        """The line of the selector that holds the offset, and a caret below the place."""
        return excerpt(*line_at(self.text, self.offset))


class WireError(RelayError):
    """A sender's request cannot be accepted as it stands; the sender is at fault."""


class DecodeError(WireError):
    """Bytes that are not what their label says. ``offset`` counts decompressed bytes, -1
    unknown."""

    def __init__(self, message: str, *, offset: int = -1) -> None:
        self.offset = offset
        super().__init__(message if offset < 0 else f"{message} at byte {offset}")


class TooLargeError(WireError):
    """A body over a configured limit, found before that much memory was spent."""


class UnsupportedMediaError(WireError):
    """A content type or encoding that we do not speak, told from the headers alone."""


class OverloadedError(RelayError):
    """We, not the sender, are the reason: try the same request again after ``retry_after_s``."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ForbiddenAddressError(RelayError):
    """An endpoint resolved to an address that customers may not reach from here."""


class StorageError(RelayError):
    """The disk did not do what was asked; what it was asked for has not happened."""
