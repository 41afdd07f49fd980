"""End what a user has open once the user is not admitted any more: watches, taps.

A token that was removed, or has expired, and a user whose role or projects are others now, lose
what is open within :data:`RECHECK_S`. A token is looked at once, whatever it has open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.apiserver.access.tokens import UserAuthentication
from relay.apiserver.in_process import InProcessRequest

_log: Final = logging.getLogger("relay.api")
RECHECK_S: Final = 3.0
_Result = TypeVar("_Result")
_Admission = str | None | Callable[[], Awaitable[Principal | None]]
"""An ``Authorization`` header, or what finds the user of a page again."""


@dataclass(slots=True, eq=False)
class _Open:
    """A request that is being answered."""

    request: web.BaseRequest
    principal: Principal
    task: asyncio.Task[Any]
    is_cut: bool = False

    @property
    def access(self) -> tuple[_Admission, Principal]:
        """Admission of its user, and the user."""
        if isinstance(self.request, InProcessRequest):
            return self.request.found_again, self.principal
        return self.request.headers.get("Authorization"), self.principal

    def cut(self) -> None:
        """End the answer, and the connection."""
        self.is_cut = True
        if self.request.transport is not None:
            self.request.transport.abort()
        self.task.cancel()


class Admissions:
    """Requests that are answered for as long as their users are admitted."""

    def __init__(self, authentication: UserAuthentication) -> None:
        self._authentication = authentication
        self._open: dict[_Open, None] = {}
        self._looking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Admissions: {len(self._open)} requests>"

    async def hold(
        self, request: web.BaseRequest, principal: Principal, work: Coroutine[Any, Any, _Result]
    ) -> _Result:
        """Return what ``work`` returns, which answers a request while its user is admitted.

        Otherwise the connection is cut and ConnectionAbortedError raised.
        """
        loop = asyncio.get_running_loop()
        one = _Open(request, principal, loop.create_task(work))
        self._open[one] = None
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        try:
            return await one.task  # type: ignore[no-any-return]  # of the work
        except asyncio.CancelledError:
            if one.is_cut:
                raise ConnectionAbortedError("the user is not admitted any more") from None
            raise
        finally:
            del self._open[one]
            if not self._open and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        """Cut what is open of users that are not admitted any more, until cancelled."""
        while True:
            await asyncio.sleep(RECHECK_S)
            for access in {one.access for one in self._open}:
                if await self._found(access[0]) != access[1]:
                    for one in [one for one in self._open if one.access == access]:
                        one.cut()

    async def _found(self, admission: _Admission) -> Principal | None:
        try:
            if callable(admission):
                return await admission()
            return await self._authentication.principal(admission)
        except Exception:
            _log.exception("bug in the relay: a user is not found again")
            return None
