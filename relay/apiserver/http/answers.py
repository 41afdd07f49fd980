"""Answers: the form that a client asked for, and how objects and Status are sent in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.apiserver.http.discovery import AGGREGATED
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import ApiRefusalError

_encoder: Final = msgspec.json.Encoder(order="sorted")
_ACCEPT_CHARS_MAX: Final = 4096
_WARNING_CHARS_MAX: Final = 256
_WARNINGS_MAX: Final = 32
_READ_BY_PEOPLE: Final = ("curl/", "Wget/")
_INDENTED_BYTES_MAX: Final = 256 * 1024  # which takes a millisecond
HEADERS: Final = {
    "Server": "relay",
    "Cache-Control": "no-cache, private",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form of an answer: "" for objects, ``Table``, ``PartialObjectMetadata`` (or its list)."""

    transform: str = ""
    is_aggregated: bool = False


def answer_form(accept: str) -> AnswerForm:
    """Return the first form of an ``Accept`` header that can be given; raise ApiRefusalError."""
    if not accept.strip():
        return AnswerForm()
    for part in accept[:_ACCEPT_CHARS_MAX].split(","):
        media, *parameters = (one.strip() for one in part.split(";"))
        if media not in ("application/json", "application/*", "*/*"):
            continue
        given = dict(one.partition("=")[::2] for one in parameters)
        transform = given.get("as", "")
        if transform == "APIGroupDiscoveryList":
            if given.get("v") == "v2":
                return AnswerForm(is_aggregated=True)
        elif transform in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
            if given.get("v") == "v1" and given.get("g") == "meta.k8s.io":
                return AnswerForm(transform)
        elif not transform:
            return AnswerForm()
    raise ApiRefusalError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json",
    )


def encode(value: Any) -> bytes:
    """Return JSON, keys in order."""
    return _encoder.encode(value)


def json_answer(
    body: bytes | JsonObject,
    *,
    code: int = 200,
    warnings: tuple[str, ...] | list[str] = (),
    content_type: str = "application/json",
) -> web.Response:
    """Return an answer with JSON; ``content_type`` may have parameters."""
    response = web.Response(
        body=body if isinstance(body, bytes) else encode(body), status=code, headers=HEADERS
    )
    response.headers["Content-Type"] = content_type
    for text in dict.fromkeys(warnings[:_WARNINGS_MAX]):
        response.headers.add("Warning", f'299 - "{_quoted(text)}"')
    return response


def indented(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """Return an answer with its JSON indented, for ``pretty=true``, and for curl and Wget.

    ``pretty=false`` turns it off. Long answers stay as they are.
    """
    wanted = request.rel_url.query.get("pretty")
    if wanted is None:
        wanted = str(request.headers.get("User-Agent", "").startswith(_READ_BY_PEOPLE))
    body = response.body if isinstance(response, web.Response) else None
    if wanted.lower() not in ("true", "1") or response.content_type != "application/json":
        return response
    if isinstance(body, bytes) and len(body) <= _INDENTED_BYTES_MAX:
        assert isinstance(response, web.Response)
        response.body = msgspec.json.format(body, indent=2) + b"\n"
    return response


def aggregated_answer(value: JsonObject) -> web.Response:
    """Return an answer with an aggregated discovery document."""
    response = json_answer(value, content_type=AGGREGATED)
    response.headers["Vary"] = "Accept"
    return response


def refusal_answer(refusal: ApiRefusalError) -> web.Response:
    """Return the answer to a request that is refused."""
    response = json_answer(refusal.status(), code=refusal.code)
    response.headers.update(refusal.headers)
    return response


def success_status(target: ResourceTarget, value: JsonObject) -> JsonObject:
    """Return the Status of a deletion; ``value`` is the object that is gone."""
    details = {
        "name": target.name,
        "group": target.kind.group,
        "kind": target.kind.plural,
        "uid": value["metadata"].get("uid", ""),
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: own for key, own in details.items() if own},
    }


def _quoted(text: str) -> str:
    """Return a text for a quoted string of a header (RFC 9110 section 5.6.4)."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[:_WARNING_CHARS_MAX])
    return plain.replace("\\", "\\\\").replace('"', '\\"')
