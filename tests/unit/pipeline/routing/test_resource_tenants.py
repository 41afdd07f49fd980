"""The project of an OTLP resource."""

from __future__ import annotations

import pytest

from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import ANYWHERE, MULTITENANT, UNMAPPED, IngestPath, Tenancy

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


@pytest.mark.parametrize(
    ("attributes", "origin", "told"),
    [
        ([], ANYWHERE, "the resource names no project: set its attribute a or b"),
        ([("a", ""), ACCOUNT], ANYWHERE, "names no project: set its attribute a or b"),
        ([], UNMAPPED, "no project, and the account of its path belongs to none: name it in"),
        ([("vm_account_id", "9")], MULTITENANT, "and the account of its attributes belongs to no"),
        ([], MULTITENANT, "the resource names no project: set its attribute a or b"),
        ([("a", "x"), ("a", "y")], ANYWHERE, "has two values of its attribute a: keep one of them"),
        ([("b", "x"), ("b", "y")], IngestPath("seven"), "two values of its attribute b: "),
        ([ACCOUNT, ("vm_account_id", "8")], MULTITENANT, "two values of its attribute vm_account"),
        ([ACCOUNT, ("vm_account_id", "8")], ANYWHERE, "names no project"),
        (
            [("service.name", "api"), ("a", "x")],
            IngestPath("seven"),
            "of service.name 'api' names the project 'x' in its attribute a, but the account of",
        ),
        ([ACCOUNT, ("a", "eight")], MULTITENANT, "but the account of its attributes belongs to"),
        ([("a", "x" * 1000)], IngestPath("seven"), f"project '{'x' * 80}' in"),
    ],
)
def test_the_fault_is_the_one_that_it_has(
    attributes: list[tuple[str, str]], origin: IngestPath, told: str
) -> None:
    assert TENANTS.project_of(attributes, origin) is None
    fault = TENANTS.fault(attributes, origin)
    assert told in fault
    assert "seven" not in fault
