"""Read the reports of the other relays, and tell what each of them says about an object.

Rules:

* Each relay is asked by a task of its own, so that none delays another: a page a second, more as
  long as there are more. Every answer is bounded in time and bytes, and so are all pages of one
  reading together; a relay that fails is asked again after a pause that doubles.
* A relay that cannot be asked is represented by its last report for :data:`FRESH_S`, while its
  Lease lives. A new one is left out until its first report, or for :data:`JOIN_S`.
* Nothing is concluded before every relay had its chance after this one began to lead
  (:attr:`PeerReports.settled`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import aiohttp

from relay import __version__
from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas.members import Member
from relay.control.replicas.merge import RelayReading
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.peer_report import OBJECTS_MAX, PeerReport
from relay.control.replicas.report import (
    PAGE_BYTES_MAX,
    PAGE_OBJECTS_MAX,
    ReportError,
    ReportPage,
    decode_page,
)

INTERVAL_S: Final = 1.0
PAUSE_S_MAX: Final = 15.0
ANSWER_S: Final = 5.0
READING_S: Final = 60.0
"""Longest reading of pages one after the other; the next one goes on where it ended."""
PAGES_MAX: Final = 2 * OBJECTS_MAX // PAGE_OBJECTS_MAX
"""Most pages of one reading."""
FRESH_S: Final = 30.0
JOIN_S: Final = 10.0
START_S: Final = 1.0
AT_ONCE_MAX: Final = 8
PEERS_MAX: Final = 64
"""Most relays that are asked; others cannot be."""
CONTEXT_S: Final = 60.0
_HINTS: Final = {
    401: "it refuses this relay's credential: admin.authentication must be the same",
    404: "it has no report: it does not watch Kubernetes, or is older",
    421: "it does not know the host of its own address: see admin.hosts",
    503: "it is starting",
}

_log = logging.getLogger("relay.control.replicas")


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """One other relay; ``why`` is why it cannot be asked, or ""."""

    relay: str
    objects: int
    unreadable: int
    why: str


class _Peer:
    """One other relay and what came from it. Times are monotonic, s."""

    __slots__ = (
        "failures",
        "not_before_s",
        "patience_s",
        "report",
        "reported_at_s",
        "since_s",
        "task",
        "why",
    )

    def __init__(self, now: float, patience_s: float) -> None:
        self.report = PeerReport()
        self.since_s = now
        self.patience_s = patience_s
        self.reported_at_s: float | None = None
        self.why = ""
        self.failures = 0
        self.not_before_s = now
        self.task: asyncio.Task[None] | None = None


class PeerReports:
    """The reports of all other relays. Lives on the event loop.

    ``members`` returns the relays there are, ``own`` is the name of this one's Lease. While
    :meth:`run` runs they are read, and ``on_change`` is called with the objects whose status has
    changed elsewhere, None for all. ``clock`` is monotonic, s.
    """

    def __init__(
        self,
        access: PeerAccess,
        members: Callable[[], Iterable[Member]],
        own: str,
        *,
        on_change: Callable[[Iterable[ObjectKey] | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._members = members
        self._own = own
        self._on_change = on_change
        self._clock = clock
        self._peers: dict[str, _Peer] = {}
        self._began_at_s: float | None = None
        self._room = asyncio.Semaphore(AT_ONCE_MAX)
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | bool = True
        self._context_until_s = float("-inf")
        self._shape: object = None
        self._settled = False
        self._unreached: set[str] = set()

    @property
    def settled(self) -> bool:
        """True once every other relay has answered, or had the time for it."""
        if not self._settled and self._began_at_s is not None:
            now = self._clock()
            self._settled = all(
                peer.report.complete or (peer.why and now >= peer.since_s + peer.patience_s)
                for _, peer in self._asked()
            )
        return self._settled

    def readings(self, key: ObjectKey, uid: str) -> Iterator[RelayReading]:
        """Yield what the other relays say about an object."""
        now = self._clock()
        for member in self._others():
            peer = self._peers.get(member.lease)
            why = self._why(member, peer, now)
            if why is None:
                continue
            found = peer.report.status_of(key) if peer is not None and not why else None
            # Of another uid: it has not seen yet that the object was replaced.
            status = found.status if found is not None and found.uid == uid else None
            yield RelayReading(member.name, status, why)

    def held(self) -> set[str]:
        """Return the uids of the objects for which relays that can be asked still send."""
        now = self._clock()
        return set[str]().union(
            *(
                peer.report.held()
                for member, peer in self._asked()
                if self._why(member, peer, now) == ""
            )
        )

    def statistics(self) -> tuple[PeerStatistics, ...]:
        """Return a snapshot."""
        now = self._clock()
        found = []
        for member in self._others():
            peer = self._peers.get(member.lease)
            objects = len(peer.report) if peer is not None else 0
            unreadable = peer.report.unreadable if peer is not None else 0
            why = self._why(member, peer, now) or ""
            found.append(PeerStatistics(member.name, objects, unreadable, why))
        return tuple(found)

    async def run(self) -> None:
        """Read reports until cancelled; then forget them."""
        self._began_at_s = self._clock()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._ask(group)
                    self._tell_shape()
                    await asyncio.sleep(INTERVAL_S)
        finally:
            self._began_at_s, self._shape, self._settled = None, None, False
            self._peers.clear()
            self._unreached.clear()
            if self._session is not None:
                session, self._session = self._session, None
                await session.close()

    def _others(self) -> Iterator[Member]:
        return (one for one in self._members() if one.lease != self._own)

    def _asked(self) -> Iterator[tuple[Member, _Peer]]:
        """Yield the relays that are asked, with what came from them."""
        for member in self._others():
            peer = self._peers.get(member.lease)
            if peer is not None and not member.left and member.lost_at_s is None:
                yield member, peer

    def _why(self, member: Member, peer: _Peer | None, now: float) -> str | None:
        """Return why a relay's report cannot be used, "" if it can; None: it does not count."""
        if member.lost_at_s is not None:
            return "its Lease has expired"
        if peer is None:
            return None if member.left or len(self._peers) < PEERS_MAX else "there are too many"
        if member.left:
            return "" if peer.report.complete else None
        at_s = peer.reported_at_s
        if at_s is not None:
            return "" if now < at_s + FRESH_S else peer.why or "its report is old"
        if not peer.why or now < peer.since_s + peer.patience_s:
            return None
        return peer.why

    def _ask(self, group: asyncio.TaskGroup) -> None:
        now = self._clock()
        present = {one.lease: one for one in self._others()}
        for lease in [one for one in self._peers if one not in present]:
            del self._peers[lease]
        assert self._began_at_s is not None
        patience_s = START_S if now < self._began_at_s + START_S else JOIN_S
        for lease, member in present.items():
            peer = self._peers.get(lease)
            if peer is None and not member.left and len(self._peers) < PEERS_MAX:
                peer = self._peers[lease] = _Peer(now, patience_s)
            if peer is None or member.left or member.lost_at_s is not None:
                continue
            if now >= peer.not_before_s and (peer.task is None or peer.task.done()):
                peer.task = group.create_task(self._read(peer, member.url), name="read a report")

    def _tell_shape(self) -> None:
        """Tell of relays that have come, gone, or can or cannot be asked any more."""
        now = self._clock()
        shape = [
            (one.name, self._why(one, self._peers.get(one.lease), now)) for one in self._others()
        ]
        for name, why in shape:
            if why and name not in self._unreached:
                _log.warning(
                    "the report of another relay cannot be read: %s", why, extra={"relay": name}
                )
            elif why == "" and name in self._unreached:
                _log.info("the report of another relay is read again", extra={"relay": name})
        self._unreached = {name for name, why in shape if why}
        # Reasons change often; what counts is whether there is one.
        known = [(name, why if why is None else bool(why)) for name, why in shape]
        state = (self.settled, known)
        if state != self._shape:
            self._shape = state
            self._on_change(None)

    async def _read(self, peer: _Peer, address: str) -> None:
        try:
            async with asyncio.timeout(READING_S):
                await self._read_pages(peer, address)
        except ReportError as error:
            self._note(peer, str(error))
        except TimeoutError:
            self._note(peer, "no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            self._note(peer, f"no connection: {_words_of(error)}")
        else:
            peer.why, peer.failures = "", 0
            peer.reported_at_s = self._clock()
            peer.not_before_s = 0.0

    async def _read_pages(self, peer: _Peer, address: str) -> None:
        for _ in range(PAGES_MAX):
            async with self._room:
                page = await self._page(peer, address)
            changed = peer.report.add(page)
            if changed:
                self._on_change(changed)
            if not page.more:
                return
        peer.report.restart()
        raise ReportError(f"its report has more than {PAGES_MAX} pages")

    def _note(self, peer: _Peer, why: str) -> None:
        peer.why = why
        pause_s = min(INTERVAL_S * 2.0 ** min(peer.failures, 8), PAUSE_S_MAX)
        peer.failures += 1
        peer.not_before_s = self._clock() + pause_s

    async def _page(self, peer: _Peer, address: str) -> ReportPage:
        if not address:
            raise ReportError("its Lease has no address of a report")
        url = self._access.url(address)
        query = {"epoch": peer.report.epoch, "since": str(peer.report.position)}
        async with (
            asyncio.timeout(ANSWER_S),
            self._client().get(
                url.with_query(query),
                headers=self._access.headers,
                allow_redirects=False,
                ssl=self._tls(),
            ) as response,
        ):
            if response.status != 200:
                hint = _HINTS.get(response.status, "")
                raise ReportError(hint or f"it answers with status {response.status}")
            body = await _bounded(response)
        return decode_page(body)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=AT_ONCE_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"telemetry-relay/{__version__}"},
                trust_env=False,
            )
        return self._session

    def _tls(self) -> ssl.SSLContext | bool:
        """Return the TLS context, from files that were read at most :data:`CONTEXT_S` ago."""
        now = self._clock()
        if now >= self._context_until_s:
            self._context = self._access.context() or True
            self._context_until_s = now + CONTEXT_S
        return self._context

    def __repr__(self) -> str:
        return f"<PeerReports of {len(self._peers)} relays>"


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > PAGE_BYTES_MAX:
            raise ReportError(f"a page of its report is longer than {PAGE_BYTES_MAX} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _words_of(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is refused: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        # asyncio has words of its own, with the address in them.
        return os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
    return str(error) or type(error).__name__
