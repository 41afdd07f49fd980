"""End what a user has open once the user is not admitted any more: watches, taps.

A token that was removed, or has expired, and a user whose role or projects are others now, lose
what is open within :data:`RECHECK_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.apiserver.access.tokens import UserAuthentication

RECHECK_S: Final = 3.0
_Result = TypeVar("_Result")


async def while_admitted(
    request: web.BaseRequest,
    principal: Principal,
    authentication: UserAuthentication,
    work: Coroutine[Any, Any, _Result],
) -> _Result:
    """Return what ``work`` returns, which answers a request for as long as its user is admitted.

    Otherwise the connection is cut and ConnectionAbortedError raised.
    """
    header = request.headers.get("Authorization")
    task = asyncio.get_running_loop().create_task(work)
    try:
        while not (await asyncio.wait((task,), timeout=RECHECK_S))[0]:
            if await authentication.principal(header) != principal:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionAbortedError("the user is not admitted any more")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
