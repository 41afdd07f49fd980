"""The demo's table: what it says, and that it fits and cannot be broken out of."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from relay.cli.demo.access import ApiAccess, make_tokens, users_document
from relay.cli.demo.agent import AgentStatistics
from relay.cli.demo.audit import Audit, Check, SinkAudit
from relay.cli.demo.behaviour import Outage
from relay.cli.demo.display import View, cut, render, render_ledger
from relay.cli.demo.platform import CUSTOMERS
from relay.cli.demo.receiver import ReceiverStatistics
from relay.cli.demo.records.agent import RecordAgentStatistics
from relay.cli.demo.story import farewell, introduction, invitation
from relay.cli.live.screen import Screen
from relay.cli.live.sink_table import COLUMNS, SinkRow, number
from relay.config.settings.addresses import ListenAddress
from relay.pipeline.records.resource_table import ResourceTableStatistics
from relay.pipeline.records.results import RecordStatistics


def row(**changes: object) -> SinkRow:
    values: dict[str, object] = {
        "exporter": "globex/default/everything",
        "sink": "collector-us",
        "matched": 12_345,
        "delivered": 10_000,
        "rejected": 45,
        "queued": 2_300,
        "rate": 998.6,
        "state": "healthy",
    }
    return SinkRow(**{**values, **changes})  # type: ignore[arg-type]


def view(*rows: SinkRow, seconds: float | None = 20.0) -> View:
    agents = (
        AgentStatistics("snappy", 11, 5_000, 0, ""),
        AgentStatistics("zstd", 12, 6_000, 0, ""),
    )
    return View(65.2, seconds, agents, 11_000, 6_400, 2_002, rows)


def test_the_table_says_everything_about_a_sink() -> None:
    error = row(sink="collector-eu", state="failing", error="HTTP 503: closed", error_age_s=3.4)
    lines = render(view(row(), error))
    assert lines[0].startswith("-- 01:05 of 00:20 ---")
    assert "11,000 samples in 11 snappy and 12 zstd requests" in lines[1]
    assert lines[5:] == [
        "  exporter / sink            matched delivered rejected  queued  rate/s state",
        "  globex/default/everything",
        "    collector-us              12,345    10,000       45   2,300     999 healthy",
        "    collector-eu              12,345    10,000       45   2,300     999 failing",
        "    3 s ago: HTTP 503: closed",
    ]


def test_records_have_lines_of_their_own() -> None:
    sent = RecordAgentStatistics("logs", 3, records=1_200)
    counted = RecordStatistics("logs", 1_199, 8, 0, 1_000, ResourceTableStatistics(1, 1))
    lines = render(replace(view(row()), records=((sent, counted),)))
    assert (
        lines[4] == "  log records              1,200 sent, 1,199 received, 1,000 selected by none"
    )


def test_without_an_end_it_says_how_to_end_it() -> None:
    assert "Ctrl-C" in render(view(seconds=None))[0]


def test_nothing_is_wider_than_a_terminal_or_moves_its_cursor() -> None:
    rows = [
        row(exporter="p" * 200, sink="s" * 63, matched=10**15, delivered=10**14, queued=10**13),
        row(error="\x1b[2J\r\n\a" + "täuschend " * 50, rate=1e9, rejected=10**12),
    ]
    for line in render(view(*rows)):
        assert len(line) <= COLUMNS
        assert line.isascii()
        assert line.isprintable()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999.6, "1,000"),
        (9_999_999, "9,999,999"),
        (10_000_000, "10.0M"),
        (1_234_567_890, "1.2G"),
        (10**15, "1,000.0T"),
    ],
)
def test_numbers_stay_short(value: float, text: str) -> None:
    assert number(value) == text


def test_the_ledger_marks_what_does_not_balance() -> None:
    sink = SinkAudit(
        exporter="acme/default/e",
        sink="s",
        matched=10,
        delivered=7,
        rejected=3,
        expired=0,
        dropped=0,
        queued=0,
        endpoint=ReceiverStatistics(6, 3, 1, 0),
        own=(Check("own", 10, 10),),
        across=(Check("delivered", 7, 6), Check("rejected", 3, 3)),
        intended=(Check("meant", 6, 6), Check("checksums", 5, 5)),
    )
    audit = Audit((Check("sent, received", 20, 20), Check("refused, none", 1, 0)), (sink,))
    lines = render_ledger(audit)
    assert " ok sent, received: 20" in lines
    assert " !! refused, none: 1 != 0" in lines
    assert lines[-1].split() == ["ok", "meant", "to", "arrive", "6"]
    assert lines[-3].split() == ["ok", "s", "10", "7", "3", "0", "0", "0"]
    assert lines[-2].split() == ["!!", "its", "endpoint", "says", "6", "3"]
    assert [str(fault) for fault in audit.faults()] == [
        "refused, none: 1 != 0",
        "delivered: 7 != 6",
    ]
    assert all(len(line) <= COLUMNS for line in lines)


def test_what_is_said_around_the_table_fits_too() -> None:
    url = "http://127.0.0.1:65535"
    lines = introduction(200_000, 1000.0, url, url)
    assert max(map(len, lines)) <= COLUMNS
    address = ListenAddress("127.0.0.1", 65535)
    access = ApiAccess(address, address, make_tokens(CUSTOMERS), Path("build/demo"))
    for with_kubectl in (True, False):
        lines = invitation(access, with_kubectl=with_kubectl)
        assert max(len(line) for line in lines if '"$API' not in line) <= COLUMNS + 10
        assert any(access.tokens["operator"] in line for line in lines)
    users = yaml.safe_load(users_document(access.tokens))
    assert {one["user"]: (one["role"], one["projects"]) for one in users} == {
        **{name: ("editor", [name]) for name in CUSTOMERS},
        "operator": ("admin", ["*"]),
    }
    # The commands at the end are there to be copied whole, however long.
    texts = [line for line in farewell(balanced=True) if not line.startswith("  ")]
    assert max(map(len, texts)) <= COLUMNS


def test_a_table_fits_the_rows_that_there_are() -> None:
    lines = [str(number) for number in range(30)]
    assert cut(lines, 30) == lines
    assert cut(lines, 5) == ["0", "1", "2", "3", "  ... 26 more lines"]


def test_a_terminal_is_redrawn_and_anything_else_is_not() -> None:
    for live, expected in ((True, "a\nb\n\x1b[2F\x1b[Jc\n"), (False, "a\nb\nc\n")):
        out = io.StringIO()
        screen = Screen(out, live=live)
        screen.show(["a", "b"])
        screen.show(["c"])
        assert out.getvalue() == expected


def test_an_outage_comes_again_until_it_is_ended() -> None:
    outage = Outage(20.0)
    down = [second for second in range(40) if outage.is_down(second)]
    assert down == [4, 5, 6, 7, 8, 24, 25, 26, 27, 28]
    outage.end()
    assert not any(outage.is_down(second) for second in range(40))
