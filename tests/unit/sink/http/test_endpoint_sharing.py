"""What sinks of equal settings share of their requests, and that no credential is among it."""

from __future__ import annotations

from relay.config.exporter.types import Authentication, OtlpHttp, SecretRef
from relay.sink.http.interface import HttpClient, HttpRequest
from relay.sink.http.response import HttpFailure, HttpResponse
from relay.sink.interface import ClientDependencies
from relay.sink.otlp_http import make_client
from relay.sink.queue.payload import EncodedRequest

URL = "http://127.0.0.1:4318/v1/metrics"
KEY = Authentication("bearerToken", SecretRef("s", "token"))


class Answers(HttpClient):
    """Answers with the given statuses, and keeps the requests."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[HttpRequest] = []

    async def post(self, request: HttpRequest) -> HttpResponse | HttpFailure:
        self.requests.append(request)
        return HttpResponse(self.statuses.pop(0), {}, b"")


def request(encoding: str = "gzip") -> EncodedRequest:
    return EncodedRequest(b"", encoding, 1, 1, 1, 0, 0.0)  # type: ignore[arg-type]


async def headers_of(client: Answers, endpoint: OtlpHttp, token: str = "") -> object:
    """Send a request of a sink, and return what its header fields are kept in."""
    client.statuses.append(200)
    dependencies = ClientDependencies(client, lambda _reference, _key: token, lambda: 0.0)
    await make_client(endpoint, dependencies).send(request(endpoint.compression))
    return client.requests[-1].to.headers


async def test_sinks_without_headers_of_their_own_share_one_object() -> None:
    client = Answers()
    plain = await headers_of(client, OtlpHttp(URL))
    assert plain == {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    assert await headers_of(client, OtlpHttp(f"{URL}/other")) is plain
    none = await headers_of(client, OtlpHttp(URL, compression="none"))
    assert none == {"Content-Type": "application/x-protobuf"}


async def test_headers_with_credentials_are_a_sinks_own() -> None:
    client = Answers()
    one = await headers_of(client, OtlpHttp(URL, authentication=KEY), "secret-of-one")
    other = await headers_of(client, OtlpHttp(URL, authentication=KEY), "secret-of-other")
    own = await headers_of(client, OtlpHttp(URL, headers={"X-Tenant": "a"}))
    again = await headers_of(client, OtlpHttp(URL, headers={"X-Tenant": "a"}))
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert one["Authorization"] == "Bearer secret-of-one"
    assert other["Authorization"] == "Bearer secret-of-other"
    assert own == again
    assert own is not again


async def test_answers_are_counted_by_verdict() -> None:
    client = Answers(200, 503, 200, 503, 404, 413, 400)
    dependencies = ClientDependencies(client, lambda _reference, _key: "", lambda: 0.0)
    endpoint = make_client(OtlpHttp(URL), dependencies)
    assert endpoint.requests == {}
    for _ in range(7):
        await endpoint.send(request())
    assert endpoint.requests == {
        "delivered": 2,
        "retry": 2,
        "rejected": 1,
        "split": 1,
        "bisect": 1,
    }


async def test_delta_points_are_not_sent_in_halves() -> None:
    """A backend that stored the rest would count them twice."""
    client = Answers(400, 400)
    dependencies = ClientDependencies(client, lambda _reference, _key: "", lambda: 0.0)
    for temporality, verdict in (("cumulative", "bisect"), ("delta", "rejected")):
        endpoint = make_client(OtlpHttp(URL, temporality=temporality), dependencies)
        await endpoint.send(request())
        assert endpoint.requests == {verdict: 1}


async def test_each_compression_has_a_destination_that_is_kept() -> None:
    client = Answers(200, 200, 200, 200)
    dependencies = ClientDependencies(client, lambda _reference, _key: "", lambda: 0.0)
    endpoint = make_client(OtlpHttp(URL), dependencies)
    for encoding in ("gzip", "none", "gzip", "none"):
        await endpoint.send(request(encoding))
    first, second, third, fourth = [one.to for one in client.requests]
    assert first is third
    assert second is fourth
    assert "Content-Encoding" not in second.headers
    assert first.headers["Content-Encoding"] == "gzip"
