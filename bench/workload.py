"""The table of workloads: what is sent, and how many points have to come out of a peer.

A workload is a row here and, for each peer that can do it, an entry of the same name under
``workloads`` in the peer's file (:mod:`bench.peer`). Nothing else knows a workload's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.dataset import Encoding, Shape


@dataclass(frozen=True, slots=True)
class Workload:
    """``selects``: which samples a peer passes on; ``copies``: how often it delivers each."""

    name: str
    title: str
    selects: Literal["all", "wanted"] = "all"
    copies: int = 1
    encoding: Encoding = "snappy"

    def shape(self, start_ms: int, rounds: int) -> Shape:
        """The data set that this workload sends."""
        return Shape(start_ms=start_ms, rounds=rounds, encoding=self.encoding)

    def points(self, samples: int, wanted: int) -> int:
        """How many points the sink must get for accepted samples, ``wanted`` of them selected."""
        return self.copies * (samples if self.selects == "all" else wanted)


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("export", "everything to one sink, batches of 10,000"),
        Workload("filter", "the proposal's own selector, 4 % pass", selects="wanted"),
    )
}
