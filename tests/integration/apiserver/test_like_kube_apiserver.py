"""The same random writes against kube-apiserver and against the relay's API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.kit.apiserver.reads import KEYS, field_selector, label_selector
from tests.kit.apiserver.running import ADMIN, EXPORTERS, SECRETS, local_api
from tests.kit.apiserver.write_sequences import (
    ComparedServer,
    Step,
    comparable,
    exporter_step,
    secret_step,
)
from tests.kit.kubernetes.real_api import TOKEN
from tests.kit.kubernetes.servers import defined_api

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

SEQUENCES = 15
STEPS = 14


@asynccontextmanager
async def two_servers(
    folder: Path, path: str
) -> AsyncIterator[tuple[ComparedServer, ComparedServer]]:
    """A kube-apiserver with our CRDs and the relay's API, each for the same path."""
    (folder / "own").mkdir()
    async with (
        defined_api(folder / "real") as real,
        local_api(folder / "own") as own,
        aiohttp.ClientSession() as session,
    ):
        first = ComparedServer(session, real.url, TOKEN, path)
        second = ComparedServer(session, own.url, ADMIN, path)
        yield first, second


async def compare(
    first: ComparedServer, second: ComparedServer, step_of: Callable[[Random], Step], seed: int
) -> None:
    """Send one sequence to both servers."""
    random = Random(seed)
    await first.clear()
    await second.clear()
    for number in range(STEPS):
        step = step_of(random)
        versions = first.version, second.version
        code, expected, expected_warnings = await first.send(step)
        found_code, found, warnings = await second.send(step)
        if code == 422 and '"null"' in expected.get("message", ""):
            return  # an apply that leaves null behind: the relay drops it, as other writes do
        where = f"seed {seed}, step {number}: {step}\n{expected}\n{found}"
        assert comparable(found_code, found) == comparable(code, expected), where
        # Warnings about the content are the relay's own.
        assert [w for w in warnings if '"spec.' not in w] == expected_warnings, where
        # kube-apiserver may write once more what it has stored unnormalised.
        assert second.version == versions[1] or first.version != versions[0], where


async def test_writes_of_exporters_are_answered_alike(tmp_path: Path) -> None:
    async with two_servers(tmp_path, EXPORTERS) as (first, second):
        for seed in range(SEQUENCES):
            await compare(first, second, exporter_step, seed)


async def test_writes_of_secrets_are_answered_alike(tmp_path: Path) -> None:
    async with two_servers(tmp_path, SECRETS) as (first, second):
        for seed in range(SEQUENCES):
            await compare(first, second, secret_step, seed)


SELECTIONS = 200


async def test_selections_are_answered_alike(tmp_path: Path) -> None:
    async with two_servers(tmp_path, SECRETS) as servers:
        for server in servers:
            random = Random(1)
            for number in range(12):
                keys = random.sample(KEYS[:4], random.randint(0, 4))
                labels = {key: random.choice(["1", "2", "core", ""]) for key in keys}
                metadata = {"name": f"s{number}", "labels": labels}
                await server.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
        for seed in range(SELECTIONS):
            random = Random(seed)
            query = {}
            if random.random() < 0.8:
                query["labelSelector"] = label_selector(random)
            if random.random() < 0.3:
                query["fieldSelector"] = field_selector(random)
            expected, found = [await server.select(query) for server in servers]
            assert found == expected, query
