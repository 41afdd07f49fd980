"""Answer ExporterPreviews: the series that an exporter takes now, beside its stored version."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Final

from relay.apiserver.actions.subjects import (
    Subjects,
    causes_of,
    name_or_object,
    overloaded,
    refusal,
)
from relay.apiserver.http.actions import ActionRequest
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import Cause, required
from relay.config.exporter.types import Exporter
from relay.control.preview.result import PreviewResult
from relay.control.preview.service import PreviewService
from relay.runtime.errors import ConfigError, OverloadedError

MEASURE_S_MAX: Final = 60


class PreviewAction:
    """Previews exporters of a project by the relay's own service."""

    def __init__(self, subjects: Subjects, previews: PreviewService) -> None:
        self._subjects = subjects
        self._previews = previews

    def __repr__(self) -> str:
        return f"<PreviewAction {self._previews!r}>"

    async def __call__(self, request: ActionRequest) -> JsonObject:
        """Return the status of a preview; raise ApiRefusalError."""
        measure_s = request.spec.get("measureSeconds", 0)
        if not 0 <= measure_s <= MEASURE_S_MAX:
            said = f"Invalid value: {measure_s}: must be from 0 to {MEASURE_S_MAX}"
            raise refusal(request, Cause("spec.measureSeconds", "FieldValueInvalid", said))
        exporter, stored = await self._subject(request)
        result: PreviewResult | None = None
        try:
            events = await self._previews.open_of(exporter, stored, measure_s=measure_s)
            async with aclosing(events):  # type: ignore[type-var]  # generators, all of them
                async for event in events:
                    if isinstance(event, PreviewResult):
                        result = event
        except OverloadedError as error:
            raise overloaded(error) from error
        except ConfigError as error:
            raise refusal(request, *causes_of(error, "spec.exporter")) from error
        assert result is not None, "a preview ends with its result"
        return _status(result)

    async def _subject(self, request: ActionRequest) -> tuple[Exporter, Exporter | None]:
        """Return the exporter and its stored version; None for one that is the stored one."""
        wanted = name_or_object(request, "exporter")
        if wanted is None:
            message = "the name of an Exporter, or a whole one"
            raise refusal(request, required("spec.exporter", message))
        if isinstance(wanted, str):
            ident, found = await self._subjects.named(request, wanted)
            exporter = await self._subjects.read_stored(request, found, need_sinks=False)
            exporter = exporter or self._previews.running(ident)
            if exporter is None:
                said = "Invalid value: it has faults: see its condition Accepted"
                raise refusal(request, Cause("spec.exporter", "FieldValueInvalid", said))
            return exporter, None
        exporter = await self._subjects.given(request, wanted, need_sinks=False)
        stored = None
        known = self._subjects.stored(
            exporter.kind, request.project, request.namespace, exporter.name
        )
        if known is not None:
            stored = await self._subjects.read_stored(request, known, need_sinks=False)
            stored = stored or self._previews.running(exporter.id)
        return exporter, stored


def _status(result: PreviewResult) -> JsonObject:
    document = result.document()
    document["sources"] = [_measured(one) for one in document["sources"]]
    document["total"] = _measured(document["total"])
    return {key: own for key, own in document.items() if own is not None}


def _measured(selected: dict[str, Any]) -> JsonObject:
    """Return the form of a source; without samples a minute where they were not measured."""
    return {key: own for key, own in selected.items() if own is not None}
