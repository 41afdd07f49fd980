"""The delivery of a sink as a whole: of its outputs, one for each signal that it sends. Pure.

* A sink that has no source of metrics is judged by its other outputs alone.
* The worst output counts: one that fails, then one that waits for its first answer, then one that
  is behind. Where there are several, a message has every one that is as bad, by signal, and
  what to do about the first.
* An output without data says nothing, as long as another one has some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relay.control.status.assess import DeliveryFacts

Deliveries = Mapping[str, DeliveryFacts]
"""Facts of outputs, by signal."""


def merged(deliveries: Deliveries) -> DeliveryFacts:
    """Return the facts of a sink from those of its outputs."""
    if len(deliveries) == 1:
        return next(iter(deliveries.values()))
    loss = _told({signal: facts.loss for signal, facts in deliveries.items()})
    having = {signal: facts for signal, facts in deliveries.items() if _has_data(facts)}
    if not having:
        return next(iter(deliveries.values()))._replace(loss=loss)
    worst = min(having.values(), key=_rank)
    alike = [(signal, one) for signal, one in having.items() if _rank(one) == _rank(worst)]
    # The worst's own kind last: what to do about it follows its words.
    alike.sort(key=lambda pair: pair[1].kind == worst.kind)
    return worst._replace(
        failure=_told({signal: one.failure for signal, one in alike}),
        behind=_told({signal: one.behind for signal, one in alike}),
        loss=loss,
        unsettled=any(facts.unsettled for facts in having.values()),
    )


def _told(texts: Mapping[str, str]) -> str:
    """Return the texts that there are, each behind the signals that say so."""
    signals: dict[str, list[str]] = {}
    for signal, text in texts.items():
        if text:
            signals.setdefault(text, []).append(signal)
    return "; ".join(f"{_and(names)}: {text}" for text, names in signals.items())


def _and(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _has_data(facts: DeliveryFacts) -> bool:
    return bool(facts.matched or facts.waits or facts.succeeded or facts.failure)


def _rank(facts: DeliveryFacts) -> int:
    if facts.failure:
        return 0
    if not facts.succeeded:
        return 1
    return 2 if facts.behind else 3
