"""What equal sinks have in common is in memory once."""

from __future__ import annotations

from relay.config.exporter.types import (
    Authentication,
    Batch,
    OtlpHttp,
    Queue,
    RetrySettings,
    SecretRef,
    Sink,
    Source,
)
from relay.selector.matchers import Selector


def sink(number: int) -> Sink:
    access = Authentication("bearerToken", SecretRef("credentials"))
    endpoint = OtlpHttp(f"http://host/{number}", authentication=access, headers={})
    settings = Batch(points_max=77), RetrySettings(backoff_s=7.5), Queue(bytes_max=77_777)
    return Sink(b"sink".decode(), (b"chosen".decode(),), endpoint, *settings)


def test_equal_settings_of_two_sinks_are_one_object() -> None:
    one, two = sink(1), sink(2)
    assert one != two
    for name in ("name", "sources", "batch", "retry", "queue", "places"):
        assert getattr(one, name) is getattr(two, name), name
    assert one.endpoint.authentication is two.endpoint.authentication
    assert one.endpoint.headers is two.endpoint.headers
    assert one.batch == Batch(points_max=77)


def test_equal_names_of_two_sources_are_one_object() -> None:
    one, two = (Source(b"chosen".decode(), "{}", Selector(())) for _ in range(2))
    assert one.name is two.name
