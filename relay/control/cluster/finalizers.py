"""Keep deleted objects until their sinks have drained, by a finalizer, if the operator wants it.

* It is added by server-side apply under a field manager of its own, and taken away by a JSON patch
  of the very entry: finalizers of others stay, and so does everything else.
* A deleted object loses it once no relay that can be asked sends for it, or its time is over.
* Without the setting every object loses it.
* All writes are within the budget of status writes; those of deleted objects come first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from relay.control.cluster.cluster_source import SeenObject
from relay.control.kubernetes.client import APPLY
from relay.control.kubernetes.errors import (
    AbsentError,
    KubernetesError,
    RequestRefusedError,
)
from relay.control.kubernetes.objects import ApiObject
from relay.runtime.event_loop import WorkSlice
from relay.sink.retry.backoff import doubled_s

_log = logging.getLogger("relay.control.cluster")

FINALIZER: Final = "telemetry.datumapis.com/relay"
FINALIZER_MANAGER: Final = "telemetry-relay-finalizer"
JSON_PATCH: Final = "application/json-patch+json"
LOOK_S: Final = 1.0
"""Time between two looks at whether an object needs a write; s."""
UNSEEN_S: Final = 10.0
"""Time in which a write should be seen in a watch, and is not repeated; s."""
RETRY_S: Final = 1.0
RETRY_S_MAX: Final = 60.0
FORBIDDEN_S: Final = 60.0
"""Pause of all writes after one for which the relay has no right; s."""
RESTART_S: Final = 5.0
"""Pause after a bug; s."""


@dataclass(frozen=True, slots=True)
class FinalizerOptions:
    """``enabled``: objects get it. ``release_s``: longest time that it holds a deletion, s."""

    enabled: bool
    release_s: float


@dataclass(frozen=True, slots=True)
class FinalizerHost:
    """The rest of the relay. Called on the event loop.

    ``seen`` returns all objects; ``revision`` another value when there may be a change. ``judged``
    returns the uids of objects that the relay reads, ``held`` those for which this relay, or
    another one that can be asked, still sends. ``settled``: the others had their chance to answer.
    ``spend`` takes room of the budget of writes (0.0, or s to wait).
    """

    seen: Callable[[], Iterable[SeenObject]]
    revision: Callable[[], object]
    judged: Callable[[], Collection[str]]
    held: Callable[[], Collection[str]]
    settled: Callable[[], bool]
    spend: Callable[[float], float]


@dataclass(slots=True)
class _Failure:
    """Failed writes of one object in a row, and when the next may be (monotonic, s)."""

    count: int
    not_before_s: float


class Finalizers:
    """Adds and takes away while :meth:`run` runs. Lives on the event loop.

    ``clock`` is monotonic, s.
    """

    def __init__(
        self,
        host: FinalizerHost,
        options: FinalizerOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._options = options
        self._clock = clock
        self._warned = False
        self._forget()

    def _forget(self) -> None:
        self._revision: object = None
        self._looked_at_s = float("-inf")
        self._not_before_s = float("-inf")
        self._leaving: dict[str, SeenObject] = {}  # deleted, by uid
        self._since: dict[str, float] = {}  # when each of these was first seen to be deleted
        self._surplus: dict[str, SeenObject] = {}
        self._lacking: dict[str, SeenObject] = {}
        self._written: dict[str, tuple[bytes, float]] = {}  # content, and when it was patched
        self._failures: dict[str, _Failure] = {}
        self._held: Collection[str] = ()

    async def run(self) -> None:
        """Work until cancelled; a bug costs a pause."""
        self._forget()
        while True:
            try:
                await self._step()
            except Exception:
                _log.exception("bug in the relay: finalizers are looked at anew")
                self._forget()
                await asyncio.sleep(RESTART_S)

    async def _step(self) -> None:
        """Make one write, or wait for the next look."""
        now = self._clock()
        if now >= self._looked_at_s + LOOK_S and self._host.settled():
            self._looked_at_s = now
            await self._look()
        found = self._next(now)
        wait_s = LOOK_S if found is None else self._host.spend(now)
        if found is None or wait_s:
            await asyncio.sleep(max(wait_s, 0.001))
            return
        await self._write(*found)

    async def _look(self) -> None:
        revision = self._host.revision()
        if revision != self._revision or self._written:
            await self._survey()
            self._revision = revision
        self._held = self._host.held() if self._leaving else ()

    async def _survey(self) -> None:
        """Sort objects by what they need."""
        now = self._clock()
        enabled = self._options.enabled
        judged = self._host.judged() if enabled else ()
        leaving: dict[str, SeenObject] = {}
        surplus: dict[str, SeenObject] = {}
        lacking: dict[str, SeenObject] = {}
        written: dict[str, tuple[bytes, float]] = {}
        part = WorkSlice()
        for one in self._host.seen():
            seen, uid = one.object, one.object.uid
            has = FINALIZER in seen.finalizers
            wanted: dict[str, SeenObject] | None = None
            if has and seen.deleting:
                wanted = leaving if enabled else surplus
            elif has and not enabled:
                wanted = surplus
            elif not has and not seen.deleting and uid in judged:
                wanted = lacking
            if wanted is not None:
                patched = self._written.get(uid)
                if patched and patched[0] == seen.content and now < patched[1] + UNSEEN_S:
                    written[uid] = patched
                else:
                    wanted[uid] = one
            if part.is_over:
                await part.rest()
        self._since = {uid: self._since.get(uid, now) for uid in leaving}
        self._leaving, self._surplus, self._lacking = leaving, surplus, lacking
        self._written = written
        known = leaving.keys() | surplus.keys() | lacking.keys()
        self._failures = {uid: one for uid, one in self._failures.items() if uid in known}

    def _next(self, now: float) -> tuple[SeenObject, bool] | None:
        """Return the next object to write, and whether it is to have the finalizer."""
        if now < self._not_before_s:
            return None
        for uid, one in self._leaving.items():
            over = uid not in self._held or now >= self._since[uid] + self._options.release_s
            if over and self._may(uid, now):
                return one, False
        for wanted, add in ((self._surplus, False), (self._lacking, True)):
            for uid, one in wanted.items():
                if self._may(uid, now):
                    return one, add
        return None

    def _may(self, uid: str, now: float) -> bool:
        failure = self._failures.get(uid)
        return failure is None or now >= failure.not_before_s

    async def _write(self, one: SeenObject, add: bool) -> None:
        latest = one.plane.latest(one.resource, one.object.key)
        uid = one.object.uid
        if latest is None or latest.uid != uid or (FINALIZER in latest.finalizers) is add:
            self._done(uid)
            return
        try:
            await one.plane.client.request(
                "PATCH",
                one.resource.path(latest.namespace, latest.name),
                query={"fieldManager": FINALIZER_MANAGER} | ({"force": "true"} if add else {}),
                document=_addition(one) if add else removal_of(latest),
                content_type=APPLY if add else JSON_PATCH,
            )
        except AbsentError:
            self._done(uid)
        except KubernetesError as error:
            self._note_failure(one, error)
        else:
            if not add and latest.deleting and uid in self._held:
                _log.warning("deletion is not held any longer: sinks still drain", extra=_name(one))
            self._done(uid)
            self._written[uid] = (latest.content, self._clock())

    def _done(self, uid: str) -> None:
        for wanted in (self._leaving, self._surplus, self._lacking):
            wanted.pop(uid, None)
        self._failures.pop(uid, None)

    def _note_failure(self, one: SeenObject, error: KubernetesError) -> None:
        now, uid = self._clock(), one.object.uid
        count = 1 + (self._failures[uid].count if uid in self._failures else 0)
        pause_s = max(doubled_s(RETRY_S, count, RETRY_S_MAX), error.retry_after_s or 0.0)
        self._failures[uid] = _Failure(count, now + pause_s)
        if isinstance(error, RequestRefusedError) and error.status in (401, 403):
            self._not_before_s = now + FORBIDDEN_S
            if not self._warned:
                self._warned = True
                what = "added" if self._options.enabled else "taken away"
                _log.warning("finalizers cannot be %s: %s", what, error, extra=_name(one))

    def __repr__(self) -> str:
        return (
            f"<Finalizers {len(self._lacking)} lacking, {len(self._surplus)} surplus, "
            f"{len(self._leaving)} leaving>"
        )


def _addition(one: SeenObject) -> dict[str, Any]:
    """Return the body of an apply patch; of its uid, so that it creates no object."""
    metadata = {
        "name": one.object.name,
        "namespace": one.object.namespace,
        "uid": one.object.uid,
        "finalizers": [FINALIZER],
    }
    return {
        "apiVersion": one.resource.api_version,
        "kind": one.resource.kind,
        "metadata": metadata,
    }


def removal_of(latest: ApiObject) -> list[dict[str, Any]]:
    """Return a JSON patch that fails where the entry is another one meanwhile."""
    path = f"/metadata/finalizers/{latest.finalizers.index(FINALIZER)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": latest.uid},
        {"op": "test", "path": path, "value": FINALIZER},
        {"op": "remove", "path": path},
    ]


def _name(one: SeenObject) -> dict[str, object]:
    return {
        "plane": one.plane.name,
        "resource": one.resource.plural,
        "object": "/".join(one.object.key),
    }
