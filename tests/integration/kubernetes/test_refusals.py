"""What is refused: by the CRDs' own rules in the words of ``relay check``, with both kubectl.

Types, patterns, enumerations and bounds are refused in the API server's words; a rule of ours has
the words of ``relay check``, or names its subject instead of the field.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from relay.cli.main import main
from tests.kit.kubernetes.kubectl import VERSIONS, Kubectl
from tests.kit.kubernetes.real_api import TOKEN
from tests.kit.kubernetes.servers import KUBERNETES, OWN, ObjectServer
from tests.kit.paths import DATA

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
    pytest.mark.parametrize("api", [KUBERNETES, OWN], indirect=True),
]

APIS = {"telemetry.datumapis.com/v1alpha1", "telemetry.miloapis.com/v1alpha1"}
PLURALS = {"Exporter": "exporters", "ExportPolicy": "exportpolicies"}

THEIRS = re.compile(
    r" in body |Unsupported value|Required value|Duplicate value|Too (many|long)|must not validate"
    r"|some validation rules were not checked|RFC 1123|strict decoding|cannot unmarshal"
    r"|quantities must match"
)
"""Of a message in the API server's own words."""

OTHER_WORDS = {
    "batch-timeout": 'must be a duration from 1ms to 10m, not "5 seconds"',
    "batch-timeout-negative": 'must be a duration from 1ms to 10m, not "-5s"',
    "batch-timeout-unit": 'must be a duration from 1ms to 10m, not "1d"',
    "endpoint-port-text": "must name a host, as in https://otlp.example.com/otlp",
    "label-key": "a key is not a valid label of a Kubernetes object",
    "queue-max-age": "must be longer than batch.timeout (5s), or points expire before they are "
    "sent",
    "remote-write-external-label-metric-name": "a name is not a valid label name, or is __name__",
    "remote-write-external-label-name": "a name is not a valid label name, or is __name__",
    "remote-write-header-of-api-key": "is set by the relay itself and must not be given",
    "remote-write-header-version": "a header is set by the relay itself and must not be given",
    "retry-backoff": 'must be a duration from 1ms to 1h, not "2 seconds"',
    "retry-backoff-unit": 'must be a duration from 1ms to 1h, not "1d"',
    "sink-sources-unknown": "a sink names a source that does not exist",
    "timeout-without-unit": 'must be a duration from 100ms to 5m, not "10"',
    # Of ExportPolicy; where a field has two spellings, the rule names the documented one.
    "kinds-both-spellings": "group belongs to another spelling than apiGroups and resources",
    "kinds-resources-beside-group": "group belongs to another spelling than apiGroups and "
    "resources",
    "sink-sources-missing": "is required beside target",
    "target-beside-target": "a sink has one target",
    "target-missing": "target is required, or one of its fields beside the name",
    "targets-beside": "a sink has one target",
}
"""By fixture: rules that see less than ``relay check``, or see it first."""

OWN_WORDS = {
    "name-number": 'Exporter in version "v1alpha1" cannot be handled as a Exporter: metadata.name: '
    "must be a string, not a number"
}
"""The same of the relay's own API, which has no rules but those of ``relay check``."""

OWN_REFUSED = {
    "shipped-with-status": ["resourceVersion should not be set on objects to be created"],
}
"""By fixture: what kube-apiserver refuses, too, unless it is only asked by a dry run."""

SHOWN = {
    "exporters/bad/metricsql-and-resource-selectors",
    "exporters/bad/remote-write-and-otlp",
    "exporters/bad/authentication-none-with-secret",
    "export_policies/bad/metricsql-and-resource-selectors",
    "export_policies/bad/target-two",
    "export_policies/bad/retry-backoff-both",
}
"""Fixtures that are applied by kubectl: what excludes each other."""

OWN_WARNINGS = {"export_policies/bad/target-two", "export_policies/bad/retry-backoff-both"}
"""Those of which the relay's own API only warns: faults of one sink of a policy.

The policy's other sinks run, which a CRD cannot tell.
"""


def fixtures(folder: str) -> list[Path]:
    return sorted((DATA / folder).rglob("*.yaml"))


def objects(path: Path) -> list[Any]:
    """The Exporters and policies of a file that the API server can be asked about."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except yaml.YAMLError:
        return []
    return [
        one
        for one in documents
        if isinstance(one, dict)
        and one.get("kind") in PLURALS
        and one.get("apiVersion") in APIS
        and isinstance(one.get("metadata"), dict)
    ]


def told_by_check(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``relay check`` says of a file, on one line."""
    capsys.readouterr()
    main(["check", "--without-secrets", str(path)])
    said = capsys.readouterr()
    return " ".join((said.out + said.err).split())


async def refusals(api: ObjectServer, session: aiohttp.ClientSession, document: Any) -> list[str]:
    """The messages of a dry run's answer; none where the API server would take it."""
    place = f"/apis/{document['apiVersion']}/namespaces/default/{PLURALS[document['kind']]}"
    metadata = {**document["metadata"], "namespace": "default"}
    async with session.post(
        f"{api.url}{place}",
        data=json.dumps({**document, "metadata": metadata}),
        params={"dryRun": "All", "fieldValidation": "Strict"},
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        ssl=False,
    ) as response:
        answer = await response.json()
    if response.status == 201:
        return []
    causes = answer.get("details", {}).get("causes", [])
    return [one["message"] for one in causes] or [answer["message"]]


async def test_good_objects_are_taken(api: ObjectServer) -> None:
    refused = OWN_REFUSED if api.is_own else {}
    async with aiohttp.ClientSession() as session:
        for path in fixtures("exporters/good") + fixtures("export_policies/good"):
            for document in objects(path):
                said = await refusals(api, session, document)
                assert said == refused.get(path.stem, []), path


async def test_rules_have_the_words_of_relay_check(
    api: ObjectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    same = 0
    other = {}
    async with aiohttp.ClientSession() as session:
        for path in fixtures("exporters/bad") + fixtures("export_policies/bad"):
            told = told_by_check(path, capsys)
            for document in objects(path):
                for message in await refusals(api, session, document):
                    if THEIRS.search(message):
                        continue
                    words = re.sub(r'^Invalid value: ("([^"\\]|\\.)*": |-?\d+: )?', "", message)
                    if re.sub("^(a|some) (header|name|key|sink) ", "", words) in told:
                        same += 1
                    else:
                        other[path.stem] = words
    assert other == (OWN_WORDS if api.is_own else OTHER_WORDS)
    assert same >= 40


@pytest.mark.parametrize("version", VERSIONS)
async def test_kubectl_shows_them(
    api: ObjectServer, tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl = Kubectl(api.kubeconfig, tmp_path, version)
    for name in sorted(SHOWN):
        path = DATA / f"{name}.yaml"
        for how in ((), ("--server-side",)):
            said = await kubectl.run("apply", *how, "-f", str(path))
            if api.is_own and name in OWN_WARNINGS:
                assert said.status == 0, said
                warned = re.findall(
                    r'^Warning: spec\.sinks\["\w+"\]: (.+)$', said.errors, re.MULTILINE
                )
                told = told_by_check(path, capsys)
                assert warned
                assert all(words in told for words in warned)
                await kubectl("delete", "-f", str(path))
                continue
            assert said.status == 1, said
            assert "is invalid" in said.errors
            words = re.search(r"Invalid value: (?:null: )?(.+: .*)$", said.errors.strip())
            assert words is not None, said.errors
            assert words[1] in told_by_check(path, capsys)
    assert (await kubectl("get", "exporters", "--ignore-not-found")) == ""


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_misspelt_field_is_named(api: ObjectServer, tmp_path: Path, version: str) -> None:
    kubectl = Kubectl(api.kubeconfig, tmp_path, version)
    said = await kubectl.run("apply", "-f", str(DATA / "exporters/bad/retry-misspelt.yaml"))
    assert said.status == 1
    assert 'unknown field "spec.sinks[0].retry.' in said.errors
