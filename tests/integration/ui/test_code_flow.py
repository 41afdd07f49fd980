"""Logins at an issuer: the code flow with PKCE."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from relay.apiserver.access.oidc import OidcAuthentication, key_source
from relay.config.settings.api import OidcSettings
from relay.ui.access.code_flow import CALLBACK, LOGIN_S, WANTED_CHARS_MAX, OidcCodeFlow
from relay.ui.visit import PageProblemError
from tests.kit.apiserver.issuer import AUDIENCE, Issuer
from tests.kit.http.loopback_server import LoopbackServer
from tests.kit.ui.visitor import LocalPages, PageAnswer, Visitor, local_pages

CLIENT = "relay-pages"


class IssuerServer(LoopbackServer):
    """An issuer that gives a code for every login, once, to the one that began it."""

    def __init__(self) -> None:
        super().__init__(method="*")
        self.issuer = Issuer(time.time())
        self.codes: dict[str, dict[str, str]] = {}
        self.token_requests: list[dict[str, str]] = []
        self.changes: dict[str, object] = {}
        self.is_down = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer discovery and the token endpoint."""
        if self.is_down:
            return web.Response(status=503, text="down")
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(
                {
                    "authorization_endpoint": f"{self.origin}/authorize?audience={AUDIENCE}",
                    "token_endpoint": f"{self.origin}/token",
                }
            )
        assert request.path == "/token", request.path
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.token_requests.append(form)
        begun = self.codes.pop(form["code"], None)
        if begun is None or not self._fits(form, begun):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {"iss": self.origin, "nonce": begun["nonce"], **self.changes}
        return web.json_response({"id_token": self.issuer.token(**claims)})

    def _fits(self, form: dict[str, str], begun: dict[str, str]) -> bool:
        """Whether a code was asked for with the challenge of its verifier (RFC 7636)."""
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return (
            challenge == begun["code_challenge"]
            and begun["code_challenge_method"] == "S256"
            and form["redirect_uri"] == begun["redirect_uri"]
            and form["client_id"] == CLIENT
        )

    def authorize(self, location: str) -> str:
        """What the issuer sends the browser back to, once somebody has logged in there."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        code = f"code-{len(self.token_requests)}-{len(self.codes)}"
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"


@asynccontextmanager
async def pages_of(folder: Path) -> AsyncIterator[tuple[LocalPages, IssuerServer]]:
    """Pages whose users log in at an issuer."""
    async with IssuerServer() as server:
        keys = folder / "jwks.json"
        keys.write_bytes(server.issuer.keys)
        oidc = OidcSettings(server.origin, AUDIENCE, jwks_file=keys, client_id=CLIENT)
        source = key_source(oidc, time.monotonic)
        authentication = OidcAuthentication(oidc, source, time.time)
        async with local_pages(
            folder, tenancy=True, authentication=authentication, oidc=oidc, has_plain=True
        ) as pages:
            yield pages, server


async def begun(visitor: Visitor, wanted: str = "") -> PageAnswer:
    """Begin a login."""
    answer = await visitor.get(f"/ui/oidc/start?{urlencode({'next': wanted})}")
    assert answer.status == 303, answer.text
    return answer


async def test_a_login_at_the_issuer(tmp_path: Path) -> None:
    async with pages_of(tmp_path) as (pages, server), pages.visitor() as visitor:
        form = await visitor.get("/ui/login?next=/ui/projects/acme/secrets")
        assert "Sign in with your organisation" in form.text
        wanted = "/ui/projects/acme/secrets"
        start = await begun(visitor, wanted)
        assert "SameSite=Lax" in start.headers["Set-Cookie"]
        assert "HttpOnly" in start.headers["Set-Cookie"]
        assert start.location.startswith(f"{server.origin}/authorize?audience={AUDIENCE}&")
        back = server.authorize(start.location).removeprefix(pages.url)
        done = await visitor.get(back)
        assert done.status == 200
        assert f'content="0; url={wanted}"' in done.text
        session, over = done.headers.getall("Set-Cookie")
        assert "SameSite=Strict" in session
        assert over.startswith("__Host-relay-login=; ")
        assert "Max-Age=0" in over
        page = await visitor.get(wanted)
        assert page.status == 200
        assert "<bdi>ann</bdi>, admin" in page.text
        verifier = server.token_requests[0]["code_verifier"]
        assert verifier not in start.location + start.headers["Set-Cookie"] + done.text
        again = await visitor.get(back)
        assert again.status == 400, "an answer counts once"


async def test_an_answer_to_no_login_of_this_browser_is_refused(tmp_path: Path) -> None:
    async with (
        pages_of(tmp_path) as (pages, server),
        pages.visitor() as victim,
        pages.visitor() as attacker,
    ):
        start = await begun(attacker)
        back = server.authorize(start.location).removeprefix(pages.url)
        assert (await victim.get(back)).status == 400
        await begun(victim)
        assert (await victim.get(back)).status == 400
        assert "__Host-relay=" not in str((await victim.get("/ui/login")).headers)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"nonce": "other"}, 400),
        ({"aud": "other"}, 403),
        ({"role": "root"}, 403),
        ({"projects": []}, 403),
        ({"exp": 1}, 403),
    ],
)
async def test_tokens_that_are_not_for_this_login(
    tmp_path: Path, changes: dict[str, object], code: int
) -> None:
    async with pages_of(tmp_path) as (pages, server), pages.visitor() as visitor:
        server.changes = changes
        start = await begun(visitor)
        answer = await visitor.get(server.authorize(start.location).removeprefix(pages.url))
        assert answer.status == code
        assert (await visitor.get("/ui/projects/acme/exporters")).status == 303


async def test_a_refusal_of_the_issuer_is_told_as_text(tmp_path: Path) -> None:
    async with pages_of(tmp_path) as (pages, _), pages.visitor() as visitor:
        start = await begun(visitor)
        state = parse_qs(urlsplit(start.location).query)["state"][0]
        query = urlencode({"state": state, "error_description": "<b>no</b>"})
        answer = await visitor.get(f"/ui/oidc/callback?{query}")
        assert answer.status == 403
        assert "&lt;b&gt;no&lt;/b&gt;" in answer.text


async def test_an_issuer_that_is_away_is_told(tmp_path: Path) -> None:
    async with pages_of(tmp_path) as (pages, server), pages.visitor() as visitor:
        server.is_down = True
        answer = await visitor.get("/ui/oidc/start")
        assert answer.status == 502
        server.is_down = False
        assert (await visitor.get("/ui/oidc/start")).status == 303


async def test_without_a_client_there_is_no_such_login(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor() as visitor:
        assert (await visitor.get("/ui/oidc/start")).status == 404
        assert "organisation" not in (await visitor.get("/ui/login")).text


class BegunLogin:
    """A login of one browser over plain HTTP, begun at ``flow``."""

    def __init__(self, response: web.Response) -> None:
        self.location = response.headers["Location"]
        self.cookie = response.headers["Set-Cookie"].partition(";")[0]

    def back(self, address: str, cookie: str = "") -> web.Request:
        """The request by which the browser comes back."""
        path = address[address.index(CALLBACK) :]
        headers = {"Cookie": cookie or self.cookie, "Host": "relay.example"}
        return make_mocked_request("GET", path, headers=headers)


def start_of() -> web.Request:
    """The request by which a login begins."""
    return make_mocked_request("GET", "/ui/oidc/start", headers={"Host": "relay.example"})


async def login_of(flow: OidcCodeFlow, wanted: str = "/ui/") -> BegunLogin:
    """A login that begins."""
    return BegunLogin(await flow.start(start_of(), wanted))


async def test_no_number_of_other_logins_pushes_one_out(tmp_path: Path) -> None:
    async with IssuerServer() as server:
        keys = tmp_path / "jwks.json"
        keys.write_bytes(server.issuer.keys)
        oidc = OidcSettings(server.origin, AUDIENCE, jwks_file=keys, client_id=CLIENT)
        authentication = OidcAuthentication(oidc, key_source(oidc, time.monotonic), time.time)
        now = time.time()
        flow = OidcCodeFlow(server.origin, CLIENT, authentication, lambda: now)
        first = await login_of(flow, "/ui/projects/acme/exporters")
        request = start_of()
        others = [BegunLogin(await flow.start(request, "/ui/")) for _ in range(1200)]
        assert len({one.cookie for one in others}) == 1200
        now += LOGIN_S - 1
        user, wanted = await flow.finish(first.back(server.authorize(first.location)))
        assert (user.user, wanted) == ("ann", "/ui/projects/acme/exporters")

        long = await login_of(flow, "/ui/" + "x" * WANTED_CHARS_MAX)
        assert len(long.cookie) < 4000
        assert (await flow.finish(long.back(server.authorize(long.location))))[1] == ""
        longest = "/ui/" + "x" * (WANTED_CHARS_MAX - 4)
        assert len((await login_of(flow, longest)).cookie) < 4000

        late = await login_of(flow)
        back = server.authorize(late.location)
        name, _, value = late.cookie.partition("=")
        stranger = OidcCodeFlow(server.origin, CLIENT, authentication, lambda: now)
        for cookie in ("", "gAAAA", value[:-4], value[:50] + "A" + value[51:], "x\u00e9"):
            with pytest.raises(PageProblemError, match="sign in again"):
                await flow.finish(late.back(back, f"{name}={cookie}"))
        with pytest.raises(PageProblemError, match="sign in again"):
            await stranger.finish(late.back(back))
        now += LOGIN_S + 1
        with pytest.raises(PageProblemError, match="This login is over"):
            await flow.finish(late.back(back))
        assert len(server.token_requests) == 2


async def test_behind_a_proxy_the_issuer_sends_back_to_the_proxy(tmp_path: Path) -> None:
    async with pages_of(tmp_path) as (pages, server), pages.visitor() as visitor:
        visitor.url = f"http://{pages.server.addresses[1]}"
        forwarded = {"Host": "relay.example", "X_Forwarded_Proto": "https"}
        start = await visitor.get("/ui/oidc/start", **forwarded)
        cookie = start.headers["Set-Cookie"]
        assert cookie.startswith("__Host-relay-login=")
        assert "; Secure" in cookie
        back = server.authorize(start.location)
        assert back.startswith("https://relay.example/ui/oidc/callback?")
        path = back.removeprefix("https://relay.example")
        done = await visitor.get(path, Cookie=cookie.partition(";")[0], **forwarded)
        assert done.status == 200, done.text
        assert done.headers["Set-Cookie"].startswith("__Host-relay=")
