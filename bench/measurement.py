"""The figures of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Shares are of the whole machine's CPU time while requests were sent."""

    workload: str
    peer: str
    pair: int
    beside: str = ""
    """Workload that this run of export is compared with; "" for other runs."""
    load: float = 0.0
    """Share of the peer's maximum that was sent; 0 if unlimited."""
    void: str = ""
    """Reason for which the run is void; "" if it is valid."""
    samples: int = 0
    points: int = 0
    verified_points: int = 0
    """Points decoded and compared with what was sent, warm-up included."""
    samples_per_cpu_s: float = 0.0
    samples_per_s: float = 0.0
    accepted_per_s: float = 0.0
    cpu_s: float = 0.0
    sending_s: float = 0.0
    drain_s: float = 0.0
    rss_peak_bytes: int = 0
    latency_p50_s: float = 0.0
    latency_p99_s: float = 0.0
    latency_max_s: float = 0.0
    lag_p99_s: float = -1.0
    """Lag of the peer's event loop by its own metrics, in s; -1 if unknown."""
    lag_max_s: float = -1.0
    scrapes: int = 0
    reloads: int = 0
    previews: int = 0
    page_bytes: int = 0
    """Bytes sent to an open page."""
    retries: int = 0
    sink_requests: int = 0
    sink_compressed_bytes: int = 0
    generator_cpu_s: float = 0.0
    sink_cpu_s: float = 0.0
    idle_share: float = 0.0
    foreign_share: float = 0.0
    """CPU share of other processes, stolen time included: noise."""
    stolen_share: float = 0.0
    """CPU share that the host gave to other machines."""
    cycled: bool = False
    exhausted: bool = False
    """The data set was sent in full before the time was over."""


def sum_of(parts: Sequence[Measurement]) -> Measurement:
    """Combine runs that were made at the same time; void if one of them is.

    Durations are those of the slowest run, ``latency_p50_s`` is the mean.
    """
    first, *others = parts
    void = next((one.void for one in parts if one.void), "")
    if void:
        return replace(first, void=void)
    samples = sum(one.samples for one in parts)
    cpu_s = sum(one.cpu_s for one in parts)
    idle = fmean(one.idle_share for one in parts)
    # Each run counts the others as foreign.
    foreign = sum(one.foreign_share for one in parts) - len(others) * (1 - idle)
    return replace(
        first,
        samples=samples,
        points=sum(one.points for one in parts),
        verified_points=sum(one.verified_points for one in parts),
        samples_per_cpu_s=samples / cpu_s,
        samples_per_s=sum(one.samples_per_s for one in parts),
        accepted_per_s=sum(one.accepted_per_s for one in parts),
        cpu_s=cpu_s,
        sending_s=max(one.sending_s for one in parts),
        drain_s=max(one.drain_s for one in parts),
        rss_peak_bytes=sum(one.rss_peak_bytes for one in parts),
        latency_p50_s=fmean(one.latency_p50_s for one in parts),
        latency_p99_s=max(one.latency_p99_s for one in parts),
        latency_max_s=max(one.latency_max_s for one in parts),
        retries=sum(one.retries for one in parts),
        sink_requests=sum(one.sink_requests for one in parts),
        sink_compressed_bytes=sum(one.sink_compressed_bytes for one in parts),
        generator_cpu_s=sum(one.generator_cpu_s for one in parts),
        sink_cpu_s=sum(one.sink_cpu_s for one in parts),
        idle_share=idle,
        foreign_share=max(0.0, foreign),
        cycled=any(one.cycled for one in parts),
        exhausted=any(one.exhausted for one in parts),
    )
