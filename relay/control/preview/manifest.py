"""Read the one Exporter or ExportPolicy of a text that is not saved yet."""

from __future__ import annotations

from typing import Final

from relay.config.exporter.loading.resource_reader import EXPORTER_KINDS, build_of_kind
from relay.config.exporter.types import Exporter
from relay.config.yaml.document import Document, parse_documents
from relay.config.yaml.report import Report
from relay.runtime.errors import ConfigError, Fault

_SINKS: Final = ("spec", "sinks")


def read_manifest(text: str, project: str, *, origin: str, need_sinks: bool) -> Exporter:
    """Return the Exporter or ExportPolicy that stands alone in a text of YAML or JSON.

    Without ``need_sinks`` faults of its sinks do not count. Raises ConfigError with every fault.
    """
    documents = parse_documents(text, origin)
    if len(documents) != 1:
        raise ConfigError([Fault("", f"must be one manifest, not {len(documents)}", origin)])
    return read_document(documents[0], project, need_sinks=need_sinks)


def read_document(document: Document, project: str, *, need_sinks: bool) -> Exporter:
    """Return the Exporter or ExportPolicy of a document; raises ConfigError with every fault."""
    value, report = document.value, Report(document)
    for where, message in document.faults:
        report.fault(where, message, on_key=True)
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in EXPORTER_KINDS:
        if not report.faulty:
            report.fault((), f"must be of kind {' or '.join(EXPORTER_KINDS)}")
        raise ConfigError(report.faults)
    exporter, _ = build_of_kind(kind, report, value, project)
    faults = [
        fault for where, fault in report.located_faults() if need_sinks or where[:2] != _SINKS
    ]
    if faults or (report.overflowed and report.faulty):
        raise ConfigError(faults or report.faults)
    return exporter
