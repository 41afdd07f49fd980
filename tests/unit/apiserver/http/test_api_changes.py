"""Writes over HTTP: namespaces, names, dry runs, collections, bodies of other types."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.apiserver.http import bodies
from relay.apiserver.http.protobuf_bodies import UnreadableProtobufError, read_protobuf
from tests.kit.apiserver.running import (
    ADMIN,
    EDITOR,
    EXPORTERS,
    SECRETS,
    exporter,
    local_api,
    secret,
)

NAMESPACES = "/api/v1/namespaces"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
# kubectl create secret generic made --from-literal=a=b
PROTOBUF = bytes.fromhex(
    "6b3873000a0c0a02763112065365637265741220"
    "0a140a046d61646512001a0022002a003200380042001206"
    "0a01611201621a002200"
)


def namespace(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


async def test_a_namespace_takes_what_is_in_it_along(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        code, made = await admin.ask("POST", NAMESPACES, namespace("team"))
        assert (code, made["status"]["phase"]) == (201, "Active")
        assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "team"}
        path = EXPORTERS.replace("default", "team")
        await admin.ask("POST", path, exporter("goes"))
        await admin.ask("POST", path, exporter("stays", finalizers=["x.example/f"]))
        code, gone = await admin.ask("DELETE", f"{NAMESPACES}/team")
        assert (code, gone["status"]["phase"]) == (200, "Terminating")
        _, listed = await admin.ask("GET", path)
        assert [item["metadata"]["name"] for item in listed["items"]] == ["stays"]
        code, status = await admin.ask("POST", path, exporter("late"))
        assert (code, "being terminated" in status["message"]) == (403, True)
        code, _ = await admin.patch(f"{path}/stays", MERGE, {"metadata": {"finalizers": None}})
        assert code == 200
        assert (await admin.ask("GET", f"{NAMESPACES}/team"))[0] == 404
        code, status = await admin.ask("POST", path, exporter("late"))
        assert (code, status["message"]) == (404, 'namespaces "team" not found')


async def test_the_default_namespace_stays(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        assert (await admin.ask("DELETE", f"{NAMESPACES}/default"))[0] == 403
        assert (await admin.ask("GET", f"{NAMESPACES}/default"))[0] == 200


async def test_a_generated_name_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffixes = iter("aaaaaaaaaabbbbb")
    async with local_api(tmp_path) as api:
        monkeypatch.setattr("relay.apiserver.server.secrets.choice", lambda _: next(suffixes))
        admin = api.user(ADMIN)
        body = {**exporter(), "metadata": {"generateName": "x-"}}
        _, first = await admin.ask("POST", EXPORTERS, body)
        _, second = await admin.ask("POST", EXPORTERS, body)
        assert first["metadata"]["name"] == "x-aaaaa"
        assert second["metadata"]["name"] == "x-bbbbb"


async def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        code, made = await admin.ask("POST", f"{EXPORTERS}?dryRun=All", exporter())
        assert code == 201
        assert "resourceVersion" not in made["metadata"]
        assert (await admin.ask("GET", f"{EXPORTERS}/acme"))[0] == 404
        await admin.ask("POST", EXPORTERS, exporter())
        _, before = await admin.ask("GET", f"{EXPORTERS}/acme")
        for method, query, body in (
            ("PATCH", "?dryRun=All", {"metadata": {"labels": {"a": "b"}}}),
            ("DELETE", "?dryRun=All", None),
            ("DELETE", "", {"dryRun": ["All"]}),
        ):
            headers = {"Content_Type": MERGE} if method == "PATCH" else {}
            code, _ = await admin.ask(method, f"{EXPORTERS}/acme{query}", body, **headers)
            assert code == 200
        assert (await admin.ask("GET", f"{EXPORTERS}/acme"))[1] == before
        assert (await admin.ask("POST", f"{EXPORTERS}?dryRun=Some", exporter()))[0] == 422


async def test_a_collection_is_deleted_by_selection(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        for name in ("a", "b", "c"):
            await admin.ask("POST", EXPORTERS, exporter(name, labels={"x": name}))
        code, deleted = await admin.ask("DELETE", f"{EXPORTERS}?labelSelector=x+in+(a,b)")
        assert (code, [one["metadata"]["name"] for one in deleted["items"]]) == (200, ["a", "b"])
        _, listed = await admin.ask("GET", EXPORTERS)
        assert [one["metadata"]["name"] for one in listed["items"]] == ["c"]


async def test_concurrent_updates_conflict(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        _, made = await admin.ask("POST", EXPORTERS, exporter())
        bodies = [
            {**made, "metadata": {**made["metadata"], "labels": {"a": str(number)}}}
            for number in range(10)
        ]
        answers = await asyncio.gather(
            *(admin.ask("PUT", f"{EXPORTERS}/acme", body) for body in bodies)
        )
        assert sorted(code for code, _ in answers) == [200] + [409] * 9


async def test_bodies_of_other_types(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        text = "apiVersion: v1\nkind: Secret\nmetadata: {name: yaml}\nstringData: {a: no}\n"
        code, _ = await admin.ask("POST", SECRETS, text, Content_Type="application/yaml")
        assert code == 201
        path = f"{SECRETS}/yaml?fieldManager=x"
        code, _ = await admin.patch(path, APPLY, text.replace("no", "yes"))
        assert code == 200
        code, status = await admin.patch(path, APPLY, "a: [b\n")
        assert (code, status["message"].startswith("error decoding YAML: ")) == (400, True)
        media_type = "application/vnd.kubernetes.protobuf"
        code, made = await admin.ask("POST", SECRETS, PROTOBUF, Content_Type=media_type)
        assert (code, made["metadata"]["name"]) == (201, "made")
        assert list(made["data"]) == ["a"]
        for method, target, content_type, expected in (
            ("POST", SECRETS, "text/plain", 415),
            ("POST", SECRETS, "application/cbor", 415),
            ("PATCH", f"{EXPORTERS}/x", "application/strategic-merge-patch+json", 415),
            ("PATCH", f"{EXPORTERS}/x", "application/json", 415),
            ("POST", SECRETS, media_type, 400),
        ):
            code, _ = await admin.ask(method, target, "{}", Content_Type=content_type)
            assert code == expected, (method, target, content_type)
        code, _ = await admin.ask("POST", SECRETS, secret(), Content_Encoding="gzip")
        assert code == 415


@pytest.mark.parametrize(
    "body", [b"", b"k8s\0", b"k8s\0\xff", PROTOBUF[:-6], PROTOBUF.replace(b"Secret", b"Sacred")]
)
def test_protobuf_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(UnreadableProtobufError):
        read_protobuf(body)


async def test_a_core_kind_may_be_left_out(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        for number, given in enumerate(({}, {"kind": "Secret"}, {"apiVersion": "v1", "kind": ""})):
            name = f"s{number}"
            code, found = await admin.ask("POST", SECRETS, {**given, "metadata": {"name": name}})
            assert (code, found["kind"], found["apiVersion"]) == (201, "Secret", "v1")
            code, _ = await admin.ask("PUT", f"{SECRETS}/{name}", {"metadata": {"name": name}})
            assert code == 200
        other = {"kind": "Namespace", "metadata": {"name": "x"}}
        assert (await admin.ask("POST", SECRETS, other))[0] == 400
        _, refused = await admin.ask("POST", EXPORTERS, {"metadata": {"name": "x"}})
        assert "Object 'Kind' is missing" in refused["message"]


async def test_options_of_a_deletion_may_be_protobuf(tmp_path: Path) -> None:
    # As helm sends them: Unknown{TypeMeta{v1, DeleteOptions}, raw}, with an uid and a dry run.
    raw = bytes.fromhex("1205") + b"\n\x03bad" + bytes.fromhex("2a03") + b"All"
    typed = b"\n\x02v1\x12\rDeleteOptions"
    body = b"k8s\0\n" + bytes([len(typed)]) + typed + b"\x12" + bytes([len(raw)]) + raw
    assert read_protobuf(body) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "metadata": {},
        "preconditions": {"uid": "bad"},
        "dryRun": ["All"],
    }
    kind = "application/vnd.kubernetes.protobuf"
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        await admin.ask("POST", SECRETS, secret("tok"))
        code, found = await admin.ask("DELETE", f"{SECRETS}/tok", body, Content_Type=kind)
        assert (code, found["reason"]) == (409, "Conflict")
        code, found = await admin.ask("DELETE", f"{SECRETS}/tok", b"k8s\0\xff", Content_Type=kind)
        assert code == 400
        empty = b"k8s\0\n" + bytes([len(typed)]) + typed
        code, found = await admin.ask("DELETE", f"{SECRETS}/tok", empty, Content_Type=kind)
        assert (code, found["status"]) == (200, "Success")


async def test_methods_that_a_path_does_not_have(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        everywhere = EXPORTERS.replace("/namespaces/default", "")
        for method, path in (
            ("PUT", EXPORTERS),
            ("POST", f"{EXPORTERS}/a"),
            ("POST", everywhere),
            ("DELETE", everywhere),
            ("DELETE", f"{EXPORTERS}/a/status"),
            ("DELETE", NAMESPACES),
            ("OPTIONS", EXPORTERS),
        ):
            assert (await admin.ask(method, path, {}))[0] == 405, (method, path)
        for path in (f"{EXPORTERS}/a/scale", f"{EXPORTERS}/a/b/c", "/api/v1/pods"):
            assert (await admin.ask("GET", path))[0] == 404, path


async def test_changes_are_audited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relay.api.audit")
    async with local_api(tmp_path) as api:
        await api.user(ADMIN).ask("POST", SECRETS, secret(a="secret-value"))
        await api.user(EDITOR).ask("DELETE", f"{NAMESPACES}/default")
        await api.user(EDITOR).ask("GET", SECRETS)
    lines = [record for record in caplog.records if record.name == "relay.api.audit"]
    assert [(one.user, one.verb, one.code) for one in lines] == [  # type: ignore[attr-defined]
        ("admin", "create", 201),
        ("editor", "delete", 403),
    ]
    assert lines[0].object == "tok"  # type: ignore[attr-defined]
    assert "secret-value" not in str([vars(one) for one in lines])


async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        await api.user(ADMIN).ask("POST", EXPORTERS, exporter())
        await api.user(ADMIN).ask("POST", SECRETS, secret())
        _, before = await api.user(ADMIN).ask("GET", f"{EXPORTERS}/acme")
    async with local_api(tmp_path) as api:
        assert (await api.user(ADMIN).ask("GET", f"{EXPORTERS}/acme"))[1] == before
        _, listed = await api.user(ADMIN).ask("GET", SECRETS)
        assert len(listed["items"]) == 1


async def test_a_body_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(10)

    async with local_api(tmp_path) as api:
        code, status = await api.user(ADMIN).ask(
            "POST", SECRETS, endless(), Content_Type="application/json"
        )
        assert (code, status["reason"]) == (408, "Timeout")


async def test_answers_are_counted(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        await admin.ask("POST", SECRETS, secret())
        await admin.ask("POST", SECRETS, secret())
        await admin.ask("GET", SECRETS)
        await api.user("").ask("GET", SECRETS)
        await admin.ask("OPTIONS", SECRETS)
        service = api.server._service
        assert service is not None
        async with admin.watch(SECRETS):
            found = service.statistics()
        assert found.answers == {
            ("POST", 201): 1,
            ("POST", 409): 1,
            ("GET", 200): 1,
            ("GET", 401): 1,
            ("other", 405): 1,
        }
        assert (found.requests, found.watches) == (0, 1)
        assert found.objects.objects == {"namespaces": 1, "secrets": 1}
