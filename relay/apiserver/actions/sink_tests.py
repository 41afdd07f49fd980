"""Answer SinkTests: one synthetic point to a sink of an exporter, or to a sink that is given.

A sink that is given is read as the only one of an exporter of the request's namespace, so its rules
and its Secrets are those of every other sink.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from relay.apiserver.actions.subjects import (
    Subjects,
    name_or_object,
    read_exporter,
    refusal,
    refusing,
)
from relay.apiserver.http.actions import ActionRequest
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import forbidden_field, required, wrong_type
from relay.apiserver.objects.kinds import served_kinds
from relay.config.exporter.types import Exporter, Sink
from relay.control.sink_test.service import SinkTestService, require_sink
from relay.control.sink_test.verdict import TestStep

_NAME: Final = "sinktest"
"""Name of the exporter of a sink that is given."""
_GIVEN: Final = "spec.sinks[0]"


class SinkTestAction:
    """Tests sinks of a project by the relay's own service."""

    def __init__(self, subjects: Subjects, tests: SinkTestService) -> None:
        self._subjects = subjects
        self._tests = tests

    def __repr__(self) -> str:
        return f"<SinkTestAction {self._tests!r}>"

    async def __call__(self, request: ActionRequest) -> JsonObject:
        """Return the status of a test; raise ApiRefusalError. Nothing is sent for a dry run."""
        exporter, sink = await self._subject(request)
        secrets = self._subjects.secrets(exporter, sink, self._tests.secrets_of(exporter))
        steps = []
        status: JsonObject = {}
        with refusing(request, "spec"):
            events = self._tests.open_of(exporter, sink, secrets)
            async with aclosing(events):  # type: ignore[type-var]  # generators, all of them
                if request.dry_run:
                    return {}
                async for event in events:
                    if isinstance(event, TestStep):
                        steps.append(event.document())
                    else:
                        status = event.document()
        return {**status, "steps": steps}

    async def _subject(self, request: ActionRequest) -> tuple[Exporter, Sink]:
        wanted, sink = name_or_object(request, "exporter"), name_or_object(request, "sink")
        if wanted is None:
            if isinstance(sink, dict):
                exporter = await self._of_sink(request, sink)
                return exporter, exporter.sinks[0]
            if sink is not None:
                message = "a sink without an exporter must be an object"
                raise refusal(request, wrong_type("spec.sink", message))
            raise refusal(request, required("spec.exporter", "or a sink as an object in spec.sink"))
        if isinstance(sink, dict):
            message = "with spec.exporter it must be the name of one of its sinks"
            raise refusal(request, forbidden_field("spec.sink", message))
        if isinstance(wanted, str):
            exporter = await self._subjects.of_name(request, wanted, need_sinks=True)
        else:
            exporter = await self._subjects.given(request, wanted, need_sinks=True)
        with refusing(request, "spec"):
            return exporter, require_sink(exporter, sink or "")

    async def _of_sink(self, request: ActionRequest, sink: JsonObject) -> Exporter:
        kind = next(one for one in served_kinds() if one.kind == "Exporter")
        source = {"name": "test", "metrics": {"metricsql": "{}"}}
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": _NAME, "namespace": request.namespace},
            "spec": {
                "sources": [source],
                "sinks": [{key: own for key, own in sink.items() if key != "sources"}],
            },
        }
        with refusing(request, "spec.sink", _GIVEN):
            return await read_exporter(body, request.project, need_sinks=True)
