"""Conditions of an ExportPolicy and its sinks, in the words of the platform's operator.

``Ready`` and ``Accepted`` are the operator's, with its reasons where it has them.
``SignalsCarried`` is the relay's own, and only there where no sink sends the logs or traces of a
source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from relay.config.exporter.types import Exporter


class PolicyCondition(msgspec.Struct, frozen=True):
    """One condition, with Kubernetes' fields."""

    type: str
    status: Literal["True", "False"]
    reason: str
    message: str = ""


def policy_conditions(policy: Exporter) -> Iterator[PolicyCondition]:
    """Yield the conditions of the policy as a whole."""
    refused = {one.name for one in policy.refused}
    accepted = sum(sink.name not in refused for sink in policy.sinks)
    message = f"{accepted}/{accepted + len(refused)} sinks are accepted"
    if refused:
        yield PolicyCondition("Ready", "False", "SinksNotAccepted", message)
    else:
        yield PolicyCondition("Ready", "True", "SinksAccepted", message)
    if policy.not_carried:
        asked = ", ".join(f"source {name} asks for {what}" for name, what in policy.not_carried)
        message = f"{asked}: no sink with openTelemetry sends them"
        yield PolicyCondition("SignalsCarried", "False", "SignalsNotCarried", message)


def sink_conditions(policy: Exporter) -> Iterator[tuple[str, PolicyCondition]]:
    """Yield the name of each sink, refused ones included, and its condition ``Accepted``."""
    refused = {one.name for one in policy.refused}
    running = {sink.name for sink in policy.sinks}
    for sink in policy.sinks:
        if sink.name not in refused:
            yield sink.name, PolicyCondition("Accepted", "True", "SinkConfigured")
    for one in policy.refused:
        message = one.message
        if one.name in running:
            message += "; its last good version goes on running"
        yield one.name, PolicyCondition("Accepted", "False", one.reason, message)
