"""The client against a scripted API server: what each answer becomes, and what is bounded."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from relay.control.kubernetes.client import ApiClient, ClientTimings, WatchStream, WatchTarget
from relay.control.kubernetes.errors import (
    AbsentError,
    ExpiredError,
    KubernetesError,
    PageTooLargeError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
    WriteConflictError,
)
from relay.control.kubernetes.kubeconfig import ClusterAccess, PemSource
from relay.control.kubernetes.objects import ApiResource, Bookmark, ObjectEvent
from relay.control.kubernetes.slots import Use
from tests.kit.kubernetes.fake_api import Answer, FakeApi, Fault, cut, failing, streaming
from tests.kit.processes import eventually
from tests.own_time import own_time

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
ALL = WatchTarget(EXPORTERS)
PATH = EXPORTERS.path()
QUICK = ClientTimings(connect_s=2, answer_s=0.5, watch_s=(2, 3), watch_grace_s=0.5)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as api:
        yield api


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[ApiClient]:
    async with ApiClient(ClusterAccess(api.url, token="t"), timings=QUICK) as client:
        yield client


async def followed(
    client: ApiClient, *, resource_version: str, use: Use = Use.MAIN_WATCH
) -> WatchStream:
    """A watch of which every event was read."""
    target = WatchTarget(EXPORTERS, use=use)
    async with client.watch(target, resource_version=resource_version) as stream:
        async for _ in stream.parts():
            pass
    return stream


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def moved(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (failing(404, "NotFound"), AbsentError, "404 NotFound: NotFound"),
        (failing(403, "Forbidden"), RequestRefusedError, "403 Forbidden"),
        (failing(409, "Conflict"), WriteConflictError, "409 Conflict"),
        (failing(410, "Expired"), ExpiredError, "410 Expired"),
        (failing(503, "ServiceUnavailable"), ThrottledError, "503"),
        (moved, RequestRefusedError, "302: no message"),
        (cut, UnreachableError, "the connection broke"),
        pytest.param(silent, UnreachableError, "no answer in time", marks=pytest.mark.slow),
    ],
)
async def test_every_failure_has_its_type(
    api: FakeApi, client: ApiClient, answer: Answer, error: type[KubernetesError], message: str
) -> None:
    api.faults.append(Fault(answer, times=100))
    with pytest.raises(error, match=message):
        await client.list_page(ALL)
    with pytest.raises(error, match=message):
        async with client.watch(ALL):
            pass
    assert client.slots.in_use == 0
    api.faults.clear()
    assert (await client.list_page(ALL)).items == ()


async def test_a_wish_of_the_server_is_reported(api: FakeApi, client: ApiClient) -> None:
    api.faults.append(Fault(failing(429, "TooManyRequests", retry_after="7")))
    with pytest.raises(ThrottledError) as caught:
        await client.list_page(ALL)
    assert caught.value.retry_after_s == 7


async def test_nobody_listens() -> None:
    async with ApiClient(ClusterAccess("http://127.0.0.1:1")) as client:
        with pytest.raises(UnreachableError, match="cannot connect: "):
            await client.list_page(ALL)
        assert client.statistics().requests == {"unreachable": 1}


async def test_the_token_goes_along_and_no_cookie_or_compression(
    api: FakeApi, client: ApiClient
) -> None:
    await client.list_page(ALL)
    headers = api.requests[0].headers
    assert headers["Authorization"] == "Bearer t"
    assert headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in headers


async def test_a_long_answer_is_cut_off(api: FakeApi) -> None:
    api.put(PATH, api.new("a", text="x" * 10_000))
    async with ApiClient(ClusterAccess(api.url), page_bytes_max=1000) as client:
        with pytest.raises(PageTooLargeError):
            await client.list_page(ALL)
        assert client.slots.in_use == 0


async def test_pages(api: FakeApi, client: ApiClient) -> None:
    for number in range(5):
        api.put(PATH, api.new(f"e{number}"))
    first = await client.list_page(ALL, limit=2)
    second = await client.list_page(ALL, limit=2, continue_token=first.continue_token)
    third = await client.list_page(ALL, limit=2, continue_token=second.continue_token)
    assert [len(page.items) for page in (first, second, third)] == [2, 2, 1]
    assert third.continue_token == ""
    api.forget_snapshots()
    with pytest.raises(ExpiredError):
        await client.list_page(ALL, continue_token=first.continue_token)


async def test_a_watch_ends_by_itself_and_keeps_its_connection(api: FakeApi) -> None:
    api.watch_s_max = 0.2
    api.put(PATH, api.new("a"))
    async with ApiClient(ClusterAccess(api.url), timings=QUICK) as client:
        for _ in range(3):
            async with client.watch(ALL, initial_events=True) as stream:
                events = [event async for part in stream.parts() for event in part]
            assert isinstance(events[0], ObjectEvent)
            assert isinstance(events[1], Bookmark)
            assert not stream.given_way
    assert api.connections_max == 1
    query = api.seen(watch=True)[0].query
    assert query["resourceVersionMatch"] == "NotOlderThan"
    assert 2 <= int(query["timeoutSeconds"]) <= 3


async def test_a_watch_that_never_ends_is_ended(api: FakeApi) -> None:
    api.faults.append(Fault(streaming(hang=True)))
    timings = ClientTimings(answer_s=5, watch_s=(0.2, 0.2), watch_grace_s=0.1)
    async with ApiClient(ClusterAccess(api.url), timings=timings) as client:
        with pytest.raises(UnreachableError, match="no answer in time"):
            await followed(client, resource_version="100")
        assert client.slots.in_use == 0


async def test_a_spare_watch_gives_its_connection_to_requests(
    api: FakeApi, client: ApiClient
) -> None:
    started: list[Use] = []

    async def follow(use: Use) -> bool:
        async with client.watch(WatchTarget(EXPORTERS, use=use), resource_version="1") as stream:
            started.append(use)
            async for _ in stream.parts():
                pass
            return stream.given_way

    mains = [asyncio.ensure_future(follow(Use.MAIN_WATCH)) for _ in range(2)]
    await eventually("both have begun", lambda: len(started) == 2, timeout_s=5)
    spare = asyncio.ensure_future(follow(Use.SPARE_WATCH))
    await eventually("the third has begun", lambda: len(started) == 3, timeout_s=5)
    await asyncio.gather(*(client.list_page(ALL) for _ in range(20)))
    assert await spare is True
    assert not any(main.done() for main in mains)
    assert api.connections_max <= 3
    for main in mains:
        main.cancel()
    await asyncio.gather(*mains, return_exceptions=True)


async def test_a_spare_watch_gives_way_before_it_is_answered(
    api: FakeApi, client: ApiClient
) -> None:
    api.faults.append(Fault(silent, 10, lambda request: "watch" in request.query))
    holding = [
        asyncio.ensure_future(followed(client, resource_version="1", use=use))
        for use in (Use.MAIN_WATCH, Use.MAIN_WATCH, Use.SPARE_WATCH)
    ]
    await eventually("all are sent", lambda: len(api.seen(watch=True)) == 3, timeout_s=5)
    began = own_time()
    await client.list_page(ALL)
    assert own_time() - began < 0.3
    assert (await holding[2]).given_way
    for ended in await asyncio.gather(*holding[:2], return_exceptions=True):
        assert isinstance(ended, UnreachableError)
    assert client.slots.in_use == 0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a self-signed certificate and key for a name; the file holds both."""
    folder = tmp_path_factory.mktemp("tls")

    def make(name: str) -> Path:
        key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
        subprocess.run(
            (
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{name}"),
                *("-keyout", str(key), "-out", str(certificate)),
            ),
            check=True,
            capture_output=True,
        )
        return certificate

    return make


async def test_tls_names_authorities_and_client_certificates(
    certificates: Callable[[str], Path],
) -> None:
    server, customer, other = (certificates(name) for name in ("api.test", "client", "other"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(customer))
    context.load_cert_chain(server, server.with_suffix(".key"))
    context.verify_mode = ssl.CERT_REQUIRED
    async with FakeApi(tls=context) as api:
        whole = {
            "ca": PemSource(path=server),
            "server_name": "api.test",
            "certificate": PemSource(path=customer),
            "key": PemSource(path=customer.with_suffix(".key")),
        }
        async with ApiClient(ClusterAccess(api.url, **whole)) as client:
            assert (await client.list_page(ALL)).items == ()
        for changed, message in (
            ({"ca": PemSource(path=other)}, "certificate is refused: self.signed certificate"),
            ({"server_name": "x.test"}, "certificate is refused: [Hh]ostname mismatch"),
            ({"ca": PemSource(path=Path("/none"))}, "the CA in /none cannot be read"),
        ):
            async with ApiClient(ClusterAccess(api.url, **(whole | changed))) as client:
                with pytest.raises(UnreachableError, match=message):
                    await client.list_page(ALL)
        assert len(api.requests) == 1


async def test_closing_ends_what_is_open(api: FakeApi) -> None:
    client = ApiClient(ClusterAccess(api.url), timings=QUICK)
    watching = asyncio.ensure_future(followed(client, resource_version="1"))
    await eventually("the watch is open", lambda: bool(api.seen(watch=True)), timeout_s=5)
    began = own_time()
    await client.close()
    with pytest.raises(UnreachableError):
        await watching
    assert own_time() - began < 1
