"""The figures of one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Shares are of the whole machine's CPU time while requests were sent."""

    workload: str
    peer: str
    pair: int
    beside: str = ""
    """The workload that this run of export was made to be compared with; "" for the others."""
    load: float = 0.0
    """The share of the peer's maximum that was sent; 0 where nothing was held back."""
    void: str = ""
    """Why the run counts for nothing; "" where it counts."""
    samples: int = 0
    points: int = 0
    verified_points: int = 0
    """Decoded one by one and compared with what was sent, warm-up included."""
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
    """How late the peer's event loop was, by its own metrics; -1 where nobody looked, or it does
    not tell."""
    lag_max_s: float = -1.0
    scrapes: int = 0
    reloads: int = 0
    retries: int = 0
    sink_requests: int = 0
    sink_compressed_bytes: int = 0
    generator_cpu_s: float = 0.0
    sink_cpu_s: float = 0.0
    idle_share: float = 0.0
    foreign_share: float = 0.0
    """CPU that neither the peer nor the harness used, stolen time included: noise."""
    stolen_share: float = 0.0
    """The part of that which the machine never had, because its host gave it to others."""
    cycled: bool = False
    exhausted: bool = False
    """The data set was sent in full before the time was over."""
