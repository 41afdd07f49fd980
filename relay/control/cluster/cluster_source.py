"""Kubernetes as a source of resources: what all control planes have, read object by object."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.exporter.load_result import ObjectKey
from relay.control.cluster.control_plane import ControlPlane
from relay.control.cluster.plane_set import PlaneSet
from relay.control.cluster.resources import EXPORTING
from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.objects import ApiObject, ApiResource


@dataclass(frozen=True, slots=True)
class StatusTarget:
    """Place of the status of an object; ``object`` is as last seen, with its status."""

    client: ApiClient
    resource: ApiResource
    object: ApiObject


class ClusterSource:
    """The objects of all control planes. Lives on the event loop."""

    def __init__(self, planes: PlaneSet) -> None:
        self._set = planes

    @property
    def planes(self) -> tuple[ControlPlane, ...]:
        """The control planes, by name; each has its ``client``, for Leases among other things."""
        return self._set.planes

    def target(self, key: ObjectKey, uid: str = "") -> StatusTarget | None:
        """Return the place of the status of an object; None if it is not there (any more).

        ``uid`` tells two policies of one name in different API groups apart.
        """
        plane = self._set.plane(key.plane)
        if plane is None or key.source != "kubernetes":
            return None
        for resource in EXPORTING:
            found = plane.latest(resource, (key.namespace, key.name))
            if found is not None and resource.kind == key.kind and uid in ("", found.uid):
                return StatusTarget(plane.client, resource, found)
        return None

    def __repr__(self) -> str:
        return f"<ClusterSource {self._set!r}>"
