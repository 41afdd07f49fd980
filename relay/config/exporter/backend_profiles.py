"""Known properties of well-known OTLP endpoints, and warnings about their limits.

A *profile* fills in what an author leaves out (temporality, compression, size of requests) and says
which kinds of metric an endpoint does not take. What the author writes wins, with a warning where
the endpoint is known to refuse it. Sources: section D of our digest, with the vendors' pages named
there; a limit that no page states is left open.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from relay.codec.otlp.metrics import Kind, Temporality
from relay.codec.signal_names import SignalName
from relay.config.exporter.types import OtlpCompression, OtlpHttp
from relay.runtime.quantity import format_bytes

ProfileName = Literal[
    "generic",
    "grafana-cloud",
    "mimir",
    "prometheus",
    "victoriametrics",
    "datadog",
    "dynatrace",
    "newrelic",
]

PROTOCOL_REQUEST_BYTES_MAX = 64 << 20
"""Maximum size of a request unless a profile says otherwise (OTLP 1.11, "OTLP/HTTP Request")."""

PROFILE_NAMES: tuple[ProfileName, ...] = get_args(ProfileName)


class Profile(msgspec.Struct, frozen=True):
    """One kind of endpoint.

    ``request_bytes_max`` is before compression; None: not known. ``signal_bytes_max`` has that of
    logs and traces, where it is another one. ``unsupported`` are kinds of OTLP
    metric that it refuses or ignores. ``other_temporality`` describes what happens to data of the
    temporality that is not its own, "" if it takes both; ``summaries`` describes how it converts
    summaries. ``hosts`` are patterns of host names that only this kind of endpoint has, ``path`` is
    the end of its URL's path. ``keeps_target_labels``: it does not restore ``job`` and ``instance``
    from a resource, so they stay attributes of points, too.
    """

    temporality: Temporality = "cumulative"
    compression: OtlpCompression = "gzip"
    accepted_compressions: tuple[OtlpCompression, ...] = ("gzip", "none")
    request_bytes_max: int | None = None
    signal_bytes_max: tuple[tuple[SignalName, int], ...] = ()
    unsupported: frozenset[Kind] = frozenset()
    other_temporality: str = ""
    summaries: str = ""
    keeps_target_labels: bool = False
    hosts: tuple[str, ...] = ()
    path: str = ""


PROFILES: dict[ProfileName, Profile] = {
    "generic": Profile(accepted_compressions=("gzip", "zstd", "none")),
    "grafana-cloud": Profile(
        other_temporality="delta is refused unless Grafana Labs switched it on for your stack",
        hosts=("otlp-gateway-*.grafana.net",),
    ),
    "mimir": Profile(
        accepted_compressions=("gzip", "zstd", "none"),
        other_temporality="Mimir refuses delta unless -distributor.otel-native-delta-ingestion "
        "is on",
    ),
    "prometheus": Profile(
        # It reads no further, and a cut-off body is an error for all of it.
        request_bytes_max=32 << 20,
        other_temporality="Prometheus answers 500 to delta, and loses the whole request, unless "
        "the feature otlp-deltatocumulative or otlp-native-delta-ingestion is on",
    ),
    "victoriametrics": Profile(
        compression="zstd",
        accepted_compressions=("gzip", "zstd", "none"),
        request_bytes_max=64 << 20,
        other_temporality="VictoriaMetrics stores deltas as they are, so that rate() and "
        "increase() over them are wrong",
        keeps_target_labels=True,
        path="/opentelemetry/v1/metrics",
    ),
    "datadog": Profile(
        temporality="delta",
        request_bytes_max=500_000,
        # "Intake limits", before compression (docs.datadoghq.com/opentelemetry/setup/otlp_ingest).
        signal_bytes_max=(("logs", 5_300_000), ("traces", 15 << 20)),
        other_temporality="Datadog refuses cumulative sums and histograms",
        hosts=("otlp.*datadoghq.com", "otlp.*datadoghq.eu", "otlp.*ddog-gov.com"),
    ),
    "dynatrace": Profile(
        temporality="delta",
        request_bytes_max=4_000_000,
        # "Payload limit" (docs.dynatrace.com/docs/shortlink/api-access-limit) and, of traces, also
        # "Ingest OTLP traces". Another page has 10 MB for logs; the smaller one holds for both.
        signal_bytes_max=(("logs", 2_000_000), ("traces", 8_000_000)),
        unsupported=frozenset[Kind]({"summary"}),
        other_temporality="Dynatrace refuses cumulative counters and histograms",
        summaries="Dynatrace takes no summaries: they arrive as what they consist of, quantiles "
        "as gauges, _sum and _count as sums",
        hosts=("*.live.dynatrace.com",),
    ),
    "newrelic": Profile(
        temporality="delta",
        request_bytes_max=1_000_000,
        summaries="New Relic handles cumulative summaries poorly: their count and sum since the "
        "process started are shown as if they were of one interval",
        hosts=("otlp.nr-data.net", "otlp.*.nr-data.net"),
    ),
}


def profile_of_host(url: str) -> ProfileName | None:
    """Return the profile that an endpoint's host name tells, or None."""
    host = urlsplit(url).hostname or ""
    for name, profile in PROFILES.items():
        if any(fnmatchcase(host, pattern) for pattern in profile.hosts):
            return name
    return None


def _profile_of_path(url: str) -> ProfileName | None:
    """Return the profile that a URL's path tells, or None."""
    path = urlsplit(url).path
    for name, profile in PROFILES.items():
        if profile.path and path.endswith(profile.path):
            return name
    return None


def profile_warnings(
    otlp: OtlpHttp, name: ProfileName, *, sends_metrics: bool = True
) -> Iterator[tuple[str, str]]:
    """Yield (field, expected loss or refusal and its remedy) for a sink.

    What is expected of metrics is left out unless it ``sends_metrics``.
    """
    guessed = profile_of_host(otlp.url)
    if (
        guessed is not None
        and guessed != name
        and _is_refused(otlp, PROFILES[guessed], sends_metrics=sends_metrics)
    ):
        yield "endpoint", f"belongs to {guessed}, which will refuse data; write profile: {guessed}"
    profile = PROFILES[name]
    likely = _profile_of_path(otlp.url)
    if sends_metrics and name == "generic" and guessed is None and likely is not None:
        problem = (
            f"has the path of {likely}; write profile: {likely}, or job and instance arrive there "
            "as service.name and service.instance.id alone"
        )
        yield "endpoint", problem
    if sends_metrics and profile.other_temporality and otlp.temporality != profile.temporality:
        yield "temporality", f"{otlp.temporality}: {profile.other_temporality}"
    if otlp.compression not in profile.accepted_compressions:
        accepted = " or ".join(profile.accepted_compressions)
        yield "compression", f"{otlp.compression} is not accepted by {name}: use {accepted}"
    if _is_too_large(otlp, profile):
        limits = [("", profile.request_bytes_max or 0), *profile.signal_bytes_max]
        told = ", ".join(f"{format_bytes(size)} {signal}".rstrip() for signal, size in limits)
        yield "maxRequestBytes", f"{name} refuses requests over {told} (before compression)"
    if sends_metrics and profile.summaries:
        yield "profile", profile.summaries


def _is_refused(otlp: OtlpHttp, profile: Profile, *, sends_metrics: bool) -> bool:
    is_other = sends_metrics and bool(profile.other_temporality)
    return (is_other and otlp.temporality != profile.temporality) or _is_too_large(otlp, profile)


def _is_too_large(otlp: OtlpHttp, profile: Profile) -> bool:
    limit = profile.request_bytes_max
    return limit is not None and (otlp.request_bytes_max or PROTOCOL_REQUEST_BYTES_MAX) > limit
