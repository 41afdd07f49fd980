"""Rules on the reference pages: in words that are complete, CEL behind them and only with a CRD."""

from __future__ import annotations

import re

import pytest

from relay.config.exporter.build import exporter_schema
from relay.config.schema.generate import reference
from relay.config.settings.settings import settings_schema

PAGES = {
    "exporter": reference("exporter", exporter_schema()),
    "settings": reference("settings", settings_schema()),
}

LONGER = "must be longer than batch.timeout, or points expire before they are sent"


@pytest.mark.parametrize("name", PAGES)
def test_no_rule_quotes_the_name_of_a_field_in_place_of_its_value(name: str) -> None:
    rules = [line for line in PAGES[name].splitlines() if line.startswith("- ")]
    assert len(rules) > 10
    for rule in rules:
        assert not re.search(r"[{}]|: `type`|operator `operator`|`batch\.timeout`", rule), rule


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("exporter", "- `values`: is required with operator `In` or `NotIn`, one value at least"),
        ("exporter", "- `values`: has no meaning with operator `Exists` or `DoesNotExist`"),
        ("exporter", "- `header`: is required with type: `apiKey`"),
        (
            "exporter",
            "- `secretRef`: is required with type: `bearerToken`, `basicAuth` or `apiKey`",
        ),
        ("exporter", f"- `queue.maxAge`: {LONGER}"),
        ("settings", "- token and tokenFile have no meaning with type: `none` or `basic`"),
        ("settings", "- `username`: is required with type: `basic`"),
    ],
)
def test_a_rule_names_the_words_that_break_it(name: str, rule: str) -> None:
    assert rule in PAGES[name].splitlines()


def test_cel_stands_behind_the_rules_of_a_kind_that_has_a_crd() -> None:
    section = PAGES["exporter"].partition("## `spec.sources[].metrics`\n")[2].partition("\n## ")[0]
    _, _, cel = section.partition("The same in CEL")
    assert "has(self.metricsql) || has(self.resourceSelectors)" in cel.splitlines()
    assert "has(self." not in section.removesuffix(cel)
    assert "has(self." not in PAGES["settings"]


def test_a_default_that_depends_on_another_field_is_told() -> None:
    (row,) = [
        line
        for line in PAGES["settings"].splitlines()
        if line.startswith("| `allowPrivateEndpoints` |")
    ]
    assert row.split(" | ")[2] == "`true`; `false` with tenancy"
