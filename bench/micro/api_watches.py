"""Hold 1,000 watches of a whole relay's own API: idle, and with 50 changes a second.

``python -m bench.micro.api_watches [WATCHES PROJECTS]``. Projects have one Exporter each; watches
are spread over them. The client is a process of its own. Prints the CPU of the relay, the longest
turn of its event loop, and how late events are. No pass or fail.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import aiohttp
import yaml

from bench.micro.api_scale import exporter, figures, memory_mb, new_session, said, settings_of
from bench.micro.cluster_scale import Loop, until
from relay.app import Relay
from relay.config.settings.settings import TenancySettings
from relay.runtime.event_loop import run_on_uvloop
from tests.kit.apiserver.running import EXPORTERS, tokens

WATCHES = 1000
PROJECTS = 100
CHANGES_PER_S = 50
TIME_S = 20.0
MERGE = {"Content-Type": "application/merge-patch+json"}


def path(project: int) -> str:
    """Return the path of a project's Exporters."""
    return f"/projects/p{project}{EXPORTERS}"


async def client(url: str, count: int, projects: int) -> None:
    """Open watches, then change objects; a line of standard input each begins the next step."""
    found: Counter[int] = Counter()
    late: list[float] = []
    changed_at: dict[str, float] = {}

    async def watch(number: int, session: aiohttp.ClientSession, version: str) -> None:
        project = number % projects
        address = f"{url}{path(project)}?watch=true&resourceVersion={version}"
        async with session.get(address, timeout=aiohttp.ClientTimeout(None)) as answer:
            assert answer.status == 200, await answer.text()
            opened.append(number)
            async for line in answer.content:
                event = json.loads(line)
                metadata = event["object"]["metadata"]
                if "mark" in metadata.get("annotations", {}):
                    assert metadata["annotations"]["project"] == str(project)
                    found[number] += 1
                    late.append(time.perf_counter() - changed_at[metadata["annotations"]["mark"]])

    async def create(session: aiohttp.ClientSession, numbers: list[int]) -> None:
        for number in numbers:
            body = json.dumps(exporter(number))
            headers = {"Content-Type": "application/json"}
            async with session.post(url + path(number), data=body, headers=headers) as answer:
                assert answer.status == 201, await answer.text()

    opened: list[int] = []
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with new_session() as session:
        await asyncio.gather(*(create(session, [*range(n, projects, 20)]) for n in range(20)))
        print(f"{projects} Exporters", flush=True)
        await reader.readline()
        versions = {}
        for number in range(projects):
            async with session.get(url + path(number)) as answer:
                versions[number] = (await answer.json())["metadata"]["resourceVersion"]
        tasks = []
        for start in range(0, count, 20):
            for number in range(start, min(start + 20, count)):
                made = watch(number, session, versions[number % projects])
                tasks.append(asyncio.create_task(made))
            await until(lambda: len(opened) == len(tasks), 60)
        await until(lambda: len(opened) == count, 60)
        print(f"{count} watches are open", flush=True)
        await reader.readline()
        began, changes = time.perf_counter(), int(TIME_S * CHANGES_PER_S)
        for number in range(changes):
            mark, project = str(number), number % projects
            annotations = {"mark": mark, "project": str(project)}
            patch = json.dumps({"metadata": {"annotations": annotations}})
            changed_at[mark] = time.perf_counter()
            address = f"{url}{path(project)}/e{project}"
            async with session.patch(address, data=patch, headers=MERGE) as answer:
                assert answer.status == 200, await answer.text()
            await asyncio.sleep(max(0.0, began + number / CHANGES_PER_S - time.perf_counter()))
        wanted = sum(
            changes // projects + (n % projects < changes % projects) for n in range(count)
        )
        await until(lambda: found.total() == wanted, 30)
        took_s = time.perf_counter() - began
        print(f"{figures('events', late)}, {changes / took_s:.0f} changes/s", flush=True)
        await reader.readline()
        for task in tasks:
            task.cancel()


async def measure(count: int, projects: int, folder: Path) -> None:
    """Print the figures."""
    settings = replace(settings_of(folder), tenancy=TenancySettings("project"))
    assert settings.api is not None
    users = tokens(*(f"p{number}" for number in range(projects)))
    (folder / "tokens.yaml").write_text(yaml.safe_dump(users))
    relay = Relay(settings)
    await relay.start()
    url = f"https://{settings.api.listen}"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.micro.api_watches", "client"),
        *(url, str(count), str(projects)),
        stdin=pipe,
        stdout=pipe,
    )
    print(await said(process))
    await asyncio.sleep(TIME_S)  # statuses and Events are written

    async def spend(name: str) -> None:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        await asyncio.sleep(TIME_S)
        share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        print(f"{name}: {share * 100:.2f} % of a core, {memory_mb():.0f} MB")

    await spend("no watch")
    print(await said(process, "open"))
    await asyncio.sleep(2)
    await spend(f"{count} watches, idle")
    loop = Loop()
    watching = asyncio.create_task(loop.run())
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    print(await said(process, "change"))
    share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
    print(f"{CHANGES_PER_S} changes a second: {share * 100:.1f} % of a core, {loop.take()}")
    watching.cancel()
    process.kill()
    await process.wait()
    await relay.stop()


def main(arguments: list[str]) -> None:
    """Run what the arguments say."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments[:1] == ["client"]:
        asyncio.run(client(arguments[1], *map(int, arguments[2:])))
        return
    count, projects = map(int, arguments or (WATCHES, PROJECTS))
    with tempfile.TemporaryDirectory() as folder:
        run_on_uvloop(measure(count, projects, Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
