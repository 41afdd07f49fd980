"""What an engine makes of some bodies, told in full; and a process that answers that question.

``python -m tests.support.build_worker`` runs whichever build of the hot path ``RELAY_BUILD`` names,
and answers each line of standard input, a JSON list of bodies in hex, with one line of JSON.
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
from relay.wire.batch import OpenBatch
from relay.wire.remote_write import WriteProtocol
from tests.support.engine_rig import NUMBERS, Rig, RigSink, named
from tests.support.processes import ROOT

PROTOCOLS: tuple[WriteProtocol, ...] = ("remote_write_v1", "remote_write_v2")


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
        try:
            intake = rig.feed(body, tick=float(number), protocol=protocol)
        except (DecodeError, TooLargeError, OverloadedError) as error:
            told.append([type(error).__name__, str(error)])
        else:
            told.append(
                [*intake.taken, sorted(intake.dropped.items()), intake.examples, intake.wanted]
            )
        told.append(_state_of(rig))
    rig.flush()
    told.append(_state_of(rig))
    # Through JSON, as the other side's comes: keys are texts there, and tuples lists.
    result: list[Any] = json.loads(json.dumps(told))
    return result


def _state_of(rig: Rig) -> list[Any]:
    state = rig.snapshot()
    batches = [
        [batch.arena.encode().hex(), *batch.arena.mark()[:2], *_fields(batch)]
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
        assert self._popen.stdin is not None
        question = [protocol, [body.hex() for body in bodies]]
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
        protocol, bodies = json.loads(line)
        print(
            json.dumps(outcome_of([bytes.fromhex(body) for body in bodies], protocol)), flush=True
        )


if __name__ == "__main__":
    main()
