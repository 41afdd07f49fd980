"""Secrets: manifests, mounted directories, rotation, and what must never get out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.config.exporter.secrets import SECRET_BYTES_MAX, SecretStore
from relay.config.exporter.types import SecretRef
from relay.runtime.errors import SecretError

REF = SecretRef("login", "token")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_manifest_secret_is_found_in_its_own_namespace_and_project_only() -> None:
    store = SecretStore(tenancy=True)
    assert store.add("acme", "default", "login", {"token": b"hunter2"})
    assert store.get("acme", "default", REF) == "hunter2"
    for project, namespace in (("acme", "other"), ("umbrella", "default")):
        with pytest.raises(SecretError, match="there is no such secret"):
            store.get(project, namespace, REF)


def test_a_secret_of_another_namespace_is_named_to_its_own_project_only(tmp_path: Path) -> None:
    store = SecretStore(tmp_path, tenancy=True)
    store.add("acme", "payments", "login", {"token": b"hunter2"})
    _write(tmp_path / "acme/billing/mounted/token", b"hunter2")
    _write(tmp_path / "umbrella/mounted/mounted/token", b"hunter2")
    with pytest.raises(SecretError, match="namespace payments has one of that name"):
        store.get("acme", "default", REF)
    with pytest.raises(SecretError, match="namespace billing has one of that name"):
        store.get("acme", "default", SecretRef("mounted", "token"))
    with pytest.raises(
        SecretError,
        match=r"such secret; add its manifest, or mount it as umbrella/default/login/<key> in the",
    ):
        store.get("umbrella", "default", REF)


@pytest.mark.parametrize(
    ("ref", "default_key", "command"),
    [
        (SecretRef("login"), "token", "--from-literal=token=TOKEN"),
        (SecretRef("login", "k"), "token", "--from-literal=k=K"),
        (
            SecretRef("login"),
            "password",
            "--from-literal=username=USERNAME --from-literal=password=PASSWORD",
        ),
        (SecretRef("login"), "tls.crt", "--from-file=tls.crt=FILE"),
    ],
)
def test_an_owner_of_objects_reads_the_command_that_creates_the_secret(
    ref: SecretRef, default_key: str, command: str
) -> None:
    store = SecretStore()
    store.note_cluster("acme", "team")
    with pytest.raises(SecretError) as caught:
        store.get("acme", "team", ref, default_key)
    create = f"create it: kubectl -n team create secret generic login {command}"
    assert str(caught.value).endswith(f"there is no such secret; {create}")
    with pytest.raises(SecretError, match="add its manifest"):
        store.get("acme", "other", ref, default_key)


def test_a_secret_of_a_type_is_created_with_that_type() -> None:
    store = SecretStore()
    store.note_cluster("acme", "team")
    login = SecretRef("login", type="kubernetes.io/basic-auth")
    with pytest.raises(SecretError, match=r"--type=kubernetes\.io/basic-auth --from-literal=user"):
        store.require("acme", "team", login)
    assert store.add("acme", "team", "login", {"username": b"u"}, "Opaque")
    with pytest.raises(SecretError, match=r"not Opaque; a Secret's type cannot be changed: delete"):
        store.require("acme", "team", login)


def test_the_first_manifest_of_a_name_counts() -> None:
    store = SecretStore()
    assert store.add("", "default", "login", {"token": b"first"})
    assert not store.add("", "default", "login", {"token": b"second"})
    assert store.get("", "default", REF) == "first"


def test_a_default_key_is_used_where_the_reference_names_none() -> None:
    store = SecretStore()
    store.add("", "default", "login", {"token": b"a", "ca.crt": b"b"})
    assert store.get("", "default", SecretRef("login"), "ca.crt") == "b"
    assert store.get("", "default", REF, "ca.crt") == "a"


@pytest.mark.parametrize("content", [b"hunter2", b"hunter2\n", b"hunter2\r\n", b"hunter2\n\n"])
def test_line_breaks_at_the_end_are_left_out(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path / "default/login/token", content)
    store = SecretStore(tmp_path)
    store.add("", "default", "manifest", {"token": content})
    assert store.get("", "default", REF) == "hunter2"
    assert store.get("", "default", SecretRef("manifest", "token")) == "hunter2"


def test_without_tenancy_a_mounted_secret_may_leave_its_namespace_out(tmp_path: Path) -> None:
    _write(tmp_path / "login/token", b"for all")
    store = SecretStore(tmp_path)
    assert store.get("", "default", REF) == "for all"
    _write(tmp_path / "default/login/token", b"for default")
    assert store.get("", "default", REF) == "for default"
    assert store.get("", "other", REF) == "for all"


def test_with_tenancy_a_mounted_secret_needs_its_whole_path(tmp_path: Path) -> None:
    _write(tmp_path / "login/token", b"stray")
    _write(tmp_path / "default/login/token", b"stray")
    store = SecretStore(tmp_path, tenancy=True)
    with pytest.raises(SecretError, match="there is no such secret"):
        store.get("acme", "default", REF)
    _write(tmp_path / "acme/default/login/token", b"good")
    assert store.get("acme", "default", REF) == "good"


def test_another_namespace_is_out_of_reach_through_the_short_form(tmp_path: Path) -> None:
    _write(tmp_path / "other/login/token", b"hunter2")
    with pytest.raises(SecretError, match="cannot be read"):
        SecretStore(tmp_path).get("", "default", SecretRef("other", "login"))


def test_a_manifest_comes_before_a_mounted_secret(tmp_path: Path) -> None:
    _write(tmp_path / "default/login/token", b"mounted")
    _write(tmp_path / "default/login/more", b"mounted")
    store = SecretStore(tmp_path)
    store.add("", "default", "login", {"token": b"manifest"})
    assert store.get("", "default", REF) == "manifest"
    with pytest.raises(SecretError, match="the secret has no such key"):
        store.get("", "default", SecretRef("login", "more"))


def test_a_rotated_kubernetes_volume_is_read_anew(tmp_path: Path) -> None:
    volume = tmp_path / "default/login"
    _write(volume / "..2024_01/token", b"old\n")
    (volume / "..data").symlink_to("..2024_01")
    (volume / "token").symlink_to("..data/token")
    store = SecretStore(tmp_path)
    assert store.get("", "default", REF) == "old"
    _write(volume / "..2024_02/token", b"new\n")
    (volume / "..data_tmp").symlink_to("..2024_02")
    os.replace(volume / "..data_tmp", volume / "..data")
    assert store.get("", "default", REF) == "new"


def test_links_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    _write(tmp_path / "outside", b"hunter2")
    volume = tmp_path / "root/default/login"
    volume.mkdir(parents=True)
    (volume / "token").symlink_to(tmp_path / "outside")
    with pytest.raises(SecretError, match="leads out of the secrets directory"):
        SecretStore(tmp_path / "root").get("", "default", REF)


@pytest.mark.parametrize("link", ["key", "secret", "namespace", "project"])
def test_links_do_not_lead_into_another_project(tmp_path: Path, link: str) -> None:
    _write(tmp_path / "globex/default/login/token", b"hunter2")
    own = tmp_path / "acme/default/login/token"
    place = {"key": own, "secret": own.parents[0], "namespace": own.parents[1]}.get(
        link, own.parents[2]
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(tmp_path / "globex" / place.relative_to(tmp_path / "acme"))
    store = SecretStore(tmp_path, tenancy=True)
    with pytest.raises(SecretError, match="leads out of its project's secrets directory") as caught:
        store.get("acme", "default", REF)
    assert "hunter2" not in str(caught.value)
    assert "globex" not in str(caught.value)
    assert store.get("globex", "default", REF) == "hunter2"


@pytest.mark.parametrize(
    ("namespace", "name", "key"),
    [
        ("..", "login", "token"),
        ("default", "..", "token"),
        ("default", "../login", "token"),
        ("default", "/etc", "passwd"),
        ("default", "login", "../token"),
        ("default", "login", ".."),
        ("default", "login", "..data"),
        ("default", "login", "."),
        ("default", "login", "a/b"),
        ("default", "login", "a\0b"),
        ("default", "login", ""),
        ("", "login", "token"),
    ],
)
def test_names_cannot_step_out_of_their_directory(
    tmp_path: Path, namespace: str, name: str, key: str
) -> None:
    _write(tmp_path / "root/default/login/token", b"hunter2")
    store = SecretStore(tmp_path / "root")
    with pytest.raises(SecretError, match="a name must be"):
        store.get("", namespace, SecretRef(name, key))


def test_a_project_cannot_step_out_either(tmp_path: Path) -> None:
    _write(tmp_path / "default/login/token", b"hunter2")
    for project in ("..", "", "a/b"):
        with pytest.raises(SecretError, match="a name must be"):
            SecretStore(tmp_path, tenancy=True).get(project, "default", REF)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\r\n", "is empty"),
        (b"hunter2\xff", "is not UTF-8 text"),
        (b"hunter2" * SECRET_BYTES_MAX, "cannot be read: larger than 1048576 bytes"),
    ],
)
def test_unusable_values_are_named_but_never_shown(
    tmp_path: Path, content: bytes, message: str
) -> None:
    _write(tmp_path / "default/login/token", content)
    with pytest.raises(SecretError, match=f"secret default/login, key token: {message}") as caught:
        SecretStore(tmp_path).get("", "default", REF)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None or "hunter2" not in repr(caught.value.__cause__)


def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    volume = tmp_path / "default/login"
    volume.mkdir(parents=True)
    os.mkfifo(volume / "token")
    (volume / "folder").mkdir()
    store = SecretStore(tmp_path)
    with pytest.raises(SecretError, match="cannot be read: not a regular file"):
        store.get("", "default", REF)
    with pytest.raises(SecretError, match="cannot be read: Is a directory"):
        store.get("", "default", SecretRef("login", "folder"))


def test_a_missing_key_is_told_from_a_missing_secret(tmp_path: Path) -> None:
    _write(tmp_path / "default/login/token", b"a")
    store = SecretStore(tmp_path)
    with pytest.raises(SecretError, match="default/login, key other: the secret has no such key"):
        store.get("", "default", SecretRef("login", "other"))
    with pytest.raises(SecretError, match=r"no such secret; .* mount it as default/other/<key>"):
        store.get("", "default", SecretRef("other", "token"))


def test_repr_and_statistics_hold_no_values(tmp_path: Path) -> None:
    store = SecretStore(tmp_path)
    store.add("", "default", "login", {"token": b"hunter2"})
    assert repr(store) == f"<SecretStore: 1 from manifests, mounted at {tmp_path}>"
    statistics = store.statistics()
    assert (statistics.manifest_secrets, statistics.mounted) == (1, True)
