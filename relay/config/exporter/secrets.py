"""Provides the secrets of Exporters: from Secret manifests, and from mounted directories.

Rules:

* A reference resolves within its exporter's own project and namespace, never elsewhere.
* A manifest's Secret is read when the manifests are. A mounted one is read each time it is asked
  for, so that a rotated secret works without a reload; Kubernetes rotates a mounted volume by
  swapping the symbolic link ``..data`` (AtomicWriter), so links are followed, but never out of the
  root.
* Without tenancy a mounted secret is ``<root>/<namespace>/<secret>/<key>`` or
  ``<root>/<secret>/<key>``, the first that exists. With tenancy it is only
  ``<root>/<project>/<namespace>/<secret>/<key>``.
* A Secret in the manifests comes before a mounted one of the same name; they are not merged.
* What is missing is asked for in the words of its Exporters' place: the command that creates the
  Secret of an object of Kubernetes, the manifest or directory of one in a file.
* No error, repr or log line ever holds a value.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from relay.config.exporter.types import Exporter, SecretRef
from relay.config.schema.checks import (
    dns_label_problem,
    dns_subdomain_problem,
    secret_key_problem,
)
from relay.config.schema.validate import Reading
from relay.config.schema.words import nearest
from relay.config.yaml.document import read_bounded
from relay.runtime.errors import MissingSecretError, SecretError

KIND = "Secret"
SECRET_BYTES_MAX = 1024 * 1024  # Kubernetes' own limit of a Secret
_ROTATION_ATTEMPTS_MAX = 3
_KEYS_SHOWN_MAX = 5
_LOGIN: Final = ("username", "password")
_PEM_SUFFIXES: Final = (".crt", ".key", ".pem")
NAMESPACES_MAX = 1000
"""Mounted namespaces that are searched for a Secret that is missing in its own."""


class SecretStoreStatistics(msgspec.Struct, frozen=True):
    """Number of Secrets from manifests; True if a directory is mounted as well."""

    manifest_secrets: int
    mounted: bool


class SecretStore:
    """Every secret that exporters may refer to; values leave it through :meth:`get` only."""

    __slots__ = ("_clusters", "_faulty", "_manifests", "_root", "_tenancy", "_types")

    def __init__(self, root: Path | None = None, *, tenancy: bool = False) -> None:
        self._root = root
        self._tenancy = tenancy
        self._manifests: dict[tuple[str, str, str], Mapping[str, bytes]] = {}
        self._types: dict[tuple[str, str, str], str] = {}
        """Types of Secrets in the manifests that have one; mounted ones have none."""
        self._faulty: set[tuple[str, str, str]] = set()
        self._clusters: set[tuple[str, str]] = set()
        """Project and namespace of Exporters that are objects of Kubernetes."""

    def __repr__(self) -> str:
        mounted = f", mounted at {self._root}" if self._root else ""
        return f"<SecretStore: {len(self._manifests)} from manifests{mounted}>"

    def statistics(self) -> SecretStoreStatistics:
        """Return a snapshot for status pages."""
        return SecretStoreStatistics(len(self._manifests), mounted=self._root is not None)

    def add(
        self, project: str, namespace: str, name: str, data: Mapping[str, bytes], kind: str = ""
    ) -> bool:
        """Add a manifest's Secret; return False, with nothing changed, if it exists already.

        ``kind`` is its type, "" if it has none.
        """
        identity = (project, namespace, name)
        if identity in self._manifests:
            return False
        self._manifests[identity] = dict(data)
        if kind:
            self._types[identity] = kind
        return True

    def note_faulty(self, project: str, namespace: str, name: str) -> None:
        """Note that a manifest's Secret exists and is faulty."""
        self._faulty.add((project, namespace, name))

    def note_cluster(self, project: str, namespace: str) -> None:
        """Note that Exporters of a namespace are objects of an API server, as its Secrets are."""
        self._clusters.add((project, namespace))

    def of(self, exporter: Exporter) -> Callable[[SecretRef, str], str]:
        """Return the lookup of an exporter's secrets: :meth:`get` for its project and namespace."""
        return partial(self.get, exporter.project, exporter.namespace)

    def get(self, project: str, namespace: str, ref: SecretRef, default_key: str = "") -> str:
        """Return the value of one key as text, without line breaks at its end.

        ``default_key`` is used where the reference names none. Raises :class:`SecretError` where
        the secret or key is missing, unreadable, empty, over a mebibyte or not UTF-8.
        """
        key = ref.key or default_key
        subject = f"secret {namespace}/{ref.name}, key {key}"
        self._refuse_unsafe(project, namespace, ref.name, key)
        self._refuse_type(project, namespace, ref)
        manifest = self._manifests.get((project, namespace, ref.name))
        if manifest is not None:
            content = manifest.get(key)
            if content is None:
                raise SecretError(
                    f"{subject}: the secret has no such key{_keys_hint(key, manifest)}"
                )
        else:
            create = _create_command(namespace, ref, default_key)
            content = self._read_mounted(project, namespace, ref.name, key, subject, create)
        try:
            value = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            # The foreign error holds the bytes, so it is not chained.
            raise SecretError(f"{subject}: is not UTF-8 text") from None
        if not value:
            raise SecretError(f"{subject}: is empty")
        return value

    def require(self, project: str, namespace: str, ref: SecretRef) -> None:
        """Raise :class:`SecretError` if there is no such secret, or if it is of another type."""
        self._refuse_unsafe(project, namespace, ref.name)
        self._refuse_type(project, namespace, ref)
        if (project, namespace, ref.name) not in self._manifests:
            subject = f"secret {namespace}/{ref.name}"
            try:
                create = _create_command(namespace, ref, "")
                self._directory_of(project, namespace, ref.name, subject, create)
            except OSError as error:
                raise _unreadable(subject, error) from error

    def _refuse_type(self, project: str, namespace: str, ref: SecretRef) -> None:
        """Refuse a manifest's Secret of another type than the reference demands."""
        identity = (project, namespace, ref.name)
        kind = self._types.get(identity, "")
        if ref.type and identity in self._manifests and kind != ref.type:
            found = f"not {kind}" if kind else "and has none"
            hint = ""
            if (project, namespace) in self._clusters:
                create = _create_command(namespace, ref, "")
                hint = f"; a Secret's type cannot be changed: delete it, then {create}"
            raise SecretError(
                f"secret {namespace}/{ref.name}: must be of type {ref.type}, {found}{hint}"
            )

    def _elsewhere(self, project: str, namespace: str, name: str, create: str) -> str:
        """Return why there is no such Secret, if the manifests tell, or else how to add it.

        ``create`` is the command for an object of an API server.
        """
        if (project, namespace, name) in self._faulty:
            return "; the manifests have one of that name, which has a fault itself"
        others = {
            other
            for owner, other, found in self._manifests
            if owner == project and found == name and other != namespace
        }
        others.update(self._mounted_elsewhere(project, name))
        if not others and (project, namespace) in self._clusters:
            return f"; create it: {create}"
        if not others and self._root is None:
            return "; add its manifest, or say where secrets are mounted (secrets, --secrets)"
        if not others:
            path = f"{project}/{namespace}/{name}" if self._tenancy else f"{namespace}/{name}"
            return f"; add its manifest, or mount it as {path}/<key> in the secrets directory"
        return (
            f"; namespace {min(others)} has one of that name, but an Exporter may only use those "
            "of its own namespace: move one of the two"
        )

    def _mounted_elsewhere(self, project: str, name: str) -> Iterator[str]:
        """Yield the namespaces for which the project has a Secret of that name mounted."""
        if self._root is None:
            return
        base = self._root / project if self._tenancy else self._root
        try:
            namespaces = sorted(entry.name for entry in base.iterdir())[:NAMESPACES_MAX]
        except OSError:
            return  # without such a directory there is no other Secret either
        for namespace in namespaces:
            if not dns_label_problem(namespace) and (base / namespace / name).is_dir():
                yield namespace

    def _refuse_unsafe(
        self, project: str, namespace: str, name: str, key: str | None = None
    ) -> None:
        """Refuse a part of a path that would step out of its directory."""
        problem = dns_label_problem(namespace) or dns_subdomain_problem(name)
        if key is not None and not problem:
            problem = secret_key_problem(key)
        if self._tenancy and not problem:
            problem = dns_subdomain_problem(project)
        if problem:
            about = "" if key is None else f", key {key}"
            raise SecretError(f"secret {namespace}/{name}{about}: a name {problem}")

    def _read_mounted(
        self, project: str, namespace: str, name: str, key: str, subject: str, create: str
    ) -> bytes:
        try:
            directory = self._directory_of(project, namespace, name, subject, create)
            return self._read_inside(directory / key, project if self._tenancy else "")
        except FileNotFoundError as error:
            raise SecretError(f"{subject}: the secret has no such key") from error
        except OSError as error:
            raise _unreadable(subject, error) from error

    def _directory_of(
        self, project: str, namespace: str, name: str, subject: str, create: str
    ) -> Path:
        """Return the directory of a mounted secret; raise SecretError if there is none."""
        candidates: list[Path] = []
        if self._root is not None and self._tenancy:
            candidates = [self._root / project / namespace / name]
        elif self._root is not None:
            candidates = [self._root / namespace / name, self._root / name]
        directory = next((path for path in candidates if path.is_dir()), None)
        if directory is None:
            elsewhere = self._elsewhere(project, namespace, name, create)
            raise MissingSecretError(f"{subject}: there is no such secret{elsewhere}")
        return directory

    def _read_inside(self, path: Path, project: str) -> bytes:
        """Return the content of a regular file inside the project's directory; raise OSError.

        Links are followed, but not out of that directory. It is the root itself for project "".
        """
        assert self._root is not None, "the caller looked for the root"
        for attempt in range(1, _ROTATION_ATTEMPTS_MAX + 1):
            try:
                real = path.resolve(strict=True)
            except RuntimeError as error:
                # Before Python 3.13, a loop of symbolic links is not an OSError.
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
            root = self._root.resolve(strict=True)
            if not real.is_relative_to(root):
                raise PermissionError(errno.EPERM, "leads out of the secrets directory")
            if not real.is_relative_to(root / project):
                raise PermissionError(errno.EPERM, "leads out of its project's secrets directory")
            try:
                return read_bounded(real, bytes_max=SECRET_BYTES_MAX)
            except FileNotFoundError:
                # Rotated between the two calls: the link now leads elsewhere.
                if attempt == _ROTATION_ATTEMPTS_MAX:
                    raise
        raise AssertionError("the last attempt returns or raises")


def build_secret_data(reading: Reading) -> dict[str, bytes]:
    """Return a Secret manifest's keys and values.

    ``stringData`` overrides ``data``, as in Kubernetes. Faults go to the reading's report, without
    values.
    """
    data: dict[str, bytes] = {}
    for key, text in reading.values.get("data", {}).items():
        try:
            # Long base64 is usually wrapped in lines; RFC 4648 section 3.3 lets the reader decide.
            data[key] = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            reading.fault(
                "data",
                key,
                message="is not base64: write a value as it is below stringData, or encode it",
            )
    for key, text in reading.values.get("stringData", {}).items():
        data[key] = text.encode()
    if sum(map(len, data.values())) > SECRET_BYTES_MAX:
        reading.fault(message=f"holds more than {SECRET_BYTES_MAX} bytes")
    return data


def _unreadable(subject: str, error: OSError) -> SecretError:
    return SecretError(f"{subject}: cannot be read: {error.strerror or type(error).__name__}")


def _create_command(namespace: str, ref: SecretRef, default_key: str) -> str:
    """Return the command that creates a Secret with the keys that are asked of it."""
    keys = [ref.key or default_key]
    if ref.type or (not ref.key and default_key in _LOGIN):
        keys = list(_LOGIN)
    values = " ".join(
        f"--from-file={key}=FILE"
        if key.endswith(_PEM_SUFFIXES)
        else f"--from-literal={key}={key.upper()}"
        for key in keys
    )
    kind = f" --type={ref.type}" if ref.type else ""
    return f"kubectl -n {namespace} create secret generic {ref.name}{kind} {values}"


def _keys_hint(key: str, manifest: Mapping[str, bytes]) -> str:
    if not manifest:
        return ", it is empty"
    keys = sorted(manifest)
    if hint := nearest(key, keys):
        return f"; {hint}"
    shown_keys = ", ".join(keys[:_KEYS_SHOWN_MAX])
    return f"; it has {shown_keys}" + (", …" if len(keys) > _KEYS_SHOWN_MAX else "")
