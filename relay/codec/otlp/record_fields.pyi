from collections.abc import Callable

from relay.codec.otlp.envelope import Envelope

def with_severity(
    envelope: Envelope,
    ranges: list[tuple[int, int]],
    severity_min: int,
    pause: Callable[[], None] = ...,
) -> list[tuple[int, int]]: ...
def without_severity(envelope: Envelope, first: int, stop: int) -> int: ...
def sampled(
    envelope: Envelope,
    ranges: list[tuple[int, int]],
    threshold: int,
    pause: Callable[[], None] = ...,
) -> list[tuple[int, int]]: ...
def attributes_of(
    envelope: Envelope, number: int, field: int
) -> list[tuple[bytes, bytes]] | None: ...
def field_of(envelope: Envelope, number: int, field: int) -> bytes | None: ...
def attributes_in(
    message: bytes, field: int, outer: int = 0
) -> list[tuple[bytes, bytes]] | None: ...
def has_more_values(value: bytes, most: int) -> bool: ...
