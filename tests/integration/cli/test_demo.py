"""``relay demo``: as a newcomer runs it, as it ends, and that it tells when something is lost."""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from relay.cli import main
from relay.cli.demo.behaviour import Behaviour, Reply, take_all
from relay.cli.demo.command import add_demo_arguments, run_demo
from relay.control.reconcile.reconciler import SinkKey
from tests.kit.processes import ROOT, eventually
from tests.own_time import patience

ERROR_WATCH = ("initech/production/workloads", "error-watch")
VENDOR = ("initech/production/workloads", "metrics-vendor")
END_TIMEOUT_S = 30.0


@asynccontextmanager
async def demo_process(*arguments: str) -> AsyncIterator[Process]:
    """``relay demo`` as a process of its own, killed if it is still there at the end."""
    command = (sys.executable, "-m", "relay", "demo", *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def rest_of(process: Process) -> tuple[str, str]:
    """Everything that it still writes, to both streams, until it ends."""
    async with patience(END_TIMEOUT_S):
        out, err = await process.communicate()
    return out.decode(), err.decode()


async def read_until(process: Process, pattern: str) -> re.Match[str]:
    """The first line that holds the pattern."""
    assert process.stdout is not None
    async with patience(END_TIMEOUT_S):
        while line := (await process.stdout.readline()).decode():
            if found := re.search(pattern, line):
                return found
    raise AssertionError(f"no line has {pattern}")


def run_in_process(
    arguments: Sequence[str], misbehave: dict[SinkKey, Behaviour] | None = None
) -> int:
    parser = argparse.ArgumentParser()
    add_demo_arguments(parser)
    return run_demo(parser.parse_args(arguments), misbehave=misbehave)


def ledger_rows(out: str) -> dict[str, list[int]]:
    """The numbers of each sink's line in the final ledger."""
    rows = re.findall(r"^ (?:ok|!!) ([a-z/-]+) +([\d, ]+)$", out, re.MULTILINE)
    return {name: [int(n.replace(",", "")) for n in numbers.split()] for name, numbers in rows}


@pytest.mark.slow
async def test_four_seconds_of_it_balance() -> None:
    async with demo_process("--seconds", "4") as process:
        out, err = await rest_of(process)
    assert (process.returncode, err) == (0, "")
    assert "Balanced." in out
    assert "!!" not in out
    assert "\x1b" not in out  # not a terminal: nothing is redrawn
    rows = ledger_rows(out)
    assert set(rows) == {
        "grafana-cloud-exporter",
        "collector-eu",
        "collector-us",
        "own-prometheus",
        "metrics-vendor",
        "error-watch",
        "collector-eu/logs",
        "collector-eu/traces",
    }
    for matched, delivered, rejected, expired, dropped, queued in rows.values():
        assert 0 < matched == delivered + rejected
        assert expired == dropped == queued == 0
    # The outage delays and does not lose. A workload has four counters and gauges, and a summary of
    # four series, which the vendor rejects.
    assert rows["collector-us"] == rows["collector-eu"]
    # Histograms and summaries are one point each there, and several series here.
    assert rows["own-prometheus"][0] > rows["collector-eu"][0]
    assert rows["metrics-vendor"][2] * 5 == rows["metrics-vendor"][0]
    assert "HTTP 503" in out
    assert out.count("  meant to arrive") == 2
    for unit in ("log records", "spans"):
        assert re.search(rf" ok {unit} of no project, told to the sender: [1-9]", out)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    async with demo_process("--series", "300") as process:
        status_url = (await read_until(process, r"(http://\S+/status)"))[1]

        async def has_received() -> bool:
            async with aiohttp.ClientSession() as session, session.get(status_url) as response:
                return bool((await response.json())["ingest"]["receivedSamples"])

        await eventually("the relay receives samples", has_received, timeout_s=END_TIMEOUT_S)
        process.send_signal(number)
        process.send_signal(number)  # impatience changes nothing
        out, err = await rest_of(process)
    assert (process.returncode, err) == (0, "")
    assert "Balanced." in out
    assert all(row[0] > 0 for row in ledger_rows(out).values())


def test_an_endpoint_that_loses_a_point_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    def lossy(metrics: Sequence[Metric], elapsed_s: float) -> Reply:
        return Reply(kept=take_all(metrics, elapsed_s).kept - 1)

    assert run_in_process(["--seconds", "0.3", "--series", "300"], {ERROR_WATCH: lossy}) == 1
    out, err = capsys.readouterr()
    assert "NOT balanced" in out
    assert re.search(r"^ ok error-watch ", out, re.MULTILINE)  # the relay's own account is sound
    assert out.count("\n !! ") == 1
    assert re.fullmatch(
        r"relay demo: does not balance: initech/production/workloads error-watch: "
        r"delivered, kept by the endpoint: \d+ != \d+\n",
        err,
    )


def test_an_endpoint_that_refuses_a_request_is_found_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(metrics: Sequence[Metric], elapsed_s: float) -> Reply:
        return Reply(status=400, message="no")

    assert run_in_process(["--seconds", "0.3", "--series", "300"], {VENDOR: refuse}) == 1
    assert "metrics-vendor: rejected, refused by the endpoint:" in capsys.readouterr().err


def test_what_it_says_to_try_next_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["--seconds", "0.1", "--series", "300"]) == 0
    out = capsys.readouterr().out
    suggested = out.partition("Try next:")[2].replace("\\\n", "")
    commands = [shlex.split(line, comments=True) for line in suggested.splitlines() if line.strip()]
    assert [words[1] for words in commands] == ["demo", "check", "explain"]
    # What runs the tests may not be on the path: then it is .venv/bin/relay.
    assert {shutil.which(words[0]) is not None for words in commands} == {True}
    answers = []
    for words in commands:
        assert main.main(words[1:]) == 0
        answers.append(capsys.readouterr().out)
    assert "kind: Exporter" in answers[0]
    assert "typographic quotes" in answers[1]
    assert "yes: source gateway-metrics takes it, to grafana-cloud-exporter" in answers[2]


@pytest.mark.parametrize(
    "wrong",
    [["--seconds", "0"], ["--seconds", "nan"], ["--series", "1.5"], ["--rate", "fast"]],
)
def test_wrong_use_is_explained(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["demo", *wrong])
    assert caught.value.code == 2
    assert re.search(rf"{wrong[0]}: must be a .*number from", capsys.readouterr().err)
