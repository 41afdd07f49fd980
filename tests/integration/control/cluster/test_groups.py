"""One control plane with ExportPolicies in both API groups."""

from __future__ import annotations

from pathlib import Path

from relay.control.cluster.resources import EXPORT_POLICIES
from tests.integration.control.cluster.test_cluster_source import faults, rig_of, settings_of
from tests.kit.kubernetes.fake_api import FakeApi


async def test_policies_of_one_name_in_two_groups(tmp_path: Path) -> None:
    endpoint = {"endpoint": "https://a.example"}
    spec = {
        "sources": [{"name": "all", "metrics": {"metricsql": "up"}}],
        "sinks": [
            {
                "name": "out",
                "sources": ["all"],
                "target": {
                    "prometheusRemoteWrite": {
                        **endpoint,
                        "batch": {"maxSize": 500, "timeout": "5s"},
                        "retry": {"maxAttempts": 3, "backoffDuration": "5s"},
                    }
                },
            }
        ],
    }
    async with FakeApi() as api:
        for resource in EXPORT_POLICIES:
            made = {**api.new("p"), "kind": "ExportPolicy", "apiVersion": resource.api_version}
            api.put(resource.path(), {**made, "spec": spec})
        async with rig_of(settings_of(tmp_path, api)) as rig:
            results = rig.state.loaded.objects
            assert [one.conflict for one in results] == [False, True]
            assert [one.key.group for one in results] == [one.group for one in EXPORT_POLICIES]
            (running,) = rig.state.loaded.exporters
            assert running.uid == results[0].uid
            (fault,) = faults(rig.state)
            assert f"ExportPolicy default/p of {EXPORT_POLICIES[0].group}" in fault
            for one, resource in zip(results, EXPORT_POLICIES, strict=True):
                for uid in ("", one.uid):
                    target = rig.cluster.target(one.key, uid)
                    assert target is not None
                    assert (target.resource, target.object.uid) == (resource, one.uid)
            assert rig.cluster.target(results[0].key, results[1].uid) is None
            api.delete(EXPORT_POLICIES[0].path(), "p")
            await rig.until(lambda state: not state.faults)
            assert [one.uid for one in rig.state.loaded.exporters] == [results[1].uid]
