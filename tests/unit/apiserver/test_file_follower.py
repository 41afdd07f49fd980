"""Exporters of files, as they are followed and served."""

from __future__ import annotations

import json
from pathlib import Path

from relay.apiserver.file_follower import FileFollower
from relay.apiserver.objects.metadata import FILE_ANNOTATION
from relay.config.exporter.loading.combine import Combiner, OriginResources
from relay.config.exporter.manifest_loader import Manifests
from relay.config.exporter.types import ExporterPath
from tests.kit.apiserver.running import ADMIN, EXPORTERS, LocalApi, exporter, local_api, secret


class Files:
    """Manifests in a folder, with what follows them."""

    def __init__(self, folder: Path, api: LocalApi) -> None:
        folder.mkdir()
        self.folder = folder
        self._manifests = Manifests(
            (ExporterPath(folder),), secrets_root=None, tenancy=False, combiner=Combiner()
        )
        self._origins: tuple[OriginResources, ...] = ()
        self.stored = 0
        self._api = api
        self._follower = FileFollower(
            lambda: self._origins, lambda: api.server.service.files, self._note
        )

    def _note(self) -> None:
        self.stored += 1

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    async def served(self) -> set[str]:
        """Read the files; return the names that the API shows then."""
        self._origins = self._manifests.read().origins
        await self._follower.sync()
        _, listed = await self._api.user(ADMIN).ask("GET", EXPORTERS)
        return {one["metadata"]["name"] for one in listed["items"]}

    async def sync(self) -> None:
        await self._follower.sync()


async def test_documents_and_lists_are_served(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        files = Files(tmp_path / "manifests", api)
        many = {"apiVersion": "v1", "kind": "List", "items": [exporter("b"), secret()]}
        files.write("a.yaml", f"{json.dumps(exporter('a'))}\n---\n{json.dumps(many)}\n")
        assert await files.served() == {"a", "b"}
        await files.sync()
        assert files.stored == 1
        files.write("a.yaml", json.dumps(exporter("b")))
        assert await files.served() == {"b"}
        assert files.stored == 2


async def test_a_broken_file_keeps_what_is_served(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        files = Files(tmp_path / "manifests", api)
        files.write("a.yaml", json.dumps(exporter("a")))
        files.write("b.yaml", json.dumps(exporter("b")))
        assert await files.served() == {"a", "b"}
        files.write("a.yaml", "{")
        (files.folder / "b.yaml").unlink()
        assert await files.served() == {"a"}


async def test_the_first_of_two_files_counts(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        files = Files(tmp_path / "manifests", api)
        first = exporter("a", labels={"from": "first"})
        files.write("1.yaml", json.dumps(first))
        files.write("2.yaml", json.dumps(exporter("a", labels={"from": "second"})))
        assert await files.served() == {"a"}
        _, shown = await api.user(ADMIN).ask("GET", f"{EXPORTERS}/a")
        assert shown["metadata"]["labels"] == {"from": "first"}


async def test_an_object_of_a_file_is_served_when_its_name_is_free(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await user.ask("POST", EXPORTERS, exporter("a"))
        files = Files(tmp_path / "manifests", api)
        files.write("a.yaml", json.dumps(exporter("a")))
        assert await files.served() == {"a"}
        await files.sync()
        assert files.stored == 1
        assert (await user.ask("DELETE", f"{EXPORTERS}/a"))[0] == 200
        await files.sync()
        code, found = await user.ask("GET", f"{EXPORTERS}/a")
        assert code == 200
        assert FILE_ANNOTATION in found["metadata"]["annotations"]
        assert files.stored == 2


async def test_no_files_at_all_leave_none_of_their_objects(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        files = Files(tmp_path / "manifests", api)
        files.write("a.yaml", json.dumps(exporter("a")))
        assert await files.served() == {"a"}
    async with local_api(tmp_path) as api:
        follower = FileFollower(tuple, lambda: api.server.service.files, lambda: None)
        await follower.sync()
        assert (await api.user(ADMIN).ask("GET", EXPORTERS))[1]["items"] == []
