"""The list of paths that a request to an unknown one is answered."""

from __future__ import annotations

import re

import pytest

from relay.codec.signal_names import SIGNALS
from relay.receiver.otlp.target import otlp_target
from relay.receiver.request_target import tenant_of
from relay.receiver.responses import RefusedError

PATH = re.compile(r"/[\w/<>\[\]:]+")


def listed() -> list[str]:
    """Return the paths of the list, with numbers for their account."""
    with pytest.raises(RefusedError) as refused:
        tenant_of("/api/v1/wrote")
    text = refused.value.refusal.text.replace("<accountID>[:<projectID>]", "42:7")
    return PATH.findall(text)


def test_what_is_listed_is_taken() -> None:
    for path in listed():
        if path.endswith("/opentelemetry"):
            assert all(otlp_target(f"{path}/v1/{signal}") for signal in SIGNALS)
        elif path != "/prometheus":  # before the two paths above it
            assert otlp_target(path) or tenant_of(path) or path.startswith("/api/v1/")


def test_every_kind_of_path_is_listed() -> None:
    paths = listed()
    assert {f"/v1/{signal}" for signal in SIGNALS} < set(paths)
    for account in ("42:7", "multitenant"):
        assert f"/insert/{account}/opentelemetry" in paths
        assert f"/insert/{account}/prometheus/api/v1/write" in paths
