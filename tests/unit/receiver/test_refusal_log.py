"""Which refused requests are said in the log, and how rarely."""

from __future__ import annotations

import logging

import pytest

from relay.receiver.counters import LOG_INTERVAL_S, LOG_PAIRS_MAX, RefusalLog
from relay.receiver.responses import Answer, Reason


def _say(log: RefusalLog, sender: str, now: float, reason: Reason = Reason.UNDECODABLE) -> None:
    answer = Answer(400, "why", refused=reason)
    log.log(answer, sender=sender, agent="a" * 1_000, path="/p" * 1_000, now=now)


def _said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int]]:
    fields = [record.__dict__ for record in caplog.records]
    return [(each["sender"], each["reason"], each["unsaid"]) for each in fields]


def test_the_same_is_said_once_in_its_interval_with_what_went_unsaid(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RefusalLog(logging.getLogger("test"))
    for now in range(5):
        _say(log, "10.0.0.1", float(now))
    _say(log, "10.0.0.1", 1.0, Reason.UNAUTHENTICATED)
    _say(log, "10.0.0.2", 1.0)
    _say(log, "10.0.0.1", LOG_INTERVAL_S)
    assert _said(caplog) == [
        ("10.0.0.1", "undecodable", 0),
        ("10.0.0.1", "unauthenticated", 0),
        ("10.0.0.2", "undecodable", 0),
        ("10.0.0.1", "undecodable", 4),
    ]
    (first, *_) = caplog.records
    assert first.getMessage() == "refused a request: why"
    assert len(first.__dict__["agent"]) + len(first.__dict__["path"]) == 300


def test_many_addresses_are_bounded_together(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog(logging.getLogger("test"))
    for number in range(10 * LOG_PAIRS_MAX):
        _say(log, f"fd00::{number:x}", number * LOG_INTERVAL_S / (11 * LOG_PAIRS_MAX))
    assert len(_said(caplog)) == LOG_PAIRS_MAX
    _say(log, "fd00::ffff", LOG_INTERVAL_S)
    assert _said(caplog)[-1] == ("fd00::ffff", "undecodable", 0)
    assert repr(log) == f"<RefusalLog {LOG_PAIRS_MAX} said lately>"


def test_a_stop_and_a_bug_have_lines_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog(logging.getLogger("test"))
    _say(log, "10.0.0.1", 0.0, Reason.STOPPING)
    _say(log, "10.0.0.1", 0.0, Reason.INTERNAL)
    assert not caplog.records
