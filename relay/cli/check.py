"""Implement ``relay check``: report every fault and warning in settings and manifests at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from relay.config.export_policy.notices import notices as policy_notices
from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter
from relay.config.inventory_manifests import load_inventory
from relay.config.settings.api import ApiSettings
from relay.config.settings.lint import notices
from relay.config.settings.settings import ExporterPath, read_settings
from relay.config.yaml.document import read_documents
from relay.config.yaml.file_watcher import manifest_files
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.excerpt import printable
from relay.selector.resources.kind_table import kinds_without_row
from relay.selector.resources.label_selector import ResourceSelection

NO_MANIFEST: Final = "holds no manifest: no *.yaml or *.yml in it or below"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``lines`` for people; ``faults`` fail the check."""

    lines: tuple[str, ...]
    faults: tuple[Fault, ...]


def check(
    paths: Sequence[Path], *, secrets: Path | None = None, need_secrets: bool = True
) -> CheckResult:
    """Check settings files, manifests and directories of manifests.

    A settings file is checked together with its exporters, secrets and inventory. ``secrets`` is
    for manifests that are named directly. A directory without manifests is a fault where it is
    named directly, because a check of nothing must not pass, and a warning where settings name it,
    because a platform without customers is in order.
    """
    lines: list[str] = []
    faults: list[Fault] = []
    manifests: list[ExporterPath] = []
    for path in paths:
        if path.is_file() and _is_settings(path):
            _check_settings(path, lines, faults, need_secrets=need_secrets)
        else:
            manifests.append(ExporterPath(path))
    empty = [Fault("", NO_MANIFEST, str(one.path)) for one in manifests if _is_empty(one.path)]
    lines += [f"fault    {fault}" for fault in empty]
    faults += empty
    if manifests:
        loaded = load_exporters(manifests, secrets_root=secrets, need_secrets=need_secrets)
        _report(loaded, lines, faults)
    lines.append(_summary(lines, faults))
    # Settings make paths absolute; show them relative to the current directory.
    here = f"{Path.cwd()}{os.sep}"
    return CheckResult(tuple(printable(line.replace(here, "")) for line in lines), tuple(faults))


def check_objects(exporters: Sequence[Exporter], found: Sequence[Fault]) -> CheckResult:
    """Report objects that were read elsewhere, without their secrets."""
    lines: list[str] = []
    faults: list[Fault] = []
    loaded = LoadResult(
        tuple(exporters),
        tuple(found),
        SecretStore(),
        warnings=tuple(one for exporter in exporters for one in exporter.warnings),
    )
    _report(loaded, lines, faults)
    lines.append(_summary(lines, faults))
    return CheckResult(tuple(map(printable, lines)), tuple(faults))


def _check_settings(
    path: Path, lines: list[str], faults: list[Fault], *, need_secrets: bool
) -> None:
    try:
        settings, found = read_settings(path, {})
    except ConfigError as error:
        faults += error.faults
        lines += [f"fault    {fault}" for fault in error.faults]
        return
    faults += found
    lines += [f"fault    {fault}" for fault in found]
    if found and settings.tenancy is None and any(one.project for one in settings.exporters):
        lines.append(f"warning  {path}: no Exporter was checked: mend tenancy first")
        return
    if not found:
        lines.append(f"good     {path}: settings")
        lines += [f"warning  {path}: {notice}" for notice in notices(settings, os.environ)]
    if settings.api is not None:
        _check_api(path, settings.api, lines, faults, tenancy=settings.tenancy is not None)
    loaded = load_exporters(
        settings.exporters,
        secrets_root=settings.secrets,
        tenancy=settings.tenancy is not None,
        need_secrets=need_secrets,
        limits=settings.limits,
    )
    missing = _missing_paths(path)
    others = tuple(one for one in loaded.faults if one.origin not in missing)
    _report(replace(loaded, faults=others), lines, faults)
    lines += [
        f"warning  {exporter.origin}: source {name}: {warning}"
        for exporter in loaded.exporters
        for name, selection in _resource_selections(exporter)
        for warning in kinds_without_row(settings.resources.kinds, selection.selectors)
    ]
    lines += [f"fault    {fault}" for fault in missing.values()]
    faults += missing.values()
    lines += [
        f"warning  {path}: exporters: {one.path}: {NO_MANIFEST}"
        for one in settings.exporters
        if _is_empty(one.path)
    ]
    if settings.inventory.manifests:
        inventory = load_inventory(settings.inventory.manifests)
        lines.append(f"good     {path}: inventory of {len(inventory.objects)} objects")
        lines += [f"fault    {fault}" for fault in inventory.faults]
        faults += inventory.faults


def _check_api(
    path: Path, api: ApiSettings, lines: list[str], faults: list[Fault], *, tenancy: bool
) -> None:
    from relay.apiserver.check_files import check_files  # noqa: PLC0415 - a second of imports

    found = check_files(api, tenancy=tenancy)
    if found.tokens is not None:
        lines.append(f"good     {path}: {counted(found.tokens, 'token')} of the API")
        if not found.tokens:
            lines.append(f"warning  {path}: api.authentication.file: no token, so no user")
    lines += [f"warning  {notice}" for notice in found.notices]
    lines += [f"fault    {fault}" for fault in found.faults]
    faults += found.faults


def _resource_selections(exporter: Exporter) -> Iterator[tuple[str, ResourceSelection]]:
    """Yield the sources of any signal that select by resources."""
    for source in exporter.sources:
        if isinstance(source.selector, ResourceSelection):
            yield source.name, source.selector
    for one in exporter.record_sources:
        if one.selection.resources is not None:
            yield one.name, one.selection.resources


def _is_empty(path: Path) -> bool:
    """Return whether a path is a directory without a manifest; False if it cannot be listed."""
    faults: list[Fault] = []
    return path.is_dir() and not manifest_files(path, faults.append) and not faults


def _missing_paths(file: Path) -> dict[str, Fault]:
    """Return a fault, with its place in the settings, for each of their paths that is missing."""
    (document,) = read_documents(file)
    values = document.value
    entries = values.get("exporters") if isinstance(values, dict) else None
    found: dict[str, Fault] = {}
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        written = entry.get("path") if isinstance(entry, dict) else None
        path = file.parent.absolute() / written if isinstance(written, str) else None
        if path is not None and not os.path.lexists(path):
            message = f"no such file or directory: {path}"
            found[str(path)] = document.fault(("exporters", index, "path"), message)
    return found


def _report(loaded: LoadResult, lines: list[str], faults: list[Fault]) -> None:
    for exporter in loaded.exporters:
        if not exporter.sinks:
            continue  # all are refused, with a fault each
        number = len(exporter.sources) + len(exporter.record_sources)
        sources, sinks = counted(number, "source"), len(exporter.sinks)
        counts = f"{sources}, {counted(sinks, 'sink')}"
        if exporter.refused:
            counts = f"{sources}, {sinks} of {counted(sinks + len(exporter.refused), 'sink')}"
        kind = "exporter" if exporter.kind == "Exporter" else "policy"
        lines.append(f"good     {exporter.origin}: {kind} {exporter.id} ({counts})")
    lines += [f"warning  {notice}" for notice in policy_notices(loaded.exporters)]
    # Faults of the operator's paths have no file and come first; the rest is sorted by file.
    files = {fault.file: None for fault in (*loaded.faults, *loaded.warnings)}
    order = {file: number for number, file in enumerate(sorted(files))}
    findings = [
        *(("fault   ", fault) for fault in loaded.faults),
        *(("warning ", warning) for warning in loaded.warnings),
    ]
    findings.sort(key=lambda finding: (order[finding[1].file], finding[1].place))
    lines += [f"{word} {finding}" for word, finding in findings]
    faults += loaded.faults


def _is_settings(path: Path) -> bool:
    """Return whether a file holds settings: manifests have a kind or an apiVersion."""
    try:
        documents = read_documents(path)
    except ConfigError:
        return False  # loading it as manifests reports the same fault
    values = [document.value for document in documents if isinstance(document.value, dict)]
    return bool(values) and not any("kind" in value or "apiVersion" in value for value in values)


def _summary(lines: Sequence[str], faults: Sequence[Fault]) -> str:
    warnings = sum(line.startswith("warning ") for line in lines)
    if not lines and not faults:
        return "no faults, but neither settings nor an Exporter"
    if not faults and not warnings:
        return "all good"
    found = counted(len(faults), "fault") if faults else "no faults"
    return f"{found}, {counted(warnings, 'warning')}" if warnings else found


def counted(number: int, what: str) -> str:
    """Format ``1 fault``, ``2 faults``."""
    return f"{number} {what}" if number == 1 else f"{number:,} {what}s"
