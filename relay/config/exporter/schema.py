"""The Exporter resource's fields: from one YAML document to :class:`Exporter`, or to its faults.

The fields are those of the proposal (``spec.sources[].metrics`` with ``metricsql`` or
``resourceSelectors``, ``spec.sinks[]`` with ``otlp_http``, ``batch`` and ``retry``) and the
optional ones in docs/exporters.md. Unknown fields are faults. What needs more than this one
resource, secrets and its neighbours, is checked by
:mod:`relay.config.exporter.cross_checks`.
"""

from __future__ import annotations

from typing import get_args

from relay.codec.otlp.metrics import Temporality
from relay.config.exporter.backend_profiles import PROFILE_NAMES, PROFILES, profile_warnings
from relay.config.exporter.endpoints import (
    endpoint_problem,
    endpoint_warnings,
    is_loopback,
    metrics_url,
)
from relay.config.exporter.resource_selectors import read_resource_selectors
from relay.config.exporter.string_formats import (
    dns_label_problem,
    dns_subdomain_problem,
    header_name_problem,
    header_value_problem,
    secret_key_problem,
)
from relay.config.exporter.types import (
    Authentication,
    AuthenticationType,
    Batch,
    ClientTls,
    Compression,
    Drain,
    Exporter,
    OtlpHttp,
    Overflow,
    Queue,
    Retry,
    SecretRef,
    Sink,
    Source,
)
from relay.config.yaml.document import shown
from relay.config.yaml.fields import Section, nearest
from relay.runtime.errors import SelectorError
from relay.runtime.quantity import format_duration
from relay.selector import lint
from relay.selector.histogram_coverage import split_histograms, whole_names
from relay.selector.matchers import NAME, Selector
from relay.selector.metricsql.parser import parse_query
from relay.selector.resources.label_selector import ResourceSelection, Selection

API_VERSION = "telemetry.datumapis.com/v1alpha1"
KIND = "Exporter"
NAMESPACE_DEFAULT = "default"

SOURCES_MAX = 20
SINKS_MAX = 20
HEADERS_MAX = 32
HEADER_CHARS_MAX = 4096
ENDPOINT_CHARS_MAX = 2048
QUERY_CHARS_MAX = 16 * 1024  # VictoriaMetrics' own limit of a query

POINTS_MAX = 10_000
ATTEMPTS_MAX = 10
CONCURRENCY_MAX = 16
PROMOTED_MAX = 32
BATCH_TIMEOUT_BOUNDS_S = (0.001, 600.0)
BACKOFF_BOUNDS_S = (0.001, 3600.0)
REQUEST_TIMEOUT_BOUNDS_S = (0.1, 300.0)
REQUEST_BYTES_BOUNDS = (16 * 1024, 64 * 1024 * 1024)
QUEUE_BYTES_BOUNDS = (64 * 1024, 1024**4)
QUEUE_AGE_BOUNDS_S = (1.0, 30 * 24 * 3600.0)

_AUTHENTICATION_TYPES: tuple[AuthenticationType, ...] = get_args(AuthenticationType)
_COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
_TEMPORALITIES: tuple[Temporality, ...] = get_args(Temporality)
_OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
_DRAINS: tuple[Drain, ...] = get_args(Drain)

# The name of the metric, and what tells the members of a histogram or a summary apart.
_NOT_PROMOTED = (NAME, "le", "quantile", "vmrange")

# What `kubectl get -o yaml` adds to every object's metadata.
_METADATA_IGNORED = (
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)

EVERYTHING = Selector(groups=())


def read_identity(resource: Section, kind: str) -> tuple[str, str] | None:
    """``metadata``'s namespace and name, which also become the report's subject; None if faulty."""
    report = resource.report
    with resource.section("metadata", required=True) as metadata:
        name = metadata.text("name", required=True, check=dns_subdomain_problem)
        namespace = metadata.text("namespace", default="", check=dns_label_problem)
        if not namespace and not metadata.has("namespace"):
            namespace = NAMESPACE_DEFAULT
        metadata.ignore(*_METADATA_IGNORED)
    if not name or not namespace:
        return None
    report.subject = f"{kind} {namespace}/{name}"
    return namespace, name


def uid_of(resource: Section) -> str:
    """What Kubernetes gave the object as ``metadata.uid``; "" where it has none."""
    metadata = resource.value_of("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    return uid if isinstance(uid, str) else ""


def read_exporter(resource: Section, identity: tuple[str, str], project: str) -> Exporter:
    """The rest of an Exporter; worth using only if the section's report is not faulty then."""
    report = resource.report
    api_version = resource.text("apiVersion", required=True)
    if api_version and api_version != API_VERSION:
        resource.fault("apiVersion", f'must be "{API_VERSION}", not {shown(api_version)}')
    resource.ignore("kind", "status")
    with resource.section("spec", required=True) as spec:
        sources = _read_sources(spec, identity[0])
        sinks = _read_sinks(spec, tuple(source.name for source in sources))
    return Exporter(
        project=project,
        namespace=identity[0],
        name=identity[1],
        sources=sources,
        sinks=sinks,
        uid=uid_of(resource),
        warnings=report.warnings,
        origin=report.origin(resource.where),
        file=str(report.document.file),
    )


def _read_sources(spec: Section, namespace: str) -> tuple[Source, ...]:
    sources: list[Source] = []
    for section in spec.sections("sources", count_max=SOURCES_MAX, required=True):
        with section:
            name = _read_unique_name(section, {source.name for source in sources})
            with section.section("metrics", required=True) as metrics:
                query, selector = _read_metrics(metrics, namespace)
            sources.append(Source(name=name, query=query, selector=selector))
    named = [
        (one.name, one.selector if isinstance(one.selector, Selector) else None) for one in sources
    ]
    for index, warning in lint.overlaps(named) if not spec.report.faulty else ():
        spec.report.warn(spec.at("sources", index, "metrics"), warning)
    return tuple(sources)


def _read_unique_name(section: Section, taken: set[str]) -> str:
    name = section.text("name", required=True, check=dns_label_problem)
    if name and name in taken:
        section.fault("name", f"{shown(name)} is already taken; names must be unique")
    return name


def _read_metrics(metrics: Section, namespace: str) -> tuple[str, Selection]:
    """The query as written, and what is selected; everything where that is faulty."""
    has_query, has_resources = metrics.has("metricsql"), metrics.has("resourceSelectors")
    if has_query and has_resources:
        metrics.report.fault(
            metrics.where, "metricsql and resourceSelectors are mutually exclusive: remove one"
        )
    elif not has_query and not has_resources and metrics.present:
        metrics.report.fault(
            metrics.where,
            "metricsql or resourceSelectors is required; "
            'write metricsql: "" to export every metric',
        )
    # Both are read, so that both are checked, and neither is an unknown field.
    resources = read_resource_selectors(metrics)
    if not has_query:
        return "", ResourceSelection(namespace, resources) if resources else EVERYTHING
    return _read_query(metrics)


def _read_query(metrics: Section) -> tuple[str, Selector]:
    # "" is a query that the proposal gives a meaning to, so it is no missing text.
    query = metrics.text("metricsql", chars_max=QUERY_CHARS_MAX, empty_ok=True)
    try:
        selector = parse_query(query)
    except SelectorError as error:
        metrics.report.fault(metrics.at("metricsql"), str(error), offset=error.offset)
        return query, EVERYTHING
    where = metrics.at("metricsql")
    for warning in (*split_histograms(selector), *whole_names(selector)):
        metrics.report.warn(where, warning)
    for remark in (*selector.remarks, *lint.remarks(selector)):
        metrics.report.warn(where, remark.text, offset=max(remark.offset, 0))
    return query, selector


def _read_sinks(spec: Section, sources: tuple[str, ...]) -> tuple[Sink, ...]:
    sinks: list[Sink] = []
    for section in spec.sections("sinks", count_max=SINKS_MAX, required=True):
        with section:
            name = _read_unique_name(section, {sink.name for sink in sinks})
            batch = _read_batch(section)
            sinks.append(
                Sink(
                    name=name,
                    sources=_read_source_names(section, sources),
                    otlp=_read_otlp_http(section),
                    batch=batch,
                    retry=_read_retry(section),
                    queue=_read_queue(section, batch),
                )
            )
    return tuple(sinks)


def _read_source_names(sink: Section, sources: tuple[str, ...]) -> tuple[str, ...]:
    names = sink.texts("sources", count_max=SOURCES_MAX)
    for index, name in enumerate(names):
        where = sink.at("sources", index)
        if name in names[:index]:
            sink.report.fault(where, f"{shown(name)} is listed twice")
        elif name not in sources and all(sources):  # a faulty name is reported where it stands
            hint = nearest(name, sources) or f"sources are {', '.join(sources)}"
            sink.report.fault(where, f"no source has the name {shown(name)}; {hint}")
    return names or sources


def _read_otlp_http(sink: Section) -> OtlpHttp:
    with sink.section("otlp_http", required=True) as otlp:
        endpoint = otlp.text(
            "endpoint", required=True, check=endpoint_problem, chars_max=ENDPOINT_CHARS_MAX
        )
        authentication = _read_authentication(otlp)
        headers = _read_headers(otlp, authentication)
        profile_name = otlp.choice("profile", PROFILE_NAMES, default="generic")
        profile = PROFILES[profile_name]
        is_plain_http = endpoint.lower().startswith("http://")
        for warning in endpoint_warnings(endpoint) if endpoint else ():
            otlp.report.warn(otlp.at("endpoint"), warning)
        if is_plain_http and authentication.type != "none" and not is_loopback(endpoint):
            otlp.report.warn(
                otlp.at("endpoint"), "credentials travel unencrypted; use https where you can"
            )
        if is_plain_http and otlp.has("tls"):
            otlp.fault("tls", "needs an https endpoint")
        settings = OtlpHttp(
            url=metrics_url(endpoint),
            authentication=authentication,
            headers=headers,
            compression=otlp.choice("compression", _COMPRESSIONS, default=profile.compression),
            timeout_s=_read_duration_s(otlp, "timeout", 10.0, REQUEST_TIMEOUT_BOUNDS_S),
            tls=_read_tls(otlp),
            temporality=otlp.choice("temporality", _TEMPORALITIES, default=profile.temporality),
            request_bytes_max=otlp.size_bytes(
                "maxRequestBytes",
                default=profile.request_bytes_max,
                minimum=REQUEST_BYTES_BOUNDS[0],
                maximum=REQUEST_BYTES_BOUNDS[1],
            ),
            concurrency=otlp.integer("concurrency", default=1, minimum=1, maximum=CONCURRENCY_MAX),
            promoted_labels=frozenset(
                otlp.texts("promoteLabels", count_max=PROMOTED_MAX, check=_promotion_problem)
            ),
            unsupported_kinds=profile.unsupported,
            keeps_target_labels=profile.keeps_target_labels,
        )
        if endpoint and not otlp.report.faulty:
            for field, warning in profile_warnings(settings, profile_name):
                otlp.report.warn(otlp.at(field), warning)
        return settings


def _promotion_problem(label: str) -> str:
    if label in _NOT_PROMOTED:
        return f"{shown(label)} tells the points of one resource apart and cannot be promoted"
    return ""


def _read_authentication(otlp: Section) -> Authentication:
    with otlp.section("authentication") as section:
        kind = section.choice("type", _AUTHENTICATION_TYPES, default="none", required=True)
        secret = _read_secret_ref(section, "secretRef", required=kind != "none")
        header = section.text(
            "header", required=kind == "apiKey", check=header_name_problem, chars_max=256
        )
        is_misspelt = kind == "none" and not section.says("type", "none")
        if section.has("header") and kind != "apiKey" and not is_misspelt:
            section.fault("header", "only has a meaning with type: apiKey")
        if section.has("secretRef") and kind == "none" and not is_misspelt:
            section.fault("secretRef", "has no meaning with type: none")
    return Authentication(type=kind, secret=secret, header=header)


def _read_secret_ref(parent: Section, key: str, *, required: bool = False) -> SecretRef | None:
    with parent.section(key, required=required) as section:
        ref = SecretRef(
            name=section.text("name", required=True, check=dns_subdomain_problem),
            key=section.text("key", check=secret_key_problem),
        )
    return ref if section.present else None


def _read_headers(otlp: Section, authentication: Authentication) -> dict[str, str]:
    headers = otlp.table("headers", count_max=HEADERS_MAX, chars_max=HEADER_CHARS_MAX)
    taken = {
        "bearerToken": "authorization",
        "basicAuth": "authorization",
        "apiKey": authentication.header.lower(),
        "none": "",
    }[authentication.type]
    seen: set[str] = set()
    for name, value in headers.items():
        folded = name.lower()
        problem = header_name_problem(name) or header_value_problem(value)
        if not problem and folded == taken:
            problem = "is set by authentication and must not be given too"
        if not problem and folded in seen:
            problem = "is given twice; header names ignore case"
        if problem:
            otlp.report.fault(otlp.at("headers", name), problem)
        elif folded == "authorization":
            otlp.report.warn(otlp.at("headers", name), "a credential belongs in a Secret")
        seen.add(folded)
    return headers


def _read_tls(otlp: Section) -> ClientTls | None:
    with otlp.section("tls") as section:
        certificate = _read_secret_ref(section, "certificateSecretRef")
        if certificate is not None and certificate.key:
            section.report.fault(
                section.at("certificateSecretRef", "key"),
                "must be left out: the keys are always tls.crt and tls.key",
            )
        tls = ClientTls(
            ca=_read_secret_ref(section, "caSecretRef"),
            certificate=certificate,
            server_name=section.text("serverName", check=dns_subdomain_problem),
            insecure_skip_verify=section.flag("insecureSkipVerify", default=False),
        )
        if tls.insecure_skip_verify:
            section.report.warn(
                section.at("insecureSkipVerify"), "whoever is in between can read and change data"
            )
    return tls if section.present else None


def _read_batch(sink: Section) -> Batch:
    default = Batch()
    with sink.section("batch") as section:
        return Batch(
            enabled=section.flag("enabled", default=default.enabled),
            timeout_s=_read_duration_s(
                section, "timeout", default.timeout_s, BATCH_TIMEOUT_BOUNDS_S
            ),
            points_max=section.integer(
                "maxSize", default=default.points_max, minimum=1, maximum=POINTS_MAX
            ),
        )


def _read_retry(sink: Section) -> Retry:
    default = Retry()
    with sink.section("retry") as section:
        return Retry(
            enabled=section.flag("enabled", default=default.enabled),
            attempts_max=section.integer(
                "maxAttempts", default=default.attempts_max, minimum=1, maximum=ATTEMPTS_MAX
            ),
            backoff_s=_read_duration_s(section, "backoff", default.backoff_s, BACKOFF_BOUNDS_S),
        )


def _read_queue(sink: Section, batch: Batch) -> Queue:
    default = Queue()
    with sink.section("queue") as section:
        age_max_s = _read_duration_s(section, "maxAge", default.age_max_s, QUEUE_AGE_BOUNDS_S)
        if batch.enabled and age_max_s <= batch.timeout_s:
            section.fault(
                "maxAge",
                f"must be longer than batch.timeout ({format_duration(batch.timeout_s)}), or "
                "points expire before they are sent",
            )
        return Queue(
            bytes_max=section.size_bytes(
                "maxBytes",
                default=default.bytes_max,
                minimum=QUEUE_BYTES_BOUNDS[0],
                maximum=QUEUE_BYTES_BOUNDS[1],
            ),
            age_max_s=age_max_s,
            overflow=section.choice("overflow", _OVERFLOWS, default=default.overflow),
            drain=section.choice("drain", _DRAINS, default=default.drain),
        )


def _read_duration_s(
    section: Section, key: str, default: float, bounds: tuple[float, float]
) -> float:
    return section.duration_s(key, default=default, minimum=bounds[0], maximum=bounds[1])
