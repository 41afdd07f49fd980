"""Whether an endpoint can be reached at all, for all who send to it. Pure.

Rules:

* After :data:`FAILURES_MAX` requests in a row, whoever made them, that got no answer the circuit is
  *open*: from then on one request at a time probes the endpoint, not one for each batch that waits.
* A probe leaves 1, 2, 4 … up to :data:`PROBE_S_MAX` seconds after the last one ended, and no sooner
  than the backoff of the sink that sends it. The first answer, whatever it says, closes the
  circuit, and all sinks that wait are told at once.
* Only what says something of the way to the endpoint counts: no connection, no answer in time, a
  connection that broke. A certificate that one customer does not accept is not the others' concern.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from relay.sink.retry.backoff import Randomness

FAILURES_MAX = 5
PROBE_S_MAX = 15.0
PROBING_S = 5.0
"""How long to wait where somebody else's probe is under way, before looking again."""

NO_ANSWER = frozenset({"connect_failed", "timeout", "disconnected"})
"""Reasons of a retry that count."""
UNCLEAR = frozenset({"tls_failed", "forbidden_address", "internal_error"})
"""Reasons of a retry that say nothing of the way to the endpoint."""

_DOUBLINGS_MAX = 8


class Circuit:
    """One endpoint. ``now`` is any monotonic clock, s; a probe is told by what it sends."""

    def __init__(self, rng: Randomness) -> None:
        self._rng = rng
        self._failures = 0
        self._probe_at = 0.0
        self._probe: object | None = None
        self._told: dict[Callable[[], None], None] = {}
        """In order; ten thousand sinks may share an endpoint, and all be removed at once."""

    @property
    def open(self) -> bool:
        """Whether the endpoint counts as out of reach."""
        return self._failures >= FAILURES_MAX

    def delay_s(self, now: float) -> float:
        """How long to wait before the next look; 0: go ahead."""
        if not self.open:
            return 0.0
        if self._probe is not None:
            return PROBING_S
        return max(0.0, self._probe_at - now)

    def begin(self, request: object) -> None:
        """A request leaves."""
        if self.open and self._probe is None:
            self._probe = request

    def answered(self, request: object) -> None:
        """The request was answered, well or badly."""
        was_open = self.open
        self._failures = 0
        self._probe = None
        if was_open:
            for tell in tuple(self._told):
                tell()

    def failed(self, request: object, now: float) -> None:
        """The request got no answer."""
        was_probe = self._probe is request
        if self.open and not was_probe:
            return  # it left before the circuit opened: no news
        self._probe = None
        self._failures += 1
        doublings = min(max(0, self._failures - FAILURES_MAX), _DOUBLINGS_MAX)
        longest = min(PROBE_S_MAX, 2.0**doublings)
        self._probe_at = now + self._rng.uniform(longest / 2, longest)

    def abandoned(self, request: object) -> None:
        """The request ended in a way that says nothing, or was never sent."""
        if self._probe is request:
            self._probe = None

    def subscribe(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` whenever the circuit closes. Each subscribes once."""
        assert tell not in self._told, "subscribed twice"
        self._told[tell] = None

    def unsubscribe(self, tell: Callable[[], None]) -> None:
        """Undo :meth:`subscribe`."""
        del self._told[tell]

    @property
    def subscribers(self) -> int:
        """How many would be told."""
        return len(self._told)

    def __repr__(self) -> str:
        return f"<Circuit {'open' if self.open else 'closed'}, {self._failures} failures>"


class CircuitBreakers:
    """The circuits of all endpoints that are in use, by scheme, host and port."""

    def __init__(self, rng: Randomness) -> None:
        self._rng = rng
        self._circuit_breakers: dict[str, Circuit] = {}

    def acquire(self, url: str, tell: Callable[[], None]) -> Circuit:
        """The circuit of an endpoint, with ``tell`` subscribed to it."""
        circuit = self._circuit_breakers.setdefault(_origin(url), Circuit(self._rng))
        circuit.subscribe(tell)
        return circuit

    def release(self, url: str, tell: Callable[[], None]) -> None:
        """Undo :meth:`join`."""
        origin = _origin(url)
        circuit = self._circuit_breakers[origin]
        circuit.unsubscribe(tell)
        if not circuit.subscribers:
            del self._circuit_breakers[origin]

    @property
    def open(self) -> int:
        """How many endpoints count as out of reach."""
        return sum(circuit.open for circuit in self._circuit_breakers.values())

    def __repr__(self) -> str:
        return f"<CircuitBreakers {self.open} open of {len(self._circuit_breakers)}>"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"
