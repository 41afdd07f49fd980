"""Answer the subresource ``tap``: sampled points of one sink of a running exporter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final

from relay.apiserver.actions.subjects import Subjects, overloaded
from relay.apiserver.http.actions import TapRequest
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import (
    Cause,
    bad_request,
    forbidden,
    invalid_options,
    invalid_value,
    not_found,
)
from relay.config.exporter.types import id_of
from relay.control.tap.tap import (
    TapEvent,
    TapForbiddenError,
    TapQuery,
    TapService,
    tap_document,
)
from relay.runtime.errors import ConfigError, OverloadedError

_OPTIONS: Final = "TapOptions"
_NUMBERS: Final = {"seconds": 10, "points": 100}
_DIGITS_MAX: Final = 6


class TapAction:
    """Taps sinks of a project by the relay's own service."""

    def __init__(self, subjects: Subjects, taps: TapService) -> None:
        self._subjects = subjects
        self._taps = taps

    def __repr__(self) -> str:
        return f"<TapAction {self._taps!r}>"

    def __call__(self, request: TapRequest) -> AsyncIterator[JsonObject]:
        """Return the events of a tap; raise ApiRefusalError."""
        kind, query = request.kind, request.query
        place = (kind.kind, request.project, request.namespace, request.name)
        if self._subjects.stored(*place) is None:
            raise not_found(kind.names, request.name)
        seconds, points = (_number(query, name) for name in _NUMBERS)
        try:
            events = self._taps.open(
                TapQuery(id_of(*place), query.get("sink", ""), seconds, points)
            )
        except TapForbiddenError as error:
            raise forbidden(kind.names, request.name, str(error)) from error
        except OverloadedError as error:
            raise overloaded(error) from error
        except ConfigError as error:
            (fault,) = error.faults
            if fault.path == "exporter":
                raise bad_request(f"{kind.plural} {request.name} does not run") from error
            said = f"Invalid value: {fault.message}"
            raise invalid_options(_OPTIONS, Cause(fault.path, "FieldValueInvalid", said)) from error
        return _documents(events)


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text:
        return _NUMBERS[name]
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        cause = invalid_value(name, text, "must be a whole number")
        raise invalid_options(_OPTIONS, cause)
    return int(text)


async def _documents(events: AsyncIterator[TapEvent]) -> AsyncIterator[JsonObject]:
    async with aclosing(events):  # type: ignore[type-var]  # generators, all of them
        async for event in events:
            yield tap_document(event)
