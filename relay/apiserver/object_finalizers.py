"""Take the relay's finalizer away from objects that are deleted at its own API, once they drained.

* An object may have it from another cluster's manifest, or from another relay that reads this API
  as its ``kubernetes.kubeconfig``. That one takes it away itself: it is waited for, but not longer
  than relays wait for each other on Kubernetes.
* Finalizers of others stay, and hold the object.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from relay.apiserver.http.changes import Changer
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.object_source import ApiResources
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.kinds import stored_kind
from relay.apiserver.objects.writes import JSON_PATCH, WriteOptions
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.errors import StoreUnusableError
from relay.control.cluster.finalizers import FINALIZER_MANAGER, removal_of
from relay.control.kubernetes.objects import ApiObject

_log: Final = logging.getLogger("relay.api")
LOOK_S: Final = 0.5
"""Interval at which objects that wait are looked at; s."""
_RETRY_S: Final = 5.0


class ObjectFinalizers:
    """The objects that wait. Lives on the event loop; ``release_s`` is the longest wait for others.

    ``held`` returns the uids of objects of which sinks run or drain.
    """

    def __init__(
        self,
        source: ApiResources,
        changer: Callable[[], Changer],
        held: Callable[[], Collection[str]],
        release_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._changer = changer
        self._held = held
        self._release_s = release_s
        self._clock = clock
        self._since: dict[str, float] = {}
        """Time at which each was first seen to be deleted, by uid; s."""

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except StoreUnusableError as error:
                _log.warning("a finalizer cannot be taken away: %s", error)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                _log.exception("bug in the relay: finalizers are looked at anew")
                await asyncio.sleep(_RETRY_S)

    async def _look(self) -> None:
        leaving = self._source.leaving()
        now = self._clock()
        uids = [one.object.uid for one in leaving]
        self._since = {uid: self._since.get(uid, now) for uid in uids}
        held = self._held() if leaving else ()
        for uid, one in zip(uids, leaving, strict=True):
            waits = one.is_held_by_other and now < self._since[uid] + self._release_s
            if not waits and uid not in held:
                await self._release(one.key, one.object)

    async def _release(self, key: ObjectKeyInStore, one: ApiObject) -> None:
        target = ResourceTarget(stored_kind(key.kind), key.namespace, key.name)
        options = WriteOptions(FINALIZER_MANAGER)
        try:
            await self._changer().patch(
                target, key.project, JSON_PATCH, removal_of(one), options, dry_run=False
            )
        except ApiRefusalError as error:
            # It is gone, or another one, or has no such entry meanwhile: it is looked at again.
            _log.info("a finalizer was not taken away: %s", error, extra={"object": key.name})

    def __repr__(self) -> str:
        return f"<ObjectFinalizers, {len(self._since)} objects leave>"
