"""Rules over several settings, named in the schema's ``x-relay-rules``.

:mod:`relay.config.schema.rules` defines their form.
"""

from __future__ import annotations

from typing import Any, Final

from relay.config.schema.rules import Faults, Rule
from relay.config.settings.api import API_RULES
from relay.config.settings.kubernetes import KUBERNETES_RULES

_TYPE: Final = (("type",),)


def _projects_with_tenancy(settings: Any) -> Faults:
    places = (("exporters",), ("inventory", "manifests"))
    for place in places:
        entries = settings
        for step in place:
            entries = entries.get(step, {}) if isinstance(entries, dict) else {}
        for index, one in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(one, dict):
                continue
            if "tenancy" in settings and "project" not in one:
                yield (*place, index, "project"), "is required with tenancy"
            elif "tenancy" not in settings and "project" in one:
                yield (*place, index, "project"), "only has a meaning with tenancy"


_LABELS_OF_ROWS: Final = ("nameLabel", "namespaceLabel", "uidLabel")


def _labels_without_marks(row: Any) -> Faults:
    for name in _LABELS_OF_ROWS:
        if name in row and "marks" not in row:
            yield (name,), "has no meaning without marks, which tell the series of the kind"


SETTINGS_RULES: Final = {
    **API_RULES,
    **KUBERNETES_RULES,
    "limitsWithTenancy": Rule(
        cel="!has(self.limits) || has(self.tenancy)",
        holds=lambda self: "limits" not in self or "tenancy" in self,
        message="only has a meaning with tenancy",
        field="limits",
    ),
    "projectsWithTenancy": Rule(
        cel="(!has(self.exporters) || "
        "self.exporters.all(one, has(one.project) == has(self.tenancy))) && "
        "(!has(self.inventory) || !has(self.inventory.manifests) || "
        "self.inventory.manifests.all(one, has(one.project) == has(self.tenancy)))",
        find=_projects_with_tenancy,
        message="a project is required with tenancy and has no meaning without",
    ),
    "labelOrAccounts": Rule(
        cel="has(self.label) || has(self.accounts)",
        holds=lambda self: "label" in self or "accounts" in self,
        message="needs label, or accounts, or both",
    ),
    "kindOfInfoSeries": Rule(
        cel="self.metric.contains('<kind>') != has(self.kind)",
        holds=lambda self: ("<kind>" in self["metric"]) != ("kind" in self),
        message="is needed where metric does not hold <kind>, and only there",
        field="kind",
        reads=(("metric",),),
    ),
    "oneMarkedKind": Rule(
        cel="!has(self.marks) || self.kind != '*'",
        holds=lambda self: "marks" not in self or self["kind"] != "*",
        message='must be one kind with marks, not "*"',
        field="kind",
        reads=(("kind",),),
    ),
    "groupOfMarks": Rule(
        cel="!has(self.marks) || has(self.group)",
        holds=lambda self: "marks" not in self or "group" in self,
        message='is required with marks; "" is the core group',
        field="group",
    ),
    "groupWithoutMarks": Rule(
        cel="has(self.marks) || !has(self.group)",
        holds=lambda self: "marks" in self or "group" not in self,
        message="has no meaning without marks, which tell the series of the kind",
        field="group",
    ),
    "labelsWithoutMarks": Rule(
        cel="has(self.marks) || !has(self.nameLabel) && !has(self.namespaceLabel) "
        "&& !has(self.uidLabel)",
        find=_labels_without_marks,
        message="nameLabel, namespaceLabel and uidLabel have no meaning without marks",
    ),
    "anyMark": Rule(
        cel="has(self.metricPrefix) || has(self.label) || "
        "has(self.labels) && size(self.labels) > 0",
        holds=lambda self: "metricPrefix" in self or "label" in self or bool(self.get("labels")),
        message="needs metricPrefix, label or labels: something by which the series are known",
    ),
    "oneToken": Rule(
        cel="self.type != 'bearer' || has(self.token) != has(self.tokenFile)",
        holds=lambda self: self["type"] != "bearer" or ("token" in self) != ("tokenFile" in self),
        message="type: bearer needs one of token and tokenFile",
        reads=_TYPE,
    ),
    "onePassword": Rule(
        cel="self.type != 'basic' || has(self.password) != has(self.passwordFile)",
        holds=lambda self: (
            self["type"] != "basic" or ("password" in self) != ("passwordFile" in self)
        ),
        message="type: basic needs one of password and passwordFile",
        reads=_TYPE,
    ),
    "tokenUnused": Rule(
        cel="self.type == 'bearer' || !has(self.token) && !has(self.tokenFile)",
        holds=lambda self: self["type"] == "bearer" or not ("token" in self or "tokenFile" in self),
        message="token and tokenFile have no meaning with type: {type}",
        reads=_TYPE,
    ),
    "passwordUnused": Rule(
        cel="self.type == 'basic' || !has(self.password) && !has(self.passwordFile)",
        holds=lambda self: (
            self["type"] == "basic" or not ("password" in self or "passwordFile" in self)
        ),
        message="password and passwordFile have no meaning with type: {type}",
        reads=_TYPE,
    ),
    "usernameNeeded": Rule(
        cel="self.type != 'basic' || has(self.username)",
        holds=lambda self: self["type"] != "basic" or "username" in self,
        message="is required",
        field="username",
        reads=_TYPE,
    ),
    "usernameUnused": Rule(
        cel="self.type == 'basic' || !has(self.username)",
        holds=lambda self: self["type"] == "basic" or "username" not in self,
        message="has no meaning with type: {type}",
        field="username",
        reads=_TYPE,
    ),
    "onePasswordOfProxy": Rule(
        cel="!(has(self.password) && has(self.passwordFile))",
        holds=lambda self: not ("password" in self and "passwordFile" in self),
        message="give password or passwordFile, not both",
        field="passwordFile",
    ),
    "usernameOfProxy": Rule(
        cel="has(self.username) || !has(self.password) && !has(self.passwordFile)",
        holds=lambda self: "username" in self or not ("password" in self or "passwordFile" in self),
        message="is required beside a password",
        field="username",
    ),
}
"""By name."""
