"""Find the one exporter that a command is about: in files, or behind a Kubernetes API."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec

from relay.cli.live.kubernetes import fetch_exporter
from relay.cli.live.kubernetes_arguments import access_of
from relay.cli.usage import UsageError
from relay.config.exporter import build
from relay.config.exporter.loading.resource_reader import EXPORTER_KINDS
from relay.config.exporter.types import Exporter, id_of
from relay.config.yaml.document import Document, parse_documents, read_documents
from relay.config.yaml.file_watcher import manifest_files
from relay.control.preview.manifest import read_document
from relay.runtime.errors import ConfigError, Fault

_SHOWN_MAX = 10


def document_in_files(path: Path, name: str) -> Document:
    """Return the only Exporter or ExportPolicy of a file or directory, or the one of that id.

    An id is ``[namespace/][ExportPolicy/]name``. Raises ConfigError.
    """
    found = list(_documents(path))
    named = [one for one in found if not name or name in _names(one)]
    if len(named) == 1:
        return named[0]
    ids = sorted(_names(one)[0] for one in (named or found))
    shown = ", ".join(ids[:_SHOWN_MAX]) or "none"
    if name:
        said = f"{path} has {len(named) or 'no'} {'of these' if named else name}; there are {shown}"
    else:
        said = f"name one of those in {path}: {shown}"
    raise ConfigError([Fault("--exporter", said)])


def document_on_kubernetes(arguments: argparse.Namespace) -> Document:
    """Return the object that ``--exporter`` names, of a Kubernetes API. Raises ConfigError."""
    if not arguments.exporter:
        raise UsageError("--exporter", "is required with --kubernetes")
    access = access_of(arguments)
    text = msgspec.json.encode(fetch_exporter(access, arguments.exporter)).decode()
    (document,) = parse_documents(text, f"{access.server} {arguments.exporter}")
    return document


def as_manifest(document: Document, project: str) -> bytes:
    """Return a document as JSON, checked but for its sinks. Raises ConfigError with every fault."""
    read_document(document, project, need_sinks=False)
    return msgspec.json.encode(document.value)


def as_exporter(document: Document, project: str) -> Exporter:
    """Return the exporter of a document. Raises ConfigError with every fault."""
    return read_document(document, project, need_sinks=True)


def _documents(path: Path) -> Iterator[Document]:
    """Yield the documents that are an Exporter or ExportPolicy, or cannot be read as anything."""
    faults: list[Fault] = []
    files = [path] if path.is_file() else list(manifest_files(path, faults.append))
    if faults or not files:
        raise ConfigError(faults or [Fault("", "holds no manifest", str(path))])
    for file in files:
        for document in read_documents(file):
            value = document.value
            if isinstance(value, dict) and value.get("kind") in EXPORTER_KINDS:
                yield document


def _names(document: Document) -> tuple[str, ...]:
    """Return the ids by which a document may be named, the full one first."""
    value = document.value
    metadata = value.get("metadata") if isinstance(value, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = str(metadata.get("name", "")), str(metadata.get("namespace") or "default")
    kind = str(value.get("kind")) if isinstance(value, dict) else build.KIND
    full = id_of(kind, "", namespace, name)
    return full, id_of(kind, "", "", name)
