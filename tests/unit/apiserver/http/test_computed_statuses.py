"""What is computed of a status, in the answers to writes and dry runs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from tests.kit.apiserver.running import ADMIN, EDITOR, EXPORTERS, exporter, local_api

MERGE = "application/merge-patch+json"
CHANGE = {"metadata": {"labels": {"a": "b"}}}


def series(value: dict[str, Any]) -> int:
    found: int = value["status"]["usage"]["activeSeries"]
    return found


async def test_a_dry_run_has_the_counters_that_its_user_has_read(tmp_path: Path) -> None:
    counts = itertools.count(1)

    def computed(kind: Any, one: Any) -> bytes | None:
        del one
        return b'{"usage":{"activeSeries":%d}}' % next(counts) if kind.has_status else None

    async with local_api(tmp_path, computed=computed) as api:
        admin, editor = api.user(ADMIN), api.user(EDITOR)
        _, created = await admin.ask("POST", EXPORTERS, exporter("a"))
        _, unread = await admin.patch(f"{EXPORTERS}/a?dryRun=All", MERGE, CHANGE)
        _, read = await admin.ask("GET", f"{EXPORTERS}/a")
        await editor.ask("GET", f"{EXPORTERS}/a")
        _, dry = await admin.patch(f"{EXPORTERS}/a?dryRun=All", MERGE, CHANGE)
        _, written = await admin.patch(f"{EXPORTERS}/a", MERGE, CHANGE)
        assert [series(one) for one in (created, unread, read)] == [1, 2, 3]
        assert series(dry) == series(read)
        assert dry["metadata"]["labels"] == CHANGE["metadata"]["labels"]
        assert series(written) == 5
        _, stored = await admin.ask("GET", f"{EXPORTERS}/a?fields=none")
        assert stored["metadata"] == written["metadata"]


async def test_other_kinds_have_nothing_computed(tmp_path: Path) -> None:
    def computed(kind: Any, one: Any) -> bytes | None:
        assert kind.has_status or one.version
        return None

    async with local_api(tmp_path, computed=computed) as api:
        path = "/api/v1/namespaces"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
        code, _ = await api.user(ADMIN).ask("POST", path, body)
        assert code == 201
        code, found = await api.user(ADMIN).patch(f"{path}/team?dryRun=All", MERGE, CHANGE)
        assert (code, found["metadata"]["labels"]["a"]) == (200, "b")
