"""Which connection goes where there are too many."""

from __future__ import annotations

import resource
from typing import Any, cast, get_args

import pytest
from aiohttp import web

from relay.receiver.http import connection_limit
from relay.receiver.http.connection_limit import (
    Connections,
    ListenerRole,
    connections_max,
    raise_descriptor_limit,
)


def handler() -> web.RequestHandler:
    """Something that is a connection to the table."""
    return cast("web.RequestHandler", object())


def test_below_the_share_none_goes() -> None:
    table = Connections(16)
    assert [table.opened(handler(), "a") for _ in range(14)] == [None] * 14
    assert table.statistics() == (14, 0, 0)


def test_an_address_makes_room_for_itself() -> None:
    table = Connections(16)
    own = [handler() for _ in range(14)]
    for one in own:
        table.opened(one, "a")
    assert table.opened(handler(), "a") is own[0]
    assert table.opened(handler(), "b") is None
    assert table.statistics() == (15, 1, 0)


def test_the_one_that_is_idle_for_longest_goes() -> None:
    table = Connections(16)
    own = [handler() for _ in range(14)]
    for one in own:
        table.opened(one, "a")
    table.begin(own[0])
    table.begin(own[1])
    table.end(own[0])
    assert table.opened(handler(), "a") is own[2]
    assert table.opened(handler(), "a") is own[3]


def test_a_busy_connection_never_goes() -> None:
    table = Connections(8)
    own = [handler() for _ in range(7)]
    for one in own:
        table.opened(one, "a")
        table.begin(one)
    late = handler()
    assert table.opened(late, "a") is late
    others = [handler() for _ in range(4)]
    assert table.opened(others[0], "b") is None
    assert table.opened(others[1], "b") is others[0]
    assert table.statistics().refused == 1
    table.begin(others[1])
    assert table.opened(others[2], "c") is others[2]


def test_closing_is_forgotten_once() -> None:
    table = Connections(8)
    one = handler()
    table.opened(one, "a")
    table.closed(one)
    table.closed(one)
    table.end(one)
    assert table.statistics().open == 0
    assert not table._held
    assert not table._idle


@pytest.mark.parametrize(
    ("nofile", "parts"),
    [
        (64, (32, 8, 8, 8)),
        (1024, (512, 64, 128, 64)),
        (65_536, (16_384, 256, 4096, 1024)),
        (resource.RLIM_INFINITY, (16_384, 256, 4096, 1024)),
    ],
)
def test_the_parts_of_the_listeners(
    nofile: int, parts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (nofile, nofile))
    roles = get_args(ListenerRole)
    assert tuple(connections_max(role) for role in roles) == parts
    if nofile >= 1024:
        assert sum(parts) * 5 / 4 < nofile, "with handshakes, some are left for sinks"


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 1024, None),
        (1024, 4096, (4096, 4096)),
        (1024, resource.RLIM_INFINITY, (connection_limit.NOFILE_MAX, resource.RLIM_INFINITY)),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_the_soft_limit_is_raised(
    soft: int, hard: int, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    raise_descriptor_limit()
    assert asked == ([expected] if expected else [])
