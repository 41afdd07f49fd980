"""What the operator says of resources: how they show in metrics, and where their labels are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.config.exporter.string_formats import dns_subdomain_problem, kind_name_problem
from relay.config.exporter.types import ExporterPath
from relay.config.yaml.fields import Section
from relay.selector.inventory.info_series import INFO_SERIES_DEFAULT, KIND_MARK, InfoSeries
from relay.selector.inventory.store import OBJECTS_MAX
from relay.selector.resources.label_selector import Conventions, KindAliases

PATHS_MAX: Final = 10_000
INFO_SERIES_MAX: Final = 100
KINDS_MAX: Final = 1_000
KIND_NAMES_MAX: Final = 20

_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METRIC_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


@dataclass(frozen=True, slots=True)
class Inventory:
    """Where the labels of namespaces and resources come from: manifests, and info series."""

    manifests: tuple[ExporterPath, ...] = ()
    info_series: tuple[InfoSeries, ...] = INFO_SERIES_DEFAULT
    objects_max: int = OBJECTS_MAX
    """Objects that info series tell of."""


def read_paths(
    parent: Section, key: str, *, base: Path, has_tenancy: bool
) -> tuple[ExporterPath, ...]:
    """A list of paths, relative to ``base``, each with the project that what it holds is of."""
    entries: list[ExporterPath] = []
    for section in parent.sections(key, count_max=PATHS_MAX):
        with section:
            path = section.text("path", required=True)
            project = section.text("project", check=dns_subdomain_problem)
            if has_tenancy and not section.has("project") and section.present:
                section.fault("project", "is required with tenancy")
            if section.has("project") and not has_tenancy:
                section.fault("project", "only has a meaning with tenancy")
            if path:
                entries.append(ExporterPath(path=base / path, project=project))
    return tuple(entries)


def read_inventory(root: Section, *, base: Path, has_tenancy: bool) -> Inventory:
    """The section ``inventory``."""
    default = Inventory()
    with root.section("inventory") as section:
        series = section.sections("infoSeries", count_max=INFO_SERIES_MAX)
        return Inventory(
            manifests=read_paths(section, "manifests", base=base, has_tenancy=has_tenancy),
            info_series=tuple(map(_read_info_series, series)) or default.info_series,
            objects_max=section.integer(
                "maxObjects", default=default.objects_max, minimum=2, maximum=100_000_000
            ),
        )


def read_conventions(root: Section) -> Conventions:
    """The section ``resources``."""
    default = Conventions()
    with root.section("resources") as section:

        def name(key: str, value: str) -> str:
            # "" is a label that the platform does not have.
            return section.text(key, default=value, check=_optional_name_problem, empty_ok=True)

        return Conventions(
            api_group_label=name("apiGroupLabel", default.api_group_label),
            kind_label=name("kindLabel", default.kind_label),
            namespace_label=name("namespaceLabel", default.namespace_label),
            name_label=name("nameLabel", default.name_label),
            uid_label=name("uidLabel", default.uid_label),
            label_prefix=name("labelPrefix", default.label_prefix),
            namespace_label_prefix=name("namespaceLabelPrefix", default.namespace_label_prefix),
            kinds=tuple(map(_read_aliases, section.sections("kinds", count_max=KINDS_MAX))),
        )


def _read_aliases(section: Section) -> KindAliases:
    with section:
        return KindAliases(
            section.text("kind", required=True, check=kind_name_problem),
            section.texts("names", count_max=KIND_NAMES_MAX, check=kind_name_problem),
        )


def label_name_problem(text: str) -> str:
    """The name of a label of series, the metric's name excepted."""
    if _LABEL_NAME.fullmatch(text) and text != "__name__":
        return ""
    return 'must be the name of a label: letters, digits and "_", not beginning with a digit'


def _optional_name_problem(text: str) -> str:
    return label_name_problem(text) if text else ""


def _read_info_series(section: Section) -> InfoSeries:
    default = InfoSeries()
    with section:
        metric = section.text("metric", required=True, check=_marked_name_problem)
        kind = section.text("kind", check=kind_name_problem)
        if metric and (KIND_MARK in metric) == section.has("kind"):
            section.fault(
                "kind", f"is needed where metric does not hold {KIND_MARK}, and only there"
            )
        return InfoSeries(
            metric=metric,
            kind=kind.lower(),
            namespace=section.text(
                "namespace", default=default.namespace, check=label_name_problem
            ),
            name=section.text("name", default=default.name, check=_marked_name_problem),
            prefix=section.text("prefix", default=default.prefix, check=label_name_problem),
        )


def _marked_name_problem(text: str) -> str:
    """The name of a metric or label in which ``<kind>`` may stand once."""
    if _METRIC_NAME.fullmatch(text.replace(KIND_MARK, "k", 1)):
        return ""
    return f'must be a name: letters, digits and "_", with {KIND_MARK} in it at most once'
