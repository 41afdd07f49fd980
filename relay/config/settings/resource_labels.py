"""Settings of resources: their labels in metrics, and the sources of object labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.config.exporter.types import ExporterPath
from relay.selector.inventory.info_series import INFO_SERIES_DEFAULT, InfoSeries
from relay.selector.inventory.store import OBJECTS_MAX
from relay.selector.matchers import NAME
from relay.selector.resources.label_selector import Conventions, KindMarks, KindRow

_LABEL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InventorySettings(msgspec.Struct, frozen=True):
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


def label_name_problem(text: str) -> str:
    """Return the fault of a label's name that is the key of a map, or ""."""
    if text == NAME:
        return "is the metric's name and not a label: use metricPrefix"
    if _LABEL_NAME.fullmatch(text):
        return ""
    return 'must be the name of a label: letters, digits and "_", not beginning with a digit'


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
        kinds=tuple(_kind_row(one) for one in values.get("kinds", ()) if one is not None),
    )


def _kind_row(values: dict[str, Any]) -> KindRow:
    marks = values.get("marks")
    return KindRow(
        kind=values.get("kind", ""),
        names=tuple(name for name in values.get("names", ()) if name),
        plural=values.get("plural", ""),
        group=values.get("group", ""),
        name_label=values.get("nameLabel"),
        namespace_label=values.get("namespaceLabel"),
        uid_label=values.get("uidLabel"),
        marks=None if marks is None else _marks(marks),
    )


def _marks(values: dict[str, Any]) -> KindMarks:
    labels = values.get("labels", {})
    return KindMarks(
        metric_prefix=values.get("metricPrefix", ""),
        label=values.get("label", ""),
        labels=tuple((name, value) for name, value in labels.items() if value is not None),
    )
