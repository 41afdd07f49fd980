"""What a relay in this process says of its sinks' queues, and how its exporters are changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relay.app import Relay
from relay.telemetry.registry import CATALOGUE
from tests.kit.processes import eventually
from tests.kit.stored_relay import Sender


def edit(directory: Path, *manifests: str) -> None:
    """Write other exporters in place of those that there are."""
    (directory / "exporters.yaml").write_text("".join(manifests))


def orphans_of(relay: Relay) -> dict[str, Any]:
    """What the status says of orphans."""
    return dict(relay.status()["storage"]["queues"]["orphans"])  # type: ignore[index]


def metric(relay: Relay, name: str, **labels: str) -> float:
    """One of our metrics, 0 where it has no such row."""
    (spec,) = (spec for spec in CATALOGUE if spec.name == name)
    for values, value in spec.rows(relay.snapshot()):
        if dict(zip(spec.labels, values, strict=True)) == labels:
            return value
    return 0.0


def sink_of(sender: Sender, name: str) -> dict[str, Any]:
    """The status of an exporter's one sink."""
    for exporter in sender.relay.status()["exporters"]:  # type: ignore[attr-defined]
        if exporter["name"] == f"default/{name}":
            return dict(exporter["sinks"][0])
    raise AssertionError(name)


async def settled(sender: Sender, name: str, queued: int) -> dict[str, Any]:
    """The ledger of a sink, once so many points are queued in it."""
    await eventually(
        f"{name} has {queued} queued",
        lambda: sink_of(sender, name)["ledger"]["queued"] == queued,
        timeout_s=5,
    )
    ledger: dict[str, Any] = sink_of(sender, name)["ledger"]
    assert ledger["balanced"], ledger
    return ledger
