"""Two projects whose series a relay has: acme, of which a test asks, and globex, its neighbour.

Everything of globex holds the word ``secretive``, so that it is found wherever it appears.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from relay.codec.signal_names import RECORD_SIGNALS
from relay.config.exporter.types import Exporter, Sink
from relay.config.settings.ingest_security import Admin
from relay.config.settings.settings import Settings
from relay.config.yaml.document import Document
from relay.control.preview.manifest import read_document
from relay.control.tap.tap import TappedSink
from relay.control.time_slicing import Turns
from relay.control.tools import ExporterTools, ToolAccess
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import Tenancy
from relay.pipeline.signals import Signals
from relay.runtime.errors import MissingSecretError
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER, ApiUser, LocalApi, local_api
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw

API = "telemetry.datumapis.com/v1alpha1"
NEIGHBOUR = "secretive"
SERIES = (
    *({"__name__": "up", "job": f"job-{n}", "tenant": "acme"} for n in range(4)),
    {"__name__": "down", "job": "job-0", "tenant": "acme"},
    *({"__name__": f"{NEIGHBOUR}_{n}", "job": NEIGHBOUR, "tenant": "globex"} for n in range(7)),
)


def exporter(name: str, query: str, endpoint: str = "https://otlp.example", **http: Any) -> Any:
    """An Exporter with one source and one sink."""
    return {
        "apiVersion": API,
        "kind": "Exporter",
        "metadata": {"name": name},
        "spec": {
            "sources": [{"name": "some", "metrics": {"metricsql": query}}],
            "sinks": [{"name": "one", "otlp_http": {"endpoint": endpoint, **http}}],
        },
    }


def action(kind: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    """An object of a kind that can only be created."""
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


class IdleWorker:
    """A sink's worker to which nothing is handed unless the test does."""

    def __init__(self, config: Sink) -> None:
        self.config = config
        self.tap: Any = None


class TwoProjects:
    """The tools over an engine with the series of both projects, and exporters that run."""

    def __init__(self, *, taps: bool = True, private: bool = True) -> None:
        self.rig = Rig(tenancy=Tenancy("tenant"))
        self.rig.feed(raw.join(raw.text_series(one, (1.0, 10**12)) for one in SERIES))
        self.running: list[Exporter] = []
        self.workers: dict[tuple[str, str], IdleWorker] = {}
        settings = Settings(admin=Admin(tap=taps), allow_private_endpoints=private)
        access = ToolAccess(lambda: self.running, lambda _: _no_secret, self._worker)
        self.tools = ExporterTools(settings, signals_of(self.rig.engine), Turns(), access)
        self.run("acme", exporter("web", "up"))
        self.run("globex", exporter(NEIGHBOUR, "{}"))

    def _worker(self, exporter_id: str, sink: str) -> TappedSink | None:
        return self.workers.get((exporter_id, sink))

    def run(self, project: str, manifest: dict[str, Any]) -> Exporter:
        """Let an exporter run."""
        made = read_document(Document.of_value(manifest, ""), project, need_sinks=True)
        self.running.append(made)
        selections = {one.name: one.selector for one in made.sources}
        sinks = [RigSink(one.name, limit=100, exporter=made.id) for one in made.sinks]
        self.rig.export(*sinks, exporter=made.id, sources=selections, project=project)
        for one in made.sinks:
            self.workers[made.id, one.name] = IdleWorker(one)
        return made


def _no_secret(*_: object) -> str:
    raise MissingSecretError("secret: is not mounted")


def users() -> list[dict[str, Any]]:
    """A user of each role in acme, and one of globex, whose token is its name."""
    own = ((ADMIN, "admin"), (EDITOR, "editor"), (VIEWER, "viewer"))
    made = [
        {"token": token, "user": role, "role": role, "projects": ["acme"]} for token, role in own
    ]
    token = f"token-of-{NEIGHBOUR}"
    return [
        *made,
        {"token": token, "user": NEIGHBOUR, "role": "admin", "projects": ["globex"]},
    ]


class ActingApi:
    """The API with its tools; questions are asked in acme."""

    def __init__(self, api: LocalApi, projects: TwoProjects) -> None:
        self.api = api
        self.projects = projects

    def user(self, token: str = VIEWER) -> ApiUser:
        """A user by its token."""
        return self.api.user(token)

    async def ask(
        self, kind: str, spec: Any, *, token: str = EDITOR, query: str = "", **metadata: Any
    ) -> tuple[int, dict[str, Any]]:
        """Create an object; return code and body."""
        body = action(kind, spec, **metadata)
        return await self.user(token).ask("POST", path_of(kind) + query, body)

    async def store(self, manifest: dict[str, Any]) -> None:
        """Store an object of the namespace default."""
        group = "/api/v1" if manifest["apiVersion"] == "v1" else f"/apis/{manifest['apiVersion']}"
        plural = {"Secret": "secrets", "Exporter": "exporters"}[manifest["kind"]]
        path = f"/projects/acme{group}/namespaces/default/{plural}"
        code, said = await self.user(EDITOR).ask("POST", path, manifest)
        assert code == 201, said


def path_of(kind: str, project: str = "acme", namespace: str = "default") -> str:
    """The path of a kind that can only be created."""
    plural = kind.lower() + "s"
    return f"/projects/{project}/apis/{API}/namespaces/{namespace}/{plural}"


@asynccontextmanager
async def acting_api(folder: Path, **options: Any) -> AsyncIterator[ActingApi]:
    """Serve the API with the tools of two projects for the duration of the block."""
    projects = TwoProjects(**options)
    async with local_api(folder, users=users(), tenancy=True, tools=projects.tools) as api:
        yield ActingApi(api, projects)


def has_neighbour(answer: Any) -> bool:
    """Whether anything of the other project is in an answer."""
    text = answer if isinstance(answer, str) else json.dumps(msgspec.to_builtins(answer))
    return NEIGHBOUR in text or "globex" in text


def causes(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Field and reason of each cause of a refusal."""
    found = status["details"].get("causes", ())
    return [(one.get("field", ""), one["reason"]) for one in found]


def signals_of(metrics: MetricsPipeline) -> Signals:
    """Return the pipelines of all signals around one of metrics."""
    tenants = ResourceTenants(metrics.router.tenancy)
    logs, traces = (
        RecordsPipeline(one, offsets=metrics.offsets, tenants=tenants) for one in RECORD_SIGNALS
    )
    return Signals(metrics, logs, traces)
