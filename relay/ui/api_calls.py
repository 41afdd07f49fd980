"""Call the API as the user of a page: the same handlers, limits and audit as for kubectl."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from relay.apiserver.access.principals import Principal
from relay.apiserver.http.service import CLIENT_GONE, ApiService
from relay.apiserver.in_process import InProcessRequest, body_of
from relay.apiserver.merging.managed_fields import JsonObject

FIELD_MANAGER: Final = "relay-ui"
GROUP: Final = "/apis/telemetry.datumapis.com/v1alpha1"
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A fault of one field, ``field`` in the words of the object, "" for the whole."""

    field: str
    message: str


class ApiProblemError(Exception):
    """The API has refused a request: ``code``, ``reason``, and the faults of fields."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        self.code: Final = code
        self.reason: Final = str(status.get("reason", ""))
        self.message: Final = str(status.get("message", "the API has refused the request"))
        details = status.get("details") or {}
        self.problems: Final = tuple(
            FieldProblem(str(one.get("field", "")), str(one.get("message", "")))
            for one in details.get("causes", ())
        )
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """A good answer: its value and its warnings."""

    value: JsonObject
    warnings: tuple[str, ...] = ()


class ApiCaller:
    """Calls the API for one request of a page; ``prefix`` is the project's path.

    ``user_of`` finds the user again while an answer takes long.
    """

    def __init__(
        self,
        service: ApiService,
        cause: web.BaseRequest,
        user: Principal,
        prefix: str,
        user_of: Callable[[web.BaseRequest], Awaitable[Principal | None]],
    ) -> None:
        self._found_again = partial(user_of, cause)
        self._service = service
        self._cause = cause
        self._user = user
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<ApiCaller of {self._user.user}>"

    async def get(self, path: str, **query: str) -> JsonObject:
        """Return an object or a list; raise ApiProblemError."""
        return (await self.call("GET", path, query)).value

    async def create(self, path: str, value: JsonObject, **query: str) -> ApiAnswer:
        """Create an object; raise ApiProblemError."""
        return await self.call("POST", path, query, value)

    async def update(self, path: str, value: JsonObject, **query: str) -> ApiAnswer:
        """Update an object, of the version in it; raise ApiProblemError."""
        return await self.call("PUT", path, query, value)

    async def merge(self, path: str, value: JsonObject, **query: str) -> ApiAnswer:
        """Change some fields of an object; raise ApiProblemError."""
        return await self.call("PATCH", path, query, value, MERGE_PATCH)

    async def delete(self, path: str, value: JsonObject | None = None) -> ApiAnswer:
        """Delete an object; raise ApiProblemError."""
        return await self.call("DELETE", path, {}, value)

    async def lines(self, path: str, **query: str) -> list[JsonObject]:
        """Return the objects of a stream that ends by itself; raise ApiProblemError."""
        content, _ = await self._send("GET", path, query, None, JSON)
        return [msgspec.json.decode(line) for line in content.splitlines()]

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        value: Any = None,
        media_type: str = JSON,
    ) -> ApiAnswer:
        """Send a request; raise ApiProblemError for an answer that is not good."""
        content, headers = await self._send(method, path, query, value, media_type)
        warnings = tuple(_text(one) for one in headers.getall("Warning", ()))
        return ApiAnswer(msgspec.json.decode(content), warnings)

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], value: Any, media_type: str
    ) -> tuple[bytes, CIMultiDict[str]]:
        """Return the body and the headers of a good answer."""
        body = b"" if value is None else msgspec.json.encode(value)
        fields = dict(query)
        if method in ("POST", "PUT", "PATCH"):
            fields.setdefault("fieldManager", FIELD_MANAGER)
        target = URL(self._prefix + path, encoded=True).with_query(fields)
        headers = {"Accept": JSON, "Content-Type": media_type}
        request = InProcessRequest(
            self._cause,
            self._user,
            method,
            target,
            self._found_again,
            body=body,
            headers=headers,
        )
        response = await self._service.handle(request)
        if response.status == CLIENT_GONE:
            raise ConnectionAbortedError("the page is gone, or its user not admitted any more")
        content = body_of(request, response)
        if response.status >= 300:
            raise ApiProblemError(response.status, msgspec.json.decode(content))
        return content, response.headers


def _text(warning: str) -> str:
    """Return the text of a ``Warning`` header: ``299 - "text"``."""
    quoted = warning.partition('"')[2].rpartition('"')[0]
    return quoted.replace('\\"', '"').replace("\\\\", "\\")


def exporter_path(namespace: str, name: str = "", subresource: str = "") -> str:
    """Return the path of an Exporter, or of all of a namespace."""
    return object_path(GROUP, namespace, "exporters", name, subresource)


def secret_path(namespace: str, name: str = "") -> str:
    """Return the path of a Secret, or of all of a namespace."""
    return object_path("/api/v1", namespace, "secrets", name)


def object_path(group: str, namespace: str, plural: str, name: str = "", part: str = "") -> str:
    """Return the path of an object, or of all of a namespace; ``part`` is a subresource.

    Names may be anything: they stay one segment each.
    """
    path = f"{group}/namespaces/{quote(namespace, safe='')}/{plural}"
    return "/".join([path, *(quote(one, safe="") for one in (name, part) if one)])
