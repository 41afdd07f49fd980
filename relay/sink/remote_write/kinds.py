"""The sink kinds of remote write: one for each version, which share an endpoint's type.

A body leaves as a request of the version that it was encoded in, whatever the sink's version is
now: bodies that were queued before a change are sent as they are. Pure but for the client.
"""

from __future__ import annotations

from typing import Final

from relay import __version__
from relay.codec.remote_write.encode import request_headers
from relay.codec.remote_write.raw.encoder import V1Encoder, V2Encoder
from relay.codec.remote_write.v1 import WriteProtocol
from relay.config.exporter.types import Endpoint, PrometheusRemoteWrite
from relay.sink.http.response import HttpResponse
from relay.sink.http_endpoint import HttpEndpoint
from relay.sink.interface import ClientDependencies, SinkKind
from relay.sink.queue.payload import EncodedRequest
from relay.sink.remote_write.classify import Sent, classify
from relay.sink.retry.verdict import Verdict

_PROTOCOLS: Final[dict[str, WriteProtocol]] = {
    encoder.kind: encoder.protocol for encoder in (V1Encoder, V2Encoder)
}
_DEFAULTS: Final = {"User-Agent": f"relay/{__version__}"}
"""Remote write, "Protocol": senders must say who they are."""


def _make_client(endpoint: Endpoint, dependencies: ClientDependencies) -> HttpEndpoint:
    headers = {kind: request_headers(protocol) for kind, protocol in _PROTOCOLS.items()}
    return HttpEndpoint(
        endpoint,
        dependencies,
        headers=headers,
        classify=_classify_answer,
        defaults=_DEFAULTS,
    )


def _classify_answer(
    endpoint: Endpoint, request: EncodedRequest, answer: HttpResponse, now: float
) -> Verdict:
    assert isinstance(endpoint, PrometheusRemoteWrite)
    sent = Sent(_PROTOCOLS[request.kind], request.points, endpoint.bad_request)
    return classify(sent, answer, now)


def _speaks_1_0(endpoint: Endpoint) -> bool:
    return isinstance(endpoint, PrometheusRemoteWrite) and endpoint.version == "1.0"


def _speaks_2_0(endpoint: Endpoint) -> bool:
    return isinstance(endpoint, PrometheusRemoteWrite) and endpoint.version == "2.0"


REMOTE_WRITE_1: Final = SinkKind(
    name=V1Encoder.kind,
    stored_codings={"snappy": 3},
    encoder=V1Encoder(),
    make_client=_make_client,
    serves=_speaks_1_0,
)
REMOTE_WRITE_2: Final = SinkKind(
    name=V2Encoder.kind,
    stored_codings={"snappy": 4},
    encoder=V2Encoder(),
    make_client=_make_client,
    serves=_speaks_2_0,
)
