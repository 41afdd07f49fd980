"""Answer SeriesExplanations: the exporters of the project that take a series, and why.

With ``spec.signal`` the question is of a resource of logs or traces, by its attributes, or of
``spec.records``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from relay.apiserver.actions.subjects import Subjects, refusal, refusing
from relay.apiserver.http.actions import ActionRequest
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import Cause, forbidden_field, required, unsupported
from relay.codec.signal_names import SIGNALS
from relay.control.explain import read_attributes, read_series
from relay.control.explain_service import ExplainService, ProjectQuestion
from relay.runtime.event_loop import run_in_thread
from relay.selector.matchers import NAME

SERIES_CHARS_MAX: Final = 64 * 1024
"""Longest text of a series; labels count with their names."""
LABELS_MAX: Final = 1000


class ExplainAction:
    """Explains series of a project by the relay's own service."""

    def __init__(self, subjects: Subjects, explanations: ExplainService) -> None:
        self._subjects = subjects
        self._explanations = explanations

    def __repr__(self) -> str:
        return f"<ExplainAction {self._explanations!r}>"

    async def __call__(self, request: ActionRequest) -> JsonObject:
        """Return the status of an explanation; raise ApiRefusalError."""
        spec = request.spec
        if (signal := spec.get("signal", "metrics")) not in SIGNALS:
            raise refusal(request, unsupported("spec.signal", signal, SIGNALS))
        records = await self._records(request)
        labels = {} if records else await self._labels(request)
        exporter = spec.get("exporter", "")
        ident = (await self._subjects.named(request, exporter))[0] if exporter else ""
        question = ProjectQuestion(
            request.project,
            labels,
            ident,
            every=bool(spec.get("all", False)),
            signal=signal,
            records=records,
        )
        with refusing(request, "spec"):
            answer = await self._explanations.answer_project(question)
        return {
            **({} if records else {"series": answer.series}),
            "takenBy": [{"exporter": one, "source": source} for one, source in answer.takers],
            "lines": list(answer.lines),
        }

    async def _records(self, request: ActionRequest) -> bytes:
        """Return the records that are asked about, as a request in protobuf; b"" for none."""
        records, signal = request.spec.get("records"), request.spec.get("signal", "metrics")
        if records is None:
            return b""
        if signal == "metrics":
            raise refusal(request, required("spec.signal", "logs or traces, beside spec.records"))
        from relay.apiserver.actions.pasted_records import read_records

        has_resource = bool(request.spec.get("series") or request.spec.get("labels"))
        attributes = list((await self._labels(request)).items()) if has_resource else []
        with refusing(request, "spec"):
            return await run_in_thread(partial(read_records, records, signal, attributes))

    async def _labels(self, request: ActionRequest) -> dict[str, str]:
        series, labels = request.spec.get("series", ""), request.spec.get("labels", {})
        of_series = request.spec.get("signal", "metrics") == "metrics"
        if series and labels:
            message = "it does not go with spec.labels"
            raise refusal(request, forbidden_field("spec.series", message))
        if not series:
            causes = list(_label_causes(labels, need_name=of_series))
            if causes:
                raise refusal(request, *causes)
            return {name: text for name, text in labels.items() if text}
        if len(series) > SERIES_CHARS_MAX:
            raise refusal(request, _too_long("spec.series"))
        with refusing(request, "spec"):
            return await read_series(series) if of_series else dict(read_attributes(series))


def _label_causes(labels: dict[str, str], *, need_name: bool) -> Iterator[Cause]:
    if not labels:
        yield required("spec.series", "or the labels of the series in spec.labels")
    elif need_name and not labels.get(NAME):
        yield required(f"spec.labels[{NAME}]", "the name of the metric")
    elif len(labels) > LABELS_MAX:
        said = f"Too many: {len(labels)}: must have at most {LABELS_MAX} items"
        yield Cause("spec.labels", "FieldValueTooMany", said)
    elif sum(len(name) + len(text) for name, text in labels.items()) > SERIES_CHARS_MAX:
        yield _too_long("spec.labels")


def _too_long(field: str) -> Cause:
    said = f"Too long: may not be more than {SERIES_CHARS_MAX} characters"
    return Cause(field, "FieldValueTooLong", said)
