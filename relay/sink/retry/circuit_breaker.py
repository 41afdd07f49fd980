"""Circuit breakers: whether an endpoint can be reached, for all sinks that send to it. Pure.

Rules:

* After :data:`FAILURES_MAX` consecutive requests of any sink that got no answer the circuit is
  *open*: from then on one request at a time probes the endpoint, not one for each waiting batch.
* A probe leaves 1, 2, 4 … up to :data:`PROBE_S_MAX` seconds after the last one ended, and no sooner
  than the backoff of the sink that sends it. The first answer, good or bad, closes the circuit,
  and all sinks that wait are notified at once.
* Only failures of the path to the endpoint count: no connection, no answer in time, a connection
  that broke. A certificate that one tenant does not accept must not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from relay.sink.retry.backoff import Randomness

FAILURES_MAX = 5
PROBE_S_MAX = 15.0
PROBING_S = 5.0
"""Delay before checking again while another request is the probe, s."""

NO_ANSWER = frozenset({"connect_failed", "timeout", "disconnected"})
"""Reasons of a retry that count."""
UNCLEAR = frozenset({"tls_failed", "forbidden_address", "internal_error"})
"""Reasons of a retry that are no evidence of the path to the endpoint, either way."""

_DOUBLINGS_MAX = 8


class Circuit:
    """One endpoint. ``now`` is any monotonic clock, s; ``request`` tells a probe by identity."""

    def __init__(self, rng: Randomness) -> None:
        self._rng = rng
        self.clear = True
        """True if nothing has failed since the last answer: another answer changes nothing."""
        self._failures = 0
        self._probe_at = 0.0
        self._probe: object | None = None
        self._subscribers: dict[Callable[[], None], None] = {}
        """An ordered set: ten thousand sinks may share an endpoint, and be removed at once."""

    @property
    def open(self) -> bool:
        """True if the endpoint counts as out of reach."""
        return self._failures >= FAILURES_MAX

    def delay_s(self, now: float) -> float:
        """Return how long to wait before asking again; 0: send."""
        if not self.open:
            return 0.0
        if self._probe is not None:
            return PROBING_S
        return max(0.0, self._probe_at - now)

    def probe(self, request: object) -> None:
        """Make a request that leaves while the circuit is open the probe, unless there is one."""
        assert self.open
        if self._probe is None:
            self._probe = request

    def answered(self, request: object) -> None:
        """Note that a request was answered, well or badly."""
        was_open = self.open
        self.clear = True
        self._failures = 0
        self._probe = None
        if was_open:
            for on_close in tuple(self._subscribers):
                on_close()

    def failed(self, request: object, now: float) -> None:
        """Note that a request got no answer."""
        was_probe = self._probe is request
        if self.open and not was_probe:
            return  # it left before the circuit opened
        self._probe = None
        self.clear = False
        self._failures += 1
        doublings = min(max(0, self._failures - FAILURES_MAX), _DOUBLINGS_MAX)
        longest = min(PROBE_S_MAX, 2.0**doublings)
        self._probe_at = now + self._rng.uniform(longest / 2, longest)

    def abandoned(self, request: object) -> None:
        """Note that a request ended without evidence, or was not sent."""
        if self._probe is request:
            self._probe = None

    def subscribe(self, on_close: Callable[[], None]) -> None:
        """Call ``on_close`` whenever the circuit closes. Each subscribes once."""
        assert on_close not in self._subscribers, "subscribed twice"
        self._subscribers[on_close] = None

    def unsubscribe(self, on_close: Callable[[], None]) -> None:
        """Undo :meth:`subscribe`."""
        del self._subscribers[on_close]

    @property
    def subscribers(self) -> int:
        """Number of subscribed callbacks."""
        return len(self._subscribers)

    def __repr__(self) -> str:
        return f"<Circuit {'open' if self.open else 'closed'}, {self._failures} failures>"


class CircuitBreakers:
    """The circuits of all endpoints that are in use, by scheme, host and port."""

    def __init__(self, rng: Randomness) -> None:
        self._rng = rng
        self._circuit_breakers: dict[str, Circuit] = {}

    def get(self, url: str) -> Circuit:
        """Return the circuit of an endpoint."""
        return self._circuit_breakers.setdefault(_origin(url), Circuit(self._rng))

    def acquire(self, url: str, on_close: Callable[[], None]) -> Circuit:
        """Return the circuit of an endpoint, with ``on_close`` subscribed to it."""
        circuit = self.get(url)
        circuit.subscribe(on_close)
        return circuit

    def release(self, url: str, on_close: Callable[[], None]) -> None:
        """Undo :meth:`acquire`; a circuit without subscribers is forgotten."""
        origin = _origin(url)
        circuit = self._circuit_breakers[origin]
        circuit.unsubscribe(on_close)
        if not circuit.subscribers:
            del self._circuit_breakers[origin]

    @property
    def open(self) -> int:
        """Number of endpoints that count as out of reach."""
        return sum(circuit.open for circuit in self._circuit_breakers.values())

    def __repr__(self) -> str:
        return f"<CircuitBreakers {self.open} open of {len(self._circuit_breakers)}>"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"
