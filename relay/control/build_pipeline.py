"""Build the pipelines from the settings."""

from __future__ import annotations

from relay.codec.signal_names import RecordSignal
from relay.config.settings.settings import Settings
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.pipeline.records.pipeline import RecordOptions, RecordsPipeline
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import Tenancy
from relay.pipeline.signals import Signals
from relay.selector.inventory.info_series import InfoReader
from relay.selector.resources.compiler import Compiler

SERIES_PER_RESOURCE = 20
"""A resource or scope takes the memory of so many series."""
RESOURCES_MAX_LEAST = 1_000


def make_signals(settings: Settings, *, since: float) -> Signals:
    """Make the pipelines of a relay that started at ``since`` (wall clock, s)."""
    metrics = make_engine(settings, since=since)
    return Signals(
        metrics,
        _make_records("logs", settings, metrics),
        _make_records("traces", settings, metrics),
    )


def _make_records(
    signal: RecordSignal, settings: Settings, metrics: MetricsPipeline
) -> RecordsPipeline:
    return RecordsPipeline(
        signal,
        offsets=metrics.offsets,
        tenants=resource_tenants_of(settings),
        compiler=Compiler(settings.resources),
        inventory=metrics.inventory,
        drops=metrics.drops,
        options=RecordOptions(
            category_attribute=settings.otlp.category_attribute,
            entries_max=max(RESOURCES_MAX_LEAST, settings.ingest.series_max // SERIES_PER_RESOURCE),
            idle_s=settings.ingest.series_idle_timeout_s,
        ),
    )


def make_engine(settings: Settings, *, since: float) -> MetricsPipeline:
    """Make the pipeline of metrics of a relay that started at ``since`` (wall clock, s)."""
    ingest, limits = settings.ingest, settings.limits.lookup()
    return MetricsPipeline(
        Limits(
            series_max=ingest.series_max,
            series_idle_s=ingest.series_idle_timeout_s,
            series_bytes_max=ingest.series_bytes_max,
            labels_max=ingest.labels_max,
            families_max=ingest.metadata_max,
            histograms_max=ingest.histograms_max,
            objects_max=settings.inventory.objects_max,
            project_series_max=lambda project: limits(project).series_max,
        ),
        infer_types=settings.translation.infer_types,
        tenancy=tenancy_of(settings),
        compiler=Compiler(settings.resources),
        info_reader=InfoReader(settings.inventory.info_series),
        first_sight_s=settings.translation.first_sight_wait_s,
        assembly_wait_s=settings.translation.assembly_timeout_s,
        delta_age_max_s=settings.translation.delta_max_age_s,
        since=since,
        future_max_s=ingest.future_max_s,
        tenants=resource_tenants_of(settings),
    )


def tenancy_of(settings: Settings) -> Tenancy:
    """Return the rule that finds the project of a series."""
    if (tenancy := settings.tenancy) is None:
        return Tenancy()
    return Tenancy(
        tenancy.label,
        {one.number: one.project for one in tenancy.accounts},
        shares_metadata=tenancy.shared_metadata,
    )


def resource_tenants_of(settings: Settings) -> ResourceTenants:
    """Return the rule that finds the project of an OTLP resource."""
    otlp = settings.otlp
    return ResourceTenants(
        tenancy_of(settings), otlp.tenant_attributes, tells_senders=otlp.reject_without_tenant
    )
