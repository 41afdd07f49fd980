"""The head of a request, read before its body. Pure but for :func:`usual_facts`.

Senders repeat their heads, so :func:`usual_facts` is kept for each; see
:mod:`relay.receiver.http.usual_requests`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from multidict import CIMultiDictProxy

from relay.codec import official_classes
from relay.codec.compression import SenderEncoding, decompress, decompress_as_said
from relay.codec.remote_write.v1 import WriteProtocol
from relay.codec.signal_names import SignalName
from relay.pipeline.contract import Tenant
from relay.pipeline.metrics.decoders import DECODERS
from relay.pipeline.signals import OTLP_PROTOCOLS
from relay.receiver.authentication import Authenticator
from relay.receiver.otlp.answers import ALL_TAKEN
from relay.receiver.otlp.target import JSON, OtlpTarget, media_type_of, otlp_target
from relay.receiver.otlp.target import encoding_of as otlp_encoding_of
from relay.receiver.request_target import encoding_of, protocol_of, tenant_of
from relay.receiver.responses import NO_CONTENT, Answer
from relay.runtime.errors import RelayError


class IngestHead(NamedTuple):
    """A request's parameters, known before its body is read."""

    tenant: Tenant | None
    encoding: SenderEncoding
    protocol: WriteProtocol
    json_signal: SignalName | None = None
    """Signal of a body in JSON, which becomes protobuf."""


class UsualFacts(NamedTuple):
    """Facts of a head, for which no request with it is refused."""

    head: IngestHead
    target: OtlpTarget | None
    all_taken: Answer | None
    """The answer where nothing was dropped; None if it depends on what was taken."""


def head_of(
    headers: CIMultiDictProxy[str], tenant: Tenant | None, target: OtlpTarget | None
) -> IngestHead:
    """Read the headers that say how to read the body. Raise UnsupportedMediaError."""
    content_type = headers.get("Content-Type")
    # Repeated header lines equal one line with a list (RFC 9110, 5.3).
    coding = ", ".join(headers.getall("Content-Encoding", ()))
    if target is None:
        return IngestHead(tenant, encoding_of(coding), protocol_of(content_type))
    is_json = media_type_of(content_type) == JSON
    encoding = otlp_encoding_of(coding)
    return IngestHead(tenant, encoding, target.protocol, target.signal if is_json else None)


def usual_facts(
    path: str, headers: CIMultiDictProxy[str], authenticator: Authenticator
) -> UsualFacts | None:
    """Return what the head of a POST says; None where it is refused, or its body is JSON.

    Also of OTLP metrics until the classes that their bodies may need are loaded.
    """
    target = otlp_target(path)
    is_metrics = target is not None and target.signal == "metrics"
    if is_metrics and not official_classes.are_loaded():
        return None
    try:
        tenant = tenant_of(path) if target is None else target.tenant
        head = head_of(headers, tenant, target)
    except RelayError:
        return None
    if head.json_signal is not None or not authenticator.allows(headers.get("Authorization")):
        return None
    if target is not None:
        return UsualFacts(head, target, ALL_TAKEN)
    reports_written = DECODERS[head.protocol].reports_written
    return UsualFacts(head, None, None if reports_written else NO_CONTENT)


def decoder_of(protocol: WriteProtocol) -> Callable[..., bytes]:
    """Return what decompresses bodies of a protocol, as those of ``codec.compression`` do."""
    return decompress_as_said if protocol in OTLP_PROTOCOLS else decompress
