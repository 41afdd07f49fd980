"""Labels of a data set's series, and the exporters that select them.

A *target* has :data:`SERIES_PER_TARGET` consecutive series, which share all labels but the metric's
name, the marker and the code. Everything is derived from a series' number, which has no upper
bound.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

LabelSet = Literal["platform", "small", "large", "exposed"]
"""``platform``: 13 labels of 440 bytes. ``small``: 3 labels of 60 bytes. ``large``: the platform's
and 27 more, 40 labels of 2 KB. Sizes are as encoded. ``exposed``: see :mod:`bench.scrape`."""

MARKER = "bench_series"
PROJECT_LABEL = "resourcemanager_datumapis_com_project_name"

METRICS = (
    *(f"network_bytes_{what}_total" for what in ("sent", "received", "retransmitted", "dropped")),
    *(f"network_bytes_{what}" for what in ("in_flight", "buffered", "window", "limit")),
    *(f"http_requests_{what}_total" for what in ("started", "finished", "failed", "retried")),
    *(f"process_{what}" for what in ("open_fds", "threads", "resident_memory_bytes", "uptime")),
    *(f"queue_{what}" for what in ("depth", "capacity", "oldest_entry_seconds", "workers")),
)
"""Metrics of every target: five groups of four; two groups are the proposal's
``network_bytes_.*``."""

CODES = ("1xx", "2xx", "3xx", "4xx", "5xx")
SERIES_PER_TARGET = len(METRICS) * len(CODES)

EXPORTERS_PER_PROJECT = 5
"""With tenants, each group of four metrics belongs to another exporter."""

_GROUP = len(METRICS) // EXPORTERS_PER_PROJECT
_CUSTOMERS = 137

_KINDS = (
    ("Gateway", "networking.datumapis.com"),
    ("HTTPRoute", "networking.datumapis.com"),
    ("Network", "networking.datumapis.com"),
    ("Subnet", "networking.datumapis.com"),
    ("Workload", "compute.datumapis.com"),
    ("Instance", "compute.datumapis.com"),
    ("Zone", "dns.datumapis.com"),
    ("Domain", "dns.datumapis.com"),
)


def labels_of(
    series: int, label_set: LabelSet = "platform", projects: int | None = None
) -> dict[str, str]:
    """Return the labels of a series, sorted by name as Prometheus sends them.

    ``projects``: that many customers, each with the series of some metrics of a target; None: a
    target belongs to one customer.
    """
    target, index = divmod(series, SERIES_PER_TARGET)
    metric, code = divmod(index, len(CODES))
    own = {"__name__": METRICS[metric], MARKER: f"{series:08d}"}
    if label_set == "small":
        return own | {"code": CODES[code]}
    shared = _labels_of_target(target, label_set)
    # Both parts are sorted, and "__name__" and the marker sort before a target's labels.
    labels = own | shared
    labels["code"] = CODES[code]
    if projects is not None:
        project = _project_name(_tenant(target, metric, projects))
        labels["namespace"] = labels[PROJECT_LABEL] = project
    return labels


def histogram_labels_of(histogram: int, label_set: LabelSet = "platform") -> dict[str, str]:
    """Return the labels that all series of a histogram share, without the metric's name."""
    if label_set == "small":
        return {MARKER: f"{histogram:08d}"}
    labels = {MARKER: f"{histogram:08d}", **_labels_of_target(histogram // 7, label_set)}
    labels["code"] = CODES[histogram % len(CODES)]
    return labels


def is_wanted(series: int) -> bool:
    """Return whether the proposal's own selector selects this series; about 4 % are."""
    target, index = divmod(series, SERIES_PER_TARGET)
    metric = METRICS[index // len(CODES)]
    return is_wanted_target(target) and metric.startswith("network_bytes_")


def is_wanted_target(target: int) -> bool:
    """Return whether a target is one of those of the proposal's own selector."""
    return _kind(target) == ("Gateway", "networking.datumapis.com")


def exporter_of(series: int, projects: int) -> str:
    """Return the exporter of a series, with tenants: its project's number, and its own."""
    target, index = divmod(series, SERIES_PER_TARGET)
    metric = index // len(CODES)
    return f"{_tenant(target, metric, projects):04d}-{metric // _GROUP}"


def _tenant(target: int, metric: int, projects: int) -> int:
    """Return the tenant: a target serves four customers, each with one metric of each group."""
    return (target * _GROUP + metric % _GROUP) % projects


def _project_name(number: int) -> str:
    return f"customer-{number:04d}-prod"


def _kind(target: int) -> tuple[str, str]:
    # Every tenth target is a Gateway: 8 of 20 metrics of a tenth of the series are 4 %.
    return _KINDS[0 if target % 10 == 0 else 1 + target % (len(_KINDS) - 1)]


def target_labels_of(target: int, label_set: LabelSet) -> dict[str, str]:
    """Return the labels that all series of a target share, sorted."""
    return {k: v for k, v in _labels_of_target(target, label_set).items() if k != "code"}


@lru_cache(maxsize=1024)
def _labels_of_target(target: int, label_set: LabelSet) -> dict[str, str]:
    """Return the labels that all series of a target share, sorted; ``code`` is empty."""
    kind, service = _kind(target)
    project = _project_name(target % _CUSTOMERS)
    labels = {
        "cluster": f"edge-europe-west4-{target % 11:02d}",
        "code": "",
        "container": "dataplane",
        "instance": f"10.{target // 65536}.{target // 256 % 256}.{target % 256}:9443",
        "job": "networking/edge-dataplane",
        "namespace": project,
        "pod": f"edge-dataplane-6c9f7d5b8-{target:05d}",
        "resource_kind": kind,
        "resource_name": f"{kind.lower()}-{target:05d}-primary",
        PROJECT_LABEL: project,
        "service_name": service,
    }
    if label_set == "large":
        for number in range(27):
            place = f"rack-{target % 997:03d}-slot-{number:04d}-of-row-{number * 37 % 997:04d}"
            labels[f"label_topology_part_{number:02d}"] = place
    return dict(sorted(labels.items()))
