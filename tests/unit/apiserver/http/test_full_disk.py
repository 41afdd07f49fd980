"""What users and operators are told while the API's disk is full."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from relay.apiserver.store.database import ObjectDatabase
from tests.kit.apiserver.judged import FullDisk
from tests.kit.apiserver.running import ADMIN, EXPORTERS, exporter, local_api


async def test_a_full_disk_is_named_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="relay.api")
    disk = FullDisk()
    monkeypatch.setattr(ObjectDatabase, "write", disk.as_method())
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        for n in range(20):
            disk.is_full = n % 4 != 3
            code, found = await user.ask("POST", EXPORTERS, exporter(f"e{n}"))
            assert code == (500 if disk.is_full else 201)
            if disk.is_full:
                assert found["reason"] == "InternalError"
                assert found["message"].startswith("nothing was changed: the disk of the API has")
        assert (await user.ask("GET", f"{EXPORTERS}/e3"))[0] == 200
        _, listed = await user.ask("GET", EXPORTERS)
        assert {one["metadata"]["name"] for one in listed["items"]} == {
            "e3",
            "e7",
            "e11",
            "e15",
            "e19",
        }
    said = [one for one in caplog.messages if one.startswith("changes of objects")]
    assert said == [
        "changes of objects cannot be stored: no room",
        "changes of objects can be stored again",
    ]
    assert "Traceback" not in caplog.text
    audited = [one for one in caplog.records if one.name == "relay.api.audit"]
    assert len([one for one in audited if getattr(one, "code", 0) == 500]) == 15
