"""Limits the connections of a listener, and selects the one to close when there are too many.

Rules:

* Descriptors are what senders, operators, sinks and the disk share. Each listener may have a fixed
  part of those that the process may open (:func:`connections_max`), so that neither takes them from
  the other, nor both from sinks.
* Where a connection is one too many, the one that has been idle for longest is closed for it; one
  with a request in it never is. Where all are busy, the new one is closed.
* An address may hold :data:`SHARE` times as many as are still free, alone seven eighths; beyond
  that it makes room for itself.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Hashable
from typing import Final, Generic, Literal, NamedTuple, Protocol, TypeVar

SHARE: Final = 7

CUT_AFTER_S: Final = 0.5
"""Time that a listener that stops waits for requests in progress, s."""
NOFILE_MAX: Final = 1 << 20
"""More descriptors are never asked for."""

ListenerRole = Literal["ingest", "admin", "api", "local_api"]
"""Senders, operators, and users of the relay's own API: with TLS, and from this machine."""
_SHARES: Final[dict[ListenerRole, tuple[int, int]]] = {
    "ingest": (2, 16_384),
    "admin": (16, 256),
    "api": (8, 4096),
    "local_api": (16, 1024),
}
"""The part of the descriptors that a listener may have, as a divisor; and its most."""
_LEAST: Final = 8


def raise_descriptor_limit() -> int:
    """Raise the soft limit on descriptors to the hard one; return what there is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = NOFILE_MAX if hard == resource.RLIM_INFINITY else min(hard, NOFILE_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return NOFILE_MAX if soft == resource.RLIM_INFINITY else soft


def connections_max(role: ListenerRole) -> int:
    """Return the maximum number of connections of a listener.

    A share of the descriptors that the process may open: half for senders, a sixteenth for the
    admin listener, an eighth and a sixteenth for those of the relay's own API.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    nofile = NOFILE_MAX if soft == resource.RLIM_INFINITY else soft
    part, most = _SHARES[role]
    return max(_LEAST, min(nofile // part, most))


_Connection = TypeVar("_Connection", bound=Hashable)


class ServedConnection(Protocol):
    """A connection of an HTTP server."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport of its answers; None once it is closed."""
        ...

    def force_close(self) -> None:
        """Read nothing more, and close once the sender has all that was written."""

    def __hash__(self) -> int:
        """By identity."""
        ...


def cut(connection: ServedConnection) -> None:
    """Close a connection at once, even where its sender reads none of its answers."""
    transport = connection.transport
    if transport is not None and transport.get_write_buffer_size():
        # Else it, and its descriptor, would stay for as long as the sender likes.
        transport.abort()
    connection.force_close()


class ConnectionStatistics(NamedTuple):
    """``open`` now; ``evicted`` idle ones since the start, ``refused`` because none was idle."""

    open: int
    evicted: int
    refused: int


class Connections(Generic[_Connection]):
    """The connections of one listener, by what stands for each.

    Its server calls :meth:`opened` and :meth:`closed`, its handler :meth:`begin` and :meth:`end`,
    or :meth:`served`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._peers: dict[_Connection, str] = {}
        self._held: Counter[str] = Counter()
        self._idle: dict[_Connection, None] = {}
        """Connections without a request, idle for longest first."""
        self._evicted = 0
        self._refused = 0

    def opened(self, handler: _Connection, peer: str) -> _Connection | None:
        """Count a connection; return the one to close for it, if any, which may be itself."""
        self._peers[handler] = peer
        self._held[peer] += 1
        victim: _Connection | None = None
        free = self._most - len(self._peers)
        if self._held[peer] > max(1, SHARE * max(free, 0)):
            victim = self._longest_idle(peer) or (handler if free >= 0 else None)
        if free < 0 and victim is None:
            victim = self._longest_idle(None) or handler
        self._idle[handler] = None
        if victim is handler:
            self._refused += 1
        elif victim is not None:
            self._evicted += 1
        if victim is not None:
            self.closed(victim)
        return victim

    def closed(self, handler: _Connection) -> None:
        """Remove a connection; repeated calls have no effect."""
        peer = self._peers.pop(handler, None)
        if peer is None:
            return
        self._idle.pop(handler, None)
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]

    def begin(self, handler: _Connection) -> None:
        """Mark a connection as busy: a request has arrived."""
        self._idle.pop(handler, None)

    def end(self, handler: _Connection) -> None:
        """Mark a connection as idle: its request is answered."""
        if handler in self._peers:
            self._idle[handler] = None

    def served(self, handler: _Connection) -> None:
        """Do as :meth:`begin` and :meth:`end`, for a request that was answered at once."""
        idle = self._idle
        if handler in idle:
            del idle[handler]
            idle[handler] = None

    def statistics(self) -> ConnectionStatistics:
        """Return a snapshot."""
        return ConnectionStatistics(len(self._peers), self._evicted, self._refused)

    def _longest_idle(self, peer: str | None) -> _Connection | None:
        """Return the connection that is idle for longest, of one address if one is given."""
        for handler in self._idle:
            if peer is None or self._peers[handler] == peer:
                return handler
        return None

    def __repr__(self) -> str:
        return f"<Connections {len(self._peers)}/{self._most}, {len(self._idle)} idle>"
