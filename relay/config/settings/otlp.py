"""The section ``otlp`` of the settings."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.selector.records.selection import CATEGORY_ATTRIBUTE, TENANT_ATTRIBUTES


class OtlpSettings(msgspec.Struct, frozen=True):
    """OTLP over HTTP at the ingest listener.

    ``tenant_attributes``: the first of these attributes that a resource has names its project.
    ``category_attribute`` names the category of a log record. ``reject_without_tenant``: senders
    are told of data without a project, which is counted either way.
    """

    tenant_attributes: tuple[str, ...] = TENANT_ATTRIBUTES
    category_attribute: str = CATEGORY_ATTRIBUTE
    reject_without_tenant: bool = True


def build_otlp(values: dict[str, Any]) -> OtlpSettings:
    """Build the section from its valid values."""
    default = OtlpSettings()
    names = tuple(one for one in values.get("tenantAttributes", ()) if one is not None)
    return OtlpSettings(
        names or default.tenant_attributes,
        values.get("categoryAttribute", default.category_attribute),
        values.get("rejectWithoutTenant", default.reject_without_tenant),
    )
