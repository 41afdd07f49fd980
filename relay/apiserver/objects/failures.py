"""Refusals of requests as Kubernetes' ``Status`` objects.

Reasons, codes and words are kube-apiserver's, because clients act on them. No message may hold a
value of a Secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from relay.runtime.excerpt import clipped

MODIFIED: Final = (
    "the object has been modified; please apply your changes to the latest version and try again"
)
_VALUE_CHARS_MAX: Final = 200
MESSAGE_CHARS_MAX: Final = 4096
"""Longest message; a refusal may repeat what a client sent, and is not to grow with it."""
_CAUSES_MAX: Final = 50
_CAUSE_CHARS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault of an object: ``reason`` is a cause type such as ``FieldValueInvalid``."""

    field: str
    reason: str
    message: str

    def document(self) -> dict[str, str]:
        """Return the cause as JSON has it."""
        found = {"reason": self.reason, "message": self.message, "field": self.field}
        return {key: value for key, value in found.items() if value}


def invalid_value(field: str, value: object, message: str) -> Cause:
    """Return the cause for a value that a field cannot have."""
    shown = json.dumps(value, ensure_ascii=False)
    if len(shown) > _VALUE_CHARS_MAX:
        shown = f"{shown[:_VALUE_CHARS_MAX]}..."
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown}: {message}")


def required(field: str, message: str = "") -> Cause:
    """Return the cause for a field that is missing."""
    said = f"Required value: {message}" if message else "Required value"
    return Cause(field, "FieldValueRequired", said)


def forbidden_field(field: str, message: str) -> Cause:
    """Return the cause for a field that must not be there."""
    return Cause(field, "FieldValueForbidden", f"Forbidden: {message}")


def unsupported(field: str, value: object, known: Iterable[str]) -> Cause:
    """Return the cause for a word that is not one of those known."""
    listed = ", ".join(f'"{word}"' for word in known)
    shown = json.dumps(value, ensure_ascii=False)
    said = f"Unsupported value: {shown}: supported values: {listed}"
    return Cause(field, "FieldValueNotSupported", said)


def wrong_type(field: str, message: str) -> Cause:
    """Return the cause for a value of another type; ``message`` begins with ``must be``."""
    return Cause(field, "FieldValueTypeInvalid", f"Invalid value: {message}")


def unknown_reference(field: str, value: str) -> Cause:
    """Return the cause for the name of an object that does not exist."""
    shown = json.dumps(value[:_VALUE_CHARS_MAX], ensure_ascii=False)
    return Cause(field, "FieldValueNotFound", f"Not found: {shown}")


@dataclass(frozen=True, slots=True)
class ResourceName:
    """Names of a kind as refusals have them."""

    group: str
    kind: str
    plural: str

    @property
    def qualified(self) -> str:
        """Plural with its group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """Kind with its group."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


class ApiRefusalError(Exception):
    """A request is refused; :meth:`status` is the body of the answer."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Final = code
        self.reason: Final = reason
        self.message: Final = message
        self.details: Final = details
        self.headers: Final = headers or {}

    def status(self) -> dict[str, Any]:
        """Return the Status object."""
        found: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": clipped(self.message, MESSAGE_CHARS_MAX),
            "reason": self.reason,
            "details": None if self.details is None else _short(self.details),
            "code": self.code,
        }
        return {key: value for key, value in found.items() if value is not None and value != ""}


def _short(details: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: clipped(own, _CAUSE_CHARS_MAX) if isinstance(own, str) else own
        for key, own in details.items()
    }
    if "causes" in found:
        found["causes"] = [
            {key: clipped(own, _CAUSE_CHARS_MAX) for key, own in cause.items()}
            for cause in found["causes"][:_CAUSES_MAX]
        ]
    return found


def _details(
    name: str, group: str, kind: str, causes: Iterable[Cause] = (), **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "group": group, "kind": kind, **more}
    found["causes"] = [cause.document() for cause in causes]
    return {key: value for key, value in found.items() if value}


def bad_request(message: str) -> ApiRefusalError:
    """Return 400 for a request that cannot be understood."""
    return ApiRefusalError(400, "BadRequest", message)


def not_found(resource: ResourceName, name: str) -> ApiRefusalError:
    """Return 404 for an object that does not exist."""
    message = f'{resource.qualified} "{name}" not found'
    details = _details(name, resource.group, resource.plural)
    return ApiRefusalError(404, "NotFound", message, details=details)


def no_such_resource() -> ApiRefusalError:
    """Return 404 for a path that is not served."""
    message = "the server could not find the requested resource"
    return ApiRefusalError(404, "NotFound", message, details={})


def method_not_allowed() -> ApiRefusalError:
    """Return 405 for a method that a path does not have."""
    message = "the server does not allow this method on the requested resource"
    return ApiRefusalError(405, "MethodNotAllowed", message, details={})


def already_exists(resource: ResourceName, name: str) -> ApiRefusalError:
    """Return 409 for a name that is taken."""
    message = f'{resource.qualified} "{name}" already exists'
    details = _details(name, resource.group, resource.plural)
    return ApiRefusalError(409, "AlreadyExists", message, details=details)


def conflict(resource: ResourceName, name: str, message: str = MODIFIED) -> ApiRefusalError:
    """Return 409 for a write that another one has overtaken."""
    said = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {message}'
    details = _details(name, resource.group, resource.plural)
    return ApiRefusalError(409, "Conflict", said, details=details)


def apply_conflict(message: str, causes: Iterable[Cause]) -> ApiRefusalError:
    """Return 409 for an apply that would change fields of other managers."""
    details = {"causes": [cause.document() for cause in causes]}
    return ApiRefusalError(409, "Conflict", message, details=details)


def invalid(resource: ResourceName, name: str, causes: list[Cause]) -> ApiRefusalError:
    """Return 422 for an object with faults; there is at least one."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    message = f'{resource.qualified_kind} "{name}" is invalid: {said}'
    details = _details(name, resource.group, resource.kind, causes)
    return ApiRefusalError(422, "Invalid", message, details=details)


def invalid_options(kind: str, *causes: Cause) -> ApiRefusalError:
    """Return 422 for parameters of a request."""
    return invalid(ResourceName("meta.k8s.io", kind, ""), "", list(causes))


def unprocessable(message: str) -> ApiRefusalError:
    """Return 422 for a patch that does not fit the object."""
    said = "the server rejected our request due to an error in our request"
    details = {"causes": [{"reason": "UnexpectedServerResponse", "message": message}]}
    return ApiRefusalError(422, "Invalid", said, details=details)


def unsupported_media_type(accepted: Iterable[str]) -> ApiRefusalError:
    """Return 415 for a body of another type."""
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted)
    )
    return ApiRefusalError(415, "UnsupportedMediaType", message)


def expired(message: str) -> ApiRefusalError:
    """Return 410 for a version that is no longer known."""
    return ApiRefusalError(410, "Expired", message)


def version_too_large(asked: int, current: int) -> ApiRefusalError:
    """Return 504 for a version that does not exist yet."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    details = {"causes": [cause], "retryAfterSeconds": 1}
    headers = {"Retry-After": "1"}
    return ApiRefusalError(504, "Timeout", message, details=details, headers=headers)


def unauthorized() -> ApiRefusalError:
    """Return 401 for a request without a valid token."""
    headers = {"WWW-Authenticate": 'Bearer realm="relay"'}
    return ApiRefusalError(401, "Unauthorized", "Unauthorized", headers=headers)


def forbidden(resource: ResourceName, name: str, message: str) -> ApiRefusalError:
    """Return 403 for what a role does not allow."""
    subject = f' "{name}"' if name else ""
    said = f"{resource.qualified}{subject} is forbidden: {message}"
    details = _details(name, resource.group, resource.plural)
    return ApiRefusalError(403, "Forbidden", said, details=details)


def store_failed(*, is_full: bool) -> ApiRefusalError:
    """Return the refusal of a change that cannot be made durable."""
    problem = "has no room left" if is_full else "cannot be written"
    message = f"nothing was changed: the disk of the API {problem}; its operators have to mend that"
    return ApiRefusalError(500, "InternalError", message)


def too_many_requests(message: str, retry_after_s: int = 1) -> ApiRefusalError:
    """Return 429 for a limit that is reached."""
    details = {"retryAfterSeconds": retry_after_s}
    headers = {"Retry-After": str(retry_after_s)}
    return ApiRefusalError(429, "TooManyRequests", message, details=details, headers=headers)


def too_large(message: str) -> ApiRefusalError:
    """Return 413 for a body that is too large."""
    return ApiRefusalError(413, "RequestEntityTooLarge", message)
