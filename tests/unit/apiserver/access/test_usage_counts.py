"""Counts of what is in progress."""

from __future__ import annotations

from contextlib import ExitStack

from relay.apiserver.access.limits import ApiLimits, Usage


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
