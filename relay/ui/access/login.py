"""Logins: a token that is pasted once, or the code flow of OpenID Connect."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from aiohttp import web

from relay.apiserver.access.json_web_tokens import expiry_of
from relay.apiserver.access.principals import Principal
from relay.apiserver.access.tokens import (
    NoAuthentication,
    TokenAuthentication,
    UserAuthentication,
    token_digest,
)
from relay.apiserver.http.bodies import read_bytes
from relay.apiserver.objects.failures import ApiRefusalError
from relay.ui.access.origin import scheme_of_page
from relay.ui.access.sessions import Sessions
from relay.ui.rendering import Rendering, redirect
from relay.ui.visit import PageProblemError, parsed_form

_FORM_BYTES_MAX: Final = 16 * 1024
_ROOT: Final = "/ui/"
_COOKIE: Final = "relay"
_COOKIE_OF_TLS: Final = "__Host-relay"
WANTED_CHARS_MAX: Final = 2000
"""Longest address that a login leads back to: with its escapes it has to fit into another one."""


class CodeFlow(Protocol):
    """Logins at an issuer."""

    async def start(self, request: web.BaseRequest, wanted: str) -> web.Response:
        """Lead to the issuer."""
        ...

    async def finish(self, request: web.BaseRequest) -> tuple[Principal, str]:
        """Return the user that the issuer has sent back, and the page that was wanted."""
        ...

    def end(self, request: web.BaseRequest, response: web.Response) -> None:
        """Make the browser forget its login at the issuer."""
        ...


class LoginPages:
    """The pages of login and logout; ``code_flow`` is None without an issuer."""

    def __init__(
        self,
        authentication: UserAuthentication,
        sessions: Sessions,
        rendering: Rendering,
        code_flow: CodeFlow | None = None,
    ) -> None:
        self._authentication = authentication
        self._sessions = sessions
        self._rendering = rendering
        self._code_flow = code_flow

    def __repr__(self) -> str:
        return f"<LoginPages of {self._authentication!r}>"

    @property
    def is_open(self) -> bool:
        """True if nobody logs in, as with ``authentication: none``."""
        return isinstance(self._authentication, NoAuthentication)

    async def user_of(self, request: web.BaseRequest) -> Principal | None:
        """Return the user of a request's session, None without one that is valid.

        No page has the values of Secrets, whatever the token allows.
        """
        if self.is_open:
            found = await self._authentication.principal(None)
        else:
            found = self._sessions.principal(session_cookie(request))
        return None if found is None else replace(found, reads_secrets=False)

    async def answer(
        self, request: web.BaseRequest, segments: tuple[str, ...]
    ) -> web.StreamResponse:
        """Answer a request for one of these pages; raise PageProblemError."""
        match (request.method, segments):
            case ("GET" | "HEAD", ("login",)):
                if await self.user_of(request) is not None:
                    return redirect(_ROOT)
                return self._form(own_page(request.rel_url.query.get("next", "")))
            case ("POST", ("login",)) if not self.is_open:
                return await self._log_in(request)
            case ("POST", ("logout",)):
                await self._sessions.end(session_cookie(request))
                response = redirect("/ui/login")
                response.headers.add("Set-Cookie", _set_cookie(request, "", 0))
                return response
            case ("GET", ("oidc", "start")) if self._code_flow is not None:
                wanted = own_page(request.rel_url.query.get("next", ""))
                return await self._code_flow.start(request, wanted)
            case ("GET", ("oidc", "callback")) if self._code_flow is not None:
                user, wanted = await self._code_flow.finish(request)
                response = await self._begin_after_redirect(request, user, own_page(wanted))
                self._code_flow.end(request, response)
                return response
        raise PageProblemError(404, "There is no such page.")

    def _form(self, wanted: str, problem: str = "") -> web.Response:
        values = {
            "wanted": wanted,
            "problem": problem,
            "has_issuer": self._code_flow is not None,
            "has_tokens": not self.is_open,
        }
        text = self._rendering.text("login.html", values)
        return self._rendering.answer(text, status=401 if problem else 200)

    async def _log_in(self, request: web.BaseRequest) -> web.Response:
        try:
            fields = parsed_form(await read_bytes(request, _FORM_BYTES_MAX))
        except ApiRefusalError as error:
            raise PageProblemError(error.code, str(error)) from error
        token, wanted = fields.get("token", "").strip(), own_page(fields.get("next", ""))
        if not token:
            return self._form(wanted, "Paste a token first.")
        user = await self._authentication.principal(f"Bearer {token}")
        if user is None:
            return self._form(wanted, "This token is not known here, or has expired.")
        is_listed = isinstance(self._authentication, TokenAuthentication)
        cookie, age_s = await self._sessions.begin(
            user,
            token_digest(token) if is_listed else "",
            until=None if is_listed else expiry_of(token),
            instead_of=session_cookie(request),
        )
        response = redirect(wanted)
        response.headers.add("Set-Cookie", _set_cookie(request, cookie, age_s))
        return response

    async def _begin_after_redirect(
        self, request: web.BaseRequest, user: Principal, wanted: str
    ) -> web.Response:
        """Begin a session, and go on by a page of our own.

        A browser does not send a SameSite=Strict cookie along a chain of redirects that began at
        another site.
        """
        cookie, age_s = await self._sessions.begin(user, instead_of=session_cookie(request))
        response = self._rendering.answer(
            self._rendering.text("logged_in.html", {"wanted": wanted})
        )
        response.headers.add("Set-Cookie", _set_cookie(request, cookie, age_s))
        return response


def session_cookie(request: web.BaseRequest) -> str:
    """Return the cookie of a request's session, "" without.

    Without TLS it may be either: a proxy that terminates TLS passes on that of https.
    """
    found = request.cookies.get(_COOKIE_OF_TLS, "")
    return found if found or request.secure else request.cookies.get(_COOKIE, "")


def _set_cookie(request: web.BaseRequest, value: str, age_s: int) -> str:
    """Return a cookie; with TLS its prefix makes browsers take it from this host only."""
    is_tls = scheme_of_page(request.scheme, request.headers) == "https"
    name, secure = (_COOKIE_OF_TLS, "; Secure") if is_tls else (_COOKIE, "")
    return f"{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"


def own_page(wanted: str) -> str:
    """Return an address below ``/ui/``, its root for any other."""
    plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted
    if not plain or len(wanted) > WANTED_CHARS_MAX or not wanted.startswith(_ROOT):
        return _ROOT
    is_login = wanted.startswith(("/ui/login", "/ui/logout", "/ui/oidc"))
    return _ROOT if is_login else wanted
