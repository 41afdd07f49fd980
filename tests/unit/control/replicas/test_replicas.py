"""The leader's work among relays begins anew after a bug."""

from __future__ import annotations

from typing import cast

import pytest

from relay.config.settings.ingest_security import Admin
from relay.control.kubernetes.client import ApiClient
from relay.control.replicas import replicas
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.presence import ReplicaIdentity
from relay.control.replicas.replicas import ReplicaHost, Replicas
from tests.kit.processes import eventually


async def test_a_bug_does_not_end_the_leaders_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replicas, "RESTART_S", 0.001)
    told: list[object] = []

    def changed(keys: object) -> None:
        told.append(keys)
        if len(told) == 1:
            raise LookupError("first")

    one = Replicas(
        cast("ApiClient", None),  # only Leases need it
        ReplicaIdentity("n", "group", "relay-0", "mark"),
        PeerAccess(Admin()),
        ReplicaHost(lambda _: None, lambda: True, changed, lambda *_: None, lambda _: 0.0),
    )
    one.lead(leads=True)
    await eventually("work goes on", lambda: len(told) == 2, timeout_s=5)
    assert one.reports.settled
    assert "begins anew" in caplog.text
    one.lead(leads=False)
