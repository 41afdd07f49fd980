"""Reads from a receiver's answer to remote write which samples it took. Pure.

Rules:

* 2.0 answers, good or bad, carry how much was written (remote write 2.0, "Required Written Response
  Headers"). They are exact and come before any text.
* 1.0 has texts alone. What counts is whether the good rest of the request was stored:
  Prometheus rolls all of it back at the first bad sample and names no series
  (``storage/remote/write_handler.go``); Mimir, Cortex and Thanos store the rest and name the first
  fault only; others may do either.
* A reason is one of a few words, whatever the text: it becomes the value of a label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from relay.codec.remote_write.v1 import WriteProtocol

RefusalReason = Literal[
    "out_of_order",
    "duplicate",
    "too_old",
    "too_far_in_future",
    "labels_invalid",
    "series_limit",
    "rate_limit",
    "other",
]

Rest = Literal["stored", "rolled_back", "too_large", "unreadable", "unknown"]
"""Fate of the request's good samples; with ``too_large`` and ``unreadable`` none was looked at."""

TEXT_BYTES_MAX = 4096
"""Bytes of an answer's body that are read."""

_COUNT_DIGITS_MAX = 18  # an int64
_CONFLICT = 409  # Thanos' receiver, for samples out of order

_TEXTS: Final[tuple[tuple[RefusalReason, str], ...]] = (
    ("rate_limit", r"rate[- ]limit|max-request-rate|max-ingestion-rate|ingestion rate"),
    ("series_limit", r"max-series-per|per-(?:user|metric) series limit|max series"),
    ("too_far_in_future", r"too[- ]far[- ]in[- ](?:the[- ])?future"),
    ("duplicate", r"duplicate[- ](?:sample|timestamp)|duplicate-timestamp"),
    # Mimir's text for too old ones within a window speaks of the order, too.
    ("too_old", r"too[- ]old|out of bounds"),
    ("out_of_order", r"out[- ]of[- ]order"),
    ("labels_invalid", r"label|metric name|series-invalid"),
)
_REASONS = tuple((reason, re.compile(pattern)) for reason, pattern in _TEXTS)
_STORES_REST = re.compile(
    r"err-mimir-|\buser=[^ :]*:|per-(?:user|metric) series limit|\(sampled 1/"
)
_ROLLS_BACK = re.compile(
    r"\s*(?:out of order sample|out of bounds|duplicate sample for timestamp|too old sample)\b"
)
# Prometheus 3.16 and VictoriaMetrics 1.153 answer 400, not 413, to more than 32 MiB.
_TOO_LARGE = re.compile(r"decoded size exceeds|too big data size|message size\b.* larger than")
_UNREADABLE = re.compile(
    r"cannot read prometheus remote_write data|corrupt input|unmarshal|\bproto: "
    r"|unsupported path requested"  # VictoriaMetrics 1.153, for 404
)


class Written(NamedTuple):
    """Counts of what a receiver of 2.0 has written."""

    samples: int
    histograms: int
    exemplars: int

    @property
    def points(self) -> int:
        """Return samples and histograms, which a ledger counts."""
        return self.samples + self.histograms


class Refusal(NamedTuple):
    """The reason of a refusal, and the fate of the rest."""

    reason: RefusalReason
    rest: Rest


def parse_written(headers: Mapping[str, str]) -> Written | None:
    """Return the counts of an answer; None where all are absent or one is no count.

    Names of ``headers`` are in lower case. One that is absent is 0, as for Prometheus as a sender
    (``storage/remote/stats.go``).
    """
    texts = [
        headers.get(f"x-prometheus-remote-write-{what}-written", "").strip()
        for what in ("samples", "histograms", "exemplars")
    ]
    if not any(texts):
        return None
    for text in texts:
        if text and not (text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS_MAX):
            return None
    return Written(*(int(text or "0") for text in texts))


def parse_refusal(status: int, body: bytes, protocol: WriteProtocol) -> Refusal:
    """Read the text of a 4xx. For 2.0 ask :func:`parse_written` first. Never raises."""
    text = body[:TEXT_BYTES_MAX].decode(errors="replace").lower()
    # A series is named with its labels, whose text is anybody's: only what is before counts.
    told = text.partition("{")[0]
    reason: RefusalReason = next(
        (reason for reason, pattern in _REASONS if pattern.search(told)), "other"
    )
    if status == _CONFLICT or _STORES_REST.search(text):
        return Refusal("out_of_order" if reason == "other" else reason, "stored")
    if _TOO_LARGE.search(told):
        return Refusal("other", "too_large")
    if _UNREADABLE.search(told):
        return Refusal("other", "unreadable")
    if protocol == "remote_write_v1" and _ROLLS_BACK.match(told):
        return Refusal(reason, "rolled_back")
    return Refusal(reason, "unknown")
