"""Settings of resources: their labels in metrics, and the sources of object labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.config.exporter.types import ExporterPath
from relay.selector.inventory.info_series import INFO_SERIES_DEFAULT, InfoSeries
from relay.selector.inventory.store import OBJECTS_MAX
from relay.selector.resources.label_selector import Conventions, KindAliases


@dataclass(frozen=True, slots=True)
class InventorySettings:
    """Sources of the labels of namespaces and resources: manifests, and info series."""

    manifests: tuple[ExporterPath, ...] = ()
    info_series: tuple[InfoSeries, ...] = INFO_SERIES_DEFAULT
    objects_max: int = OBJECTS_MAX
    """Objects learned from info series."""


def build_paths(values: dict[str, Any], key: str, *, base: Path) -> tuple[ExporterPath, ...]:
    """Return a list of paths, relative to ``base``, each with the project of what it holds."""
    return tuple(
        ExporterPath(path=base / one["path"], project=one.get("project", ""))
        for one in values.get(key, ())
        if one is not None and "path" in one
    )


def build_inventory(values: dict[str, Any], *, base: Path) -> InventorySettings:
    """Return the section ``inventory``."""
    default = InventorySettings()
    series = tuple(
        InfoSeries(
            metric=one.get("metric", ""),
            kind=one.get("kind", "").lower(),
            namespace=one.get("namespace", ""),
            name=one.get("name", ""),
            prefix=one.get("prefix", ""),
        )
        for one in values.get("infoSeries", ())
        if one is not None
    )
    return InventorySettings(
        manifests=build_paths(values, "manifests", base=base),
        info_series=series or default.info_series,
        objects_max=values.get("maxObjects", default.objects_max),
    )


def build_conventions(values: dict[str, Any]) -> Conventions:
    """Return the section ``resources``."""
    default = Conventions()
    return Conventions(
        api_group_label=values.get("apiGroupLabel", default.api_group_label),
        kind_label=values.get("kindLabel", default.kind_label),
        namespace_label=values.get("namespaceLabel", default.namespace_label),
        name_label=values.get("nameLabel", default.name_label),
        uid_label=values.get("uidLabel", default.uid_label),
        label_prefix=values.get("labelPrefix", default.label_prefix),
        namespace_label_prefix=values.get("namespaceLabelPrefix", default.namespace_label_prefix),
        kinds=tuple(
            KindAliases(one.get("kind", ""), tuple(n for n in one.get("names", ()) if n))
            for one in values.get("kinds", ())
            if one is not None
        ),
    )
