"""From the operator's rendered Vector configuration to manifests, and what is said on the way."""

from __future__ import annotations

import json

import pytest
import yaml

from relay.cli.import_vector.convert import VectorImport, import_vector
from relay.cli.import_vector.manifest_files import rendered as rendered_manifests
from relay.config.yaml.document import parse_documents
from relay.selector.metricsql.parser import parse_selector
from tests.kit.remote_write.vector_config import OWNER, PROJECT, rendered


def notes_of(done: VectorImport) -> list[str]:
    """The notes as they are printed."""
    return [str(note) for note in done.notes]


def with_match(*selectors: str) -> VectorImport:
    """An import whose source has these ``match[]``."""
    config = rendered()
    (source,) = config["sources"].values()
    source["query"]["match[]"] = list(selectors)
    return import_vector(config)


def selector_of(done: VectorImport) -> str:
    """The one source's selector."""
    text = done.policies[0].documents[-1]["spec"]["sources"][0]["metrics"]["metricsql"]
    assert isinstance(text, str)
    return text


def test_the_portals_policy_comes_back_whole() -> None:
    done = import_vector(rendered())
    (policy,) = done.policies
    assert (policy.project, policy.namespace, policy.name) == (
        "acme-prod",
        "default",
        "grafana-export-policy",
    )
    assert notes_of(done) == []
    secret, manifest = yaml.safe_load_all(rendered_manifests(done.policies))
    assert secret == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "grafana-export-policy.grafana-cloud-metrics", "namespace": "default"},
        "type": "kubernetes.io/basic-auth",
        "stringData": {"username": "123456", "password": "glc_eyJ"},
    }
    assert manifest == {
        "apiVersion": "telemetry.miloapis.com/v1alpha1",
        "kind": "ExportPolicy",
        "metadata": {"name": "grafana-export-policy", "namespace": "default"},
        "spec": {
            "sources": [{"name": "datum-metrics", "metrics": {"metricsql": "{}"}}],
            "sinks": [
                {
                    "name": "grafana-cloud-metrics",
                    "sources": ["datum-metrics"],
                    "target": {
                        "prometheusRemoteWrite": {
                            "endpoint": "https://prometheus-prod-56.grafana.net/api/prom/push",
                            "authentication": {
                                "basicAuth": {
                                    "secretRef": {
                                        "name": "grafana-export-policy.grafana-cloud-metrics"
                                    }
                                }
                            },
                        }
                    },
                }
            ],
        },
    }


def test_the_platforms_password_is_not_in_what_comes_out() -> None:
    done = import_vector(rendered())
    assert "platform" not in rendered_manifests(done.policies)
    assert "glc_eyJ" not in repr(done)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (['{job="api",@}'], '{job="api"}'),
        (["envoy_up{@}"], '{__name__="envoy_up"}'),
        (['{a="x",@ or b!~"y.*",@}'], '{a="x" or b!~"y.*"}'),
        (['{a="x",@}', "up{@}"], '{a="x" or __name__=~"up"}'),
        (['{a="x",@}', "{@}"], "{}"),
        (['{a="x",@}'] * 2, '{a="x"}'),
        (['{a="q\\"\\\\d$$",@}'], '{a="q\\"\\\\d$"}'),
    ],
)
def test_selectors_lose_the_project_and_nothing_else(given: list[str], expected: str) -> None:
    done = with_match(*(text.replace("@", PROJECT) for text in given))
    assert selector_of(done) == expected
    assert parse_selector(expected)
    assert notes_of(done) == []


def test_a_selector_of_another_project_stays_and_is_named() -> None:
    done = with_match('{resourcemanager_datumapis_com_project_name="other"}')
    assert selector_of(done) == '{resourcemanager_datumapis_com_project_name="other"}'
    assert notes_of(done) == [
        (
            f'sources."{OWNER}:datum-metrics-source".query.match[]: '
            "is not limited to project acme-prod; the relay limits it to that"
        )
    ]


def test_a_bad_selector_costs_its_policy_and_says_why() -> None:
    done = with_match('{job="api"')
    assert not done.policies
    place = f'sources."{OWNER}:datum-metrics-source".query.match[]'
    assert notes_of(done)[0].startswith(f"{place}: this {{ is never closed at offset 0")
    assert notes_of(done)[-1] == (
        "ExportPolicy acme-prod/default/grafana-export-policy: no sources could be carried over: "
        "left out"
    )


def test_batch_and_retry_are_carried_over_within_the_limits() -> None:
    done = import_vector(
        rendered(
            batch={"timeout_secs": 1.5, "max_events": 10_000, "max_bytes": 1},
            request={"retry_attempts": 4, "retry_initial_backoff_secs": 2, "timeout_secs": 60},
        )
    )
    target = done.policies[0].documents[-1]["spec"]["sinks"][0]["target"]["prometheusRemoteWrite"]
    assert target["batch"] == {"timeout": "1500ms", "maxSize": 5000}
    assert target["retry"] == {"maxAttempts": 4, "backoffDuration": "2s"}
    sink = f'sinks."{OWNER}:grafana-cloud-metrics-sink"'
    assert notes_of(done) == [
        f"{sink}.batch.max_bytes: has no counterpart in an ExportPolicy",
        f"{sink}.batch.max_events: is 5000 now, the largest allowed",
        f"{sink}.request.timeout_secs: has no counterpart in an ExportPolicy",
    ]


def test_what_has_no_counterpart_is_named() -> None:
    done = import_vector(
        rendered(
            auth={"strategy": "bearer", "token": "hunter2"},
            tls={"ca_file": "/etc/ca.pem"},
            compression="snappy",
            buffer={"type": "disk"},
        )
    )
    sink = f'sinks."{OWNER}:grafana-cloud-metrics-sink"'
    assert notes_of(done) == [
        (
            f"{sink}.auth.strategy: only basic authentication is carried over, not bearer: the "
            "sink has none; write authentication.bearer by hand"
        ),
        f"{sink}.buffer: is the operator's to set: the relay's storage holds what is not delivered",
        f"{sink}.compression: is what remote write always has",
        f"{sink}.tls: has no counterpart in an ExportPolicy; an Exporter's sink has",
    ]
    assert len(done.policies[0].documents) == 1
    assert "hunter2" not in rendered_manifests(done.policies) + "".join(notes_of(done))


def test_a_variable_is_said_to_be_one() -> None:
    done = import_vector(
        rendered(auth={"strategy": "basic", "user": "u", "password": "${GRAFANA_TOKEN}"})
    )
    assert notes_of(done) == [
        (
            f'sinks."{OWNER}:grafana-cloud-metrics-sink".auth.password: '
            "holds a variable, which only Vector's process knows: write its value into the Secret"
        )
    ]


def test_a_variable_in_a_selector_is_said_to_be_one() -> None:
    done = with_match("{" + PROJECT + ',job="${JOB}"}')
    assert selector_of(done) == '{job="${JOB}"}'
    place = f'sources."{OWNER}:datum-metrics-source".query.match[]'
    assert notes_of(done) == [f"{place}: holds a variable, which only Vector's process knows"]


def test_other_components_and_sections_are_named() -> None:
    config = rendered()
    config["api"] = {"enabled": False}
    config["transforms"] = {"labeler": {"type": "remap"}}
    config["sources"]["internal_metrics"] = {"type": "internal_metrics"}
    config["sinks"]["console"] = {"type": "console", "inputs": ["internal_metrics"]}
    done = import_vector(config)
    assert notes_of(done) == [
        "api: is Vector's own and has no place in an ExportPolicy",
        "transforms: is Vector's own and has no place in an ExportPolicy",
        (
            "sources.\"internal_metrics\".type: 'internal_metrics' is not carried over, only "
            "prometheus_scrape"
        ),
        "sinks.\"console\".type: 'console' is not carried over, only prometheus_remote_write",
    ]
    assert len(done.policies) == 1


def test_an_input_that_is_no_source_is_named_and_costs_only_its_sink() -> None:
    config = rendered()
    config["sinks"][f"{OWNER}:second-sink"] = {
        "type": "prometheus_remote_write",
        "inputs": ["labeler"],
        "endpoint": "https://mimir.example.com/api/v1/push",
    }
    done = import_vector(config)
    sink = f'sinks."{OWNER}:second-sink"'
    assert notes_of(done) == [
        f'{sink}.inputs: sources."labeler" is none of those carried over',
        f"{sink}.inputs: names no source; the sink is not carried over",
    ]
    names = [sink["name"] for sink in done.policies[0].documents[-1]["spec"]["sinks"]]
    assert names == ["grafana-cloud-metrics"]


def test_two_sinks_with_the_same_credentials_share_a_secret() -> None:
    config = rendered()
    (sink,) = config["sinks"].values()
    config["sinks"][f"{OWNER}:standby-sink"] = {**sink, "endpoint": "https://standby.example.com"}
    done = import_vector(config)
    kinds = [document["kind"] for document in done.policies[0].documents]
    assert kinds == ["Secret", "ExportPolicy"]


def test_components_by_hand_become_one_policy() -> None:
    config = {
        "sources": {
            "Gateway Metrics": {
                "type": "prometheus_scrape",
                "endpoints": ["http://victoria:8428/federate"],
                "scrape_interval_secs": 30,
                "query": {"match[]": ['{job="gateway"}']},
            }
        },
        "sinks": {
            "mimir": {
                "type": "prometheus_remote_write",
                "inputs": ["Gateway*"],
                "endpoint": "https://mimir.example.com/api/v1/push",
            }
        },
    }
    done = import_vector(config, name="edge", namespace="telemetry")
    (policy,) = done.policies
    assert (policy.project, policy.namespace, policy.name) == ("", "telemetry", "edge")
    assert policy.documents[-1]["spec"]["sinks"][0]["sources"] == ["gateway-metrics"]
    assert notes_of(done) == [
        (
            'sources."Gateway Metrics".scrape_interval_secs: '
            "belongs to scraping, which the relay does not do"
        ),
        'sources."Gateway Metrics": is called gateway-metrics now: names are lower-case DNS labels',
    ]


def test_the_first_revisions_ids_are_understood() -> None:
    config = rendered()
    uid = "0b9d7a52"
    config["sources"] = {f"{uid}:datum-metrics": next(iter(config["sources"].values()))}
    config["sinks"] = {f"{uid}:grafana": next(iter(config["sinks"].values()))}
    config["sinks"][f"{uid}:grafana"]["inputs"] = [f"{uid}:datum-metrics"]
    (policy,) = import_vector(config).policies
    assert policy.name == "export-policy-0b9d7a52"


def test_numbers_that_are_none_are_named_and_replaced() -> None:
    nan, inf = float("nan"), float("inf")
    done = import_vector(
        rendered(
            batch={"timeout_secs": nan, "max_events": "500"},
            request={"retry_attempts": 10**400, "retry_initial_backoff_secs": -inf},
        )
    )
    target = done.policies[0].documents[-1]["spec"]["sinks"][0]["target"]["prometheusRemoteWrite"]
    assert target["batch"] == {"timeout": "5s", "maxSize": 500}
    assert target["retry"] == {"maxAttempts": 10, "backoffDuration": "1ms"}
    sink = f'sinks."{OWNER}:grafana-cloud-metrics-sink"'
    assert notes_of(done) == [
        f"{sink}.batch.timeout_secs: must be a number, not NaN: 5s is written",
        f"{sink}.batch.max_events: must be a number, not a string: 500 is written",
        f"{sink}.request.retry_attempts: is 10 now, the largest allowed",
        f"{sink}.request.retry_initial_backoff_secs: is 1ms now, the smallest allowed",
    ]


def test_a_setting_that_needs_its_fellow_gets_the_default_and_says_so() -> None:
    done = import_vector(rendered(batch={"max_events": 100}, request=True))
    target = done.policies[0].documents[-1]["spec"]["sinks"][0]["target"]["prometheusRemoteWrite"]
    assert target["batch"] == {"timeout": "5s", "maxSize": 100}
    sink = f'sinks."{OWNER}:grafana-cloud-metrics-sink"'
    assert notes_of(done) == [
        f"{sink}.batch.timeout_secs: is absent: 5s is written, the default of an ExportPolicy",
        f"{sink}.request: must hold settings, not true; it is left out",
    ]


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("a\nb", ""),
        ("1e5", ""),
        ("0o17", ""),
        ("null", ""),
        ("\x85", ""),
        ("a$$b", ""),
        ("a\n", "auth.password: ends with a line break, which the relay does not send"),
        ("", "auth.password: is empty, which the relay does not accept"),
        ("$$$FOO", "auth.password: holds a variable"),
        ("pa$word", "auth.password: holds a variable"),
        ("${FOO:-hunter2}", "auth.password: holds a variable"),
        ("SECRET[vault.grafana]", "auth.password: refers to a secrets backend"),
        (5, "auth.password: must be text; the sink has no authentication"),
        ("\ud800", "auth.password: must be text; the sink has no authentication"),
        (None, "auth.password: must be text; the sink has no authentication"),
    ],
)
def test_each_password_comes_out_as_it_is_or_is_named(password: object, message: str) -> None:
    auth = {"strategy": "basic", "user": "u", "password": password}
    done = import_vector(rendered(auth=auth))
    text = rendered_manifests(done.policies)
    documents = list(yaml.safe_load_all(text))
    assert documents == [one.value for one in parse_documents(text, "m.yaml")]
    if "must be text" not in message:
        assert isinstance(password, str)
        assert documents[0]["stringData"]["password"] == password.replace("$$", "$")
    else:
        assert [one["kind"] for one in documents] == ["ExportPolicy"]
    said = notes_of(done)
    assert len(said) == (1 if message else 0)
    assert all(
        message in note and "hunter2" not in note and "word" not in note[-4:] for note in said
    )


def test_credentials_in_an_endpoint_are_named_and_not_shown() -> None:
    done = import_vector(rendered(endpoint="https://me:hunter2@mimir.example.com/push"))
    assert not done.policies
    assert notes_of(done)[0].endswith(
        "endpoint: holds credentials, which belong into auth; the sink is not carried over"
    )
    assert "hunter2" not in "".join(notes_of(done))


def test_a_policy_that_was_created_again_keeps_both_and_says_so() -> None:
    config = rendered()
    for section in ("sources", "sinks"):
        for id_, component in list(config[section].items()):
            again = json.loads(json.dumps(component).replace(":6f1c2d1e-", ":77777777-"))
            config[section][id_.replace(":6f1c2d1e-", ":77777777-")] = again
    done = import_vector(config)
    assert [one.name for one in done.policies] == [
        "grafana-export-policy",
        "grafana-export-policy-77777777",
    ]
    uid = "5d0a-4d0e-9a53-1f7c0f0e4b1a"
    assert notes_of(done) == [
        (
            "ExportPolicy acme-prod/default/grafana-export-policy: stands here twice, with UIDs "
            f"6f1c2d1e-{uid} and 77777777-{uid}: the second is called "
            "grafana-export-policy-77777777 now; remove the one that was deleted"
        )
    ]


def test_more_sinks_than_a_policy_may_have_become_several_policies() -> None:
    config = rendered()
    (sink,) = config["sinks"].values()
    for number in range(24):
        config["sinks"][f"{OWNER}:other-{number}-sink"] = sink
    done = import_vector(config)
    specs = [one.documents[-1]["spec"] for one in done.policies]
    assert [len(spec["sinks"]) for spec in specs] == [20, 5]
    assert [len(spec["sources"]) for spec in specs] == [1, 1]
    assert [one.name for one in done.policies] == [
        "grafana-export-policy",
        "grafana-export-policy-2",
    ]
    # They share one Secret, which is written once.
    assert [len(one.documents) for one in done.policies] == [2, 1]
    assert notes_of(done)[-1].endswith("became 2 policies: one has at most 20 sources and 20 sinks")


@pytest.mark.parametrize(
    ("id_", "message"),
    [
        ("export-policy:../../etc:default:a:u:x-source", "the project in the id must be 1 to 253"),
        ("export-policy:acme:de/fault:a:u:x-source", "the namespace in the id must be 1 to 63"),
        ("export-policy:acme:default::u:x-source", "has no name"),
    ],
)
def test_ids_that_hold_no_names_are_named(id_: str, message: str) -> None:
    config = rendered()
    config["sources"] = {id_: next(iter(config["sources"].values()))}
    done = import_vector(config)
    assert not done.policies
    assert notes_of(done)[0].startswith(f'sources."{id_}": {message}')


@pytest.mark.parametrize(
    "broken",
    [
        {"sources": 5},
        {"sources": {"a": 5}},
        {"sources": {"a": {"type": {"password": "hunter2"}}}},
        {"sources": {"a": {"type": "prometheus_scrape", "query": ["hunter2"]}}},
        {"sources": {"a": {"type": "prometheus_scrape", "query": {"match[]": [5]}}}},
        {"sources": {"a": {"type": "prometheus_scrape", "query": {"match[]": []}}}},
        {"sinks": {"a": {"type": "prometheus_remote_write", "inputs": [5], "endpoint": 5}}},
        {"sinks": {"a": {"type": "prometheus_remote_write", "inputs": {"hunter2": 1}}}},
        {"sinks": {"a": {"type": "prometheus_remote_write", "auth": "hunter2"}}},
        {"sinks": {"a": {"type": "prometheus_remote_write", "endpoint": "http://[hunter2"}}},
    ],
)
def test_values_of_the_wrong_kind_are_named_and_not_shown(broken: dict[str, object]) -> None:
    done = import_vector(broken)
    assert not done.policies
    assert done.notes
    assert "hunter2" not in "".join(notes_of(done))
