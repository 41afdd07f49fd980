"""Snippets of vendors become the sinks that they describe, and never a credential in the sink."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from relay.apiserver.objects.writes import ObjectPlace, Stamp, WriteOptions, WriteRequest, create
from relay.ui.authoring.controls import exporter_kind
from relay.ui.pasting.pasted_sink import is_placeholder, sink_name
from relay.ui.pasting.snippet import SnippetError, read_snippet

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
TOKEN = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>[]${}*"),
    min_size=4,
    max_size=40,
).filter(lambda text: not is_placeholder(text) and not text.startswith(("-", "#", "!", "&", "%")))
HOST = st.builds("{}.example.com".format, WORD)
STAMP = Stamp("2026-01-01T00:00:00Z", "u", "s")
OPTIONS = WriteOptions("test", field_validation="Strict")


def accepted(sink: dict[str, Any]) -> None:
    """The API takes an Exporter with this sink."""
    body = {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "sources": [{"name": "all", "metrics": {"metricsql": "{}"}}],
            "sinks": [sink],
        },
    }
    create(WriteRequest(exporter_kind(), ObjectPlace("", "default", "a"), OPTIONS, STAMP), body)


@st.composite
def remote_writes(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, str]]:
    """An entry of remote_write, and the credential in it."""
    entry: dict[str, Any] = {"url": f"https://{draw(HOST)}/api/prom/push"}
    way = draw(st.sampled_from(["none", "basic", "bearer", "scheme", "old", "header"]))
    token = draw(TOKEN)
    credential: dict[str, str] = {}
    if way == "basic":
        user = draw(st.integers(1, 10**9) | WORD)
        entry["basic_auth"] = {"username": user, "password": token}
        credential = {"username": str(user), "password": token}
    elif way == "bearer":
        entry["authorization"] = {"credentials": token}
        credential = {"token": token}
    elif way == "scheme":
        entry["authorization"] = {"type": "Api-Token", "credentials": token}
        credential = {"apiKey": f"Api-Token {token}"}
    elif way == "old":
        entry["bearer_token"] = token
        credential = {"token": token}
    elif way == "header":
        entry["headers"] = {"X-Api-Key": token, "X-Scope-OrgID": "team"}
        credential = {"apiKey": token}
    if draw(st.booleans()):
        entry["queue_config"] = {"capacity": 1}
    if draw(st.booleans()):
        entry["remote_timeout"] = "20s"
    return entry, credential


@given(remote_writes(), st.integers(0, 6), st.booleans(), st.booleans())
def test_remote_write(
    given: tuple[dict[str, Any], dict[str, str]], indent: int, whole: bool, listed: bool
) -> None:
    entry, credential = given
    value: Any = {"remote_write": [entry]} if whole else [entry] if listed else entry
    text = yaml.safe_dump(value, sort_keys=False, width=10_000)
    shifted = "".join(f"{' ' * indent}{line}\n" for line in text.splitlines())
    (pasted,) = read_snippet(shifted)
    sink = pasted.sink()
    assert pasted.kind == "prometheusRemoteWrite"
    assert sink["prometheusRemoteWrite"]["endpoint"] == entry["url"]
    assert pasted.credential == credential
    for secret in credential.values():
        assert len(secret) < 4 or secret not in json.dumps(sink) or secret in entry["url"]
    assert ("queue_config" in entry) == any("queue" in note for note in pasted.notes)
    accepted(sink)


@st.composite
def collectors(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, str], str]:
    """A collector's configuration, the credential in it, and its base endpoint."""
    base = f"https://{draw(HOST)}{draw(st.sampled_from(['', '/otlp', ':4318']))}"
    token = draw(TOKEN)
    way = draw(st.sampled_from(["none", "bearer", "basic", "key", "extension", "tokens"]))
    body: dict[str, Any] = {}
    configuration: dict[str, Any] = {}
    credential: dict[str, str] = {}
    if draw(st.booleans()):
        body["endpoint"] = base
    else:
        body["metrics_endpoint"] = f"{base}/v1/metrics"
    if way == "bearer":
        body["headers"] = {"Authorization": f"Bearer {token}"}
        credential = {"token": token}
    elif way == "basic":
        encoded = base64.b64encode(f"55:{token}".encode()).decode()
        body["headers"] = {"authorization": f"Basic {encoded}"}
        credential = {"username": "55", "password": token}
    elif way == "key":
        body["headers"] = {"x-honeycomb-team": token, "x-honeycomb-dataset": "metrics"}
        credential = {"apiKey": token}
    elif way == "extension":
        body["auth"] = {"authenticator": "basicauth/a"}
        client = {"username": "55", "password": token}
        configuration["extensions"] = {"basicauth/a": {"client_auth": client}}
        credential = client
    elif way == "tokens":
        body["auth"] = {"authenticator": "bearertokenauth"}
        configuration["extensions"] = {"bearertokenauth": {"token": token}}
        credential = {"token": token}
    name = draw(st.sampled_from(["otlphttp", "otlphttp/grafana", "otlp_http/x"]))
    configuration["exporters"] = {name: body}
    return configuration, credential, base


@given(collectors())
def test_a_collectors_exporter(given: tuple[dict[str, Any], dict[str, str], str]) -> None:
    configuration, credential, base = given
    (pasted,) = read_snippet(yaml.safe_dump(configuration, width=10_000))
    assert pasted.sink()["otlp_http"]["endpoint"] == base
    assert pasted.credential == credential
    accepted(pasted.sink())


@given(HOST, TOKEN.filter(lambda text: "," not in text and "%" not in text and '"' not in text))
def test_variables(host: str, token: str) -> None:
    text = (
        f'export OTEL_EXPORTER_OTLP_ENDPOINT="https://{host}/otlp"\n'
        f"export OTEL_EXPORTER_OTLP_HEADERS=api-key={token}\n"
        'OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"\n'
    )
    (pasted,) = read_snippet(text)
    assert pasted.endpoint["endpoint"] == f"https://{host}/otlp"
    assert pasted.credential["apiKey"] == token
    accepted(pasted.sink())


@pytest.mark.parametrize(
    ("body", "endpoint", "notes"),
    [
        (
            {"logs_endpoint": "https://a.example/otlp/v1/logs"},
            {"endpoint": "https://a.example/otlp"},
            ["the endpoint is of logs: choose such a source"],
        ),
        (
            {
                "metrics_endpoint": "https://a.example/v1/metrics",
                "traces_endpoint": "https://a.example/v1/traces",
            },
            {"endpoint": "https://a.example"},
            [],
        ),
        (
            {"endpoint": "https://a.example", "traces_endpoint": "https://b.example/api/spans/"},
            {"endpoint": "https://a.example", "tracesEndpoint": "https://b.example/api/spans"},
            [],
        ),
        (
            {"endpoint": "https://a.example", "logs_endpoint": "https://a.example/v1/logs"},
            {"endpoint": "https://a.example"},
            [],
        ),
    ],
)
def test_endpoints_of_single_signals(
    body: dict[str, str], endpoint: dict[str, str], notes: list[str]
) -> None:
    (pasted,) = read_snippet(yaml.safe_dump({"exporters": {"otlphttp": body}}))
    assert {**pasted.sink()["otlp_http"], "authentication": None} == {
        **endpoint,
        "authentication": None,
    }
    assert pasted.notes == notes
    accepted(pasted.sink())
    names = {"endpoint": "ENDPOINT"}
    names |= {f"{one}_endpoint": f"{one.upper()}_ENDPOINT" for one in ("metrics", "logs", "traces")}
    text = "\n".join(f"OTEL_EXPORTER_OTLP_{names[key]}={url}" for key, url in body.items())
    (same,) = read_snippet(text)
    assert same.endpoint == pasted.endpoint


@given(st.text(max_size=300) | st.text("remote_wi:-url \n{}[]otlphttp/endpoint\"'&*", max_size=300))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        found = read_snippet(text)
    except SnippetError:
        return
    assert found
    for one in found:
        assert one.sink()["name"]


@pytest.mark.parametrize(
    "text",
    [
        "<Your Grafana.com API Token>",
        "${env:API_KEY}",
        "$TOKEN",
        "${TOKEN}",
        "YOUR_API_KEY",
        "your-token-here",
        "xxxxxxxx",
        "****",
        "[token]",
        "",
        " ",
    ],
)
def test_what_stands_for_a_credential_is_left_open(text: str) -> None:
    snippet = yaml.safe_dump({"url": "https://a.example/w", "bearer_token": text})
    (pasted,) = read_snippet(snippet)
    assert pasted.credential == {"token": ""}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://otlp-gateway-prod-eu-west-0.grafana.net/otlp", "grafana-cloud"),
        ("https://prometheus-prod-01-eu-west-0.grafana.net/api/prom/push", "grafana-cloud-metrics"),
        ("https://api.honeycomb.io", "honeycomb"),
        ("https://otlp.us5.datadoghq.com", "datadog"),
        ("https://mimir.team.example.com/api/v1/push", "mimir-team"),
        ("http://127.0.0.1:4318", "collector"),
        ("http://[::1]:4318", "collector"),
        ("http://[::1", "backend"),
        ("", "backend"),
    ],
)
def test_names_of_sinks(url: str, name: str) -> None:
    assert sink_name(url) == name


def test_a_profile_goes_with_its_backend() -> None:
    (pasted,) = read_snippet("url: https://prometheus-prod-01.grafana.net/api/prom/push")
    assert pasted.sink()["prometheusRemoteWrite"]["profile"] == "grafana-cloud-metrics"
    accepted(pasted.sink())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Paste a snippet first"),
        ("hello", "neither"),
        ("scrape_configs: []", "neither"),
        ("a: [", "no YAML"),
        ("exporters: {otlp: {endpoint: x:4317}}", "gRPC"),
        ("x" * 70_000, "more than"),
    ],
)
def test_what_is_no_snippet_is_told(text: str, said: str) -> None:
    with pytest.raises(SnippetError, match=said):
        read_snippet(text)


def test_certificates_and_other_parts_are_noted() -> None:
    (pasted,) = read_snippet(
        "url: https://a.example/w\n"
        "tls_config: {ca_file: /x, insecure_skip_verify: true, server_name: b.example}\n"
        "protobuf_message: io.prometheus.write.v2.Request\n"
        "sigv4: {}\nstrange: 1\n"
    )
    endpoint = pasted.sink()["prometheusRemoteWrite"]
    assert endpoint["tls"] == {"serverName": "b.example", "insecureSkipVerify": True}
    assert endpoint["protocolVersion"] == "2.0"
    assert len(pasted.notes) == 3
    accepted(pasted.sink())


@pytest.mark.parametrize(
    ("value", "shown"),
    [("${env:TOKEN}", "${env:TOKEN}"), ("<your key>", "<your key>"), ("my-s3cret", "")],
)
def test_a_placeholder_is_left_open_and_told(value: str, shown: str) -> None:
    text = yaml.safe_dump(
        {
            "otlphttp": {
                "endpoint": "https://a.example",
                "headers": {"Authorization": f"Bearer {value}"},
            }
        }
    )
    (pasted,) = read_snippet(text)
    assert pasted.credential == {"token": ""}
    assert pasted.notes == [f"token: {shown or 'a placeholder'} stands for it: enter it below"]


@pytest.mark.parametrize(
    "snippet",
    [
        "remote_write: [{url: 'https://7:s%40crt@a.example/push'}]",
        "exporters: {otlphttp: {endpoint: 'https://7:s%40crt@a.example/push'}}",
        "OTEL_EXPORTER_OTLP_ENDPOINT=https://7:s%40crt@a.example/push",
    ],
)
def test_a_password_in_an_address_goes_into_the_secret(snippet: str) -> None:
    (pasted,) = read_snippet(snippet)
    assert pasted.credential == {"username": "7", "password": "s@crt"}
    assert pasted.endpoint["endpoint"] == "https://a.example/push"
    assert pasted.endpoint["authentication"]["type"] == "basicAuth"


def test_a_password_in_an_address_is_dropped_beside_another_credential() -> None:
    (pasted,) = read_snippet("{url: 'https://7:scrt@a.example/x@y', bearer_token: other}")
    assert pasted.credential == {"token": "other"}
    assert pasted.endpoint["endpoint"] == "https://a.example/x@y"
