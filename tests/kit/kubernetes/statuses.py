"""Statuses of objects for tests, and strategies that draw them."""

from __future__ import annotations

from hypothesis import strategies as st

from relay.config.exporter.load_result import ObjectKey
from relay.control.status.conditions import TYPES, ConditionStatus, StatusCondition
from relay.control.status.object_status import (
    LedgerCounts,
    ObjectStatus,
    SignalStatus,
    SinkStatus,
    UsageFigures,
)

REASONS: dict[str, list[tuple[ConditionStatus, str]]] = {
    "Accepted": [("True", "Accepted"), ("False", "Invalid")],
    "ResolvedRefs": [("True", "ResolvedRefs"), ("False", "RefNotUsable")],
    "Programmed": [("True", "Programmed"), ("False", "Pending"), ("False", "LastGoodRuns")],
    "Delivering": [
        ("True", "Delivering"),
        ("False", "Failing"),
        ("False", "Paused"),
        ("Unknown", "NoData"),
        ("Unknown", "NoAnswer"),
    ],
}


def object_key(name: str = "web", *, namespace: str = "shop") -> ObjectKey:
    """The name of an Exporter on Kubernetes."""
    return ObjectKey("kubernetes", "", "Exporter", "", namespace, name)


def condition(
    name: str = "Delivering",
    status: ConditionStatus = "True",
    reason: str = "",
    message: str = "",
    *,
    generation: int = 1,
    since: float = 1.0,
) -> StatusCondition:
    """One condition; the reason is the type unless it is given."""
    return StatusCondition(name, status, reason or name, message, generation, since)


def conditions(
    delivering: StatusCondition, *, generation: int = 1, since: float = 1.0
) -> tuple[StatusCondition, ...]:
    """The four conditions, all True but for the last."""
    good = [condition(name, generation=generation, since=since) for name in TYPES[:3]]
    return (*good, delivering)


def object_status(
    status: ConditionStatus = "True",
    reason: str = "Delivering",
    message: str = "",
    *,
    generation: int = 1,
    ledger: LedgerCounts | None = None,
    last_success: float | None = None,
) -> ObjectStatus:
    """An object with one sink, ``out``, of which ``Delivering`` is as given."""
    one = condition("Delivering", status, reason, message, generation=generation)
    of_all = conditions(one, generation=generation)
    return ObjectStatus(of_all, (SinkStatus("out", of_all, last_success, ledger=ledger),))


LEDGERS = st.integers(0, 1000).map(lambda one: LedgerCounts(3 * one, one, one, 7, one // 2, 9))
USAGES = st.integers(0, 1000).map(lambda one: UsageFigures(one, 2 * one, 3 * one, one // 2))
SIGNALS: tuple[tuple[str, ...], ...] = ((), ("logs",), ("metrics", "traces"))
TIMES = st.integers(0, 100).map(float)


def drawn_conditions(generation: int) -> st.SearchStrategy[tuple[StatusCondition, ...]]:
    """Draw the four conditions of an object or a sink."""
    of_type = [
        st.sampled_from(
            [
                StatusCondition(name, status, reason, message, generation, since)
                for status, reason in REASONS[name]
                for message in ("", "503", "the token is refused")
                for since in (1.0, 5.0, 9.0)
            ]
        )
        for name in TYPES
    ]
    return st.tuples(*of_type)


@st.composite
def object_statuses(draw: st.DrawFn, *, generations: int = 2) -> ObjectStatus:
    """Draw the status that a relay gives an object."""
    generation = draw(st.integers(1, generations))
    sinks = []
    for name in draw(st.sampled_from(["", "a", "b", "ab", "abc"])):
        failed_at = draw(st.none() | TIMES)
        sinks.append(
            SinkStatus(
                name,
                draw(drawn_conditions(generation)),
                draw(st.none() | TIMES),
                failed_at,
                "503" if failed_at is not None else "",
                draw(st.none() | LEDGERS),
                draw(st.none() | USAGES),
                tuple(
                    SignalStatus(signal, draw(st.none() | TIMES), ledger=draw(LEDGERS))
                    for signal in draw(st.sampled_from(SIGNALS))
                ),
            )
        )
    return ObjectStatus(
        draw(drawn_conditions(generation)),
        tuple(sinks),
        draw(st.none() | USAGES),
        {name: draw(USAGES) for name in draw(st.sampled_from(["", "x", "xy"]))},
    )
