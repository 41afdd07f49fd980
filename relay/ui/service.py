"""Answer requests below ``/ui``, and hand every other one to the API.

In this order: static files, the origin of a change, logins, the session's user, the project, the
page. What the API refuses is shown in its own words.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

from aiohttp import web

from relay.apiserver.access.principals import EVERY_PROJECT, Principal
from relay.apiserver.compose import refuse_foreign_pages
from relay.apiserver.http.service import CLIENT_GONE, ApiService
from relay.apiserver.objects.metadata import name_problem
from relay.ui.access.login import LoginPages, own_page
from relay.ui.access.origin import foreign_origin
from relay.ui.api_calls import ApiCaller, ApiProblemError
from relay.ui.rendering import HEADERS, redirect
from relay.ui.static_files import PREFIX, StaticFiles
from relay.ui.visit import PageProblemError, Route, Shared, Visit

_log: Final = logging.getLogger("relay.ui")
ROOT: Final = "/ui"
_SIGNED_OUT: Final = "You are signed out. Sign in again in another tab, then go on here."


class UiService:
    """Handles requests for pages; ``routes`` are tried in order."""

    def __init__(
        self,
        api: ApiService,
        shared: Shared,
        login: LoginPages,
        static: StaticFiles,
        routes: Sequence[Route],
    ) -> None:
        self._api = api
        self._shared = shared
        self._login = login
        self._static = static
        self._routes = tuple(routes)

    def __repr__(self) -> str:
        return f"<UiService: {len(self._routes)} routes>"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; never raise for what a client sends."""
        path = request.path
        if path == "/" and _is_of_browser(request):
            return redirect(f"{ROOT}/")
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            return await self._api.handle(request)
        response = await self._shown(request)
        if not response.prepared:
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    async def _shown(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(PREFIX):
            return self._static.answer(request)
        try:
            return await self._answer(request)
        except ApiProblemError as problem:
            return self._problem(request, problem.code, problem.message)
        except PageProblemError as problem:
            return self._problem(request, problem.code, str(problem))
        except ConnectionError:
            return web.Response(status=CLIENT_GONE)  # which nobody reads
        except Exception:
            _log.exception("bug in the relay: a page cannot be shown")
            return self._problem(request, 500, "The relay has met a bug; its log says more.")

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        foreign = foreign_origin(request.method, request.scheme, request.headers)
        if self._login.is_open:
            # Every request is an admin's: another site must not be able to send one.
            foreign = foreign or refuse_foreign_pages(request)
        if foreign:
            raise PageProblemError(403, foreign)
        segments = tuple(unquote(one) for one in request.rel_url.raw_path.split("/")[2:])
        if segments[:1] in (("login",), ("logout",), ("oidc",)):
            return await self._login.answer(request, segments)
        user = await self._login.user_of(request)
        if user is None:
            return self._to_login(request)
        if not segments or segments == ("",):
            return self._first_page(user)
        project = ""
        if self._shared.tenancy and segments[0] == "projects":
            project, segments = (*segments[1:2], "")[0], segments[2:]
            # An admin of all may enter every name; addresses are made of those that can be one.
            if name_problem(project) or not user.may_enter(project):
                message = f'"{project}" is not one of the projects that your login is for.'
                raise PageProblemError(403, message)
        return await self._page(request, user, project, segments)

    async def _page(
        self, request: web.BaseRequest, user: Principal, project: str, segments: tuple[str, ...]
    ) -> web.StreamResponse:
        allowed = []
        for route in self._routes:
            arguments = route.match(segments)
            if arguments is None or (self._shared.tenancy and route.is_wide == bool(project)):
                continue
            method = "GET" if request.method == "HEAD" else request.method
            if route.method != method:
                allowed.append(route.method)
                continue
            prefix = f"/projects/{project}" if project else ""
            caller = ApiCaller(self._api, request, user, prefix, self._login.user_of)
            visit = Visit(request, user, project, caller, self._shared, arguments)
            # A flood of one project's pages costs another one a turn.
            await self._shared.objects.turns.turn(project)
            return await route.handler(visit)
        if allowed:
            raise PageProblemError(405, "This address takes other methods.")
        raise PageProblemError(404, "There is no such page.")

    def _to_login(self, request: web.BaseRequest) -> web.Response:
        wanted = request.rel_url.raw_path_qs if request.method == "GET" else ""
        location = f"{ROOT}/login?next={quote(own_page(wanted), safe='/')}"
        if request.headers.get("HX-Request") == "true":
            # Another page would take away what is being written.
            return self._problem(request, 401, _SIGNED_OUT)
        if "text/event-stream" in request.headers.get("Accept", ""):
            return web.Response(status=401)
        return redirect(location)

    def _first_page(self, user: Principal) -> web.Response:
        if not self._shared.tenancy:
            return redirect(f"{ROOT}/exporters")
        if EVERY_PROJECT in user.projects:
            if user.role == "admin":
                return redirect(f"{ROOT}/operator")
            projects = self._shared.objects.projects("namespaces")
        else:
            projects = sorted(user.projects)
        if not projects:
            raise PageProblemError(404, "There is no project yet.")
        return redirect(f"{ROOT}/projects/{quote(projects[0], safe='')}/exporters")

    def _problem(self, request: web.BaseRequest, code: int, message: str) -> web.Response:
        rendering = self._shared.rendering
        is_part = request.headers.get("HX-Request") == "true"
        template = "problem_part.html" if is_part else "problem.html"
        text = rendering.text(template, {"code": code, "message": message})
        return rendering.answer(text, status=code)


def _is_of_browser(request: web.BaseRequest) -> bool:
    """Return True for the address line of a browser: kubectl asks for JSON, with a token."""
    is_page = "text/html" in request.headers.get("Accept", "")
    return is_page and request.method == "GET" and "Authorization" not in request.headers
