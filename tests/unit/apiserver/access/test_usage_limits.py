"""What one project may use of the API at a time, so that the others have the rest."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from relay.apiserver.access.limits import ApiLimits, TooMuchOnItsWayError, Usage
from relay.apiserver.objects.failures import ApiRefusalError

LIMITS = ApiLimits(
    requests_per_user_max=2,
    requests_per_project_max=3,
    watches_per_user_max=2,
    watches_per_project_max=3,
    bytes_per_project_max=100,
)


@pytest.mark.parametrize("kind", ["request", "watch"])
def test_users_and_projects_are_bounded(kind: str) -> None:
    usage = Usage(LIMITS)
    begin = usage.request if kind == "request" else usage.watch
    with ExitStack() as stack:
        stack.enter_context(begin("ann", "acme"))
        stack.enter_context(begin("ann", "acme"))
        with pytest.raises(ApiRefusalError, match="ann"):
            stack.enter_context(begin("ann", "acme"))
        stack.enter_context(begin("ben", "acme"))
        with pytest.raises(ApiRefusalError, match="the project") as caught:
            stack.enter_context(begin("eve", "acme"))
        assert caught.value.code == 429
        assert int(caught.value.headers["Retry-After"]) > 0
        stack.enter_context(begin("ann", "initech"))
    assert (usage.requests, usage.watches) == (0, 0)
    with begin("ann", "acme"):
        assert usage.requests + usage.watches == 1


def test_bytes_on_their_way_are_bounded() -> None:
    usage = Usage(LIMITS)
    with ExitStack() as stack:
        stack.enter_context(usage.carried("acme", 1000))  # one alone may be larger
        stack.enter_context(usage.carried("other", 100))
        with pytest.raises(ApiRefusalError, match="wait for their clients"):
            stack.enter_context(usage.carried("acme", 1))
        with pytest.raises(TooMuchOnItsWayError):
            stack.enter_context(usage.sent("acme", 1))
    with ExitStack() as stack:
        stack.enter_context(usage.sent("acme", 60))
        stack.enter_context(usage.sent("acme", 40))
        with pytest.raises(TooMuchOnItsWayError):
            stack.enter_context(usage.sent("acme", 1))
    with usage.sent("acme", 100):
        pass
    with usage.carried("acme", 0), usage.carried("acme", 0):
        pass
    assert not usage._bytes


def test_requests_without_a_body_do_not_disturb_each_other() -> None:
    usage = Usage(ApiLimits())
    with ExitStack() as first:
        first.enter_context(usage.carried("acme", 0))
        with usage.carried("acme", 0):
            pass
        with usage.carried("acme", 5), usage.carried("acme", 0):
            pass
    with usage.carried("acme", 7):
        pass


@pytest.mark.parametrize(
    ("connections", "expected"), [(10_000, (200, 1000)), (128, (32, 32)), (3, (1, 1))]
)
def test_no_project_takes_all_connections(connections: int, expected: tuple[int, int]) -> None:
    found = ApiLimits().within(connections)
    assert (found.requests_per_project_max, found.watches_per_project_max) == expected
