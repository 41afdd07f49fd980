"""Build the pipeline from the settings."""

from __future__ import annotations

from relay.config.settings.settings import Settings
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.inventory.info_series import InfoReader
from relay.selector.resources.compiler import Compiler


def make_engine(settings: Settings, *, since: float) -> MetricsPipeline:
    """Make the pipeline of a relay that started at ``since`` (wall clock, s)."""
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
