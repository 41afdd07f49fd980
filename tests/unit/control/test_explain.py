"""``relay explain``: who takes a series and why, many exporters, tenancy, captured requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli import main
from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.explain import Explainer, parse_series, written
from relay.pipeline.routing.tenancy import MULTITENANT, IngestPath, Tenancy
from relay.runtime.errors import SelectorError
from relay.selector.inventory.info_series import InfoReader
from relay.selector.metricsql.parser import parse_query
from tests.kit.paths import DATA
from tests.kit.remote_write import raw

CAPTURED = DATA / "remote_write/vmagent-zstd/0002.bin"
SEED = DATA / "exporters/good/seed-target-resource-selectors.yaml"
ACCOUNTS = Tenancy("tenant", {(42, 7): "acme"})


def exporter(name: str, query: str, project: str = "") -> Exporter:
    sink = Sink("otlp", ("s",), OtlpHttp("https://otlp.example.com/v1/metrics"))
    return Exporter(project, "default", name, (Source("s", query, parse_query(query)),), (sink,))


def lines(explainer: Explainer, series: str, **options: object) -> list[str]:
    return list(explainer.series(parse_series(series), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("up", {"__name__": "up"}),
        ('up{job="a",b=""}', {"__name__": "up", "job": "a"}),
        ('{"up", job="a"}', {"__name__": "up", "job": "a"}),
    ],
)
def test_series_are_written_as_everywhere(text: str, labels: dict[str, str]) -> None:
    assert parse_series(text) == labels
    assert parse_series(written(labels)) == labels


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('up{a="b" or c="d"}', "a series has one set of labels"),
        ('up{a=~"b"}', "a series has values, not conditions"),
        ('up{a="b",a="c"}', "label a is given two values"),
        ('{a="b"}', "a series needs a metric name"),
        ("up{", "never closed"),
    ],
)
def test_what_is_no_series(text: str, complaint: str) -> None:
    with pytest.raises(SelectorError, match=complaint):
        parse_series(text)


def test_takers_come_first_with_their_reason() -> None:
    some = Explainer.offline([exporter("no", "down"), exporter("yes", 'up{a="b"} ')])
    assert lines(some, 'up{a="b"}')[:5] == [
        "default/yes",
        "  yes: source s takes it, to otlp",
        '    because of {__name__="up",a="b"}',
        "default/no",
        "  no: source s",
    ]
    assert lines(some, "up", exporter="default/no")[:3] == [
        "default/no",
        "  no: source s",
        '    __name__="down" fails: __name__ is "up"',
    ]


def test_a_selector_that_asks_for_a_histogram_by_its_otlp_name() -> None:
    some = Explainer.offline([exporter("x", "latency_seconds")])
    told = "\n".join(lines(some, 'latency_seconds_bucket{le="1"}'))
    assert "latency_seconds is the name in OTLP; its series have other names" in told
    assert '{__name__=~"latency_seconds(_bucket|_count|_sum)?"}' in told
    assert "OTLP calls" not in "\n".join(lines(some, 'other_bucket{le="1"}'))


def test_of_thousands_only_the_takers_are_told() -> None:
    some = Explainer.offline([exporter(f"e{n}", f'up{{n="{n}"}}') for n in range(3_000)])
    told = lines(some, 'up{n="7"}')
    assert told[:4] == [
        "default/e7",
        "  yes: source s takes it, to otlp",
        '    because of {__name__="up",n="7"}',
        "1 exporters take it, 2999 do not",
    ]
    assert len(lines(some, 'up{n="7"}', every=True)) > 9_000


def test_nothing_is_said_of_other_projects() -> None:
    some = Explainer.offline(
        [exporter("x", 'up{secret="s"}', "acme"), exporter("x", "{}", "globex")], tenancy=ACCOUNTS
    )
    told = "\n".join(lines(some, 'up{tenant="globex"}'))
    assert "globex/default/x\n  yes" in told
    assert "acme/default/x\n  no: the series is not of this exporter's project" in told
    assert "secret" not in told
    told = "\n".join(lines(some, 'up{secret="s"}', origin=IngestPath("acme")))
    assert "acme/default/x\n  yes" in told
    account = 'up{secret="s",vm_account_id="42",vm_project_id="7"}'
    told = "\n".join(lines(some, account, origin=MULTITENANT))
    assert "acme/default/x\n  yes" in told
    assert "vm_account_id" not in told


def test_series_of_a_captured_request() -> None:
    some = Explainer.offline(
        [exporter("x", 'm{a!="b"}', "acme"), exporter("y", "{}", "globex")], tenancy=ACCOUNTS
    )
    body = b"".join(
        raw.series([(b"__name__", b"m"), *labels], (1.0, raw.T0_MS))
        for labels in (
            [(b"tenant", b"acme")],
            [(b"tenant", b"acme")],
            [(b"tenant", b"acme"), (b"a", b"b")],
            [(b"tenant", b"globex")],
            [(b"__name__", b"twice")],
        )
    )
    told = list(some.captured(body, "acme/default/x", reader=InfoReader()))
    assert told == [
        's: m{tenant="acme"}',
        "acme/default/x takes 1 of 3 series; 1 more are faulty",
    ]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main.main(["explain", *arguments])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings with tenancy, two exporters and an inventory."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/x.yaml").write_text(SEED.read_text())
    (tmp_path / "namespaces.yaml").write_text(
        "apiVersion: v1\nkind: Namespace\n"
        "metadata: {name: prod, labels: {environment: production}}\n"
    )
    (tmp_path / "relay.yaml").write_text(
        "tenancy: {label: tenant, accounts: [{account: '42:7', project: acme}]}\n"
        "exporters: [{path: acme, project: acme}]\n"
        "inventory: {manifests: [{path: namespaces.yaml, project: acme}]}\n"
    )
    return tmp_path / "relay.yaml"


def test_the_command_with_settings(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = (
        'bytes{resource_namespace="prod",service_name="compute.datumapis.com",'
        'resource_kind="Workload",label_app="my-gateway"}'
    )
    status, told = run(capsys, "--config", str(settings), "--account", "42:7", series)
    assert status == 0
    assert "acme/default/example-exporter\n  yes: source application-metrics takes it" in told
    assert "because of resourceSelectors[0]: kinds gateways of gateway.networking.k8s.io" in told
    status, told = run(capsys, "--config", str(settings), "--account", "42:8", series)
    assert status == 0
    assert told.startswith("no exporter may see it: no exporter belongs to its project\n")
    status, told = run(capsys, "--config", str(settings), "--account", "42:8", "--all", series)
    assert "no: the series is not of this exporter's project" in told
    status, told = run(
        capsys, "--config", str(settings), "--exporter", "acme/default/example-exporter", series
    )
    assert "no: the series is not of this exporter's project" in told


def test_the_command_without_exporters_and_tenancy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "relay.yaml").write_text("listen: 127.0.0.1:9490\n")
    status, told = run(capsys, "--config", str(tmp_path / "relay.yaml"), "up")
    assert status == 0
    assert told.startswith("there is no exporter: received samples are not exported\n")


def test_the_command_with_a_captured_request(capsys: pytest.CaptureFixture[str]) -> None:
    manifests = str(SEED.parent / "minimal.yaml")
    status, told = run(capsys, "--exporters", manifests, "--from", str(CAPTURED), "default/minimal")
    assert status == 0
    *taken, last = told.splitlines()
    assert last == "default/minimal takes 854 of 854 series"
    assert len(taken) == 854
    assert any(line.startswith("all: up{") for line in taken)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--exporters", "{m}", "--exporter", "a/b", "up"], "there is no exporter a/b; there are"),
        (
            ["--exporters", "{m}", "--from", "{m}", "default/minimal"],
            "is no request of remote write or OTLP",
        ),
        (["--exporters", "{m}", "--from", "/no/such", "default/minimal"], "cannot be read"),
        (["--exporters", "{m}", "--from", "{m}", "x/y"], "there is no exporter x/y"),
        (["--exporters", "{m}", "--account", "a", "up"], "--account: must be <accountID>"),
        (["--relay", "http://127.0.0.1:1", "up"], "does not answer: [Errno"),
        (["--relay", "file:///etc", "up"], 'must begin with "http://"'),
        (["--relay", "http://127.0.0.1:1", "--from", "{m}", "x"], "--from: goes with"),
        (["--relay", "http://127.0.0.1:1", "--inventory", "{m}", "x"], "--inventory: goes with"),
    ],
)
def test_what_cannot_be_answered(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = str(SEED.parent / "minimal.yaml")
    status, told = run(capsys, *(word.format(m=manifest) for word in arguments))
    assert status == 1
    assert complaint in told
    assert "Traceback" not in told
