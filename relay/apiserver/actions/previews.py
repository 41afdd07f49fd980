"""Answer ExporterPreviews: the series that an exporter takes now, beside its stored version."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from relay.apiserver.actions.subjects import Subjects, name_or_object, refusal, refusing
from relay.apiserver.http.actions import ActionRequest
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import Cause, required
from relay.config.exporter.types import Exporter
from relay.control.preview.result import PreviewResult
from relay.control.preview.service import PreviewService

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
        with refusing(request, "spec.exporter"):
            events = await self._previews.open_of(exporter, stored, measure_s=measure_s)
            async with aclosing(events):  # type: ignore[type-var]  # generators, all of them
                async for event in events:
                    if isinstance(event, PreviewResult):
                        result = event
        assert result is not None, "a preview ends with its result"
        return _status(result)

    async def _subject(self, request: ActionRequest) -> tuple[Exporter, Exporter | None]:
        """Return the exporter and its stored version; None for one that is the stored one."""
        wanted = name_or_object(request, "exporter")
        if wanted is None:
            message = "the name of an Exporter, or a whole one"
            raise refusal(request, required("spec.exporter", message))
        if isinstance(wanted, str):
            return await self._subjects.of_name(request, wanted, need_sinks=False), None
        exporter = await self._subjects.given(request, wanted, need_sinks=False)
        stored = None
        known = self._subjects.stored(
            exporter.kind, request.project, request.namespace, exporter.name
        )
        if known is not None:
            stored = await self._subjects.read_stored(request, known, exporter.id, need_sinks=False)
        return exporter, stored


def _status(result: PreviewResult) -> JsonObject:
    document = result.document()
    # Samples and records a minute are None where they were not measured.
    for field in ("sources", "records"):
        document[field] = [_without_none(one) for one in document[field]]
    document["total"] = _without_none(document["total"])
    return _without_none(document)


def _without_none(document: JsonObject) -> JsonObject:
    return {key: own for key, own in document.items() if own is not None}
