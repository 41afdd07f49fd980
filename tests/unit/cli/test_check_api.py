"""``relay check``: the files that ``api:`` names."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.access.certificates import ensure_certificates
from relay.cli.check import CheckResult, check

TOKEN = "0123456789abcdef"


def checked(folder: Path, *, tenancy: bool = False, **api: Any) -> CheckResult:
    settings: dict[str, Any] = {"api": {"path": "api.db", **api}}
    if tenancy:
        settings["tenancy"] = {"label": "project"}
    (folder / "relay.yaml").write_text(json.dumps(settings))
    return check([folder / "relay.yaml"])


def with_tokens(folder: Path, text: str, **more: Any) -> CheckResult:
    (folder / "tokens.yaml").write_text(text)
    return checked(folder, authentication={"type": "tokens", "file": "tokens.yaml"}, **more)


def test_good_tokens_are_counted(tmp_path: Path) -> None:
    text = f"- {{token: {TOKEN}, user: ann, role: viewer}}\n"
    result = with_tokens(tmp_path, text)
    assert result.faults == ()
    assert f"good     {tmp_path / 'relay.yaml'}: 1 token of the API" in result.lines
    assert not (tmp_path / "api.db").exists()


def test_no_token_is_worth_a_warning(tmp_path: Path) -> None:
    result = with_tokens(tmp_path, "[]\n")
    assert result.faults == ()
    said = f"warning  {tmp_path / 'relay.yaml'}: api.authentication.file: no token, so no user"
    assert said in result.lines


def test_projects_without_tenancy_are_worth_a_warning(tmp_path: Path) -> None:
    text = f"- {{token: {TOKEN}, user: ann, role: viewer, projects: [acme]}}\n"
    result = with_tokens(tmp_path, text)
    assert any("1 of 1 tokens name projects" in line for line in result.lines)
    assert with_tokens(tmp_path, text, tenancy=True).faults == ()


def test_faulty_tokens_name_file_line_and_field(tmp_path: Path) -> None:
    text = (
        f"- {{token: {TOKEN}, user: ann, role: viewer}}\n"
        f"- {{token: {TOKEN}1, user: ben, role: king, {TOKEN}2: 5}}\n"
    )
    result = with_tokens(tmp_path, text)
    file = tmp_path / "tokens.yaml"
    assert [str(fault) for fault in result.faults] == [
        f"{file}:2:3: [1]: unknown field; known are token, user, projects, role, secrets",
        f"{file}:2:47: [1].role: must be one of viewer, editor, admin",
    ]
    assert TOKEN not in "\n".join(result.lines)


def test_faulty_keys_and_certificates_are_named(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "pki", [])
    (tmp_path / "keys").write_bytes(base64.b64encode(b"short") + b"\n")
    (tmp_path / "jwks.json").write_text("{}")
    oidc = {"issuer": "https://issuer.example", "audience": "relay", "jwksFile": "jwks.json"}
    result = checked(
        tmp_path,
        authentication={"type": "oidc", "oidc": oidc},
        encryptionKeyFile="keys",
        tls={"certFile": str(files.certificate), "keyFile": str(files.ca)},
    )
    assert [fault.path for fault in result.faults] == [
        "api.authentication.oidc.jwksFile",
        "api.encryptionKeyFile",
        "api.tls",
    ]


def test_files_of_secrets_that_others_may_read_are_worth_a_warning(tmp_path: Path) -> None:
    certificates = ensure_certificates(tmp_path / "pki", [])
    (tmp_path / "keys").write_bytes(base64.b64encode(b"k" * 32) + b"\n")
    (tmp_path / "tokens.yaml").write_text(f"- {{token: {TOKEN}, user: ann, role: viewer}}\n")
    tls = {"certFile": str(certificates.certificate), "keyFile": str(certificates.key)}
    users = {"type": "tokens", "file": "tokens.yaml"}
    paths = (tmp_path / "tokens.yaml", tmp_path / "keys", certificates.key)
    fields = ("authentication.file", "encryptionKeyFile", "tls.keyFile")
    for mode, warned in ((0o644, fields), (0o640, ())):
        for path in paths:
            path.chmod(mode)
        result = checked(tmp_path, authentication=users, encryptionKeyFile="keys", tls=tls)
        assert result.faults == ()
        said = [line for line in result.lines if "every user of this machine may read it" in line]
        assert [line.split(":")[0] for line in said] == [f"warning  api.{one}" for one in warned]


@pytest.mark.parametrize("kind", ["tokens", "oidc"])
def test_a_file_that_is_not_there_is_told_once(tmp_path: Path, kind: str) -> None:
    authentication: dict[str, Any] = {"type": "tokens", "file": "none.yaml"}
    if kind == "oidc":
        oidc = {"issuer": "https://issuer.example", "audience": "relay", "jwksFile": "none.json"}
        authentication = {"type": "oidc", "oidc": oidc}
    result = checked(tmp_path, authentication=authentication)
    (fault,) = result.faults
    assert "no such file" in fault.message
