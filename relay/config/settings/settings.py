"""The daemon's own settings: one YAML file, overridden by command line flags.

Rules:

* YAML names are camelCase, fields here are snake_case with the unit last: ``maxBodyBytes`` is
  ``body_bytes_max``, ``readTimeout`` is ``read_timeout_s``.
* Every setting has a default; unknown ones are faults. All faults are reported at once.
* Paths in the file are relative to the file, paths in flags to the working directory.
* A flag replaces its setting before anything is checked, and its faults name the flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from relay.config.exporter.types import ExporterPath
from relay.config.limits.project_limits import LimitSettings, build_limits
from relay.config.schema.checks import label_key_problem
from relay.config.schema.quantities import bytes_of, seconds_of
from relay.config.schema.source import load
from relay.config.schema.validate import Reading, Schema
from relay.config.settings.addresses import ListenAddress, address_of, address_problem
from relay.config.settings.api import ApiSettings, build_api
from relay.config.settings.ingest_security import (
    Admin,
    Ingest,
    SenderAuthentication,
    ServerTls,
    build_admin,
    build_ingest,
    host_problem,
)
from relay.config.settings.kubernetes import (
    KubernetesSettings,
    build_kubernetes,
    server_path_problem,
)
from relay.config.settings.otlp import OtlpSettings, build_otlp
from relay.config.settings.proxy import Proxy, build_proxy, proxy_url_problem
from relay.config.settings.resource_labels import (
    InventorySettings,
    build_conventions,
    build_inventory,
    build_paths,
    label_name_problem,
)
from relay.config.settings.rules import SETTINGS_RULES
from relay.config.yaml.document import Document, read_documents
from relay.config.yaml.report import Report
from relay.runtime.errors import ConfigError, Fault
from relay.selector.resources.label_selector import Conventions

__all__ = [
    "Account",
    "Admin",
    "ApiSettings",
    "ExporterPath",
    "FsyncPolicy",
    "Ingest",
    "InventorySettings",
    "KubernetesSettings",
    "LimitSettings",
    "ListenAddress",
    "Log",
    "Memory",
    "SenderAuthentication",
    "ServerTls",
    "Settings",
    "Shutdown",
    "Storage",
    "TenancySettings",
    "TranslationSettings",
    "Watch",
    "load_settings",
]

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
FsyncPolicy = Literal["always", "interval", "never"]

FILE_BYTES_MAX = 1024 * 1024

_GIB = 1 << 30
_LISTEN: Final = ListenAddress("127.0.0.1", 9490)
_ADMIN_LISTEN: Final = ListenAddress("127.0.0.1", 9491)
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_ACCOUNT = re.compile(r"([0-9]{1,10})(?::([0-9]{1,10}))?")
_UINT32_MAX = (1 << 32) - 1


class Account(msgspec.Struct, frozen=True):
    """Maps ``account`` of a path (``/insert/<accountID>:<projectID>/...``) to a project."""

    account: str
    project: str

    @property
    def number(self) -> tuple[int, int]:
        """accountID and projectID."""
        account, _, project = self.account.partition(":")
        return int(account), int(project or 0)


@dataclass(frozen=True, slots=True)
class TenancySettings:
    """Tenancy: several customers on one relay.

    ``label`` is the series label that names a series' project, "" for none; ``accounts`` map the
    path of a request to a project.
    """

    label: str = ""
    accounts: tuple[Account, ...] = ()
    shared_metadata: bool = False
    """True if help and unit of metadata without an account are exported to every project.

    Its types are used if a project's senders declare none.
    """


class Storage(msgspec.Struct, frozen=True):
    """Directory and limits of undelivered data that survives a restart."""

    path: Path
    bytes_max: int = 8 * _GIB
    fsync: FsyncPolicy = "interval"
    """Failures that an acknowledged sample survives.

    ``always``: a power cut; ``interval`` and ``never``: the death of the process at any instant,
    and a power cut except for the last ``fsync_interval_s``, or for data that the kernel had not
    written.
    """
    fsync_interval_s: float = 1.0
    orphan_retention_s: float = 24 * 3600.0
    """Time for which the queue of a sink that does not run is kept, s."""


class Memory(msgspec.Struct, frozen=True):
    """Memory limit for all data in transit; senders are refused before it is reached."""

    bytes_max: int = _GIB


class Watch(msgspec.Struct, frozen=True):
    """Watching of manifests: True if changes are applied at once, and the polling interval."""

    enabled: bool = True
    interval_s: float = 2.0


@dataclass(frozen=True, slots=True)
class TranslationSettings:
    """Translation; ``infer_types``: without metadata, tell counters by the ends of names.

    ``first_sight_wait_s`` is how long a new family waits for its metadata (0: not at all),
    ``assembly_timeout_s`` how long a histogram's first samples wait for the rest;
    ``delta_max_age_s`` how long the delta state of a pausing stream is kept.
    """

    infer_types: bool = True
    first_sight_wait_s: float = 1.5
    assembly_timeout_s: float = 10.0
    delta_max_age_s: float = 3600.0


class Shutdown(msgspec.Struct, frozen=True):
    """Time limit for delivering queued data at a stop."""

    drain_timeout_s: float = 30.0


class Log(msgspec.Struct, frozen=True):
    """Format and minimum level of log lines."""

    format: LogFormat = "text"
    level: LogLevel = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the operator."""

    listen: ListenAddress = _LISTEN
    admin_listen: ListenAddress = _ADMIN_LISTEN
    admin: Admin = field(default_factory=Admin)
    exporters: tuple[ExporterPath, ...] = ()
    secrets: Path | None = None
    kubernetes: KubernetesSettings | None = None
    api: ApiSettings | None = None
    tenancy: TenancySettings | None = None
    otlp: OtlpSettings = field(default_factory=OtlpSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    storage: Storage | None = None
    memory: Memory = Memory()
    allow_private_endpoints: bool = True
    """In YAML, where it is absent: true without tenancy, false with it."""
    proxy: Proxy | None = None
    resources: Conventions = field(default_factory=Conventions)
    inventory: InventorySettings = field(default_factory=InventorySettings)
    ingest: Ingest = field(default_factory=Ingest)
    watch: Watch = Watch()
    translation: TranslationSettings = TranslationSettings()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()


# Flag by override, and where in the file its setting stands.
_FLAGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "listen": ("--listen", ("listen",)),
    "admin_listen": ("--admin-listen", ("adminListen",)),
    "exporters": ("--exporters", ("exporters",)),
    "secrets": ("--secrets", ("secrets",)),
    "data": ("--data", ("storage", "path")),
    "log_format": ("--log-format", ("log", "format")),
    "log_level": ("--log-level", ("log", "level")),
}


COMMAND_LINE: Final = "command line"
"""Origin of faults in flags."""


def load_settings(
    path: Path | None = None, overrides: Mapping[str, object] | None = None
) -> Settings:
    """Return the settings of a file (None: all defaults), with the flags' values put in.

    ``overrides`` maps ``listen``, ``admin_listen``, ``exporters`` (a list of paths), ``secrets``,
    ``data``, ``log_format`` and ``log_level`` to what the flag said; None is a flag that was not
    given. Raises :class:`ConfigError` with every fault.
    """
    settings, faults = read_settings(path, overrides)
    if faults:
        raise ConfigError(faults)
    return settings


def read_settings(
    path: Path | None = None, overrides: Mapping[str, object] | None = None
) -> tuple[Settings, list[Fault]]:
    """Return what :func:`load_settings` does without the faulty parts, and every fault.

    Raises :class:`ConfigError` for a file that is no single YAML document.
    """
    document = _only_document(path) if path is not None else Document("settings")
    values = dict(document.value) if isinstance(document.value, dict) else document.value
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    report = Report(document)
    for where, message in document.faults:
        report.fault(where, message, on_key=True)
    if values is None:
        values = {}
    if given and isinstance(values, dict):
        values = _overridden(values, given)
    base = path.parent if path is not None else Path()
    settings = _build(settings_schema().read(report, (), values), base.absolute())
    return settings, [_named_by_flag(fault, given) for fault in report.faults]


def _only_document(path: Path) -> Document:
    """Return the file's one document; an empty file is one. Raise :class:`ConfigError`."""
    documents = read_documents(path, bytes_max=FILE_BYTES_MAX)
    if documents:
        _refuse_manifest(documents[0], path)
    if len(documents) > 1:
        message = "settings are a single YAML document; a manifest begins with apiVersion and kind"
        raise ConfigError([documents[1].fault((), message)])
    return documents[0] if documents else Document(str(path))


def _refuse_manifest(document: Document, path: Path) -> None:
    """Raise :class:`ConfigError`, once, for a manifest that was given as settings."""
    value = document.value
    if not isinstance(value, dict) or not value.keys() & {"kind", "apiVersion"}:
        return
    kind = value.get("kind")
    kind = kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "an object"
    message = (
        f"this is a Kubernetes manifest ({kind}), not settings: name the file in the settings, "
        f"exporters: [{{path: {path.name}}}], or with --exporters {path}"
    )
    raise ConfigError([document.fault(("kind",) if "kind" in value else ("apiVersion",), message)])


def _overridden(values: dict[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return the file's mapping with the flags' values, paths made absolute, put in."""
    merged = dict(values)
    for key, value in given.items():
        _, where = _FLAGS[key]
        if key == "exporters":
            assert isinstance(value, list | tuple), "the command line collects paths in a list"
            merged["exporters"] = [{"path": str(Path(str(item)).absolute())} for item in value]
        elif key == "secrets":
            merged["secrets"] = str(Path(str(value)).absolute())
        elif key == "data":
            storage = merged.get("storage")
            kept = storage if isinstance(storage, dict) else {}
            merged["storage"] = {**kept, "path": str(Path(str(value)).absolute())}
        elif len(where) == 1:
            merged[where[0]] = str(value)
        else:
            log = merged.get("log")
            merged["log"] = {**(log if isinstance(log, dict) else {}), where[1]: str(value)}
    return merged


def _named_by_flag(fault: Fault, given: Mapping[str, object]) -> Fault:
    for key in given:
        flag, where = _FLAGS[key]
        at = ".".join(where)
        if fault.path == at or fault.path.startswith((f"{at}.", f"{at}[")):
            return Fault(flag, fault.message, COMMAND_LINE)
    return fault


def is_of_flag(fault: Fault) -> bool:
    """Return True if a fault of :func:`load_settings` concerns a flag, not the file."""
    return fault.origin == COMMAND_LINE


def _build(reading: Reading, base: Path) -> Settings:
    """Build the settings; relative paths are relative to ``base``."""
    values = reading.values
    default = Settings()
    listen = address_of(values, "listen", default.listen)
    admin_listen = address_of(values, "adminListen", default.admin_listen)
    if listen == admin_listen and listen.port:
        reading.fault("adminListen", message=f"must not be the same as listen, {listen}")
    tenancy = _tenancy(reading, values.get("tenancy"))
    secrets = values.get("secrets")
    storage = _storage(values.get("storage", {}), base)
    return Settings(
        listen=listen,
        admin_listen=admin_listen,
        admin=build_admin(reading, values.get("admin", {}), base=base),
        exporters=build_paths(values, "exporters", base=base),
        secrets=None if secrets is None else base / secrets,
        kubernetes=build_kubernetes(values.get("kubernetes"), base=base),
        api=build_api(
            reading, values.get("api"), base=base, storage=storage.path if storage else None
        ),
        tenancy=tenancy,
        otlp=build_otlp(values.get("otlp", {})),
        limits=build_limits(reading, values.get("limits", {})),
        storage=storage,
        memory=Memory(bytes_of(values.get("memory", {}), "maxBytes", default.memory.bytes_max)),
        allow_private_endpoints=values.get("allowPrivateEndpoints", tenancy is None),
        proxy=build_proxy(reading, values.get("proxy"), base=base),
        resources=build_conventions(values.get("resources", {})),
        inventory=build_inventory(values.get("inventory", {}), base=base),
        ingest=build_ingest(reading, values.get("ingest", {}), base=base),
        watch=_watch(values.get("watch", {})),
        translation=_translation(values.get("translation", {})),
        shutdown=Shutdown(
            seconds_of(values.get("shutdown", {}), "drainTimeout", default.shutdown.drain_timeout_s)
        ),
        log=Log(**values.get("log", {})),
    )


def _storage(values: dict[str, Any], base: Path) -> Storage | None:
    if "path" not in values:
        return None
    default = Storage(base)
    return Storage(
        path=base / values["path"],
        bytes_max=bytes_of(values, "maxBytes", default.bytes_max),
        fsync=values.get("fsync", default.fsync),
        fsync_interval_s=seconds_of(values, "fsyncInterval", default.fsync_interval_s),
        orphan_retention_s=seconds_of(values, "orphanRetention", default.orphan_retention_s),
    )


def _tenancy(reading: Reading, values: dict[str, Any] | None) -> TenancySettings | None:
    if values is None:
        return None
    accounts: dict[tuple[int, int], Account] = {}
    for index, one in enumerate(values.get("accounts", ())):
        if one is None or "account" not in one:
            continue
        account = Account(one["account"], one.get("project", ""))
        if accounts.setdefault(account.number, account) is not account:
            place = ("tenancy", "accounts", index, "account")
            reading.fault(*place, message=f"{account.account} is listed twice")
    label = values.get("label", "")
    shared = values.get("sharedMetadata", False)
    return TenancySettings(label, tuple(accounts.values()), shared) if label or accounts else None


def _account_problem(text: str) -> str:
    found = _ACCOUNT.fullmatch(text)
    if found is not None and max(int(found[1]), int(found[2] or 0)) <= _UINT32_MAX:
        return ""
    return f'must be "<accountID>" or "<accountID>:<projectID>", up to {_UINT32_MAX} each'


def _watch(values: dict[str, Any]) -> Watch:
    default = Watch()
    return Watch(
        enabled=values.get("enabled", default.enabled),
        interval_s=seconds_of(values, "interval", default.interval_s),
    )


def _translation(values: dict[str, Any]) -> TranslationSettings:
    default = TranslationSettings()
    return TranslationSettings(
        infer_types=values.get("inferTypes", default.infer_types),
        first_sight_wait_s=seconds_of(values, "firstSightWait", default.first_sight_wait_s),
        assembly_timeout_s=seconds_of(values, "assemblyTimeout", default.assembly_timeout_s),
        delta_max_age_s=seconds_of(values, "deltaMaxAge", default.delta_max_age_s),
    )


@cache
def settings_schema() -> Schema:
    """Return the schema of the settings."""
    checks = {
        "account": _account_problem,
        "address": address_problem,
        "host": host_problem,
        "labelKey": label_key_problem,
        "labelName": label_name_problem,
        "proxyUrl": proxy_url_problem,
        "serverPath": server_path_problem,
    }
    return Schema(load("settings")["schema"], checks=checks, rules=SETTINGS_RULES)
