"""The interface of a sink kind, and the parts of the process that a sink uses.

A kind (OTLP/HTTP, say) is one :class:`SinkKind` in :data:`relay.sink.kinds.KINDS`. Everything else
of a sink is common to all kinds: batching, queue, spilling, retry, circuit breaker, ledger, health.
Versions of a protocol whose bodies differ are kinds of their own, and share an endpoint's type.
A kind may rely on:

* Order: all points of a series are in one shard, a shard has one request in flight, and a request
  is sent again before the next. (``drain: freshFirst`` alone gives that up, at the user's wish.)
* An encoder's body comes back as it was made, perhaps after a restart, from disk: a stored request
  names its kind and its compression by a number (:attr:`SinkKind.stored_codings`).
* A sink whose kind was changed never sends bodies of the old kind; they are dropped and counted.
  Only kinds of one endpoint's type send each other's bodies: each as what it was made for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relay.codec.body import Body
from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Compression, Endpoint
from relay.sink.http.credentials import SecretLookup
from relay.sink.http.interface import HttpClient
from relay.sink.queue.payload import EncodedRequest
from relay.sink.retry.verdict import Verdict

if TYPE_CHECKING:
    from relay.sink.worker import SinkWorker


class Encoder(Protocol):
    """Turns batches into bodies. Stateless: one object serves every sink of its kind."""

    @property
    def kind(self) -> str:
        """Return the name of the kind, see :attr:`SinkKind.name`."""

    @property
    def content_type(self) -> str:
        """Return the Content-Type of a body."""

    def encode(self, sealed: SealedBatch) -> bytes:
        """Encode a whole batch as one body, uncompressed. Must not change the batch."""

    def encode_bodies(
        self, sealed: SealedBatch, compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode a batch as compressed bodies, in order. Must not change the batch.

        None exceeds ``bytes_max`` before compression unless it is a single point, and each has a
        point. :func:`relay.sink.queue.encoding.encode_and_cut` does it by the other methods.
        """

    def encode_plain(
        self, sealed: SealedBatch, compression: Compression, bytes_max: int
    ) -> tuple[Body, ...] | None:
        """Encode a batch as :meth:`encode_bodies` does, with :meth:`compress` left to the caller.

        None where both are one step. A thread may compress, so that must not touch the batch.
        """

    def split(self, body: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
        """Cut an uncompressed body into two of at least one point each, or return None.

        Returns (first half, its points), (second half, its points). Points keep their order; None
        if there is a single one.
        """

    def rounds(self, body: bytes, rounds_max: int) -> Sequence[tuple[bytes, int]]:
        """Cut an uncompressed body so that no series has two points in one of the pieces.

        Returns (piece, its points) in order: of the points of a series those that came first, and
        so on; none without points. At most ``rounds_max``: the last one has all that are left. No
        piece at all of a kind that does not tell series apart.
        """

    def compress(self, body: bytes, compression: Compression) -> bytes:
        """Compress a body by one of :attr:`SinkKind.stored_codings`."""

    def decompress(self, body: bytes, compression: Compression) -> bytes:
        """Undo :meth:`compress`. Raises DecodeError for bytes that it did not make."""


class Client(Protocol):
    """Sends requests to the endpoint of one sink. At most ``concurrency`` calls run at a time."""

    @property
    def requests(self) -> Mapping[str, int]:
        """Return how many answers there were, by verdict (``delivered``, ``retry``, ...)."""

    @property
    def bytes_sent(self) -> int:
        """Return the bytes of all bodies sent, as they were sent."""

    @property
    def points_resent(self) -> int:
        """Return the points of requests that had been sent before."""

    async def send(self, request: EncodedRequest) -> Verdict:
        """Send a request and translate the answer.

        Must end within the endpoint's timeout, and may be cancelled. Raises SecretError where a
        secret cannot be read: nothing was sent then.
        """

    def reconfigure(self, endpoint: Endpoint) -> None:
        """Use another configuration of the same kind from the next request on."""

    def reread_secrets(self) -> None:
        """Read credentials and TLS material again before the next request."""

    def keep_secrets(self, secrets: SecretLookup) -> None:
        """Read them there from now on; what cannot be read any more stays as it was."""


class SinkHost(Protocol):
    """Services of the process for its sinks; implemented beside the reconciler."""

    def make_room(self, worker: SinkWorker, size: int) -> bool:
        """Return whether a sink may store so many bytes, after making room where possible."""

    def low_watermark(self) -> int:
        """Return the oldest ingest position that the pipeline holds."""

    def on_wake(self, worker: SinkWorker) -> None:
        """Call its ``tick`` again: a sink that had nothing has something."""


class ClientDependencies(NamedTuple):
    """The inputs of a client.

    The process's HTTP client, a lookup of the exporter's secrets that is called again each time,
    and the wall clock, s.
    """

    transport: HttpClient
    secrets: SecretLookup
    clock: Callable[[], float]


def _serves_all(_endpoint: Endpoint) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class SinkKind:
    """One kind of sink.

    ``name`` is what stored requests call it; never change it. ``stored_codings``: the compressions
    that its endpoints may be sent, each with its number in records on disk (0 to 255), unique among
    all kinds; never change or reuse a number. ``serves`` tells which endpoints of its type it
    encodes for; ``make_client`` is the same for all kinds of a type.
    """

    name: str
    stored_codings: Mapping[Compression, int]
    encoder: Encoder
    make_client: Callable[[Endpoint, ClientDependencies], Client]
    serves: Callable[[Endpoint], bool] = _serves_all


class Encoders(NamedTuple):
    """The encoders of a sink: of ``new`` batches, and by kind of all ``bodies`` that it sends."""

    new: Encoder
    bodies: Mapping[str, Encoder]
