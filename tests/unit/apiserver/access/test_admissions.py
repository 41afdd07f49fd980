"""Many open requests: each token is looked at once, and only its own requests are cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from aiohttp import web

from relay.apiserver.access import revocation
from relay.apiserver.access.principals import Principal
from relay.apiserver.access.revocation import Admissions
from tests.own_time import patience


class Users:
    """Knows users by their headers; counts how often each is asked for."""

    def __init__(self) -> None:
        self.known = {name: Principal(name, frozenset({"*"}), "admin") for name in ("ann", "ben")}
        self.asked: Counter[str] = Counter()
        self.is_faulty = False

    async def principal(self, authorization: str | None) -> Principal | None:
        assert authorization is not None
        self.asked[authorization] += 1
        if self.is_faulty:
            raise RuntimeError("a bug")
        return self.known.get(authorization)

    def projects(self) -> frozenset[str]:
        return frozenset()


class Request:
    """A request of a user, and whether its connection was cut."""

    def __init__(self, user: str) -> None:
        self.headers = {"Authorization": user}
        self.transport = self
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True


def opened(users: Users, admissions: Admissions, name: str) -> tuple[Request, asyncio.Task[Any]]:
    request = Request(name)
    work = asyncio.sleep(3600)
    held = admissions.hold(cast("web.BaseRequest", request), users.known[name], work)
    return request, asyncio.ensure_future(held)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "RECHECK_S", 0.01)


async def until(held: Callable[[], bool]) -> None:
    async with patience(10):
        while not held():  # noqa: ASYNC110 - the checks of a timer are counted
            await asyncio.sleep(0.001)


async def ended(tasks: list[asyncio.Task[Any]]) -> list[str]:
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(one).__name__ for one in found]


async def test_a_user_that_is_gone_loses_its_own(caplog: pytest.LogCaptureFixture) -> None:
    users = Users()
    admissions = Admissions(users)
    of_ann = [opened(users, admissions, "ann") for _ in range(50)]
    of_ben = [opened(users, admissions, "ben") for _ in range(50)]
    await until(lambda: users.asked["ben"] >= 3)
    assert users.asked.total() <= 8  # twice a look, whatever is open
    del users.known["ann"]
    assert await ended([task for _, task in of_ann]) == ["ConnectionAbortedError"] * 50
    assert all(request.is_cut for request, _ in of_ann)
    assert not any(task.done() or request.is_cut for request, task in of_ben)
    users.is_faulty = True  # a user that cannot be told is not admitted
    assert await ended([task for _, task in of_ben]) == ["ConnectionAbortedError"] * 50
    assert "bug in the relay: a user is not found again" in caplog.messages
    assert repr(admissions) == "<Admissions: 0 requests>"
    assert admissions._looking is None


@pytest.mark.parametrize("end", ["value", "failure", "cancel"])
async def test_an_answer_ends_as_its_work_does(end: str) -> None:
    users = Users()
    admissions = Admissions(users)

    async def work() -> str:
        if end == "failure":
            raise ConnectionResetError
        if end == "cancel":
            await asyncio.sleep(3600)
        return "done"

    request = Request("ann")
    held = admissions.hold(cast("web.BaseRequest", request), users.known["ann"], work())
    task = asyncio.ensure_future(held)
    await asyncio.sleep(0)
    if end == "cancel":
        await asyncio.sleep(0)
        task.cancel()
    outcomes = await asyncio.gather(task, return_exceptions=True)
    names = {"failure": "ConnectionResetError", "cancel": "CancelledError"}
    assert outcomes == ["done"] or type(outcomes[0]).__name__ == names[end]
    assert not request.is_cut
    assert repr(admissions) == "<Admissions: 0 requests>"
