"""One line per record, as text and as JSON, and no secret in it."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.runtime import log_setup
from relay.runtime.log_setup import REDACTED, TEXT_CHARS_MAX, JsonFormatter, TextFormatter, redact
from tests.log_state import kept_log


def _record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    record = logging.getLogger("relay.test").makeRecord(
        "relay.test", logging.INFO, __file__, 1, message, args, None, extra=extra
    )
    record.created = 1_700_000_000.123
    return record


def _json(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    decoded = msgspec.json.decode(line)
    assert isinstance(decoded, dict)
    return decoded


def _raised(error: Exception) -> Any:
    """What ``exc_info`` holds once an error was raised."""

    def fail() -> None:
        raise error

    try:
        fail()
    except type(error):
        return sys.exc_info()


def test_json_has_its_fields_in_order() -> None:
    line = JsonFormatter().format(_record("took %d of %s", 3, "acme", sink="grafana", points=500))
    assert line == (
        '{"ts":"2023-11-14T22:13:20.123Z","level":"info","logger":"relay.test",'
        '"msg":"took 3 of acme","sink":"grafana","points":500}'
    )


def test_text_is_for_people_and_for_grep() -> None:
    line = TextFormatter().format(
        _record("sink fails", sink="a/b", error='say "no" now', points=5, none=None, list=[1, "x"])
    )
    assert line == (
        "2023-11-14T22:13:20.123Z INFO  relay.test sink fails sink=a/b "
        r'error="say \"no\" now" points=5 none=null list=[1,"x"]'
    )


@pytest.mark.parametrize("value", ["", "a b", "a=b", 'a"b', "a\\ b", "tab\there"])
def test_text_quotes_what_could_be_misread(value: str) -> None:
    line = TextFormatter().format(_record("m", key=value))
    quoted = line.partition("key=")[2]
    assert quoted[0] == quoted[-1] == '"'


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\x0b", "\x85", "\u2028", "\x1b[2K"])
def test_nobody_can_write_a_line_of_ours(formatter: logging.Formatter, ending: str) -> None:
    record = _record("name %s", f"x{ending}2023 INFO relay forged", key=f"y{ending}forged")
    record.exc_info = _raised(ValueError(f"z{ending}forged"))
    line = formatter.format(record)
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    assert not isinstance(formatter, TextFormatter) or len(line.splitlines()) == 1


def test_an_exception_is_one_field() -> None:
    record = _record("failed")
    record.exc_info = _raised(ZeroDivisionError("by zero"))
    exception = _json(record)["exception"]
    assert exception.startswith("Traceback (most recent call last):\n")
    assert exception.endswith("ZeroDivisionError: by zero")
    assert ' exception="Traceback' in TextFormatter().format(record)


def test_a_stack_is_one_field() -> None:
    record = _record("here")
    record.stack_info = "Stack (most recent call last):\n  File x"
    assert _json(record)["stack"] == record.stack_info


def test_extra_fields_never_replace_ours() -> None:
    decoded = _json(_record("m", level="fake", ts="fake", logger="fake", exception="fake"))
    assert decoded["level"] == "info"
    assert decoded["logger"] == "relay.test"
    assert decoded["extra_level"] == decoded["extra_ts"] == decoded["extra_exception"] == "fake"


class _Odd:
    def __str__(self) -> str:
        return "odd"

    def __repr__(self) -> str:
        return "<odd>"  # a test's name: the same in every process


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Path("/a"), "/a"),
        (_Odd(), "odd"),
        (b"\xff", r"b'\xff'"),
        (1 << 70, str(1 << 70)),
        (-5, -5),
        (True, True),
        (1.5, 1.5),
        (float("nan"), None),
        ("\ud800", r"\ud800"),
        ({"a": {1: (2, 3)}}, {"a": {"1": [2, 3]}}),
        ({5}, [5]),
        ([[[[["deep"]]]]], [[["[['deep']]"]]]),
    ],
    ids=repr,
)
def test_any_value_can_be_logged(value: object, written: object) -> None:
    assert _json(_record("m", key=value))["key"] == written


def test_strings_are_bounded() -> None:
    message = _json(_record("%s", "x" * 1_000_000))["msg"]
    assert len(message) < TEXT_CHARS_MAX + 100
    assert message.endswith("… (1000000 characters)")


SECRET = "c2VjcmV0OnNlY3JldA=="


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: {SECRET}",
        f"Proxy-Authorization: Basic {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}', 'X-Other': 'kept'}}",
        f'{{"authorization":"{SECRET}"}}',
        f"<CIMultiDict('Authorization': 'Basic {SECRET}')>",
        f"refused Bearer {SECRET}",
        f"BASIC {SECRET}",
        f"Bearer token_{SECRET}",
        f"Bearer auth.{SECRET}",
        f"Bearer {'x' * 10_000}{SECRET}",
        f"https://user:{SECRET}@otlp.example/v1",
        f"https://{SECRET}@otlp.example",
        f"cannot reach HTTPS://a:b@c{SECRET}@host:4318/path",
    ],
)
def test_redacts(text: str) -> None:
    redacted = redact(text)
    assert SECRET not in redacted
    assert REDACTED in redacted
    assert redact(redacted).count(REDACTED) == redacted.count(REDACTED)


@pytest.mark.parametrize(
    "text",
    [
        "basic authentication is required",
        "Bearer token is missing",
        "bearer credentials: none",
        "spec.sinks[0].otlp_http.authentication.type: must be bearerToken or basicAuth",
        "https://otlp.example:4318/v1/metrics",
        "https://otlp.example/a@b",
        "mail to ops@example.org",
        "sink acme/web/grafana: 503 Service Unavailable",
    ],
)
def test_leaves_the_rest_readable(text: str) -> None:
    assert redact(text) == text


def test_what_surrounds_a_secret_stays() -> None:
    text = redact(
        f"POST https://u:{SECRET}@otlp.example/x with {{'Authorization': 'Bearer x', 'A': 1}}"
    )
    assert text == (
        f"POST https://{REDACTED}@otlp.example/x with {{'Authorization': '{REDACTED}', 'A': 1}}"
    )


@pytest.mark.parametrize(
    "piece", ["a-", "a://", "Bearer ", "authorization: ", "basic basic", "https://a:b", "@", "=\t"]
)
def test_redacting_takes_linear_time(piece: str) -> None:
    """Quadratic time would run into the suite's time limit here."""
    redact(piece * (500_000 // len(piece)))


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_no_part_of_a_record_shows_a_secret(formatter: logging.Formatter) -> None:
    record = _record(
        "call %s",
        f"https://u:{SECRET}@host",
        headers={"Authorization": f"Bearer {SECRET}", "DD-API-KEY": SECRET},
        nested=[[{"password": SECRET}]],
        api_key=SECRET,
        url=f"https://{SECRET}@host",
    )
    record.exc_info = _raised(ConnectionError(f"Basic {SECRET}"))
    record.stack_info = f"Authorization: {SECRET}"
    assert SECRET not in formatter.format(record)


def test_a_secret_at_the_cut_is_not_left_half() -> None:
    message = "x" * (TEXT_CHARS_MAX - 30) + f" https://user:{SECRET}@host"
    assert SECRET[:8] not in _json(_record("%s", message))["msg"]


Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure() -> Configure:
    def run(layout: log_setup.Format = "json", level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        log_setup.configure(layout, level, stream)
        return stream

    return run


def _lines(stream: io.StringIO) -> list[Mapping[str, Any]]:
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


def test_configure_writes_lines_of_at_least_the_level(configure: Configure) -> None:
    stream = configure("json", "warning")
    logger = logging.getLogger("relay.some.module")
    logger.info("not this")
    logger.warning("this", extra={"sink": "grafana"})
    (line,) = _lines(stream)
    assert (line["logger"], line["msg"], line["sink"]) == ("relay.some.module", "this", "grafana")


def test_configuring_again_replaces_and_leaves_others_alone(configure: Configure) -> None:
    root = logging.getLogger()
    other = logging.NullHandler()
    root.addHandler(other)
    first, second = configure(), configure("text")
    logging.getLogger("relay").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert other in root.handlers
    root.removeHandler(other)


def test_access_logs_are_off(configure: Configure) -> None:
    stream = configure("json", "debug")
    logging.getLogger("aiohttp.access").info("GET /")
    assert stream.getvalue() == ""


def test_an_unknown_level_is_refused(configure: Configure) -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure("json", "loud")


def test_later_tests_see_nothing_of_a_log_that_was_set_up(configure: Configure) -> None:
    root, access = logging.getLogger(), logging.getLogger("aiohttp.access")
    before = root.level, list(root.handlers), access.disabled
    with kept_log():
        configure(level="debug")
        assert (root.level, access.disabled) == (logging.DEBUG, True)
        with kept_log():
            configure(level="error")
            root.setLevel(logging.INFO)
        assert root.level == logging.DEBUG
    assert (root.level, list(root.handlers), access.disabled) == before
