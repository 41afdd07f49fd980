"""Which series belong to histograms and summaries, told slowly from whole recordings.

For tests whose oracle derives number points: what is assembled is taken out on both sides there,
and checked for itself in ``test_real_histograms``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

HISTOGRAM, SUMMARY = 3, 5
_NUMBERS = ("gauge", "sum")


def assembled_names(requests: Iterable[Any]) -> set[str]:
    """Names of all series of histograms and summaries in ``prompb.RawWriteRequest`` messages.

    A histogram is told by its metadata or by a ``_bucket`` with a bound, a summary by its metadata.
    """
    families = set()
    summaries = set()
    for request in requests:
        for item in request.metadata:
            if item.type == SUMMARY:
                summaries.add(item.metric_family_name.decode())
        for series in request.timeseries:
            labels = {label.name.decode(): label.value for label in series.labels}
            name = labels["__name__"].decode()
            if name.endswith("_bucket") and ("le" in labels or "vmrange" in labels):
                families.add(name.removesuffix("_bucket"))
    members = {f"{family}_{part}" for family in families for part in ("bucket", "count", "sum")}
    members |= {f"{family}{part}" for family in summaries for part in ("", "_count", "_sum")}
    return members


def numbers_only(message: Any) -> Any:
    """A copy of an ExportMetricsServiceRequest without histograms and summaries; None if empty."""
    copy = ExportMetricsServiceRequest()
    copy.CopyFrom(message)
    for resource in copy.resource_metrics:
        for scope in resource.scope_metrics:
            kept = [metric for metric in scope.metrics if metric.WhichOneof("data") in _NUMBERS]
            del scope.metrics[:]
            scope.metrics.extend(kept)
        scopes = [scope for scope in resource.scope_metrics if scope.metrics]
        del resource.scope_metrics[:]
        resource.scope_metrics.extend(scopes)
    resources = [resource for resource in copy.resource_metrics if resource.scope_metrics]
    del copy.resource_metrics[:]
    copy.resource_metrics.extend(resources)
    return copy if resources else None
