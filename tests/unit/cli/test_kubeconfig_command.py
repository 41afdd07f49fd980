"""``relay kubeconfig``: what it prints, and what it refuses."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from relay.apiserver.access.certificates import ensure_certificates
from relay.cli.main import main

TOKENS = "api: {path: api.db, authentication: {type: tokens, file: tokens.yaml}}\n"
OPEN = "api: {path: api.db, authentication: {type: none}}\n"
TENANCY = "tenancy: {label: project}\n"
TOKEN = "a-token-of-jane-of-acme"


def config(folder: Path, text: str) -> str:
    users = [{"token": TOKEN, "user": "jane", "projects": ["acme", "beta"], "role": "editor"}]
    (folder / "tokens.yaml").write_text(yaml.safe_dump(users))
    (folder / "relay.yaml").write_text(text)
    return str(folder / "relay.yaml")


def test_it_leads_to_the_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca = ensure_certificates(tmp_path / "api-pki", ()).ca.read_bytes()
    file = config(tmp_path, TOKENS + TENANCY)
    assert main(["kubeconfig", "--config", file, "--project", "acme", "--token", TOKEN]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    (cluster,), (user,) = printed["clusters"], printed["users"]
    assert cluster["cluster"]["server"] == "https://127.0.0.1:9492/projects/acme"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == ca
    assert user["user"] == {"token": TOKEN}


def test_an_address_of_every_interface_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TOKENS.replace("{path", '{listen: ":1", hostnames: [relay.example.com], path', 1)
    ensure_certificates(tmp_path / "api-pki", ("relay.example.com",))
    assert main(["kubeconfig", "--config", config(tmp_path, text), "--token", TOKEN]) == 0
    (cluster,) = yaml.safe_load(capsys.readouterr().out)["clusters"]
    assert cluster["cluster"]["server"] == "https://relay.example.com:1"


@pytest.mark.parametrize(
    ("text", "arguments", "status", "said"),
    [
        ("", (), 1, "api: is required"),
        (TOKENS, (), 2, "--token: is required with api.authentication.type: tokens"),
        (TOKENS, ("--project", "acme"), 2, "--project: only has a meaning with tenancy"),
        (TOKENS, ("--token", f"{TOKEN}."), 2, "--token: is not in "),
        (
            TOKENS + TENANCY,
            ("--token", TOKEN, "--project", "globex"),
            2,
            "tokens.yaml has no globex, but acme, beta",
        ),
        (OPEN + TENANCY, (), 2, "--project: is required with tenancy"),
        (OPEN, (), 1, "start the relay, which makes it"),
        (OPEN.replace("{path", "{listen: 127.0.0.1:0, path"), (), 1, "api.listen: has port 0"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    assert main(["kubeconfig", "--config", config(tmp_path, text), *arguments]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_address_and_authority_of_the_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ensure_certificates(tmp_path / "pki", [])
    tls = f"tls: {{certFile: '{files.certificate}', keyFile: '{files.key}'}}"
    file = config(tmp_path, OPEN.replace("{path", f"{{{tls}, path", 1))
    more = ("--ca", str(files.ca), "--server", "https://api.example.com/")
    assert main(["kubeconfig", "--config", file, *more]) == 0
    cluster = yaml.safe_load(capsys.readouterr().out)["clusters"][0]["cluster"]
    assert cluster["server"] == "https://api.example.com"
    assert base64.b64decode(cluster["certificate-authority-data"]) == files.ca.read_bytes()


@pytest.mark.parametrize(
    "server",
    [
        "http://api.example.com",
        "api.example.com",
        "https://",
        "https://h:x",
        "https://h/projects/acme",
        "https://user:password@h",
        "https://h?a=b",
    ],
)
def test_other_addresses_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: str
) -> None:
    files = ensure_certificates(tmp_path / "pki", [])
    file = config(tmp_path, OPEN)
    arguments = ["kubeconfig", "--config", file, "--ca", str(files.ca), "--server", server]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (said.out, "--server: must be https://HOST" in said.err) == ("", True)


def test_a_file_that_is_no_authority_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ensure_certificates(tmp_path / "pki", [])
    file = config(tmp_path, OPEN)
    for path, said in (
        (files.key, "is no certificate in PEM"),
        (tmp_path / "none", "No such file or directory"),
    ):
        assert main(["kubeconfig", "--config", file, "--ca", str(path)]) == 2
        assert said in capsys.readouterr().err
