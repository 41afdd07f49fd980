"""``resourceSelectors`` of a source: from YAML to :mod:`relay.selector.resources.label_selector`,
or to faults."""

from __future__ import annotations

from collections.abc import Callable

from relay.config.exporter.string_formats import (
    api_group_problem,
    kind_name_problem,
    label_key_problem,
    label_value_problem,
)
from relay.config.yaml.document import shown
from relay.config.yaml.fields import Section, text_problem
from relay.selector.resources.label_selector import (
    ANY,
    OPERATORS,
    KindSelector,
    LabelSelector,
    Requirement,
    ResourceSelector,
)

SELECTORS_MAX = 20
KINDS_MAX = 20
NAMES_MAX = 20
REQUIREMENTS_MAX = 20
VALUES_MAX = 100


def read_resource_selectors(metrics: Section) -> tuple[ResourceSelector, ...]:
    """The field ``resourceSelectors``; worth using only if the report is not faulty then."""
    found: list[ResourceSelector] = []
    for section in metrics.sections("resourceSelectors", count_max=SELECTORS_MAX):
        with section:
            namespaces = _read_label_selector(section, "namespaceSelector")
            labels = _read_label_selector(section, "labelSelectors")
            kinds = tuple(map(_read_kind, section.sections("kinds", count_max=KINDS_MAX)))
            found.append(ResourceSelector(namespaces, labels or LabelSelector(), kinds))
    return tuple(found)


def _read_label_selector(parent: Section, key: str) -> LabelSelector | None:
    """A Kubernetes LabelSelector; None where it is absent."""
    with parent.section(key) as section:
        requirements = [
            Requirement(name, "In", (value,)) for name, value in _read_labels(section).items()
        ]
        for one in section.sections("matchExpressions", count_min=0, count_max=REQUIREMENTS_MAX):
            with one:
                requirements.append(_read_expression(one))
    return LabelSelector(tuple(requirements)) if section.present else None


def _read_labels(section: Section) -> dict[str, str]:
    labels = section.table("matchLabels", count_max=REQUIREMENTS_MAX)
    for name, value in labels.items():
        problem = label_key_problem(name)
        if problem:
            section.report.fault(section.at("matchLabels", name), f"the key {problem}")
        problem = label_value_problem(value)
        if problem:
            section.report.fault(section.at("matchLabels", name), problem)
    return labels


def _read_expression(section: Section) -> Requirement:
    key = section.text("key", required=True, check=label_key_problem)
    operator = section.choice("operator", OPERATORS, default="In", required=True)
    values = _read_words(
        section,
        "values",
        label_value_problem,
        count_min=0,
        count_max=VALUES_MAX,
        empty_ok=True,
        repeated_ok=True,
    )
    if section.says("operator", operator):  # a misspelt one says nothing about the values
        if operator in ("In", "NotIn") and section.is_empty("values"):
            section.fault("values", f"is required with operator {operator}, one value at least")
        elif operator in ("Exists", "DoesNotExist") and not section.is_empty("values"):
            section.fault("values", f"has no meaning with operator {operator}")
    return Requirement(key, operator, values)


def _read_kind(section: Section) -> KindSelector:
    """An entry of ``kinds``. What is left out is any; the proposal writes both ``resources`` and
    ``kind`` for the names of kinds."""
    with section:
        groups = _read_words(section, "apiGroups", api_group_problem, empty_ok=True)
        resources = _read_words(section, "resources", kind_name_problem)
        kinds = _read_words(section, "kind", kind_name_problem)
        if section.has("resources") and section.has("kind"):
            section.fault("kind", "means the same as resources: remove one")
        if section.present and not any(map(section.has, ("apiGroups", "resources", "kind"))):
            section.report.fault(
                section.where, 'needs apiGroups, and resources or kind; ["*"] stands for any'
            )
    return KindSelector(groups or (ANY,), resources or kinds or (ANY,))


def _read_words(
    section: Section,
    key: str,
    check: Callable[[str], str],
    *,
    count_min: int = 1,
    count_max: int = NAMES_MAX,
    empty_ok: bool = False,
    repeated_ok: bool = False,
) -> tuple[str, ...]:
    """A list of words, each given once unless ``repeated_ok``; () where the field is absent."""
    good: list[str] = []
    for index, value in enumerate(section.values(key, count_min=count_min, count_max=count_max)):
        problem = text_problem(value, empty_ok=empty_ok) or check(str(value))
        if not problem and value in good:
            if repeated_ok:  # apimachinery makes a set of them
                continue
            problem = f"{shown(str(value))} is listed twice"
        if problem:
            section.report.fault(section.at(key, index), problem)
        else:
            good.append(str(value))
    return tuple(good)
