"""Implement ``relay check``: report every fault and warning in settings and manifests at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.inventory_manifests import load_inventory
from relay.config.settings.lint import notices
from relay.config.settings.settings import ExporterPath, read_settings
from relay.config.yaml.document import read_documents
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.excerpt import printable


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
    for manifests that are named directly.
    """
    lines: list[str] = []
    faults: list[Fault] = []
    manifests: list[ExporterPath] = []
    for path in paths:
        if path.is_file() and _is_settings(path):
            _check_settings(path, lines, faults, need_secrets=need_secrets)
        else:
            manifests.append(ExporterPath(path))
    if manifests:
        loaded = load_exporters(manifests, secrets_root=secrets, need_secrets=need_secrets)
        _report(loaded, lines, faults)
    lines.append(_summary(lines, faults))
    # Settings make paths absolute; show them relative to the current directory.
    here = f"{Path.cwd()}{os.sep}"
    return CheckResult(tuple(printable(line.replace(here, "")) for line in lines), tuple(faults))


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
    loaded = load_exporters(
        settings.exporters,
        secrets_root=settings.secrets,
        tenancy=settings.tenancy is not None,
        need_secrets=need_secrets,
    )
    _report(loaded, lines, faults)
    if settings.inventory.manifests:
        inventory = load_inventory(settings.inventory.manifests)
        lines.append(f"good     {path}: inventory of {len(inventory.objects)} objects")
        lines += [f"fault    {fault}" for fault in inventory.faults]
        faults += inventory.faults


def _report(loaded: LoadResult, lines: list[str], faults: list[Fault]) -> None:
    for exporter in loaded.exporters:
        sources = counted(len(exporter.sources), "source")
        counts = f"{sources}, {counted(len(exporter.sinks), 'sink')}"
        lines.append(f"good     {exporter.origin}: exporter {exporter.id} ({counts})")
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
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
