"""The delivery of a sink as a whole: of its outputs, one for each signal that it sends. Pure.

* A sink that has no source of metrics is judged by its other outputs alone.
* The worst output counts: one that fails, then one that waits for its first answer, then one that
  is behind. Its message begins with the signal, where there are several.
* An output without data says nothing, as long as another one has some.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.control.status.assess import DeliveryFacts

Deliveries = Mapping[str, DeliveryFacts]
"""Facts of outputs, by signal."""


def merged(deliveries: Deliveries) -> DeliveryFacts:
    """Return the facts of a sink from those of its outputs."""
    if len(deliveries) == 1:
        return next(iter(deliveries.values()))
    told = {signal: _with_signal(signal, facts) for signal, facts in deliveries.items()}
    having = [facts for facts in told.values() if _has_data(facts)]
    loss = next((facts.loss for facts in told.values() if facts.loss), "")
    if not having:
        return next(iter(told.values()))._replace(loss=loss)
    worst = min(having, key=_rank)
    return worst._replace(loss=loss, unsettled=any(facts.unsettled for facts in having))


def _has_data(facts: DeliveryFacts) -> bool:
    return bool(facts.matched or facts.waits or facts.succeeded or facts.failure)


def _rank(facts: DeliveryFacts) -> int:
    if facts.failure:
        return 0
    if not facts.succeeded:
        return 1
    return 2 if facts.behind else 3


def _with_signal(signal: str, facts: DeliveryFacts) -> DeliveryFacts:
    return facts._replace(
        failure=f"{signal}: {facts.failure}" if facts.failure else "",
        loss=f"{signal}: {facts.loss}" if facts.loss else "",
        behind=f"{signal}: {facts.behind}" if facts.behind else "",
    )
