"""Decodes requests of OTLP metrics into the batches of their streams' sinks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.codec.otlp.any_value import resource_attributes
from relay.codec.otlp.metrics_in.scan import MetricsEnvelope, scan_metrics
from relay.codec.remote_write.v1 import ELEMENTS_MAX, Metadata, Pause, WriteProtocol
from relay.codec.signal_names import RECORD_TOO_LARGE
from relay.pipeline.batching.transaction import EXAMPLES_MAX, BatchTransaction
from relay.pipeline.metrics.otlp.streams import OtlpStreams
from relay.pipeline.metrics.otlp.take_points import take_points
from relay.pipeline.metrics.series.lookup import SeriesLookup
from relay.pipeline.routing.resource_tenants import NO_TENANT, ResourceTenants
from relay.runtime.errors import DecodeError

OTLP_METRICS: Final[WriteProtocol] = "otlp_metrics"
"""The name of the protocol."""


class OtlpMetrics:
    """``ExportMetricsServiceRequest``; implements what the pipeline needs of a decoder."""

    def __init__(self, streams: OtlpStreams, tenants: ResourceTenants) -> None:
        self.streams = streams
        self._tenants = tenants

    def decode(self, body: bytes, transaction: BatchTransaction, lookup: SeriesLookup) -> None:
        """Append every good point to the batches of its stream, count the others.

        Raises DecodeError, TooLargeError and OverloadedError; the caller then rolls back.
        """
        pause = transaction.pace.pause
        entries_max = ELEMENTS_MAX if transaction.bounded else len(body)
        envelope = scan_metrics(body, entries_max=entries_max, pause=pause)
        self.streams.begin(lookup.origin, bounded=transaction.bounded)
        if envelope.oversized:
            transaction.drop(
                RECORD_TOO_LARGE,
                envelope.oversized,
                "points of over 1 MiB, or below a head of over 64 KiB",
            )
        resources = envelope.resources
        resources.reverse()
        while resources:  # freed one by one: all at once would take too long
            head, scopes = resources.pop()
            pause()
            self._take_resource(envelope, head, scopes, transaction)

    def metadata(self, body: bytes, *, bounded: bool, pause: Pause) -> list[Metadata]:
        """Return nothing: metadata of OTLP is a part of each metric."""
        return []

    def target_info_keys(
        self, body: bytes, *, bytes_max: int, bounded: bool, pause: Pause
    ) -> Iterator[bytes]:
        """Yield nothing: resources describe themselves."""
        return iter(())

    def _take_resource(
        self,
        envelope: MetricsEnvelope,
        head: bytes,
        scopes: list[tuple[bytes, list[tuple[bytes, bytes, int, bytes, int, int]]]],
        transaction: BatchTransaction,
    ) -> None:
        streams, pause = self.streams, transaction.pace.pause
        reading = head
        try:
            resource = streams.resource(head)
            if resource.project is None:
                points = sum(stop - first for _, metrics in scopes for *_, first, stop in metrics)
                self._count_no_tenant(resource.head, points, transaction)
                return
            for scope_head, metrics in scopes:
                reading = scope_head
                scope = streams.known.scope(resource, scope_head)
                for key, metric_head, number, tail, first, stop in metrics:
                    pause()
                    reading = metric_head
                    metric = streams.metric(scope, key, metric_head, number, tail)
                    take_points(envelope, first, stop, metric, streams, transaction)
        except DecodeError as error:
            if error.offset >= 0:
                raise
            raise DecodeError(str(error), offset=max(0, envelope.body.find(reading))) from error

    def _count_no_tenant(self, head: bytes, count: int, transaction: BatchTransaction) -> None:
        if not self._tenants.tells_senders:
            transaction.sample_counts.append((self.streams.unmatched, count))
            return
        # The head has the account, too, which known attributes are without.
        fault = self._tenants.fault(resource_attributes(head), self.streams.origin)
        transaction.dropped[NO_TENANT] = transaction.dropped.get(NO_TENANT, 0) + count
        # Said once for all such resources, or they leave no room for what else was dropped.
        if len(transaction.examples) < EXAMPLES_MAX and fault not in transaction.examples:
            transaction.examples.append(fault)

    def __repr__(self) -> str:
        return f"<OtlpMetrics {self.streams!r}>"
