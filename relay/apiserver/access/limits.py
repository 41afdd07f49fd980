"""Limits of the API: bodies, requests and watches of a user, objects of a project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from relay.apiserver.objects.failures import too_many_requests

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Limits; each refuses with 429, or 413 for a body, and says so."""

    body_bytes_max: int = 2 * 1024 * 1024
    """A Secret of a mebibyte in base64, and room for the rest."""
    objects_per_kind_max: int = 20_000
    """Objects of one kind in one project."""
    requests_per_user_max: int = 100
    """Requests of one user in one project that are in progress; watches are apart."""
    requests_per_project_max: int = 200
    watches_per_user_max: int = 100
    watches_per_project_max: int = 1000
    bytes_per_project_max: int = 128 * 1024 * 1024
    """Bodies and answers of one project that are on their way; one alone may be larger."""

    def within(self, connections: int) -> ApiLimits:
        """Return limits by which no project takes more than a quarter of some connections each."""
        most = max(1, connections // 4)
        return replace(
            self,
            requests_per_project_max=min(self.requests_per_project_max, most),
            watches_per_project_max=min(self.watches_per_project_max, most),
        )


class TooMuchOnItsWayError(ConnectionError):
    """A client does not read, and the project has too much on its way already."""


class Usage:
    """Requests in progress, and refuses those above a limit."""

    def __init__(self, limits: ApiLimits) -> None:
        self.limits: Final = limits
        self._requests: dict[tuple[str, str], int] = {}
        self._watches: dict[tuple[str, str], int] = {}
        self._requests_of_project: dict[str, int] = {}
        self._watches_of_project: dict[str, int] = {}
        self._bytes: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Usage: {self.watches} watches>"

    @property
    def watches(self) -> int:
        """Watches that are open."""
        return sum(self._watches.values())

    @property
    def requests(self) -> int:
        """Requests in progress, without watches."""
        return sum(self._requests.values())

    @contextmanager
    def request(self, user: str, project: str) -> Iterator[None]:
        """Count a request for the duration of the block; raise ApiRefusalError above the limit."""
        most = self.limits.requests_per_user_max
        key = (user, project)
        if self._requests.get(key, 0) >= most:
            raise too_many_requests(f"{most} requests of {user} are in progress already")
        most = self.limits.requests_per_project_max
        if self._requests_of_project.get(project, 0) >= most:
            raise too_many_requests(f"{most} requests of the project are in progress already")
        with _counted(self._requests, key), _counted(self._requests_of_project, project):
            yield

    @contextmanager
    def carried(self, project: str, size: int) -> Iterator[None]:
        """Count bytes for the duration of the block; raise ApiRefusalError above the limit."""
        if not self._has_room(project, size):
            raise too_many_requests("bodies and answers of the project wait for their clients", 5)
        with _counted(self._bytes, project, size):
            yield

    @contextmanager
    def sent(self, project: str, size: int) -> Iterator[None]:
        """Count bytes of an open answer; raise TooMuchOnItsWayError above the limit."""
        if not self._has_room(project, size):
            raise TooMuchOnItsWayError("answers of the project wait for their clients")
        with _counted(self._bytes, project, size):
            yield

    def _has_room(self, project: str, size: int) -> bool:
        used = self._bytes.get(project, 0)
        return not used or used + size <= self.limits.bytes_per_project_max

    @contextmanager
    def watch(self, user: str, project: str) -> Iterator[None]:
        """Count a watch for the duration of the block; raise ApiRefusalError above a limit."""
        key = (user, project)
        limits = self.limits
        if self._watches.get(key, 0) >= limits.watches_per_user_max:
            raise too_many_requests(f"{user} has {limits.watches_per_user_max} watches already", 5)
        if self._watches_of_project.get(project, 0) >= limits.watches_per_project_max:
            most = limits.watches_per_project_max
            raise too_many_requests(f"the project has {most} watches already", 5)
        with _counted(self._watches, key), _counted(self._watches_of_project, project):
            yield


@contextmanager
def _counted(counts: dict[_Key, int], key: _Key, number: int = 1) -> Iterator[None]:
    counts[key] = counts.get(key, 0) + number
    try:
        yield
    finally:
        # A number may be 0: another one of 0 beside it has dropped the key already.
        left = counts.get(key, 0) - number
        if left:
            counts[key] = left
        else:
            counts.pop(key, None)
