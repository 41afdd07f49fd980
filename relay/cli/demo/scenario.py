"""The demo's packaged settings and Exporters, and an endpoint for each of their sinks.

The manifests name endpoints under ``.example``, a reserved domain (RFC 2606), so that they are
valid as packaged. The demo runs a copy with its own receivers' addresses. Those of :data:`GUEST`
are in no setting: they are written through the API, if at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from relay.cli.demo.access import users_document, write_private
from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.records.outputs import outputs_by_signal
from relay.config.exporter.types import Exporter, Sink, kind_and_version
from relay.config.settings.settings import ExporterPath, Settings, load_settings
from relay.control.reconcile.sink_entry import SinkKey
from relay.runtime.errors import ConfigError
from relay.sink.http.credentials import credential_headers

CONFIG = Path(__file__).parent / "config"
"""The packaged directory: ``relay.yaml``, and one directory of manifests per customer."""

SETTINGS_NAME, TOKENS_NAME = "relay.yaml", "tokens.yaml"
GUEST = "hooli"
"""The customer whose Exporter comes by the API."""


@dataclass(frozen=True, slots=True)
class DemoPart:
    """One sink's endpoint in the manifests. ``credentials`` are the headers it expects.

    ``outputs`` are the keys of what the sink sends, by signal. ``kind`` is the field of the sink
    that it stands in; ``by_api`` says that its Exporter is not there until somebody writes it.
    """

    key: SinkKey
    outputs: Mapping[str, SinkKey]
    origin: str
    credentials: Mapping[str, str]
    kind: str
    by_api: bool


def config_files() -> list[Path]:
    """Return every packaged file, the settings first."""
    settings = CONFIG / SETTINGS_NAME
    return [settings, *(path for path in sorted(CONFIG.rglob("*.yaml")) if path != settings)]


def cast() -> list[DemoPart]:
    """Return the endpoints that the demo has to provide, in the manifests' order."""
    settings = load_settings(CONFIG / SETTINGS_NAME)
    guest = (ExporterPath(CONFIG / GUEST, project=GUEST),)
    return [
        _part(loaded, exporter, sink, by_api=by_api)
        for by_api, paths in ((False, settings.exporters), (True, guest))
        for loaded in (_load(replace(settings, exporters=paths)),)
        for exporter in loaded.exporters
        for sink in exporter.sinks
    ]


def stage(directory: Path, origins: Mapping[str, str], tokens: Mapping[str, str]) -> Settings:
    """Copy the packaged files into ``directory`` with other origins, and load the settings there.

    ``origins`` maps ``https://host``, as in :attr:`DemoPart.origin`, to the receiver's origin;
    ``tokens`` are those of the API's users.
    """
    for source in config_files():
        text = source.read_text(encoding="utf-8")
        for packaged, actual in origins.items():
            text = text.replace(packaged, actual)
        target = directory / source.relative_to(CONFIG)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    write_private(directory / TOKENS_NAME, users_document(tokens))
    settings = load_settings(directory / SETTINGS_NAME)
    _load(settings)
    return settings


def _load(settings: Settings) -> LoadResult:
    """Load all exporters. Raise ConfigError if one is faulty."""
    loaded = load_exporters(
        settings.exporters,
        secrets_root=settings.secrets,
        tenancy=settings.tenancy is not None,
    )
    if loaded.faults:
        raise ConfigError(loaded.faults)
    return loaded


def _part(loaded: LoadResult, exporter: Exporter, sink: Sink, *, by_api: bool) -> DemoPart:
    url = urlsplit(sink.endpoint.url)
    secrets = loaded.secrets.of(exporter)
    credentials = credential_headers(sink.endpoint.authentication, secrets)
    kind, _ = kind_and_version(sink.endpoint)
    origin = f"{url.scheme}://{url.netloc}"
    outputs = {
        signal: (exporter.id, name) for signal, name in outputs_by_signal(exporter, sink).items()
    }
    return DemoPart((exporter.id, sink.name), outputs, origin, credentials, kind, by_api)
