"""Random requests over HTTP: every answer is a Status or an object, and no bug is met."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest

from relay.apiserver.objects.kinds import served_kinds
from tests.kit.apiserver.running import ADMIN, EDITOR, exporter, local_api, secret
from tests.kit.apiserver.write_sequences import exporter_step, secret_step

pytestmark = [pytest.mark.slow]

REQUESTS = 1500
WORDS = ("default", "acme", "tok", "status", "namespaces", "..", "%00", "a%2Fb", "*", "", "x" * 300)
TYPES = (
    "application/json",
    "application/yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
)
ACCEPTED = (
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "*/*",
    "text/html",
)
QUERIES = (
    "limit=1",
    "limit=-1",
    "continue=eyJ2IjoxfQ",
    "labelSelector=a%3Db",
    "labelSelector=%21%21",
    "fieldSelector=metadata.name%3Dacme",
    "resourceVersion=1",
    "resourceVersionMatch=Exact",
    "dryRun=All",
    "dryRun=x",
    "fieldManager=m",
    "force=true",
    "fieldValidation=Strict",
    "watch=true&timeoutSeconds=1&resourceVersion=1",
    "propagationPolicy=Foreground",
)


def path(random: Random) -> str:
    kind = random.choice(served_kinds())
    scope = f"/namespaces/{random.choice(['default', 'none'])}" if kind.namespaced else ""
    found = f"{kind.path}{scope}/{kind.plural}"
    for _ in range(random.choice([0, 0, 1, 1, 1, 2, 3])):
        found += f"/{random.choice(WORDS)}"
    if random.random() < 0.1:
        found = "/" + "/".join(random.choice((*WORDS, "api", "apis", "v1")) for _ in range(3))
    if random.random() < 0.4:
        found += "?" + "&".join(random.sample(QUERIES, random.randint(1, 3)))
    return found


def body(random: Random) -> Any:
    made: Any = random.choice(
        [
            lambda: exporter_step(random).body,
            lambda: secret_step(random).body,
            lambda: exporter("acme"),
            lambda: secret("tok"),
            lambda: random.choice([None, {}, [], 5, "x", {"metadata": []}, {"spec": None}]),
        ]
    )()
    text = json.dumps(made)
    if random.random() < 0.15:
        place = random.randrange(len(text))
        text = (
            text[:place] + random.choice(['"', "{", "\x00", "\\ud800", "1e999", ""]) + text[place:]
        )
    return text


async def test_no_request_meets_a_bug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    random = Random(17)
    codes: dict[int, int] = {}
    async with local_api(tmp_path) as api:
        users = [api.user(ADMIN), api.user(ADMIN), api.user(EDITOR)]
        for _ in range(REQUESTS):
            method = random.choice(["GET", "POST", "PUT", "PATCH", "PATCH", "DELETE"])
            target = path(random)
            if method != "GET":
                target = target.replace("watch=true&", "")
            headers = {"Accept": random.choice(ACCEPTED)}
            sent = None
            if method != "GET" and random.random() < 0.95:
                sent = body(random)
                headers["Content_Type"] = random.choice(TYPES)
            code, answer = await random.choice(users).ask(method, target, sent, **headers)
            codes[code] = codes.get(code, 0) + 1
            where = (method, target, sent, code, answer)
            assert code != 500, where
            if code >= 400:
                assert answer.get("kind") == "Status", where
                assert answer["code"] == code, where
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert {200, 201, 400, 403, 404, 405, 409, 415, 422} <= codes.keys(), codes
