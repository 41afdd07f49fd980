"""Limits of projects against a model: who is refused, and that it is never another project."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.pipeline.limits import Limits
from relay.pipeline.routing.match_set import PROJECT_LIMIT
from relay.pipeline.routing.router import READMIT_S
from relay.pipeline.routing.series_tally import SHARE_ALL
from relay.pipeline.routing.tenancy import Tenancy
from tests.kit.engine_rig import EVERYTHING, RAW1, Rig, RigSink, named
from tests.kit.remote_write import raw

LIMITS = {"small": 3, "large": 8}
PROJECTS = ("small", "large", "free")
IDLE_S = 100.0


def series_of(project: str, number: int, time_ms: int) -> bytes:
    name = "m" if number % 2 else "n"
    pairs = [(b"__name__", name.encode()), (b"i", b"%d" % number), (b"tenant", project.encode())]
    return raw.series(pairs, (1.0, time_ms))


class LimitedProjects(RuleBasedStateMachine):
    """Series of three projects come and go, exporters change, shares are set."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(series_idle_s=IDLE_S, project_series_max=LIMITS.get)
        self.rig = Rig(limits, tenancy=Tenancy("tenant"), infer_types=False)
        self.tick = 1.0
        self.sinks: dict[str, RigSink] = {}
        self.fed: Counter[str] = Counter()
        """Samples of each project that its exporter matched."""
        self.taken: dict[str, set[int]] = {project: set() for project in PROJECTS}
        """Series that were taken when they came last."""
        self.shared: set[str] = set()
        for project in PROJECTS:
            self._export(project)

    def _export(self, project: str) -> None:
        exporter = f"{project}/x"
        sink = RigSink("s", limit=10**6, exporter=exporter, options=RAW1)
        self.sinks[project] = sink
        self.fed[project] = 0
        self.taken[project] = set()
        self.rig.export(sink, exporter=exporter, project=project)

    @rule(project=st.sampled_from(PROJECTS), numbers=st.lists(st.integers(0, 11), max_size=12))
    def feed(self, project: str, numbers: list[int]) -> None:
        self.tick += 1.0
        for number in numbers:
            before = self.sinks[project].counter.points
            self.tick += 0.001
            body = series_of(project, number, raw.T0_MS + int(self.tick * 1000))
            self.rig.feed(body, tick=self.tick)
            self.rig.engine.router.flush_counters()
            is_taken = self.sinks[project].counter.points > before
            self.fed[project] += 1
            if project == "free" and project not in self.shared:
                assert is_taken
            if number in self.taken[project] and project not in self.shared:
                assert is_taken, "a series that is taken goes on"
            self.taken[project].discard(number)
            if is_taken:
                self.taken[project].add(number)

    @rule(seconds=st.sampled_from([READMIT_S, IDLE_S / 2, 3 * IDLE_S]))
    def wait(self, seconds: float) -> None:
        # Swept in steps, as requests of others do it; who is forgotten has to compete again.
        for _ in range(30):
            self.tick += seconds / 30
            self.rig.feed(b"", tick=self.tick)
        for project in PROJECTS:
            if seconds >= IDLE_S / 2:
                self.taken[project].clear()

    @rule(project=st.sampled_from(PROJECTS))
    def come_again(self, project: str) -> None:
        self.rig.engine.remove_exporter(f"{project}/x")
        self.shared.discard(project)
        self._export(project)

    @rule(project=st.sampled_from(PROJECTS), name=st.sampled_from(["m", "n"]))
    def narrow(self, project: str, name: str) -> None:
        sink = self.sinks[project]
        for selection in (named(name), EVERYTHING):
            self.rig.engine.replace_exporter(f"{project}/x", [("all", selection, [sink.target])])

    @rule(project=st.sampled_from(PROJECTS), share=st.sampled_from([0, SHARE_ALL // 2, SHARE_ALL]))
    def share(self, project: str, share: int) -> None:
        if self.rig.engine.router.set_share(project, share):
            self.rig.engine.table.invalidate()
        self.taken[project].clear()
        self.shared.discard(project)
        if share < SHARE_ALL:
            self.shared.add(project)

    @invariant()
    def no_more_than_the_limit_is_taken(self) -> None:
        for project, limit in LIMITS.items():
            found = self.rig.engine.router.project_series()[project]
            assert 0 <= found.taken <= limit
            assert found.refused >= 0

    @invariant()
    def every_sample_is_accounted_for(self) -> None:
        self.rig.engine.router.flush_counters()
        dropped: Counter[str] = Counter()
        for drop in self.rig.engine.drops.rows():
            assert drop.reason == PROJECT_LIMIT
            dropped[drop.exporter] += drop.samples
        for project, sink in self.sinks.items():
            counter = sink.counter
            assert counter.samples == self.fed[project]
            assert counter.samples == counter.exported + counter.refused
            assert counter.points == counter.exported
            assert dropped[counter.exporter] >= counter.refused

    @invariant()
    def counts_are_those_of_the_table(self) -> None:
        router = self.rig.engine.router
        found: Counter[str] = Counter()
        for one in self.rig.engine.table.kept():
            base = one.match_set.base
            if base.matched and base.home is router._projects.get(base.home.project):
                found[base.home.project] += 1
        for project, counts in router.project_series().items():
            assert counts.taken == found[project]


LimitedProjects.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLimitedProjects = LimitedProjects.TestCase
