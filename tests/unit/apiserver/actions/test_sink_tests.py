"""SinkTests: of stored sinks and of those that are given, with the Secrets of the namespace."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.kit.apiserver.projects import NEIGHBOUR, acting_api, causes, exporter
from tests.kit.apiserver.running import secret
from tests.kit.http.otlp_server import OtlpServer, Reply

KIND = "SinkTest"
BEARER = {"authentication": {"type": "bearerToken", "secretRef": {"name": "tok"}}}


def given(endpoint: str, **http: Any) -> dict[str, Any]:
    return {"sink": {"name": "one", "otlp_http": {"endpoint": endpoint, **http}}}


async def test_a_stored_sink_with_its_secret(tmp_path: Path) -> None:
    async with OtlpServer() as server, acting_api(tmp_path) as api:
        await api.store(secret())
        await api.store(exporter("late", "{}", server.origin, **BEARER))
        code, made = await api.ask(KIND, {"exporter": "late", "sink": "one"}, name="t")
        assert code == 201
        status = made["status"]
        assert status["ok"], status
        names = [(one["name"], one["ok"]) for one in status["steps"]]
        assert names[0] == ("credentials", True)
        assert names[-1] == ("body", True)
        (received,) = server.received
        assert received.headers["Authorization"] == "Bearer s3cret"
        assert "s3cret" not in str(made)
        (point,) = received.points()
        labels = {one.key: one.value.string_value for one in point.attributes}
        assert labels == {"exporter": "acme/default/late", "sink": "one"}


async def test_a_sink_that_is_given(tmp_path: Path) -> None:
    async with OtlpServer() as server, acting_api(tmp_path) as api:
        await api.store(secret())
        spec = given(server.origin, **BEARER)
        spec["sink"]["sources"] = ["whatever"]  # as it stands in an Exporter
        code, made = await api.ask(KIND, spec)
        assert (code, made["status"]["ok"]) == (201, True)
        assert server.received[0].headers["Authorization"] == "Bearer s3cret"


async def test_a_dry_run_sends_nothing(tmp_path: Path) -> None:
    async with OtlpServer() as server, acting_api(tmp_path) as api:
        for _ in range(10):  # nor does it count
            code, made = await api.ask(KIND, given(server.origin), query="?dryRun=All")
            assert (code, made.get("status")) == (201, None)
        assert server.received == []


async def test_secrets_of_others_are_not_read(tmp_path: Path) -> None:
    async with OtlpServer() as server, acting_api(tmp_path) as api:
        own = api.user(f"token-of-{NEIGHBOUR}")
        path = "/projects/globex/api/v1/namespaces/default/secrets"
        assert (await own.ask("POST", path, secret(token=f"{NEIGHBOUR}-token")))[0] == 201
        admin = api.user("token-of-the-admin")
        spaces = "/projects/acme/api/v1/namespaces"
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
        assert (await admin.ask("POST", spaces, space))[0] == 201
        hidden = secret(token="other-token")
        assert (await admin.ask("POST", f"{spaces}/other/secrets", hidden))[0] == 201
        for name in ("tok", "other/tok", "../other/tok", "globex/default/tok"):
            http = {"authentication": {"type": "bearerToken", "secretRef": {"name": name}}}
            code, made = await api.ask(KIND, given(server.origin, **http))
            assert "other-token" not in str(made)
            assert f"{NEIGHBOUR}-token" not in str(made)
            if name == "tok":
                assert code == 201
                (step,) = made["status"]["steps"]
                assert (step["name"], step["ok"]) == ("credentials", False)
                assert "secret default/tok" in step["message"]
                assert "kubectl -n default create secret" in step["message"]
            else:
                assert code == 422
        assert server.received == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://[::ffff:127.0.0.1]:9",
        "http://0.0.0.0:9",
        "http://2130706433:9",
        "http://0x7f.1:9",
        "http://localhost:9",
        "http://169.254.169.254",
        "http://10.1.2.3",
    ],
)
async def test_private_addresses_are_refused(tmp_path: Path, endpoint: str) -> None:
    async with acting_api(tmp_path, private=False) as api:
        code, made = await api.ask(KIND, given(endpoint))
        if code == 422:
            assert causes(made)[0][0] == "spec.sink.otlp_http.endpoint"
            return
        assert code == 201
        assert not made["status"]["ok"]
        failed = made["status"]["steps"][-1]
        assert (failed["name"], failed["ok"]) in (("address", False), ("name", False))


async def test_redirects_are_not_followed(tmp_path: Path) -> None:
    async with OtlpServer() as inner, OtlpServer() as server, acting_api(tmp_path) as api:
        server.answer = lambda _: Reply(307, b"", {"Location": inner.url})
        code, made = await api.ask(KIND, given(server.origin))
        assert code == 201
        assert not made["status"]["ok"]
        assert made["status"]["message"].startswith("HTTP 307")
        assert (len(server.received), inner.received) == (1, [])


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"sink": "one"}, "spec.sink", "FieldValueTypeInvalid"),
        ({"exporter": "none"}, "spec.exporter", "FieldValueNotFound"),
        ({"exporter": "secretive"}, "spec.exporter", "FieldValueNotFound"),
        ({"exporter": "late", "sink": "two"}, "spec.sink", "FieldValueInvalid"),
        ({"exporter": "late", **given("https://x")}, "spec.sink", "FieldValueForbidden"),
        (
            {"exporter": exporter("x", "{"), "sink": "one"},
            "spec.exporter.spec.sources[0].metrics.metricsql",
            "FieldValueInvalid",
        ),
        ({"sink": {"name": "one"}}, "spec.sink", "FieldValueInvalid"),
        (given("ftp://x"), "spec.sink.otlp_http.endpoint", "FieldValueInvalid"),
        (given("https://x", bogus=1), "spec.sink.otlp_http.bogus", "FieldValueInvalid"),
    ],
)
async def test_what_cannot_be_tested(
    tmp_path: Path, spec: dict[str, Any], field: str, reason: str
) -> None:
    async with acting_api(tmp_path) as api:
        await api.store(exporter("late", "{}"))
        code, status = await api.ask(KIND, spec)
        assert code == 422
        assert (field, reason) in causes(status), status


async def test_six_a_minute(tmp_path: Path) -> None:
    async with OtlpServer() as server, acting_api(tmp_path) as api:
        codes = [(await api.ask(KIND, given(server.origin)))[0] for _ in range(6)]
        assert codes == [201] * 6
        code, status, headers = await api.user("token-of-the-editor").ask_all(
            "POST", _path(), _body(server.origin)
        )
        assert (code, status["reason"]) == (429, "TooManyRequests")
        wait_s = headers["Retry-After"]
        assert status["message"] == (
            f"6 tests were made in the last minute; ask again in {wait_s} s"
        )
        assert 0 < int(headers["Retry-After"]) <= 60
        assert status["details"]["retryAfterSeconds"] == int(headers["Retry-After"])
        assert len(server.received) == 6


def _path() -> str:
    return "/projects/acme/apis/telemetry.datumapis.com/v1alpha1/namespaces/default/sinktests"


def _body(endpoint: str) -> dict[str, Any]:
    api = "telemetry.datumapis.com/v1alpha1"
    return {"apiVersion": api, "kind": KIND, "spec": given(endpoint)}


async def test_a_rotated_secret_counts_at_once(tmp_path: Path) -> None:
    async with OtlpServer() as server, acting_api(tmp_path) as api:
        await api.store(secret())
        value = base64.b64encode(b"rotated").decode()
        patch = {"data": {"token": value}}
        path = "/projects/acme/api/v1/namespaces/default/secrets/tok"
        code, _ = await api.user("token-of-the-editor").patch(
            path, "application/merge-patch+json", patch
        )
        assert code == 200
        await api.ask(KIND, given(server.origin, **BEARER))
        assert server.received[0].headers["Authorization"] == "Bearer rotated"
