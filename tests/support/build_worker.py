"""What an engine makes of some bodies, told in full; and a process that answers that question.

``python -m tests.support.build_worker`` runs whichever build of the hot path ``RELAY_BUILD`` names,
and answers each line of standard input, a question in JSON, with one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from relay.errors import DecodeError, OverloadedError, TooLargeError
from relay.hot_path import BUILD, SWITCH, Build
from relay.pipeline.engine import Limits
from relay.pipeline.tenancy import ANYWHERE, MULTITENANT, Origin, Tenancy
from relay.wire.batch import OpenBatch
from relay.wire.remote_write import WriteProtocol
from tests.support.engine_rig import NUMBERS, Rig, RigSink, named
from tests.support.processes import ROOT

PROTOCOLS: tuple[WriteProtocol, ...] = ("remote_write_v1", "remote_write_v2")
PROJECTS = ("red", "blue")
TENANCY = Tenancy("", {(number, 0): project for number, project in enumerate(PROJECTS, 1)})
ORIGINS = (*(TENANCY.origin((number, 0)) for number in (1, 2)), ANYWHERE, MULTITENANT)

Step = list[Any]
"""What happens to an engine with tenancy: ``["feed", tick, protocol, origin, body in hex]``,
``["export", exporter, project, limit, timeout_s]``, ``["remove", exporter]``, ``["due", tick]``;
``origin`` is a place in :data:`ORIGINS`."""


def outcome_of(bodies: Sequence[bytes], protocol: WriteProtocol) -> list[Any]:
    """Everything that can be seen of an engine that takes these bodies one after the other."""
    rig = Rig(Limits(series_max=50))
    rig.export(
        RigSink("wide", limit=100),
        RigSink("narrow", limit=3, options=NUMBERS),
        RigSink("at-once", limit=5, timeout_s=0.0, options=NUMBERS),
        RigSink("lanes", limit=2, lanes=3, options=NUMBERS),
    )
    rig.export(RigSink("some", limit=7), exporter="y", sources={"up": named("up")})
    told: list[Any] = []
    for number, body in enumerate(bodies):
        told.append(_fed(rig, body, float(number), protocol))
        told.append(_state_of(rig))
    rig.flush()
    told.append(_state_of(rig))
    return _as_json(told)


def story_of(series_max: int, steps: Sequence[Step]) -> list[Any]:
    """The same of an engine with tenancy to which all kinds of things happen."""
    rig, told = tell(series_max, steps)
    rig.flush()
    told.append(_state_of(rig))
    return _as_json(told)


def tell(series_max: int, steps: Sequence[Step]) -> tuple[Rig, list[Any]]:
    """Let it happen; the answers, and the engine as it is then."""
    rig = Rig(Limits(series_max=series_max), tenancy=TENANCY)
    told: list[Any] = []
    for kind, *given in steps:
        if kind == "feed":
            tick, protocol, origin, body = given
            told.append(_fed(rig, bytes.fromhex(body), tick, protocol, ORIGINS[origin]))
        elif kind == "export":
            exporter, project, limit, timeout_s = given
            sinks = [
                RigSink(exporter, limit=limit, timeout_s=timeout_s, exporter=exporter),
                RigSink(f"{exporter} too", limit=limit + 4, exporter=exporter, options=NUMBERS),
            ]
            rig.export(*sinks, exporter=exporter, project=project)
        elif kind == "remove":
            rig.engine.remove_exporter(*given)
        else:
            rig.due(*given)
        told.append(_state_of(rig))
    return rig, told


def _fed(
    rig: Rig, body: bytes, tick: float, protocol: WriteProtocol, origin: Origin = ANYWHERE
) -> list[Any]:
    try:
        intake = rig.feed(body, tick=tick, origin=origin, protocol=protocol)
    except (DecodeError, TooLargeError, OverloadedError) as error:
        return [type(error).__name__, str(error)]
    return [*intake.taken, sorted(intake.dropped.items()), intake.examples, intake.wanted]


def _as_json(told: list[Any]) -> list[Any]:
    """As the other side's comes: keys are texts there, and tuples lists."""
    result: list[Any] = json.loads(json.dumps(told))
    return result


def _state_of(rig: Rig) -> list[Any]:
    state = rig.snapshot()
    batches = [
        [batch.arena.encode().hex(), batch.arena.count, batch.arena.size, *_fields(batch)]
        for sink in rig.sinks
        for batch in sink.batches
    ]
    # Lanes go their own ways: which of two was full first is nobody's concern.
    sealed = [
        [[s.encode().hex(), s.count, s.oldest, s.opened_at] for s in lane]
        for sink in rig.sinks
        for lane in sink.sealed_by_lane
    ]
    counts = {
        key: state[key]
        for key in ("received", "dropped", "exemplars", "unmatched", "sinks", "sources", "held")
    }
    return [batches, sealed, counts]


def _fields(batch: OpenBatch) -> list[Any]:
    return [batch.count, batch.oldest, batch.opened_at, batch.sealed]


class BuildWorker:
    """The other process; a context manager that ends it."""

    def __init__(self, build: Build) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.support.build_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, SWITCH: build},
        )
        self.build = self._line()

    def outcome_of(self, bodies: Sequence[bytes], protocol: WriteProtocol) -> list[Any]:
        """As the function, in that process."""
        return self._ask([protocol, [body.hex() for body in bodies]])

    def story_of(self, series_max: int, steps: Sequence[Step]) -> list[Any]:
        """As the function, in that process."""
        return self._ask(["story", series_max, steps])

    def _ask(self, question: list[Any]) -> list[Any]:
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(question) + "\n")
        self._popen.stdin.flush()
        answer: list[Any] = self._line()
        return answer

    def _line(self) -> Any:
        assert self._popen.stdout is not None
        return json.loads(self._popen.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        assert self._popen.wait(10) == 0
        self._popen.stdout.close()


def main() -> None:
    """Answer until standard input ends."""
    print(json.dumps(BUILD), flush=True)
    for line in sys.stdin:
        about, *given = json.loads(line)
        if about == "story":
            answer = story_of(*given)
        else:
            answer = outcome_of([bytes.fromhex(body) for body in given[0]], about)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
