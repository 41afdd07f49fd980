"""Limits of the API: bodies, requests and watches of a user, objects of a project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    watches_per_user_max: int = 100
    watches_per_project_max: int = 1000


class Usage:
    """Requests in progress, and refuses those above a limit."""

    def __init__(self, limits: ApiLimits) -> None:
        self.limits: Final = limits
        self._requests: dict[tuple[str, str], int] = {}
        self._watches: dict[tuple[str, str], int] = {}
        self._watches_of_project: dict[str, int] = {}

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
        with _counted(self._requests, key):
            yield

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
def _counted(counts: dict[_Key, int], key: _Key) -> Iterator[None]:
    counts[key] = counts.get(key, 0) + 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
