"""The demo's packaged settings and Exporters, and an endpoint for each of their sinks.

The manifests name endpoints under ``.example``, a reserved domain (RFC 2606), so that they are
valid as packaged. The demo runs a copy with its own receivers' addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import Exporter, Sink, kind_and_version
from relay.config.settings.settings import Settings, load_settings
from relay.control.reconcile.sink_entry import SinkKey
from relay.runtime.errors import ConfigError
from relay.sink.http.credentials import credential_headers

CONFIG = Path(__file__).parent / "config"
"""The packaged directory: ``relay.yaml``, and one directory of manifests per customer."""

SETTINGS_NAME = "relay.yaml"


@dataclass(frozen=True, slots=True)
class DemoPart:
    """One sink's endpoint in the manifests. ``credentials`` are the headers it expects.

    ``kind`` is the field of the sink that it stands in.
    """

    key: SinkKey
    origin: str
    credentials: Mapping[str, str]
    kind: str


def config_files() -> list[Path]:
    """Return every packaged file, the settings first."""
    settings = CONFIG / SETTINGS_NAME
    return [settings, *(path for path in sorted(CONFIG.rglob("*.yaml")) if path != settings)]


def cast() -> list[DemoPart]:
    """Return the endpoints that the demo has to provide, in the manifests' order."""
    loaded = _load(load_settings(CONFIG / SETTINGS_NAME))
    return [
        _part(loaded, exporter, sink) for exporter in loaded.exporters for sink in exporter.sinks
    ]


def stage(directory: Path, origins: Mapping[str, str]) -> Settings:
    """Copy the packaged files into ``directory`` with other origins, and load the settings there.

    ``origins`` maps ``https://host``, as in :attr:`DemoPart.origin`, to the receiver's origin.
    """
    for source in config_files():
        text = source.read_text(encoding="utf-8")
        for packaged, actual in origins.items():
            text = text.replace(packaged, actual)
        target = directory / source.relative_to(CONFIG)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
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


def _part(loaded: LoadResult, exporter: Exporter, sink: Sink) -> DemoPart:
    url = urlsplit(sink.endpoint.url)
    secrets = loaded.secrets.of(exporter)
    credentials = credential_headers(sink.endpoint.authentication, secrets)
    kind, _ = kind_and_version(sink.endpoint)
    return DemoPart((exporter.id, sink.name), f"{url.scheme}://{url.netloc}", credentials, kind)
