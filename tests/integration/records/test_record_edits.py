"""Edits while records wait: sources and signals come and go, sinks, exporters and endpoints.

Oracle: a model of which outputs there are when a request is acknowledged. Each output's endpoint
gets the numbers of exactly those requests, and every record is in a row of a ledger throughout.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.kit.exporter_yaml import exporter_of, exporter_yaml
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import eventually
from tests.kit.sink.queue_status import edit, orphans_of
from tests.kit.stored_relay import Relay, Sender, crash_image, made, running

SIGNALS = ("logs", "traces")
SINKS = ("one", "two")
EXPORTERS = ("a", "b")
STEPS = 60
LIVES = 6
"""Of relays that die, each with what the one before left on disk."""

Output = tuple[str, str, str]
"""Exporter, sink and signal."""


class Model:
    """Exporters that are edited at random, and the numbers that belong to each output."""

    def __init__(self, directory: Path, origin: str, rng: random.Random) -> None:
        self._directory = directory
        self._origin = origin
        self._rng = rng
        self._sizes = dict.fromkeys(EXPORTERS, 100)
        self.outputs: set[Output] = set()
        self.numbers: dict[Output, list[float]] = {}

    def change(self) -> None:
        """Make one random edit."""
        rng = self._rng
        exporter, sink, signal = (rng.choice(one) for one in (EXPORTERS, SINKS, SIGNALS))
        match rng.choice(("signal", "signal", "sink", "exporter", "size")):
            case "signal":
                self._flip({(exporter, sink, signal)})
            case "sink":
                self._flip({(exporter, sink, one) for one in SIGNALS})
            case "exporter":
                self._flip({(exporter, one, own) for one in SINKS for own in SIGNALS})
            case "size":
                self._sizes[exporter] = rng.choice((5, 100))
        self.write()

    def everything(self) -> None:
        """Have all outputs."""
        self.outputs = {(a, b, c) for a in EXPORTERS for b in SINKS for c in SIGNALS}
        self.write()

    def sent(self, signal: str, numbers: range) -> None:
        """Note what was acknowledged."""
        for output in self.outputs:
            if output[2] == signal:
                self.numbers.setdefault(output, []).extend(map(float, numbers))

    def write(self) -> None:
        """Write the manifests."""
        # An empty file would leave its last contents in effect.
        keep = exporter_yaml("keep", self._origin, metrics="nothing")
        edit(self._directory, keep, *map(self._manifest, EXPORTERS))

    def _flip(self, outputs: set[Output]) -> None:
        self.outputs = self.outputs - outputs if self.outputs & outputs else self.outputs | outputs

    def _manifest(self, exporter: str) -> str:
        own = {output[1:] for output in self.outputs if output[0] == exporter}
        signals = sorted({signal for _, signal in own})
        sinks = [
            {
                "name": sink,
                "sources": sorted(signal for at, signal in own if at == sink),
                "otlp_http": {"endpoint": f"{self._origin}/{exporter}/{sink}"},
                "batch": {"timeout": "20ms", "maxSize": self._sizes[exporter]},
                "retry": {"backoff": "10ms"},
            }
            for sink in sorted({sink for sink, _ in own})
        ]
        if not sinks:
            return ""
        return exporter_of(exporter, [{"name": one, one: {}} for one in signals], sinks)


def check_rows(relay: Relay) -> tuple[int, Counter[str]]:
    """Check that every ledger balances; return what all matched, and where that is."""
    reports = list(relay._reconciler.reports())
    for report in reports:
        assert report.balanced, report
    ended = relay._reconciler.removed_ledger()
    assert ended.balanced
    rows: Counter[str] = Counter(open=sum(report.open for report in reports))
    for ledger in (ended, *(report.ledger for report in reports)):
        rows["delivered"] += ledger.delivered
        rows["queued"] += ledger.queued
        rows["expired"] += ledger.expired
        rows.update({**ledger.dropped, **ledger.rejected})
    return sum(report.matched for report in reports) + ended.offered, +rows


@pytest.mark.parametrize("stored", [True, False], ids=["disk", "memory"])
async def test_every_record_is_in_a_row_over_edits(tmp_path: Path, stored: bool) -> None:
    rng = random.Random(19)
    got: dict[Output, list[float]] = {}
    down: set[str] = set()

    def answer(received: Received) -> Reply:
        exporter, sink, _, signal = received.path.strip("/").split("/")
        if exporter in down:
            return Reply(503)
        got.setdefault((exporter, sink, signal), []).extend(received.numbers())
        return Reply()

    async with OtlpServer(answer) as server:
        model = Model(tmp_path, server.origin, rng)
        relay = made(tmp_path, stored=stored)
        async with running(relay) as sender:
            for _ in range(STEPS):
                await step(model, sender, down, rng)
                check_rows(relay)
            down.clear()
            model.everything()
            await relay.reload()
            wanted = sum(map(len, model.numbers.values()))

            def is_done() -> bool:
                matched, rows = check_rows(relay)
                return matched == rows["delivered"] + rows["removed"] and wanted <= matched

            await eventually("nothing is queued", is_done, timeout_s=20)
            _, rows = check_rows(relay)
            if stored:
                assert orphans_of(relay)["ledger"]["waiting"] == 0
                assert got == model.numbers
                return
            assert rows["delivered"] == sum(map(len, got.values()))
            assert rows["delivered"] + rows["removed"] == wanted
            for output, numbers in got.items():
                assert not Counter(numbers) - Counter(model.numbers[output]), output


async def test_no_record_is_lost_over_edits_and_crashes(tmp_path: Path) -> None:
    """Of an output that is absent when the relay dies, only what is on disk is kept."""
    rng = random.Random(int(__import__("os").environ.get("S", "20")))
    got: dict[Output, set[float]] = {}
    excused: dict[Output, set[float]] = {}
    down: set[str] = set()

    def answer(received: Received) -> Reply:
        exporter, sink, _, signal = received.path.strip("/").split("/")
        if exporter in down:
            return Reply(503)
        got.setdefault((exporter, sink, signal), set()).update(received.numbers())
        return Reply()

    async with OtlpServer(answer) as server:
        model, data, following = Model(tmp_path, server.origin, rng), tmp_path / "data", 0
        for number in range(LIVES):
            relay = made(tmp_path, data=data)
            model.write()
            async with running(relay) as sender:
                sender.following = following
                for _ in range(rng.randrange(STEPS // 3)):
                    await step(model, sender, down, rng)
                    check_rows(relay)
                following = sender.following
                data = crash_image(data, tmp_path / f"image-{number}")
                was, down = down, set(EXPORTERS)  # nothing of the end of this one counts
            down = was
            for output in model.numbers.keys() - model.outputs:
                excused.setdefault(output, set()).update(model.numbers[output])
        down.clear()

        def missing() -> dict[Output, set[float]]:
            return {
                output: lost
                for output, numbers in model.numbers.items()
                if (lost := {*numbers} - got.get(output, set()) - excused.get(output, set()))
            }

        relay = made(tmp_path, data=data)
        model.everything()
        async with running(relay):
            with contextlib.suppress(AssertionError):
                await eventually("everything arrives", lambda: not missing(), timeout_s=20)
            assert not missing()
            check_rows(relay)


async def step(model: Model, sender: Sender, down: set[str], rng: random.Random) -> None:
    """Send, edit, or change how an exporter's endpoints answer."""
    match rng.choice(("send", "send", "send", "edit", "edit", "down", "wait")):
        case "send":
            signal, first = rng.choice(SIGNALS), sender.following
            assert await sender.send_records(signal, rng.choice((1, 10, 30))) == 200
            model.sent(signal, range(first, sender.following))
        case "edit":
            model.change()
            await sender.relay.reload()
        case "down":
            down ^= {rng.choice(EXPORTERS)}
        case "wait":
            await asyncio.sleep(rng.choice((0.03, 0.25)))
