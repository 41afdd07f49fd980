"""Answer reviews, by which users ask about themselves, over HTTP."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.apiserver.access.self_reviews import Kinds, reviewed
from relay.apiserver.http.answers import json_answer
from relay.apiserver.http.bodies import OBJECT_TYPES, read_body
from relay.apiserver.objects.failures import bad_request
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.writes import check_type

REVIEW_BYTES_MAX: Final = 64 * 1024


async def answer_review(
    request: web.BaseRequest, kind: ResourceKind, principal: Principal, kinds: Kinds
) -> web.StreamResponse:
    """Answer a review; it changes nothing, and is not on record. Raise ApiRefusalError."""
    body = await read_body(request, REVIEW_BYTES_MAX, OBJECT_TYPES)
    check_type(kind, body.value)
    spec = body.value.get("spec") or {}
    if not isinstance(spec, dict):
        raise bad_request("spec must be an object")
    status = reviewed(kind, principal, kinds, spec)
    answer = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}}
    return json_answer({**answer, "spec": spec, "status": status}, code=201)
