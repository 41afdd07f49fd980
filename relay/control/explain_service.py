"""Explanations of series by the running relay: for the operator, and for one project.

A project's question is of its own series: with tenancy the series is taken as one of the project,
and a label that names another one is refused. Only the project's exporters are examined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from relay.codec.signal_names import SignalName
from relay.config.exporter.types import Exporter
from relay.control.explain import Explainer, ExplainQuery, answer, collected, written
from relay.control.explain_records import RecordRules, path_for, resource_text
from relay.control.project_slots import ProjectSlots
from relay.control.time_slicing import Turns
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.pacing import Pace
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from relay.runtime.errors import ConfigError, Fault

WAITING_MAX: Final = 32
"""Questions of projects that are under way or wait."""
WAITING_PER_PROJECT_MAX: Final = 8
"""Those of one project, with tenancy."""


@dataclass(frozen=True, slots=True)
class ProjectQuestion:
    """A question of a project about one series; fields are those of ExplainQuery.

    ``labels`` hold ``__name__``, and no label that is empty. With another signal than metrics they
    are the attributes of a resource. With ``records``, an OTLP request of that signal in protobuf,
    the question is of these, and ``labels`` do not count.
    """

    project: str
    labels: Mapping[str, str]
    exporter: str = ""
    every: bool = False
    signal: SignalName = "metrics"
    records: bytes = b""


@dataclass(frozen=True, slots=True)
class ProjectAnswer:
    """The series in PromQL form, exporter and source of those that take it, and the reasons.

    ``series`` is "" where the question is of records.
    """

    series: str
    takers: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]


class ExplainService:
    """Explains series over an engine; ``running`` returns its exporters.

    ``rules`` are those of logs and traces.
    """

    def __init__(
        self,
        engine: MetricsPipeline,
        turns: Turns,
        running: Callable[[], Iterable[Exporter]],
        rules: RecordRules | None = None,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._turns = turns
        self._running = running
        self._explaining = asyncio.Lock()
        self._slots = ProjectSlots(
            "explanations", slots_max=WAITING_MAX, project_slots_max=WAITING_PER_PROJECT_MAX
        )

    async def answer(self, query: ExplainQuery) -> list[str]:
        """Return lines on all exporters, as of now. Raises ConfigError."""
        running = {one.id: one for one in self._running()}
        explainer = Explainer.running(self._engine, running, self._rules)
        return await answer(query, explainer, self._turns)

    async def answer_project(self, question: ProjectQuestion) -> ProjectAnswer:
        """Explain a series to its project, as of now.

        Raises ConfigError for a series or exporter that is not the project's, OverloadedError where
        too many questions wait.
        """
        origin = self._origin(question)
        with self._slots.take(question.project):
            async with self._explaining:
                own = {one.id: one for one in self._running() if one.project == question.project}
                explainer = Explainer.running(self._engine, own, self._rules)
                if question.exporter:
                    explainer.require(question.exporter, "exporter")
                if question.records:
                    return await self._answer_records(question, own)
                return await self._answer(question, explainer, origin)

    async def _answer(
        self, question: ProjectQuestion, explainer: Explainer, origin: IngestPath
    ) -> ProjectAnswer:
        labels, exporter, every = question.labels, question.exporter, question.every
        signal, attributes = question.signal, list(question.labels.items())
        of_series = signal == "metrics"

        def take(*, pace: Pace) -> list[tuple[str, str]]:
            with explainer.paced(pace):
                if of_series:
                    return explainer.takers(labels, origin)
                return explainer.resource_takers(signal, attributes, origin)

        takers = await self._turns.run(take, lambda _: None)
        if of_series:
            lines = explainer.series(labels, origin=origin, exporter=exporter, every=every)
        else:
            lines = explainer.resource(signal, attributes, origin, exporter=exporter, every=every)
        found = await collected(lines, explainer, self._turns)
        own = tuple(one for one in takers if not exporter or one[0] == exporter)
        shown = written(labels) if of_series else resource_text(attributes)
        return ProjectAnswer(shown, own, tuple(found))

    async def _answer_records(
        self, question: ProjectQuestion, own: Mapping[str, Exporter]
    ) -> ProjectAnswer:
        """Explain records to their project: what each of its exporters takes, and why not more."""
        from relay.control.captured_records import explained_records

        rules, signal = self._rules, question.signal
        assert rules is not None, "only of running pipelines"
        assert signal != "metrics", "records are of logs or traces"
        asked = [own[question.exporter]] if question.exporter else [own[one] for one in sorted(own)]
        every = question.every or bool(question.exporter)
        path = IngestPath(question.project) if rules.tenants.enabled else ANYWHERE

        def explain(*, pace: Pace) -> tuple[list[tuple[str, str]], list[str]]:
            return explained_records(
                question.records, asked, signal, rules, origin=path, every=every, pause=pace.pause
            )

        takers, lines = await self._turns.run(explain, lambda _: None)
        return ProjectAnswer("", tuple(takers), tuple(lines))

    def _origin(self, question: ProjectQuestion) -> IngestPath:
        """Return a path on which the question is the project's. Raises ConfigError."""
        if question.records:
            return ANYWHERE  # their resources tell, one by one
        if question.signal != "metrics":
            assert self._rules is not None, "only of running pipelines"
            return path_for(question.project, question.labels.items(), self._rules)
        tenancy, project = self._engine.router.tenancy, question.project
        if not tenancy.enabled:
            return ANYWHERE
        origin = ANYWHERE if question.labels.get(tenancy.label) == project else IngestPath(project)
        if tenancy.project_of(question.labels, origin) != project:
            message = f"the label {tenancy.label} names another project: leave it out"
            raise ConfigError([Fault("series", message)])
        return origin

    def __repr__(self) -> str:
        return f"<ExplainService {self._slots!r}>"
