"""Compose what judges the statuses of objects, and on Kubernetes publishes them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from relay.config.exporter.load_result import ObjectResult
from relay.config.settings.settings import ListenAddress, Settings
from relay.control.cluster.held_objects import HeldObjects
from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.reconcile.reloader import Reloader
from relay.control.status.board import StatusBoard
from relay.control.status.history import Amend
from relay.control.status.usage import ExporterUsage

if TYPE_CHECKING:
    from relay.control.cluster.cluster_source import ClusterSource
    from relay.control.cluster.status_publisher import PublisherStatistics, StatusPublisher


class Statuses:
    """The statuses of all objects. Lives on the event loop, from :meth:`start` to :meth:`stop`.

    ``cluster`` is None without Kubernetes. ``usage`` returns that of an exporter by its id,
    ``extra`` adds to an object's verdicts, the same while ``extra_sign`` is. ``clock`` is the wall
    clock, s.
    """

    def __init__(
        self,
        settings: Settings,
        reconciler: SinkReconciler,
        reloader: Reloader,
        cluster: ClusterSource | None,
        *,
        usage: Callable[[str], ExporterUsage | None],
        extra: Callable[[ObjectResult], Amend],
        extra_sign: Callable[[ObjectResult], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.board = StatusBoard(
            reconciler,
            lambda: reloader.loaded,
            usage=usage,
            extra=extra,
            extra_sign=extra_sign,
            clock=clock,
        )
        self._settings = settings
        self._cluster = cluster
        self._held = HeldObjects(reconciler)
        self._publisher: StatusPublisher | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Judge every object, and go on by itself."""
        await self.board.look()
        self._run(self.board.run())

    def publish(self, listen: ListenAddress) -> None:
        """Begin to write statuses to Kubernetes, if objects come from there.

        ``listen`` is the bound address of the admin listener, where other relays ask for
        :meth:`report`. Raises ConfigError if the cluster of the relays' Leases cannot be told.
        """
        if self._cluster is None:
            return
        from relay.control.cluster.relays import make_publisher  # noqa: PLC0415 - see compose.py

        self._publisher = make_publisher(
            self._settings,
            self._cluster,
            self.board,
            self._held,
            listen=listen,
            environment=os.environ,
            hostname=socket.gethostname(),
        )
        self._run(self._publisher.run())

    async def stop(self) -> None:
        """Stop to write, and give the Leases back."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def report(self, epoch: str, since: int) -> bytes | None:
        """Return a page of the report for other relays; None while it is not ready."""
        return self._publisher.report(epoch, since) if self._publisher is not None else None

    def statistics(self) -> PublisherStatistics | None:
        """Return a snapshot of publishing; None without Kubernetes."""
        return self._publisher.statistics() if self._publisher is not None else None

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def __repr__(self) -> str:
        return f"<Statuses {self.board!r}, {self._publisher!r}>"
