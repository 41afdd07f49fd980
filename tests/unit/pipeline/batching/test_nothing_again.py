"""After a stop or a death a sink does not get again what it had, whatever waits beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from relay.codec.otlp.batch import OpenBatch
from relay.pipeline.batching.unfinished import WAITING, ReplayGate, WaitingEntry
from relay.pipeline.routing.tenancy import Tenancy
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.sample_writes import histogram, write

H = histogram("h", "", (("1", 2), ("+Inf", 3)), 4.5, 3)
OTHER = histogram("other", "", (("1", 2), ("+Inf", 3)), 4.5, 3)
SUMMARY = ['s{quantile="0.5"} 1', "s_sum 2", "s_count 3"]
NUMBERS = ["c_total 1", "g 2"]
SIGHT_S, SET_S = 1.5, 10.0
"""How long a family waits at first sight, and then a set for its members."""


class Process:
    """An engine with sinks that tell how far they came; ``before`` is the one that has ended."""

    def __init__(
        self,
        *sinks: str,
        before: Process | None = None,
        tenancy: Tenancy | None = None,
        replayed: int | None = None,
    ) -> None:
        self.rig = Rig(first_sight_s=SIGHT_S, assembly_wait_s=SET_S, tenancy=tenancy)
        for project in ("acme", "globex") if tenancy else ("",):
            made = [RigSink(f"{sink}{project}", limit=1000) for sink in sinks]
            self.rig.export(*made, exporter=f"x{project}", project=project)
        self.bodies: list[bytes] = []
        self.gate: ReplayGate | None = None
        self.known = dict.fromkeys((sink.name for sink in self.rig.sinks), 0)
        if before is not None:
            self.bodies = list(before.bodies)
            self._follow(before, len(self.bodies) if replayed is None else replayed)

    def _follow(self, before: Process, replayed: int) -> None:
        engine = self.rig.engine
        engine.import_metadata(before.rig.engine.export_metadata())
        self.known = before.lows()
        ceiling = max(*self.known.values(), before.rig.engine.offsets.following)
        floor = min(self.known.values())
        self.gate = ReplayGate(
            self._low,
            before.named(),
            floor=floor,
            ceiling=ceiling,
            unlisted=max(self.known.values()),
        )
        engine.begin_replay(self.gate)
        for position, body in enumerate(self.bodies[:replayed]):
            found = engine.replay(body, position=position, now=1.0, tick=0.0)
            self.rig.hand_over(found.transaction.sealed)
        if replayed == len(self.bodies):
            self.rig.hand_over(engine.end_replay(0.0))

    def _low(self, batch: OpenBatch) -> int:
        assert isinstance(batch.sink, RigSink)
        return self.known[batch.sink.name]

    def send(self, *lines: str, tick: float = 0.0) -> None:
        """Send these lines in one request; of a summary with its type."""
        body = write(*lines, types={"s": "summary"} if SUMMARY[0] in lines else None)
        self.bodies.append(body)
        self.rig.feed(body, tick=tick)

    def deliver(self, name: str) -> list[str]:
        """Let a sink finish what it has; return the names of the points, sorted."""
        self.rig.flush()
        (sink,) = (sink for sink in self.rig.sinks if sink.name == name)
        names = sorted(point.name for point in sink.any_points())
        for sealed in sink.sealed:
            self.rig.engine.offsets.release(sealed.oldest)
        sink.forget()
        return names

    def lows(self) -> Mapping[str, int]:
        """Return the low position of each sink, as a checkpoint has it."""
        engine, found = self.rig.engine, {}
        _, rest = engine.named()
        for sink in self.rig.sinks:
            held = [batch.oldest_offset for batch in sink.batches if batch.count]
            held += [sealed.oldest for sealed in sink.sealed]
            low = min([engine.offsets.following, *held, *([] if rest is None else [rest])])
            known = self.known[sink.name]
            if self.gate is not None:
                low = min(low, self.gate.low_max(known))
            found[sink.name] = max(low, known)
        return found

    def named(self) -> list[WaitingEntry]:
        """Return what a checkpoint names."""
        return self.rig.engine.named()[0]


@pytest.mark.parametrize(
    ("steps", "came"),
    [
        # Numbers leave after the first sight, and the histogram's first set waits on.
        ([(0.0, [*NUMBERS, *H])], ["c_total", "g"]),
        # A first set that came earlier leaves, and the next one waits on.
        ([(0.0, SUMMARY), (5.0, H)], ["s"]),
        ([(0.0, OTHER), (5.0, H)], ["other"]),
    ],
)
@pytest.mark.parametrize("restarts", [1, 3])
def test_a_set_that_waits_brings_nothing_again_but_itself(
    steps: Sequence[tuple[float, list[str]]], came: list[str], restarts: int
) -> None:
    process = Process("sink")
    for tick, lines in steps:
        process.send(*lines, tick=tick)
        process.rig.due(tick + SIGHT_S)
    process.rig.due(SIGHT_S + SET_S if len(steps) > 1 else SIGHT_S)
    assert process.deliver("sink") == came
    assert len(process.named()) == 1, "the set of h"
    for _ in range(restarts):
        process = Process("sink", before=process)
        assert process.deliver("sink") == []
    for tick in (SIGHT_S, 10 * SET_S):
        process.rig.due(tick)
    assert process.deliver("sink") == ["h"]
    assert process.named() == []


def test_a_tenant_gets_nothing_again_for_what_waits_of_another() -> None:
    process = Process("sink", tenancy=Tenancy("tenant"))
    of_globex = histogram("h", 'tenant="globex"', (("1", 2), ("+Inf", 3)), 4.5, 3)
    process.send('g{tenant="acme"} 1', 'g{tenant="globex"} 1', *of_globex)
    process.rig.due(SIGHT_S)
    assert process.deliver("sinkacme") == process.deliver("sinkglobex") == ["g"]
    process = Process("sink", before=process, tenancy=Tenancy("tenant"))
    process.rig.due(10 * SET_S)
    assert process.deliver("sinkacme") == []
    assert process.deliver("sinkglobex") == ["h"]


def test_a_sink_gets_nothing_again_for_what_another_one_lacks() -> None:
    process = Process("quick", "slow")
    process.send(*NUMBERS)
    process.rig.due(SIGHT_S)
    assert process.deliver("quick") == ["c_total", "g"]
    assert len(process.named()) == 2, "the slow sink does not have them"
    process = Process("quick", "slow", before=process)
    assert process.deliver("quick") == []
    assert process.deliver("slow") == ["c_total", "g"]


def test_a_death_in_a_replay_brings_nothing_again() -> None:
    process = Process("quick", "slow")
    process.send(*NUMBERS)
    process.send("g 3")
    process.rig.due(SIGHT_S)
    assert process.deliver("quick") == ["c_total", "g", "g"]
    cut_off = Process("quick", "slow", before=process, replayed=1)
    assert cut_off.named()
    assert all(entry.last < WAITING for entry in cut_off.named()), "it had left"
    process = Process("quick", "slow", before=cut_off)
    assert process.deliver("quick") == []
    assert process.deliver("slow") == ["c_total", "g", "g"]


def test_what_leaves_behind_a_replay_is_not_taken_for_delivered() -> None:
    process = Process("sink")
    process.send(*H)
    process.rig.due(SIGHT_S)
    process = Process("sink", before=process)
    process.rig.due(10 * SET_S)
    (batch,) = process.rig.sinks[0].batches
    assert batch.count == 1
    assert batch.oldest_offset >= process.known["sink"] == 1
    process = Process("sink", before=process)
    assert process.deliver("sink") == ["h"]


def test_a_sweep_of_the_list_keeps_what_leaves_at_this_moment() -> None:
    process = Process("sink")
    process.send("n 1", *H)
    process.send("up 1")
    process.rig.engine.waiting._sweep_at = 0
    process.rig.due(SIGHT_S)  # n leaves, and the set of h comes to the list
    assert process.lows() == {"sink": 1}, "where n left, not where it came"
    process = Process("sink", before=process)
    assert process.deliver("sink") == ["n", "up"]


@pytest.mark.parametrize("replayed", [[0], [1], [0, 1], [1, 1, 0, 2]])
@pytest.mark.parametrize("lines", [NUMBERS, H])
def test_ends_in_replays_lose_nothing(lines: Sequence[str], replayed: Sequence[int]) -> None:
    process = Process("sink")
    process.send(*lines)
    for tick in (SIGHT_S, SIGHT_S + SET_S):
        process.rig.due(tick)
    process.send("up 1")
    names = ["h"] if lines is H else ["c_total", "g"]
    for count in replayed:
        process = Process("sink", before=process, replayed=count)
    process = Process("sink", before=process)
    for tick in (SIGHT_S, 10 * SET_S):
        process.rig.due(tick)
    assert process.deliver("sink") == sorted([*names, "up"])


def test_sets_that_a_checkpoint_has_no_room_for_wait_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.pipeline.batching.unfinished.LISTED_MAX", 1)
    process = Process("sink")
    for name in "abcd":
        process.send(*histogram(name, "", (("1", 2), ("+Inf", 3)), 4.5, 3)[:2], "up 1")
        process.rig.due(SIGHT_S)
    process = Process("sink", before=process)
    process.send(
        *(line for n in "abcd" for line in histogram(n, "", (("1", 2), ("+Inf", 3)), 4.5, 3)[2:])
    )
    process.rig.due(SIGHT_S)
    process.rig.due(10 * SET_S)
    found = [name for name in process.deliver("sink") if name != "up"]
    assert found == ["a", "b", "c", "d"]
    assert process.rig.engine.statistics().assembly.outcomes == {"assembled": 16}
