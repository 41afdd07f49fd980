"""The API as one handler of requests: access, dispatch, and refusals as Status objects."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web

from relay.apiserver.access.limits import ApiLimits, Usage
from relay.apiserver.access.principals import (
    EVERY_PROJECT,
    READING,
    Principal,
    forbidden_project,
    forbidden_verb,
)
from relay.apiserver.access.revocation import Admissions
from relay.apiserver.access.self_reviews import review_kinds
from relay.apiserver.access.tokens import UserAuthentication
from relay.apiserver.http.actions import (
    ACTION_BYTES_MAX,
    ActionRunner,
    Actions,
    Tap,
    TapRequest,
    answer_review,
)
from relay.apiserver.http.answers import (
    HEADERS,
    AnswerForm,
    answer_form,
    indented,
    json_answer,
    refusal_answer,
    success_status,
)
from relay.apiserver.http.audit import note_change
from relay.apiserver.http.bodies import OBJECT_TYPES, media_type_of, read_body, read_options
from relay.apiserver.http.changes import ChangeOutcome, Changer
from relay.apiserver.http.event_sweeper import EventSweeper
from relay.apiserver.http.file_objects import FileObjects
from relay.apiserver.http.openapi import document_answer
from relay.apiserver.http.reads import (
    Clock,
    ComputedStatus,
    ComputedStatuses,
    History,
    Reader,
    nothing_computed,
    object_body,
    selection,
)
from relay.apiserver.http.request_target import (
    ResourceTarget,
    WriteParameters,
    delete_parameters,
    parse_target,
    read_parameters,
    write_parameters,
)
from relay.apiserver.http.watches import Watcher
from relay.apiserver.in_process import user_of
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import (
    ApiRefusalError,
    bad_request,
    forbidden,
    method_not_allowed,
    no_such_resource,
    store_failed,
)
from relay.apiserver.objects.kinds import HISTORY, TAP, action_kinds, served_kinds
from relay.apiserver.objects.writes import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Stamp,
    WriteOptions,
)
from relay.apiserver.store.errors import StoreFullError, StoreUnusableError
from relay.apiserver.store.served_objects import SECRETS, ObjectsStatistics, ServedObjects
from relay.receiver.http.json_lines import send_lines

_log: Final = logging.getLogger("relay.api")
_OPEN_PATHS: Final = frozenset({"/healthz", "/livez", "/readyz"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_CHANGES: Final = {**_VERBS, "DELETE": "delete"}
_METHODS_OF: Final = {TAP: ("GET",), HISTORY: ("GET", "HEAD")}
_QUERY_FIELDS_MAX: Final = 64
CLIENT_GONE: Final = 499
"""Code under which a request is counted whose client does not wait for the answer."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One request with its user and target."""

    request: web.BaseRequest
    principal: Principal
    project: str
    target: ResourceTarget
    query: Mapping[str, str]


def allow_every_request(request: web.BaseRequest) -> str:
    """Return "": no request is refused whatever its token."""
    del request
    return ""


@dataclass(frozen=True, slots=True)
class ApiHooks:
    """Parts that the rest of the relay gives the API.

    ``allows_request`` returns why a request is refused whatever its token, "" otherwise;
    ``actions`` are the kinds that can only be created and are served; ``tap`` and ``history``
    answer the subresources of these names, which are not served without; ``computed`` returns what
    is added to a status when it is read.
    """

    allows_request: Callable[[web.BaseRequest], str] = allow_every_request
    actions: Actions = field(default_factory=dict)
    computed: ComputedStatus = nothing_computed
    tap: Tap | None = None
    history: History | None = None


@dataclass(frozen=True, slots=True)
class ApiStatistics:
    """Answers by method and code since the start, and what is in progress."""

    answers: Mapping[tuple[str, int], int]
    requests: int
    watches: int
    objects: ObjectsStatistics


class ApiService:
    """Handles requests; ``tenancy`` puts every project below ``/projects/<project>``."""

    def __init__(
        self,
        objects: ServedObjects,
        authentication: UserAuthentication,
        *,
        tenancy: bool,
        limits: ApiLimits,
        clock: Clock,
        stamp: Callable[[], Stamp],
        hooks: ApiHooks,
    ) -> None:
        self._hooks = hooks
        acting = (kind for kind in action_kinds() if kind.plural in hooks.actions)
        kinds = (*served_kinds(), *review_kinds(), *acting)
        has_tap, has_history = hooks.tap is not None, hooks.history is not None
        self._kinds = tuple(one.restricted(tap=has_tap, history=has_history) for one in kinds)
        self._objects = objects
        self._authentication = authentication
        self._admissions = Admissions(authentication)
        self._tenancy = tenancy
        self._usage = Usage(limits)
        self._body_bytes_max = limits.body_bytes_max
        self._closing = asyncio.Event()
        self._reader = Reader(objects, clock, self._usage, hooks.computed, hooks.history)
        self._computed = ComputedStatuses(hooks.computed)
        self._watcher = Watcher(objects, clock, self._closing, self._usage)
        self.changer: Final = Changer(objects, limits, stamp)
        self._actions = ActionRunner(hooks.actions, self.changer)
        self.files: Final = FileObjects(objects, self.changer)
        self.sweeper: Final = EventSweeper(objects, self.changer, clock)
        self._clock = clock
        self._known_projects: set[str] = set()
        self._answers: Counter[tuple[str, int]] = Counter()
        self._changes: dict[str, Callable[[_Call], Awaitable[ChangeOutcome]]] = {
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._deletecollection,
        }

    def __repr__(self) -> str:
        return f"<ApiService of {self._objects!r}>"

    async def start(self) -> None:
        """Make the projects that the users have exist; called again when others have come."""
        projects = self._authentication.projects() if self._tenancy else {""}
        for project in sorted(projects):
            await self._ensure_project(project)

    def close(self) -> None:
        """End every watch."""
        self._closing.set()

    async def _ensure_project(self, project: str) -> None:
        if project not in self._known_projects:
            await self.changer.ensure_project(project)
            self._known_projects.add(project)

    def statistics(self) -> ApiStatistics:
        """Return a snapshot."""
        usage = self._usage
        return ApiStatistics(
            dict(self._answers), usage.requests, usage.watches, self._objects.statistics()
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; never raise for what a client sends."""
        response = indented(request, await self._answered(request))
        method = request.method if request.method in _METHODS else "other"
        self._answers[method, response.status] += 1
        return response

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._handle(request)
        except ApiRefusalError as refusal:
            return refusal_answer(refusal)
        except StoreUnusableError as error:
            return refusal_answer(store_failed(is_full=isinstance(error, StoreFullError)))
        except ConnectionError:
            return web.Response(status=CLIENT_GONE)  # which nobody reads
        except Exception:
            _log.exception("bug in the relay: a request cannot be answered")
            message = "the server has met a bug; its log says more"
            return refusal_answer(ApiRefusalError(500, "InternalError", message))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in _OPEN_PATHS:
            return web.Response(text="ok", headers=HEADERS)
        refused = self._hooks.allows_request(request)
        if refused:
            raise ApiRefusalError(403, "Forbidden", f"forbidden: {refused}", details={})
        principal = await user_of(request, self._authentication)
        raw_path = request.rel_url.raw_path
        target = parse_target(raw_path, tenancy=self._tenancy, kinds=self._kinds)
        query = request.rel_url.query
        if self._tenancy and not (target.project and principal.may_enter(target.project)):
            verb = _CHANGES.get(request.method)
            if verb and target.resource is not None:
                call = _Call(request, principal, target.project, target.resource, query)
                self._note(call, verb, target.resource.name, 403, "Forbidden")
            raise forbidden_project(principal, request.method.lower(), raw_path[:200])
        if len(query) > _QUERY_FIELDS_MAX:
            raise bad_request(f"the query has more than {_QUERY_FIELDS_MAX} fields")
        if target.resource is None:
            prefix = f"/projects/{target.project}" if self._tenancy else ""
            return document_answer(request, target.path, prefix, self._kinds)
        call = _Call(request, principal, target.project, target.resource, query)
        return await self._resource(call)

    async def _resource(self, call: _Call) -> web.StreamResponse:
        target = call.target
        if target.subresource not in target.kind.subresources:
            raise no_such_resource()
        kind = target.kind
        if kind.is_action and (target.name or (kind.namespaced and not target.namespace)):
            raise no_such_resource()
        verb = self._verb(call)
        if not call.principal.may(verb, target.kind, target.subresource):
            self._note(call, verb, target.name, 403, "Forbidden")
            raise forbidden_verb(
                call.principal,
                verb,
                target.kind,
                target.subresource,
                target.namespace,
                target.name,
            )
        if call.project == EVERY_PROJECT:
            if verb not in READING or target.subresource == TAP:
                message = "all projects at once can only be read"
                raise forbidden(target.kind.names, target.name, message)
        elif verb not in READING or call.project in call.principal.projects:
            # A user of every project does not make one by reading it.
            await self._ensure_project(call.project)
        if kind in review_kinds():
            with self._usage.request(call.principal.user, call.project):
                return await answer_review(call.request, kind, call.principal, self._kinds)
        if target.subresource == TAP:
            return await self._tap(call)
        if verb == "watch":
            return await self._watch(call)
        with self._usage.request(call.principal.user, call.project):
            if verb in READING:
                return await self._read(call)
            most = self._body_bytes_max
            size = call.request.content_length
            with self._usage.carried(call.project, most if size is None else min(size, most)):
                return await self._change(call, verb)

    def _verb(self, call: _Call) -> str:
        """Return the verb of a request; raise ApiRefusalError for a method that is not served."""
        method, target = call.request.method, call.target
        if method in ("GET", "HEAD"):
            verb = "get"
            if not target.name:
                verb = "watch" if read_parameters(call.query).watch else "list"
        elif method == "DELETE":
            verb = "delete" if target.name else "deletecollection"
        else:
            verb = _VERBS.get(method, "")
            if (verb == "create") == bool(target.name):
                raise method_not_allowed()
        if verb not in target.kind.verbs or (target.subresource and method == "DELETE"):
            raise method_not_allowed()
        if verb not in READING and target.kind.namespaced and not target.namespace:
            raise method_not_allowed()
        if method not in _METHODS_OF.get(target.subresource, _METHODS):
            raise method_not_allowed()
        return verb

    async def _read(self, call: _Call) -> web.StreamResponse:
        form = answer_form(call.request.headers.get("Accept", ""))
        with_values = _shows_values(call, form)
        if call.target.name:
            version = call.query.get("resourceVersion", "")
            computed = self._computed.read_by(call.principal.user)
            found: web.StreamResponse = self._reader.get(
                call.target, call.project, form, version, computed, with_values=with_values
            )
        else:
            found = await self._reader.list_objects(
                call.request,
                call.target,
                call.project,
                read_parameters(call.query),
                form,
                call.query.get("includeObject", ""),
                with_values=with_values,
            )
        if with_values:
            self._note(call, "get" if call.target.name else "list", call.target.name, 200)
        return found

    async def _watch(self, call: _Call) -> web.StreamResponse:
        form = answer_form(call.request.headers.get("Accept", ""))
        parameters = read_parameters(call.query)
        shows = _shows_values(call, form)
        wanted = selection(
            call.target, call.project, parameters, self._hooks.computed, with_values=shows
        )
        if shows:
            self._note(call, "watch", "", 200)
        with self._usage.watch(call.principal.user, call.project):
            work = self._watcher.watch(call.request, wanted, parameters, form)
            return await self._admissions.hold(call.request, call.principal, work)

    async def _tap(self, call: _Call) -> web.StreamResponse:
        """Answer with lines of JSON as points come; it counts as a watch."""
        target, tap = call.target, self._hooks.tap
        assert tap is not None, "the subresource is not served without"
        asked = TapRequest(
            target.kind, call.project, target.namespace, target.name, dict(call.query)
        )
        with self._usage.watch(call.principal.user, call.project):
            try:
                events = tap(asked)
            except ApiRefusalError as refusal:
                self._note(call, "get", target.name, refusal.code, refusal.reason)
                raise
            self._note(call, "get", target.name, 200)
            work = send_lines(call.request, events, HEADERS, self._closing)
            return await self._admissions.hold(call.request, call.principal, work)

    async def _change(self, call: _Call, verb: str) -> web.StreamResponse:
        target = call.target
        name = target.name
        try:
            outcome = await self._changes[verb](call)
            name = outcome.value["metadata"].get("name", name)
        except ApiRefusalError as refusal:
            self._note(call, verb, name, refusal.code, refusal.reason)
            raise
        except StoreUnusableError:
            self._note(call, verb, name, 500, "InternalError")
            raise
        self._note(call, verb, name, outcome.code)
        if verb == "delete" and outcome.is_deleted:
            return json_answer(success_status(target, outcome.value))
        if verb == "deletecollection":
            return json_answer(outcome.value)
        form = answer_form(call.request.headers.get("Accept", ""))
        user, dry_run = call.principal.user, "dryRun" in call.query
        shown = self._computed.added(
            user, target.kind, call.project, outcome.value, dry_run=dry_run
        )
        body = object_body(target, shown, form, self._clock())
        return json_answer(body, code=outcome.code, warnings=outcome.warnings)

    def _note(self, call: _Call, verb: str, name: str, code: int, reason: str = "") -> None:
        target = replace(call.target, name=name)
        note_change(
            call.request,
            call.principal,
            verb,
            call.project,
            target,
            code=code,
            reason=reason,
            dry_run="dryRun" in call.query,
        )

    def _options(
        self, call: _Call, kind: str, duplicates: tuple[str, ...] = (), *, is_apply: bool = False
    ) -> tuple[WriteOptions, bool]:
        dry_run = call.request.rel_url.query.getall("dryRun", [])
        found: WriteParameters = write_parameters(call.query, dry_run, kind, is_apply=is_apply)
        options = WriteOptions(
            found.field_manager,
            call.request.headers.get("User-Agent", ""),
            found.field_validation,
            found.force,
            duplicates,
        )
        return options, found.dry_run

    async def _create(self, call: _Call) -> ChangeOutcome:
        target = call.target
        most = self._body_bytes_max
        if target.kind.is_action:
            most = min(most, ACTION_BYTES_MAX)
        body = await read_body(call.request, most, OBJECT_TYPES)
        options, dry_run = self._options(call, "CreateOptions", body.duplicates)
        if target.kind.is_action:
            return await self._actions.act(
                target, call.project, call.principal, body, options, dry_run=dry_run
            )
        return await self.changer.create(target, call.project, body.value, options, dry_run=dry_run)

    async def _update(self, call: _Call) -> ChangeOutcome:
        body = await read_body(call.request, self._body_bytes_max, OBJECT_TYPES)
        options, dry_run = self._options(call, "UpdateOptions", body.duplicates)
        return await self.changer.update(
            call.target, call.project, body.value, options, dry_run=dry_run
        )

    async def _patch(self, call: _Call) -> ChangeOutcome:
        accepted = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH]
        if not call.target.kind.is_custom:
            accepted.insert(2, STRATEGIC_PATCH)
        is_apply = media_type_of(call.request) == APPLY_PATCH
        body = await read_body(call.request, self._body_bytes_max, tuple(accepted))
        options, dry_run = self._options(call, "PatchOptions", body.duplicates, is_apply=is_apply)
        changer = self.changer
        if is_apply:
            return await changer.apply(
                call.target, call.project, body.value, options, dry_run=dry_run
            )
        return await changer.patch(
            call.target, call.project, body.media_type, body.value, options, dry_run=dry_run
        )

    async def _delete_options(self, call: _Call) -> tuple[JsonObject, bool]:
        body = await read_options(call.request, self._body_bytes_max)
        return delete_parameters(call.query, call.request.rel_url.query.getall("dryRun", []), body)

    async def _delete(self, call: _Call) -> ChangeOutcome:
        preconditions, dry_run = await self._delete_options(call)
        return await self.changer.delete(call.target, call.project, preconditions, dry_run=dry_run)

    async def _deletecollection(self, call: _Call) -> ChangeOutcome:
        preconditions, dry_run = await self._delete_options(call)
        target = call.target
        wanted = selection(target, call.project, read_parameters(call.query))
        listed = self._objects.listed(target.kind.storage_key, call.project, target.namespace)
        found = await wanted.selected(list(listed), self._objects.turns)
        deleted: list[Any] = []
        for one in found:
            named = replace(target, name=one.name)
            try:
                outcome = await self.changer.delete(
                    named, call.project, preconditions, dry_run=dry_run
                )
            except ApiRefusalError as error:
                if error.code != 404:  # somebody else was faster
                    raise
            else:
                deleted.append(outcome.value)
        value = {
            "kind": target.kind.list_kind,
            "apiVersion": target.kind.api_version,
            "metadata": {"resourceVersion": str(self._objects.version)},
            "items": deleted,
        }
        return ChangeOutcome(value)


def _shows_values(call: _Call, form: AnswerForm) -> bool:
    is_secret = call.target.kind.storage_key == SECRETS
    return is_secret and call.principal.reads_secrets and not form.transform
