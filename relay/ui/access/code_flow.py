"""OpenID Connect's authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636).

The relay is a public client: what proves that the code is its own is the verifier. State, nonce
and verifier are in a cookie of this login alone, encrypted and signed with a key that only this
process has, for ten minutes: nothing is kept of a login that has begun, so that no number of others
pushes it out. The cookie is SameSite=Lax: the issuer sends the browser back from another site.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
from aiohttp import web
from cryptography.fernet import Fernet, InvalidToken

from relay.apiserver.access.principals import Principal
from relay.apiserver.access.tokens import UserAuthentication
from relay.ui.access.origin import scheme_of_page
from relay.ui.rendering import redirect
from relay.ui.visit import PageProblemError

LOGIN_S: Final = 600
WANTED_CHARS_MAX: Final = 1000
"""Longest address that a login comes back to: browsers keep cookies of 4,096 bytes."""
CALLBACK: Final = "/ui/oidc/callback"
_SCOPE: Final = "openid profile email"
_ANSWER_BYTES_MAX: Final = 256 * 1024
_TIMEOUT_S: Final = 10.0
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class _Begun(msgspec.Struct, frozen=True, array_like=True):
    """A login that has begun: what only this relay and the issuer's answer may know."""

    state: str
    verifier: str
    nonce: str
    wanted: str


_decoder: Final = msgspec.json.Decoder(_Begun)


class OidcCodeFlow:
    """Logins at one issuer; ``clock`` is the wall clock, s."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        authentication: UserAuthentication,
        clock: Callable[[], float],
    ) -> None:
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._authentication = authentication
        self._clock = clock
        self._key = Fernet(Fernet.generate_key())
        self._endpoints: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"<OidcCodeFlow {self._issuer}>"

    async def start(self, request: web.BaseRequest, wanted: str) -> web.Response:
        """Lead to the issuer; raise PageProblemError where it cannot be asked."""
        endpoints = await self._discovered()
        state, verifier, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        begun = _Begun(state, verifier, nonce, wanted if len(wanted) <= WANTED_CHARS_MAX else "")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": _redirect_uri(request),
            "scope": _SCOPE,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge.decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        address = endpoints["authorization_endpoint"]
        joint = "&" if "?" in address else "?"
        response = redirect(f"{address}{joint}{urlencode(query)}")
        response.headers.add("Set-Cookie", _cookie(request, self._sealed(begun), LOGIN_S))
        return response

    async def finish(self, request: web.BaseRequest) -> tuple[Principal, str]:
        """Return the user that the issuer has sent back, and the page that was wanted.

        Raises PageProblemError for an answer to no login of this browser, or that is refused.
        """
        query = request.rel_url.query
        begun = self._opened(request.cookies.get(_cookie_name(request), ""))
        if begun is None:
            raise PageProblemError(400, "This login is over or was begun elsewhere: sign in again.")
        if not hmac.compare_digest(begun.state.encode(), query.get("state", "").encode()):
            raise PageProblemError(400, "The issuer's answer is to another login: sign in again.")
        if "code" not in query:
            said = query.get("error_description") or query.get("error") or "it gave no reason"
            raise PageProblemError(403, f"The issuer refused the login: {said[:300]}")
        tokens = await self._tokens(request, query["code"], begun.verifier)
        user = await self._user(tokens, begun.nonce)
        if user is None:
            message = "The issuer knows you, but its token gives you no project and role here."
            raise PageProblemError(403, message)
        return user, begun.wanted

    def end(self, request: web.BaseRequest, response: web.Response) -> None:
        """Make the browser forget its login at the issuer: it is over."""
        response.headers.add("Set-Cookie", _cookie(request, "", 0))

    def _sealed(self, begun: _Begun) -> str:
        content = msgspec.json.encode(begun)
        return self._key.encrypt_at_time(content, int(self._clock())).decode()

    def _opened(self, cookie: str) -> _Begun | None:
        """Return the login of a cookie of ours that is not too old, None for any other."""
        try:
            content = self._key.decrypt_at_time(cookie, LOGIN_S, int(self._clock()))
        except (InvalidToken, ValueError):
            return None  # ValueError: text that is no ASCII
        return _decoder.decode(content)

    async def _tokens(
        self, request: web.BaseRequest, code: str, verifier: str
    ) -> Mapping[str, Any]:
        endpoints = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": _redirect_uri(request),
            "client_id": self._client_id,
            "code_verifier": verifier,
        }
        code_, answer = await _ask("POST", endpoints["token_endpoint"], form)
        if code_ != 200:
            said = answer.get("error_description") or answer.get("error") or f"HTTP {code_}"
            raise PageProblemError(403, f"The issuer refused the code: {str(said)[:300]}")
        return answer

    async def _user(self, tokens: Mapping[str, Any], nonce: str) -> Principal | None:
        """Return the user of the first token that is for this relay.

        The nonce ties an ID token to this login; its signature is checked with the rest.
        """
        for name in ("id_token", "access_token"):
            token = tokens.get(name)
            if not isinstance(token, str):
                continue
            if name == "id_token" and _claim(token, "nonce") != nonce:
                raise PageProblemError(400, "The issuer's token is of another login.")
            user = await self._authentication.principal(f"Bearer {token}")
            if user is not None:
                return user
        return None

    async def _discovered(self) -> Mapping[str, str]:
        """Return the issuer's endpoints (OpenID Connect Discovery 1.0 section 4)."""
        if not self._endpoints:
            code, answer = await _ask("GET", f"{self._issuer}/.well-known/openid-configuration")
            found = {name: answer.get(name) for name in _ENDPOINTS}
            good = {name: url for name, url in found.items() if _is_safe(url)}
            if code != 200 or len(good) != len(_ENDPOINTS):
                raise PageProblemError(502, "The issuer does not say where to log in.")
            self._endpoints = {name: str(url) for name, url in good.items()}
        return self._endpoints


async def _ask(
    method: str, url: str, form: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Return code and JSON of an issuer's answer; raise PageProblemError without one."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method,
                url,
                data=form,
                allow_redirects=False,
                headers={"Accept": "application/json"},
            ) as response,
        ):
            body = await response.content.read(_ANSWER_BYTES_MAX)
            value = json.loads(body)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        message = f"The issuer cannot be asked: {type(error).__name__}."
        raise PageProblemError(502, message) from error
    if not isinstance(value, dict):
        raise PageProblemError(502, "The issuer's answer is no object.")
    return response.status, value


def _claim(token: str, name: str) -> object:
    """Return a claim of a token whose signature is checked elsewhere, None without."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return value.get(name) if isinstance(value, dict) else None


def _is_safe(url: object) -> bool:
    """Return True for an address with TLS, or of this machine."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)


def _redirect_uri(request: web.BaseRequest) -> str:
    return f"{scheme_of_page(request.scheme, request.headers)}://{request.host}{CALLBACK}"


def _cookie_name(request: web.BaseRequest) -> str:
    return "__Host-relay-login" if _is_tls(request) else "relay-login"


def _is_tls(request: web.BaseRequest) -> bool:
    return scheme_of_page(request.scheme, request.headers) == "https"


def _cookie(request: web.BaseRequest, value: str, age_s: int) -> str:
    secure = "; Secure" if _is_tls(request) else ""
    name = _cookie_name(request)
    return f"{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}"
