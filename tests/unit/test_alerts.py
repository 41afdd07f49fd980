"""Alert rules, their runbook pages and the dashboard agree with the metrics that the relay has."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.telemetry.registry import CATALOGUE
from tests.own_time import crowding

ROOT = Path(__file__).parents[2]
RULES = {
    audience: ROOT / f"config/alerts/{name}.rules.yaml"
    for audience, name in (("platform", "platform"), ("customer", "customers"))
}
RUNBOOKS = ROOT / "docs/runbooks"
DASHBOARD = ROOT / "config/grafana/relay.json"
HISTOGRAM_SUFFIXES = ("_bucket", "_count", "_sum")


def metric_names() -> set[str]:
    """Every name that can stand in an expression: histograms by their members."""
    names = set()
    for spec in CATALOGUE:
        names.add(spec.name)
        if spec.kind == "histogram":
            names.update(spec.name + suffix for suffix in HISTOGRAM_SUFFIXES)
    return names


def own_names(text: str) -> set[str]:
    """Names of the relay's own metrics that an expression or a text uses."""
    return set(re.findall(r"\brelay_\w+", text))


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES.values():
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def test_alerts_name_only_metrics_that_we_have() -> None:
    for rule in rules():
        used = own_names(rule["expr"])
        assert used or "up{" in rule["expr"]
        assert used <= metric_names(), rule["alert"]


def test_alert_texts_name_only_metrics_that_we_have() -> None:
    for path in RULES.values():
        assert own_names(path.read_text(encoding="utf-8")) <= metric_names()


def test_alerts_wait_have_a_severity_and_speak_plainly() -> None:
    for rule in rules():
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["description"].endswith(".")


def test_no_customer_trouble_pages_the_platform() -> None:
    for audience, path in RULES.items():
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                assert rule["labels"]["audience"] == audience, rule["alert"]
                if audience == "customer":
                    assert rule["labels"]["severity"] == "warning", rule["alert"]


def test_every_alert_has_a_runbook_page_and_every_page_an_alert() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {rule["alert"] for rule in rules()}
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for rule in rules():
        name = rule["alert"]
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
        assert f"[{name}]({name}.md)" in index


def test_runbook_pages_name_only_metrics_that_we_have() -> None:
    for path in RUNBOOKS.glob("*.md"):
        assert own_names(path.read_text(encoding="utf-8")) <= metric_names(), path.name


OTHERS_WORDS = re.compile(r"vmagent_\w+|prometheus_\w+|__name__")


def test_runbook_pages_name_only_reasons_and_fields_that_we_have() -> None:
    """Words of code, `snake_case`, `camelCase` and `dotted.paths`, stand in the code."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "relay").rglob("*.py"))
    settings = (ROOT / "config/relay.yaml").read_text(encoding="utf-8")
    known = set(re.findall(r"\w+", settings)) | set(re.findall(r'"(\w+)"', code))
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        quoted = re.findall(r"`(\w+(?:\.\w+)*)`", text) + re.findall(r'reason="(\w+)"', text)
        for word in quoted:
            is_code = re.search(r"[a-z][_.A-Z][A-Za-z]", word) and not word.startswith("Relay")
            if is_code and not own_names(word) and not OTHERS_WORDS.fullmatch(word):
                assert set(word.split(".")) - {"yaml"} <= known, (path.name, word)


def test_runbook_pages_quote_the_expression_of_their_alert() -> None:
    for rule in rules():
        page = (RUNBOOKS / f"{rule['alert']}.md").read_text(encoding="utf-8")
        quoted = re.search(r"```promql\n(.*?)\n```", page, re.DOTALL)
        assert quoted is not None, rule["alert"]
        assert quoted[1].split() == rule["expr"].split(), rule["alert"]


# The dashboard.


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """Title and expression of every query of every panel."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    for panel in panels:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_dashboard_is_made_of_metrics_that_exist() -> None:
    expressions = list(dashboard_expressions())
    assert len(expressions) > 20
    process = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
    for title, expression in expressions:
        used = own_names(expression)
        assert used <= metric_names(), title
        assert used or process & set(re.findall(r"\w+", expression)), title


def test_dashboard_panels_do_not_overlap_and_say_their_unit() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


COUNTS = {"relay_sink_points_total", "relay_sink_failed_points_total", "relay_sink_queued_points"}
"""Metrics of sinks in points, or in records where the sink is named so."""


def test_dashboard_never_adds_points_and_records_and_has_both() -> None:
    of_points, of_records = set(), set()
    for title, expression in dashboard_expressions():
        used = own_names(expression) & COUNTS
        leaves_out = 'sink!~".+/(logs|traces)"' in expression
        has_only = 'sink=~".+/(logs|traces)"' in expression
        assert leaves_out + has_only == bool(used), title
        if used:
            (of_records if has_only else of_points).update(used)
    assert of_points == of_records == COUNTS
    shown = set().union(*(own_names(expression) for _, expression in dashboard_expressions()))
    # Nor has it what projects take, by which they are billed and warned.
    wanted = {name for name in metric_names() if "_record" in name}
    assert {name for name in wanted if not re.search("storage|relay_project_", name)} <= shown


@pytest.mark.real
def test_promtool_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    def record(number: int, expression: str) -> dict[str, str]:
        concrete = re.sub(r"\$(\w+)", r"\1", expression.replace("$__rate_interval", "5m"))
        return {"record": f"dashboard:{number}", "expr": concrete}

    found = [record(n, expr) for n, (_, expr) in enumerate(dashboard_expressions())]
    file = tmp_path / "dashboard.rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "d", "rules": found}]}), encoding="utf-8")
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


# What Prometheus makes of the rules.


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("promtool")
    if binary is None:
        pytest.fail("promtool is missing: apt-get install prometheus")
    return subprocess.run(
        [binary, *arguments], capture_output=True, text=True, timeout=60 * crowding(), check=False
    )


@pytest.mark.real
def test_promtool_accepts_the_alerts() -> None:
    done = promtool("check", "rules", *RULES.values())
    assert done.returncode == 0, done.stdout + done.stderr


def promtool_series(name: str, values: str, **labels: str) -> dict[str, str]:
    """One input series of promtool's unit tests."""
    label_text = ",".join(f'{key}="{value}"' for key, value in {"instance": "a", **labels}.items())
    return {"series": f"{name}{{{label_text}}}", "values": values}


def sink_series(**changed: str) -> list[dict[str, str]]:
    """A sink over an hour, healthy but for the series that are given as metric or outcome."""
    values = {
        "delivered": "0+1000x60",
        "rejected": "0x60",
        "expired": "0x60",
        "dropped": "0x60",
        "relay_sink_matched_points_total": "500+1000x60",
        "relay_sink_queued_points": "500x60",
        "relay_sink_oldest_point_age_seconds": "5x60",
        "relay_sink_queue_bytes": "1000x60",
        "relay_sink_queue_max_bytes": "67108864x60",
        "relay_sink_until_full_seconds": "86400x60",
        "relay_sink_stalled_seconds": "0x60",
        "relay_sink_last_success_timestamp_seconds": "0+60x60",
        "relay_sink_paused": "0x60",
        "relay_sink_unreachable": "0x60",
        "relay_sink_internal_errors_total": "0x60",
        **changed,
    }
    sink = {"exporter": "default/e", "sink": "s"}
    return [
        promtool_series(name, text, **sink)
        if name.startswith("relay_")
        else promtool_series("relay_sink_points_total", text, **sink, outcome=name)
        for name, text in values.items()
    ]


def storage_series(**changed: str) -> list[dict[str, str]]:
    """A data directory over an hour, in order but for the series that are given."""
    values = {
        "relay_storage_degraded": "0x60",
        "relay_storage_used_bytes": "1000x60",
        "relay_storage_max_bytes": "100000x60",
        "relay_storage_damaged_records_total": "0x60",
        **changed,
    }
    return [promtool_series(name, text, part="queues") for name, text in values.items()]


def process_series(**changed: str) -> list[dict[str, str]]:
    """A relay over an hour, well but for the series that are given."""
    values = {
        "up": "1x60",
        "relay_exporters": "3x60",
        "relay_requests_total": "0+100x60",
        "relay_event_loop_lag_max_seconds": "0.01x60",
        "relay_memory_bytes": "1000x60",
        "relay_memory_max_bytes": "100000x60",
        **changed,
    }
    labels = {
        "up": {"job": "relay"},
        "relay_requests_total": {"code": "204"},
        "relay_memory_bytes": {"where": "queues"},
    }
    return [promtool_series(name, text, **labels.get(name, {})) for name, text in values.items()]


QUIET = [
    *process_series(),
    *sink_series(),
    promtool_series("relay_exporter_faults", "0x60"),
    promtool_series("relay_reloads_total", "0x60", outcome="failed"),
    *storage_series(),
    promtool_series("relay_refused_requests_total", "0x60", reason="overloaded"),
    promtool_series("relay_dropped_samples_total", "0x60", reason="invalid_utf8"),
    promtool_series("relay_assembled_samples_total", "0+100x60", outcome="assembled"),
    promtool_series("relay_assembled_samples_total", "0x60", outcome="late"),
    promtool_series("relay_metadata_contradictions_total", "0x60"),
    promtool_series("relay_project_refused_samples_total", "0x60", project="acme"),
    promtool_series("relay_project_refused_records_total", "0x60", project="acme"),
    promtool_series("relay_api_changes_total", "0x60", result="failed"),
    promtool_series("relay_api_token_faults", "0x60"),
    promtool_series("relay_api_requests_total", "0+600x60", method="GET", code="403"),
    # A relay with its own API may have no exporter yet.
    promtool_series("relay_exporters", "0x60", instance="b"),
    promtool_series("relay_api_version", "1x60", instance="b"),
    # A sink that its owner has paused waits for nobody.
    *(
        promtool_series(name, text, exporter="default/e", sink="paused")
        for name, text in (
            ("relay_sink_paused_by_owner", "1x60"),
            ("relay_sink_oldest_point_age_seconds", "0+60x60"),
            ("relay_sink_last_success_timestamp_seconds", "0x60"),
            ("relay_sink_queued_points", "500x60"),
        )
    ),
]

UP = promtool_series("up", "1x60", job="relay")

TROUBLE = {
    "RelayDown": [promtool_series("up", "0x60", job="relay")],
    "RelayWithoutExporters": process_series(relay_exporters="0x60"),
    "RelayWithoutIngest": process_series(relay_requests_total="100x60"),
    "RelayEventLoopBlocked": process_series(relay_event_loop_lag_max_seconds="2x60"),
    "RelayMemoryNearlyFull": process_series(relay_memory_bytes="95000x60"),
    "RelayManySinksStalled": [
        *process_series(),
        *(
            promtool_series(
                "relay_sink_stalled_seconds", "0+10x60", exporter=f"default/e{n}", sink="s"
            )
            for n in range(3)
        ),
        *(
            promtool_series(
                "relay_sink_stalled_seconds", "0x60", exporter=f"default/f{n}", sink="s"
            )
            for n in range(7)
        ),
    ],
    "RelayLedgerOutOfBalance": sink_series(relay_sink_matched_points_total="501+1000x60"),
    "RelaySinkInternalError": sink_series(relay_sink_internal_errors_total="0+1x60"),
    "RelayStorageDegraded": storage_series(relay_storage_degraded="1x60"),
    "RelayStorageNearlyFull": storage_series(relay_storage_used_bytes="90000x60"),
    "RelayStorageDamaged": storage_series(relay_storage_damaged_records_total="0+1x60"),
    "RelayExporterFaults": [promtool_series("relay_exporter_faults", "1x60")],
    "RelayReloadFailed": [promtool_series("relay_reloads_total", "0x40 1x20", outcome="failed")],
    "RelayRefusingRequests": [
        promtool_series("relay_refused_requests_total", "0+5x60", reason="x")
    ],
    "RelayDroppingSamples": [promtool_series("relay_dropped_samples_total", "0+5x60", reason="x")],
    "RelayDroppingRecords": [
        promtool_series("relay_dropped_records_total", "0+5x60", signal="logs", reason="x")
    ],
    "RelayHistogramsIncomplete": [
        promtool_series("relay_assembled_samples_total", "0+5x60", outcome="not_monotone")
    ],
    "RelayMetadataContradicts": [promtool_series("relay_metadata_contradictions_total", "0+1x60")],
    "RelayApiWritesFail": [promtool_series("relay_api_changes_total", "0+1x60", result="failed")],
    "RelayApiRefusesClients": [
        promtool_series("relay_api_requests_total", "0+30x60", method="GET", code="429")
    ],
    "RelayApiTokensFaulty": [promtool_series("relay_api_token_faults", "1x60")],
    "RelaySinkRejected": sink_series(
        rejected="0+10x60", relay_sink_matched_points_total="500+1010x60"
    ),
    "RelaySinkLosingData": sink_series(
        dropped="0+10x60", relay_sink_matched_points_total="500+1010x60"
    ),
    "RelaySinkQueueNearlyFull": sink_series(relay_sink_queue_bytes="60000000x60"),
    "RelaySinkQueueFullSoon": sink_series(relay_sink_until_full_seconds="3600x60"),
    "RelaySinkStalled": sink_series(relay_sink_stalled_seconds="0+60x60"),
    "RelaySinkUnreachable": sink_series(relay_sink_unreachable="1x60"),
    "RelaySinkFallingBehind": sink_series(relay_sink_oldest_point_age_seconds="0+60x60"),
    "RelaySinkWithoutSuccess": sink_series(relay_sink_last_success_timestamp_seconds="0x60"),
    "RelaySinkPaused": sink_series(relay_sink_paused="1x60"),
    "RelayProjectAtLimit": [
        promtool_series("relay_project_refused_samples_total", "0+5x60", project="acme")
    ],
}


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert [rule["alert"] for rule in rules()] == list(TROUBLE)


@pytest.mark.slow
@pytest.mark.real
def test_alerts_fire_in_trouble_and_only_then(tmp_path: Path) -> None:
    def case(name: str, inputs: list[dict[str, str]]) -> dict[str, Any]:
        query = 'count by (alertname) (ALERTS{alertstate="firing"})'
        fired = [] if name == "quiet" else [{"labels": f'{{alertname="{name}"}}', "value": 1}]
        expectation = {"expr": query, "eval_time": "45m", "exp_samples": fired}
        alive = [] if any(one["series"].startswith("up{") for one in inputs) else [UP]
        return {
            "name": name,
            "interval": "1m",
            "input_series": [*inputs, *alive],
            "promql_expr_test": [expectation],
        }

    cases = [case("quiet", QUIET), *itertools.starmap(case, TROUBLE.items())]
    file = tmp_path / "alerts.test.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(path) for path in RULES.values()], "tests": cases}),
        encoding="utf-8",
    )
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
