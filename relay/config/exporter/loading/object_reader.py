"""Reads objects that have no text, such as those of the Kubernetes API."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from relay.config.exporter.load_result import ObjectKey
from relay.config.exporter.loading.resource import ManifestResource
from relay.config.exporter.loading.resource_reader import read_resource
from relay.config.yaml.document import Document
from relay.config.yaml.report import Report
from relay.runtime.errors import Fault

_log = logging.getLogger("relay.control.reconcile")


@dataclass(frozen=True, slots=True)
class ObjectIdentity:
    """Name of an object and its place: ``origin`` is that of its faults, such as ``kubernetes``.

    ``project`` is given by the operator, never by the object. ``key`` is None for a Secret.
    ``control_plane`` tells apart those whose origin is shown alike; "": it is the origin.
    """

    kind: str
    namespace: str
    name: str
    project: str
    origin: str
    key: ObjectKey | None = None
    uid: str = ""
    generation: int = 0
    control_plane: str = ""


def refused_object(identity: ObjectIdentity, fault: Fault) -> ManifestResource:
    """Return an object that cannot run, whatever it says: nothing of it is read."""
    resource = ManifestResource(Report(Document.of_value({}, identity.origin)))
    resource.key, resource.uid = identity.key, identity.uid
    resource.generation = identity.generation
    resource.identity = (identity.kind, identity.project, identity.namespace, identity.name)
    resource.faults = (fault,)
    return resource


def read_object_value(value: object, identity: ObjectIdentity) -> ManifestResource:
    """Read an Exporter, ExportPolicy or Secret; its faults are in the resource.

    A bug met in it is a fault of this object, and costs no other one anything.
    """
    document = Document.of_value(value, identity.origin)
    resource = ManifestResource(Report(document), project=identity.project)
    resource.key, resource.uid = identity.key, identity.uid
    resource.generation = identity.generation
    resource.report.subject = f"{identity.kind} {identity.namespace}/{identity.name}"
    try:
        read_resource(resource, identity.kind, value)
        resource.settle()
        if resource.exporter is not None and identity.key is not None:
            plane = identity.control_plane or identity.origin
            resource.exporter = replace(resource.exporter, control_plane=plane)
    except Exception:
        origin = resource.report.origin()
        _log.exception("bug in the relay: an object cannot be read", extra={"object": origin})
        resource.exporter = resource.draft = resource.data = None
        resource.faults = (Fault("", "cannot be read: a bug in the relay, see its log", origin),)
    document.let_go(())
    return resource
