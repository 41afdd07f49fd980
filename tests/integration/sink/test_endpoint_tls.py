"""An endpoint's own authority counts however its URL is written."""

from __future__ import annotations

import ssl

import pytest
import trustme

from relay.codec.signal_names import SignalName
from relay.config.exporter.types import ClientTls, OtlpHttp, SecretRef
from relay.sink.http.client import Transport
from relay.sink.interface import ClientDependencies, SinkKind
from relay.sink.otlp.records import OTLP_LOGS, OTLP_TRACES
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.queue.payload import EncodedRequest
from relay.sink.retry.verdict import Delivered
from tests.kit.http.otlp_server import OtlpServer


@pytest.mark.parametrize(
    ("kind", "signal", "scheme"),
    [
        (OTLP_HTTP, "metrics", "https"),
        (OTLP_HTTP, "metrics", "HTTPS"),
        (OTLP_LOGS, "logs", "https"),
        (OTLP_TRACES, "traces", "https"),
    ],
)
async def test_the_sinks_own_authority_is_asked(
    kind: SinkKind, signal: SignalName, scheme: str
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    pem = authority.cert_pem.bytes().decode()
    async with OtlpServer(tls=context) as server, Transport(allow_private=True) as client:
        url = server.url.replace("https", scheme).replace("metrics", signal)
        endpoint = kind.make_client(
            OtlpHttp(url, tls=ClientTls(SecretRef("authority")), signal=signal),
            ClientDependencies(client, lambda reference, key: pem, lambda: 0.0),
        )
        verdict = await endpoint.send(EncodedRequest(b"", "none", 1, 0, 0, 0, 0.0))
        assert isinstance(verdict, Delivered), verdict
        assert [one.signal for one in server.received] == [signal]
