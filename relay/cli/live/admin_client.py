"""Ask the admin listener of a running relay: one page, or an answer of JSON lines."""

from __future__ import annotations

import argparse
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import IO, Any, Final

import msgspec

from relay.config.settings.settings import Settings
from relay.runtime.errors import ConfigError, Fault

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
TOKEN_VARIABLE = "RELAY_ADMIN_TOKEN"  # noqa: S105 - a name
"""Environment variable with the admin listener's bearer token."""
_OPTIONS: Final = frozenset({"sink", "project", "points", "seconds", "measure"})
"""Parameters of requests that an option of the same name gives."""
TIMEOUT_S: Final = 30.0
"""Longest silence of a relay; s."""
DEFAULT_URL: Final = f"http://{Settings().admin_listen}"


def add_relay_argument(
    parser: argparse._ActionsContainer, *, default: str | None = None, shown: str | None = None
) -> None:
    """Declare ``--relay``; ``default`` None: it has none. ``shown``: where it is asked without."""
    shown = f" ({shown or default})" if shown or default else ""
    parser.add_argument(
        "--relay",
        metavar="URL",
        default=default,
        help=f"the admin address of a running relay{shown}; its token in ${TOKEN_VARIABLE}",
    )


@contextmanager
def ask(
    relay: str,
    page: str,
    query: Mapping[str, str],
    *,
    post: bool = False,
    body: bytes = b"",
    silence_s: float = TIMEOUT_S,
) -> Iterator[IO[bytes]]:
    """Open a page of a running relay; empty values of ``query`` are left out.

    ``silence_s``: longest time without a byte of the answer.

    Raises ConfigError for a relay that does not answer and for one that refuses.
    """
    url = relay.rstrip("/")
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError([Fault("--relay", 'must begin with "http://" or "https://"')])
    encoded = urllib.parse.urlencode({key: value for key, value in query.items() if value})
    headers = _credential()
    if post:
        headers["Content-Type"] = "application/json"
    try:
        # The scheme is checked above.
        request = urllib.request.Request(  # noqa: S310 - see above
            f"{url}/{page}?{encoded}", data=body if post else None, headers=headers
        )
        with urllib.request.urlopen(  # noqa: S310 - see above
            request, timeout=silence_s
        ) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        message = error.read(ANSWER_BYTES_MAX).decode(errors="replace").strip() or str(error)
        if error.code == HTTPStatus.NOT_FOUND:
            message = f"{url} has no /{page}: write the address of adminListen ({message})"
        raise ConfigError([_fault(message)]) from error
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConfigError([Fault("--relay", f"{url} does not answer: {reason}")]) from error


def events(answer: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the objects of an answer of JSON lines. Raises ConfigError for an ``error``."""
    while line := answer.readline(LINE_BYTES_MAX):
        try:
            event = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            message = "the answer cannot be read: is this a relay of another version?"
            raise ConfigError([Fault("--relay", message)]) from error
        if event.get("event") == "error":
            raise ConfigError([_fault(str(event.get("message")))])
        yield event


def read_json(relay: str, page: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page that is one JSON object. Raises ConfigError."""
    with ask(relay, page, query) as answer:
        try:
            return msgspec.json.decode(answer.read(ANSWER_BYTES_MAX), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ConfigError([Fault("--relay", f"/{page} cannot be read: {error}")]) from error


def _fault(message: str) -> Fault:
    """Return a relay's refusal as a fault of the argument that it is about."""
    name, colon, rest = message.partition(": ")
    if colon and name == "exporter":
        return Fault(name, rest)  # it is given with or without --exporter
    return Fault(f"--{name}", rest) if colon and name in _OPTIONS else Fault("--relay", message)


def _credential() -> dict[str, str]:
    """Return the header for a relay with bearer authentication in ``admin.authentication``."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    return {"Authorization": f"Bearer {token}"} if token else {}
