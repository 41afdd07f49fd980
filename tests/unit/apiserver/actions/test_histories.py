"""The subresource ``history``: what it has, who reads it, and where it is described."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from relay.apiserver.actions.histories import HistoryAnswers
from relay.control.status.sink_history import SinkHistories
from tests.kit.apiserver.projects import API, NEIGHBOUR, exporter
from tests.kit.apiserver.projects import users as project_users
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER, LocalApi, local_api
from tests.kit.sink.running_sinks import ToldWorker, report_of

BEGIN = 1_795_950_000.0  # a whole minute
ROOT = "/projects/acme"
GROUP = f"{ROOT}/apis/{API}"
EXPORTER = f"{GROUP}/namespaces/default/exporters/web"
HISTORY = f"{EXPORTER}/history"
POLICIES = ("telemetry.miloapis.com/v1alpha1", "telemetry.datumapis.com/v1alpha1")
EVERYONE = {"token": "token-of-everybody", "user": "ops", "projects": ["*"], "role": "viewer"}
POLICY: dict[str, Any] = {
    "sources": [{"name": "all", "metrics": {"metricsql": "{}"}}],
    "sinks": [
        {
            "name": "one",
            "sources": ["all"],
            "target": {"prometheusRemoteWrite": {"endpoint": "https://prometheus.example/push"}},
        }
    ],
}


@asynccontextmanager
async def api_with_histories(folder: Path) -> AsyncIterator[tuple[LocalApi, SinkHistories]]:
    """The API of acme with an Exporter, and two minutes of its sink."""
    histories = SinkHistories()
    hooks = {"history": HistoryAnswers(histories, lambda: BEGIN + 150)}
    users = [*project_users(), EVERYONE]
    worker = ToldWorker("acme/default/web", "one")
    for after_s, points, waiting in ((0, 100, 0), (30, 600, 0), (90, 60, 7)):
        worker.deliver(BEGIN, points)
        worker.waiting = waiting
        own = report_of(worker)
        if waiting:
            dropped = {"queue_full": 5}
            ledger = msgspec.structs.replace(own.ledger, dropped=dropped)
            own = msgspec.structs.replace(own, ledger=ledger, oldest_point_age_s=2.5)
        histories.note("acme/default/web", {"one": own}, BEGIN + after_s)
    async with local_api(folder, users=users, tenancy=True, **hooks) as api:
        collection = EXPORTER.rpartition("/")[0]
        code, _ = await api.user(ADMIN).ask("POST", collection, exporter("web", "up"))
        assert code == 201
        yield api, histories


SHOWN = {
    "kind": "ExporterHistory",
    "apiVersion": API,
    "metadata": {"name": "web", "namespace": "default"},
    "sinks": [
        {
            "name": "one",
            "since": "2026-11-29T11:00:00Z",
            "pointsPerSecond": 0.883,
            "oldestPointAgeSeconds": 2.5,
            "lostInDay": 5,
            "minutes": [
                {
                    "time": "2026-11-29T11:00:00Z",
                    "delivered": 600,
                    "requests": 0,
                    "requestSeconds": 0.0,
                },
                {
                    "time": "2026-11-29T11:01:00Z",
                    "delivered": 53,
                    "requests": 0,
                    "requestSeconds": 0.0,
                },
            ],
        }
    ],
}


async def test_every_role_reads_it_and_no_other_project(tmp_path: Path) -> None:
    async with api_with_histories(tmp_path) as (api, _):
        for token in (ADMIN, EDITOR, VIEWER):
            assert await api.user(token).ask("GET", HISTORY) == (200, SHOWN)
        everything = HISTORY.replace("/acme/", "/*/")
        assert await api.user(EVERYONE["token"]).ask("GET", everything) == (200, SHOWN)
        for token in (f"token-of-{NEIGHBOUR}", VIEWER):
            code, status = await api.user(token).ask("GET", HISTORY.replace("/acme/", "/globex/"))
            if token != VIEWER:
                assert (code, status["reason"]) == (404, "NotFound")
                code, status = await api.user(token).ask("GET", HISTORY)
            assert (code, status["reason"]) == (403, "Forbidden")
        assert (await api.user("no-token").ask("GET", HISTORY))[0] == 401


async def test_it_can_only_be_read_where_it_is(tmp_path: Path) -> None:
    async with api_with_histories(tmp_path) as (api, histories):
        admin = api.user(ADMIN)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await admin.ask(method, HISTORY, {}))[0] == 405
        assert (await admin.ask("HEAD", HISTORY))[0] == 200
        code, status = await admin.ask("GET", HISTORY.replace("/web/", "/none/"))
        assert (code, status["details"]["name"]) == (404, "none")
        assert (await admin.ask("GET", f"{GROUP}/namespaces/default/secrets/web/history"))[0] == 404
        histories.forget_all_but([])
        assert await admin.ask("GET", HISTORY) == (200, {**SHOWN, "sinks": []})


async def test_policies_of_both_groups_have_one(tmp_path: Path) -> None:
    async with api_with_histories(tmp_path) as (api, _):
        admin = api.user(ADMIN)
        for group in POLICIES:
            body = {"apiVersion": group, "kind": "ExportPolicy", "spec": POLICY}
            path = f"{ROOT}/apis/{group}/namespaces/default/exportpolicies"
            code, status = await admin.ask("POST", path, {**body, "metadata": {"name": "web"}})
            assert code == 201, status
            code, answer = await admin.ask("GET", f"{path}/web/history")
            assert (code, answer["kind"], answer["sinks"]) == (200, "ExportPolicyHistory", [])
            assert answer["apiVersion"] == group


async def test_it_is_described(tmp_path: Path) -> None:
    async with api_with_histories(tmp_path) as (api, _):
        viewer = api.user(VIEWER)
        _, listed = await viewer.ask("GET", GROUP)
        (found,) = [one for one in listed["resources"] if one["name"] == "exporters/history"]
        assert (found["kind"], found["verbs"]) == ("ExporterHistory", ["get"])
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        _, groups = await viewer.ask("GET", f"{ROOT}/apis", Accept=accept)
        served = {
            (resource["resource"], own["subresource"]): own["responseKind"]["kind"]
            for group in groups["items"]
            for version in group["versions"]
            for resource in version["resources"]
            for own in resource.get("subresources", ())
        }
        assert served["exporters", "history"] == "ExporterHistory"
        assert served["exportpolicies", "history"] == "ExportPolicyHistory"
        _, document = await viewer.ask("GET", f"{ROOT}/openapi/v3/apis/{API}")
        path = f"/apis/{API}/namespaces/{{namespace}}/exporters/{{name}}/history"
        content = document["paths"][path]["get"]["responses"]["200"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
        sink = schema["properties"]["sinks"]["items"]
        (shown,) = SHOWN["sinks"]
        assert sink["properties"].keys() == shown.keys()
        assert sink["properties"]["minutes"]["items"]["properties"].keys() == (
            shown["minutes"][0].keys()
        )
        rules = {"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1"}
        path = f"{ROOT}/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        _, review = await viewer.ask("POST", path, {**rules, "spec": {"namespace": "default"}})
        allowed = {
            (resource, verb)
            for rule in review["status"]["resourceRules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        assert ("exporters/history", "get") in allowed
        assert ("exporters/tap", "get") not in allowed
