"""Read bodies of requests as JSON, or as YAML where a client may send it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from relay.apiserver.http.protobuf_bodies import (
    PROTOBUF,
    UnreadableProtobufError,
    read_protobuf,
)
from relay.apiserver.objects.failures import (
    ApiRefusalError,
    bad_request,
    too_large,
    unsupported_media_type,
)
from relay.apiserver.objects.field_checks import (
    BODY_VALUES_MAX,
    TooManyValuesError,
    UnreadableBodyError,
    read_json,
    shape_of,
)
from relay.apiserver.objects.writes import APPLY_PATCH
from relay.config.yaml.document import dotted, parse_documents
from relay.runtime.event_loop import run_in_thread

JSON: Final = "application/json"
YAML: Final = "application/yaml"
OBJECT_TYPES: Final = (JSON, YAML, PROTOBUF)
"""Media types of bodies that hold an object; protobuf for a few kinds."""
BODY_TIMEOUT_S: Final = 30.0
"""Time for which a body may be on its way."""
_LARGE_BYTES: Final = 128 * 1024
"""Bodies above this size are read in a thread: it takes milliseconds."""
YAML_BYTES_MAX: Final = 256 * 1024
"""YAML takes fifty times as long as JSON."""
_LARGE_YAML_BYTES: Final = 4 * 1024
_MAY_BE_YAML: Final = frozenset({YAML, APPLY_PATCH})


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A body with its media type; ``duplicates`` are fields that are given twice."""

    media_type: str
    value: Any
    duplicates: tuple[str, ...] = ()


def media_type_of(request: web.BaseRequest) -> str:
    """Return the media type of a request, without parameters."""
    return request.headers.get("Content-Type", JSON).partition(";")[0].strip().lower()


async def read_bytes(request: web.BaseRequest, limit: int) -> bytes:
    """Return a body; raise ApiRefusalError for one that is too large, compressed or cut off."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise ApiRefusalError(415, "UnsupportedMediaType", "bodies must not be compressed")
    message = f"Request entity too large: limit is {limit}"
    if (request.content_length or 0) > limit:
        raise too_large(message)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    raise too_large(message)
                parts.append(part)
    except TimeoutError:
        said = f"the body did not come within {BODY_TIMEOUT_S:g} s"
        raise ApiRefusalError(408, "Timeout", said) from None
    return b"".join(parts)


async def read_body(request: web.BaseRequest, limit: int, accepted: tuple[str, ...]) -> RequestBody:
    """Return the value of a body; raise ApiRefusalError."""
    media_type = media_type_of(request)
    if media_type not in accepted:
        raise unsupported_media_type(accepted)
    content = await read_bytes(request, limit)
    if media_type == PROTOBUF:
        try:
            return RequestBody(media_type, read_protobuf(content))
        except UnreadableProtobufError as error:
            raise bad_request(str(error)) from error
    try:
        value, duplicates = await _json(content)
    except UnreadableBodyError as error:
        if media_type in _MAY_BE_YAML:
            return RequestBody(media_type, await _read_yaml(content))
        raise bad_request(f"the body of the request is not valid JSON: {error}") from error
    return RequestBody(media_type, value, tuple(duplicates))


async def _json(content: bytes) -> tuple[Any, list[str]]:
    try:
        if len(content) > _LARGE_BYTES:
            return await run_in_thread(lambda: read_json(content))
        return read_json(content)
    except TooManyValuesError as error:
        raise too_large(f"the body of the request {error}") from error


async def read_options(request: web.BaseRequest, limit: int) -> dict[str, Any]:
    """Return ``DeleteOptions``, {} for an empty body; raise ApiRefusalError."""
    content = await read_bytes(request, limit)
    if not content.strip():
        return {}
    media_type = media_type_of(request)
    if media_type not in (JSON, PROTOBUF):
        raise unsupported_media_type((JSON, PROTOBUF))
    try:
        value, _ = (read_protobuf(content), []) if media_type == PROTOBUF else await _json(content)
    except UnreadableProtobufError as error:
        raise bad_request(str(error)) from error
    except UnreadableBodyError as error:
        raise bad_request(f"the body of the request is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise bad_request("the options must be an object")
    return value


async def _read_yaml(content: bytes) -> Any:
    if len(content) > YAML_BYTES_MAX:
        message = f"Request entity too large: limit of YAML is {YAML_BYTES_MAX}; send JSON"
        raise too_large(message)
    if len(content) > _LARGE_YAML_BYTES:
        return await run_in_thread(lambda: _yaml(content))
    return _yaml(content)


def _yaml(content: bytes) -> Any:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise bad_request(f"error decoding YAML: byte {error.start} is not UTF-8") from error
    documents = parse_documents(text, "")
    faults = [fault for document in documents for fault in document.faults]
    if faults:
        where, message = faults[0]
        place = dotted(where)
        subject = f"{place}: " if place else ""
        raise bad_request(f"error decoding YAML: {subject}{message}")
    if len(documents) != 1:
        raise bad_request("error decoding YAML: the body must be one document")
    value = documents[0].value
    size = shape_of(value)
    if size is None or size > BODY_VALUES_MAX:
        raise too_large(f"the body of the request has too many values: limit is {BODY_VALUES_MAX}")
    return value
