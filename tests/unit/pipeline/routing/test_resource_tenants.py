"""The project of an OTLP resource."""

from __future__ import annotations

import pytest

from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import ANYWHERE, MULTITENANT, IngestPath, Tenancy

TENANTS = ResourceTenants(Tenancy("project", {(7, 0): "seven", (8, 0): "eight"}), ("a", "b"))
ACCOUNT = ("vm_account_id", "7")


@pytest.mark.parametrize(
    ("attributes", "origin", "project"),
    [
        ([("a", "x")], ANYWHERE, "x"),
        ([("b", "y"), ("a", "x")], ANYWHERE, "x"),
        ([("a", ""), ("b", "y")], ANYWHERE, "y"),
        ([("a", "x"), ("a", "x")], ANYWHERE, "x"),
        ([("a", "x"), ("a", "y")], ANYWHERE, None),
        ([("a", ""), ("a", "y"), ("b", "z")], ANYWHERE, None),
        ([("a", "x"), ("b", "y"), ("b", "z")], ANYWHERE, "x"),
        ([("a", "x"), ("c", "y"), ("c", "z")], ANYWHERE, "x"),
        ([("a", "x"), ("a", "seven")], IngestPath("seven"), None),
        ([("a", "seven")], IngestPath("seven"), "seven"),
        ([("a", "x")], IngestPath("seven"), None),
        ([], IngestPath("seven"), "seven"),
        ([ACCOUNT], MULTITENANT, "seven"),
        ([ACCOUNT, ("vm_account_id", "8")], MULTITENANT, None),
        ([ACCOUNT, ("a", "eight")], MULTITENANT, None),
        ([ACCOUNT, ("vm_account_id", "8"), ("a", "x")], ANYWHERE, "x"),
        ([("project", "x")], ANYWHERE, None),
        ([], ANYWHERE, None),
    ],
)
def test_projects(
    attributes: list[tuple[str, str]], origin: IngestPath, project: str | None
) -> None:
    assert TENANTS.project_of(attributes, origin) == project


def test_without_tenancy_there_is_one() -> None:
    tenants = ResourceTenants(attributes=("a", "b"))
    assert tenants.project_of([("a", "x"), ("a", "y")], ANYWHERE) == ""
