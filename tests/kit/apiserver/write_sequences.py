"""Random writes of one object, and answers made comparable between two API servers.

Two servers that get the same sequence must give the same answers, but for what differs by nature:
uids, versions, times, and the words of 400 and 422. Where kube-apiserver answers 500 to what a
client did wrong, 400 is right.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp

EXPORTER_VERSION = "telemetry.datumapis.com/v1alpha1"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"
MANAGERS = ("m1", "m2", "m3", "kubectl")
NAME = "compared"


@dataclass(frozen=True, slots=True)
class Step:
    """One request; ``tail`` is what follows the object's path."""

    method: str
    tail: str
    media_type: str
    body: Any


def _some(random: Random, options: str | list[str]) -> list[str]:
    return random.sample(list(options), random.randint(0, len(options)))


def _metadata(random: Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if random.random() < 0.5:
        found["labels"] = {key: random.choice("123") for key in _some(random, "abc")}
    if random.random() < 0.3:
        found["annotations"] = {key: random.choice("123") for key in _some(random, "abc")}
    if random.random() < 0.3:
        found["finalizers"] = _some(random, ["f.example/1", "f.example/2", "f.example/3"])
    return found


def _sink(random: Random, name: str, *, full: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    if full or random.random() < 0.6:
        http: dict[str, Any] = {}
        if full or random.random() < 0.7:
            http["endpoint"] = random.choice(["https://a.example", "https://b.example"])
        if random.random() < 0.4:
            http["timeout"] = random.choice(["10s", "20s", "30s"])
        if random.random() < 0.3:
            http["headers"] = {
                key: random.choice("xyz") for key in _some(random, ["X-A", "X-B", "X-C"])
            }
        if random.random() < 0.3:
            http["concurrency"] = random.randint(1, 3)
        made["otlp_http"] = http
    if random.random() < 0.3:
        made["sources"] = random.sample(["s1", "s2"], random.randint(1, 2))
    if random.random() < 0.3:
        batch = {"enabled": random.random() < 0.5, "maxSize": 100, "timeout": "1s"}
        made["batch"] = {key: own for key, own in batch.items() if random.random() < 0.6}
    if random.random() < 0.2:
        made["retry"] = random.choice([{}, {"enabled": False}, {"backoff": "3s"}])
    return made


def _source(random: Random, name: str) -> dict[str, Any]:
    return {"name": name, "metrics": {"metricsql": random.choice(["{}", 'up{a="b"}', "up"])}}


def exporter(random: Random, *, full: bool) -> dict[str, Any]:
    """An Exporter: whole, or only parts of one."""
    spec: dict[str, Any] = {}
    if full:
        names = ["s1", "s2", *_some(random, ["s3"])]
        random.shuffle(names)
        spec["sources"] = [_source(random, name) for name in names]
    elif random.random() < 0.5:
        spec["sources"] = [_source(random, name) for name in _some(random, ["s1", "s2", "s3"])]
    if full or random.random() < 0.6:
        names = random.sample(["k1", "k2", "k3", "k4"], random.randint(1, 4))
        spec["sinks"] = [_sink(random, name, full=full) for name in names]
    metadata = {"name": NAME, **_metadata(random)}
    made = {"apiVersion": EXPORTER_VERSION, "kind": "Exporter", "metadata": metadata}
    return {**made, "spec": spec} if spec or random.random() < 0.3 else made


def _operations(random: Random) -> list[dict[str, Any]]:
    options: list[dict[str, Any]] = [
        {"op": "add", "path": "/metadata/labels", "value": {"z": "1"}},
        {"op": "remove", "path": "/metadata/labels/a"},
        {"op": "remove", "path": "/spec/sinks/0"},
        {"op": "add", "path": "/spec/sinks/0", "value": _sink(random, "k9", full=True)},
        {"op": "add", "path": "/spec/sinks/-", "value": _sink(random, "k8", full=True)},
        {"op": "test", "path": "/kind", "value": "Exporter"},
        {"op": "test", "path": "/kind", "value": "Other"},
        {"op": "copy", "from": "/spec/sources/0", "path": "/spec/sources/-"},
        {"op": "move", "from": "/spec/sinks/0", "path": "/spec/sinks/-"},
        {"op": "replace", "path": "/spec/sinks/0/name", "value": "k5"},
    ]
    return [random.choice(options) for _ in range(random.randint(1, 3))]


def _status(random: Random) -> dict[str, Any]:
    conditions = [{"type": "X", "status": random.choice(["True", "False"])}]
    return {"a": random.randint(1, 3), "conditions": random.choice([[], conditions])}


def exporter_step(random: Random) -> Step:
    """A random write of an Exporter."""
    chance = random.random()
    manager = random.choice(MANAGERS)
    if chance < 0.55:
        force = random.choice(["true", "false"])
        tail = f"?fieldManager={manager}&force={force}"
        if random.random() < 0.05:
            tail += "&dryRun=All"
        return Step("PATCH", tail, APPLY, exporter(random, full=random.random() < 0.6))
    tail = f"?fieldManager={manager}"
    if chance < 0.65:
        patch = exporter(random, full=False)
        return Step("PATCH", tail, MERGE, {k: v for k, v in patch.items() if k[0] in "ms"})
    if chance < 0.75:
        return Step("PUT", tail, JSON, exporter(random, full=True))
    if chance < 0.83:
        return Step("PATCH", tail, JSON_PATCH, _operations(random))
    status_manager = f"?fieldManager=status{random.randint(1, 2)}"
    if chance < 0.89:
        body = {"status": _status(random), "metadata": _metadata(random)}
        return Step("PATCH", f"/status{status_manager}", MERGE, body)
    if chance < 0.94:
        body = {"apiVersion": EXPORTER_VERSION, "kind": "Exporter", "metadata": {"name": NAME}}
        body["status"] = _status(random)
        return Step("PATCH", f"/status{status_manager}&force=true", APPLY, body)
    if chance < 0.97:
        return Step("DELETE", "", JSON, None)
    return Step("PATCH", tail, MERGE, {"metadata": {"managedFields": [{}]}})


def _secret(random: Random) -> dict[str, Any]:
    made: dict[str, Any] = {"metadata": {"name": NAME, **_metadata(random)}}
    if random.random() < 0.6:
        made["data"] = {key: random.choice(["eA==", "eQ=="]) for key in _some(random, "abc")}
    if random.random() < 0.4:
        made["stringData"] = {key: random.choice("xyz") for key in _some(random, "abc")}
    return {"apiVersion": "v1", "kind": "Secret", **made}


def _strategic(random: Random) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if random.random() < 0.5:
        metadata["labels"] = {key: random.choice(["1", None]) for key in _some(random, "abc")}
    finalizers = ["f.example/1", "f.example/2", "f.example/3"]
    if random.random() < 0.5:
        metadata["finalizers"] = _some(random, finalizers)
    if random.random() < 0.3:
        # kube-apiserver's answer is random where an item is both added and deleted.
        left = [one for one in finalizers if one not in metadata.get("finalizers", ())]
        metadata["$deleteFromPrimitiveList/finalizers"] = _some(random, left)
    found: dict[str, Any] = {"metadata": metadata} if metadata else {}
    if random.random() < 0.6:
        found["data"] = {key: random.choice(["eA==", None]) for key in _some(random, "abc")}
        if random.random() < 0.2:
            values = {key: own for key, own in found["data"].items() if own is not None}
            found["data"] = {"$patch": "replace", **values}
    return found


def secret_step(random: Random) -> Step:
    """A random write of a Secret."""
    chance = random.random()
    manager = random.choice(MANAGERS)
    tail = f"?fieldManager={manager}"
    if chance < 0.45:
        return Step(
            "PATCH", f"{tail}&force={random.choice(['true', 'false'])}", APPLY, _secret(random)
        )
    if chance < 0.6:
        patch = _secret(random)
        return Step("PATCH", tail, MERGE, {k: v for k, v in patch.items() if k[0] in "dsm"})
    if chance < 0.75:
        return Step("PUT", tail, JSON, _secret(random))
    if chance < 0.93:
        return Step("PATCH", tail, STRATEGIC, _strategic(random))
    if chance < 0.97:
        return Step("DELETE", "", JSON, None)
    return Step("PATCH", tail, MERGE, {"metadata": {"managedFields": [{}]}})


class ComparedServer:
    """One of two servers: sends steps and remembers the version of the object."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str, path: str) -> None:
        self._session = session
        self._url = f"{url}{path}/{NAME}"
        self._collection = f"{url}{path}"
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "compared/1"}
        self.version: str | None = None

    async def send(self, step: Step) -> tuple[int, dict[str, Any], list[str]]:
        """Send a step; return code, body and warnings."""
        body = copy.deepcopy(step.body)
        if step.method == "PUT" and self.version:
            body["metadata"]["resourceVersion"] = self.version
        data = None if body is None else json.dumps(body)
        headers = {**self._headers, "Content-Type": step.media_type}
        async with self._session.request(
            step.method, self._url + step.tail, data=data, headers=headers, ssl=False
        ) as response:
            value = json.loads(await response.text())
            warnings = sorted(response.headers.getall("Warning", []))
        if value.get("kind") != "Status":
            self.version = value["metadata"].get("resourceVersion")
        return response.status, value, warnings

    async def create(self, body: dict[str, Any]) -> None:
        """Create another object."""
        async with self._session.post(
            self._collection, json=body, headers=self._headers, ssl=False
        ) as response:
            assert response.status == 201, await response.text()

    async def select(self, query: dict[str, str]) -> tuple[int, list[str], str]:
        """List; return code, names of the objects, and the message of a refusal."""
        async with self._session.get(
            self._collection, params=query, headers=self._headers, ssl=False
        ) as response:
            value = json.loads(await response.text())
        names = [item["metadata"]["name"] for item in value.get("items", [])]
        return response.status, names, value.get("message", "")

    async def clear(self) -> None:
        """Remove the object."""
        await self.send(Step("PATCH", "", MERGE, {"metadata": {"finalizers": None}}))
        await self.send(Step("DELETE", "", JSON, None))
        self.version = None


def comparable(code: int, value: dict[str, Any]) -> Any:
    """An answer without what differs by nature."""
    if value.get("kind") == "Status":
        code = 400 if code == 500 else code
        if code in (400, 422):
            return code
        details = {key: own for key, own in value.get("details", {}).items() if key != "uid"}
        causes = sorted(json.dumps(one, sort_keys=True) for one in details.pop("causes", []))
        lines = sorted(value.get("message", "").split("\n"))
        return code, value.get("reason"), details, causes, lines
    made = copy.deepcopy(value)
    if made["kind"] == "Secret" and "data" in made:
        made["data"] = sorted(made["data"])  # the values are masked by one of the two
    metadata = made["metadata"]
    for name in ("uid", "creationTimestamp", "resourceVersion"):
        metadata.pop(name, None)
    for name in ("labels", "annotations", "finalizers"):
        if name in metadata and not metadata[name]:
            del metadata[name]  # kube-apiserver shows an empty one until the next write
    if "deletionTimestamp" in metadata:
        metadata["deletionTimestamp"] = "some time"
    entries = metadata.pop("managedFields", [])
    for entry in entries:
        entry["time"] = "time" in entry
    metadata["managedFields"] = sorted(json.dumps(entry, sort_keys=True) for entry in entries)
    return code, made
