"""Access to a control plane: kubeconfig and service account, and what is refused by name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.control.kubernetes.kubeconfig import in_cluster, read_kubeconfig
from relay.runtime.errors import ConfigError

SECRET = "s3cret-token"


def written(path: Path, **changes: Any) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example.com/projects/a/"}}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "n"}},
            {"name": "anonymous", "context": {"cluster": "c"}},
        ],
        "current-context": "x",
        **changes,
    }
    file = path / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


def user(**fields: object) -> dict[str, Any]:
    return {"users": [{"name": "u", "user": fields}]}


def cluster(**fields: object) -> dict[str, Any]:
    fields = {"server": "https://h", **fields}
    return {"clusters": [{"name": "c", "cluster": fields}]}


def faults(file: Path, context: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_kubeconfig(file, context=context)
    assert SECRET not in str(caught.value)
    return [fault.text for fault in caught.value.faults]


def test_a_token_and_a_server_with_a_path(tmp_path: Path) -> None:
    access = read_kubeconfig(written(tmp_path))
    assert access.server == "https://api.example.com/projects/a"
    assert access.token == SECRET
    assert access.namespace == "n"
    assert SECRET not in repr(access)


def test_another_context_and_none_of_that_name(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert read_kubeconfig(file, context="anonymous").token == ""
    assert faults(file, "y") == ["contexts: has no context named y; there is x, anonymous"]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    changes = user(tokenFile="t", **{"client-certificate": "a.pem", "client-key": "/k.pem"})
    access = read_kubeconfig(written(tmp_path, **changes))
    assert access.token_file == tmp_path / "t"
    assert access.certificate.path == tmp_path / "a.pem"
    assert access.key.path == Path("/k.pem")


def test_data_comes_before_files(tmp_path: Path) -> None:
    data = base64.b64encode(b"PEM").decode()
    changes = cluster(
        **{
            "certificate-authority-data": data,
            "certificate-authority": "x",
            "tls-server-name": "s",
        }
    )
    access = read_kubeconfig(written(tmp_path, **changes))
    assert (access.ca.text, access.ca.path, access.server_name) == ("PEM", None, "s")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (user(exec={"command": "aws"}), "users[0].user.exec: programs that fetch credentials"),
        (user(**{"auth-provider": {"name": "gcp"}}), "users[0].user.auth-provider: plugins"),
        (user(**{"as": "root"}), "users[0].user.as: impersonation"),
        (user(token=f"{SECRET}\n"), "users[0].user.token: must be printable"),
        (user(token=5), "users[0].user.token: must be a string"),
        (user(**{"client-certificate": "a"}), "users[0].user: client-certificate and client-key"),
        (user(**{"client-key-data": "%%%"}), "users[0].user.client-key-data: is not base64"),
        (cluster(server="ftp://h"), "clusters[0].cluster.server: must be an http or https URL"),
        (cluster(server="https://u:p@h"), "clusters[0].cluster.server: must be"),
        (cluster(server="https://h:99999"), "clusters[0].cluster.server: must be"),
        (cluster(server="https://h:0"), "clusters[0].cluster.server: must be"),
        (cluster(server="https://a..b"), "clusters[0].cluster.server: must be"),
        (cluster(server="https://h/a b"), "clusters[0].cluster.server: must be"),
        (cluster(server="https://["), "clusters[0].cluster.server: must be"),
        (cluster(**{"tls-server-name": "x" * 64}), "tls-server-name: must be a DNS name"),
        (user(tokenFile="a\0b"), "users[0].user.tokenFile: must not hold a NUL"),
        (cluster(**{"proxy-url": "http://p"}), "clusters[0].cluster.proxy-url: a proxy"),
        (cluster(**{"insecure-skip-tls-verify": 1}), "must be true or false"),
        (
            cluster(**{"insecure-skip-tls-verify": True, "certificate-authority": "a"}),
            "certificate-authority: must not be given together",
        ),
        ({"clusters": {}}, "clusters: has no cluster named c"),
        ({"clusters": "c"}, "clusters: must be a list"),
        ({"current-context": ""}, "current-context: is missing"),
        ({"contexts": [{"name": "x", "context": 1}]}, "contexts[0].context: must be a mapping"),
        ({"contexts": [{"name": "x", "context": {"user": "u"}}]}, "cluster: is missing"),
    ],
)
def test_faults_name_the_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    found = faults(written(tmp_path, **changes))
    assert any(message in one for one in found), found


def test_all_faults_at_once(tmp_path: Path) -> None:
    changes = user(exec={"command": "aws"}, token=1) | cluster(server="x")
    assert len(faults(written(tmp_path, **changes))) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", "a: 1\n---\nb: 1\n"])
def test_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    assert faults(file)


def test_a_pod(tmp_path: Path) -> None:
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("t")
    (tmp_path / "namespace").write_text("relay\n")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = in_cluster(environment, root=tmp_path)
    assert access.server == "https://[fd00::1]:6443"
    assert access.token_file == tmp_path / "token"
    assert access.namespace == "relay"


def test_no_pod_and_no_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is not a pod"):
        in_cluster({}, root=tmp_path)
    with pytest.raises(ConfigError, match=r"has no token and no ca\.crt"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "h"}, root=tmp_path)
