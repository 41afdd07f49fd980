"""Read the access to a control plane: from a kubeconfig, or from a pod's service account.

Rules:

* One file, its ``current-context`` or the context that is asked for. JSON is YAML here, too.
* Every fault of what is used is reported at once, by field; what is not used is not checked.
* Relative paths are relative to the kubeconfig's directory, as with kubectl.
* ``exec``, ``auth-provider``, impersonation and proxies are not supported and are refused by name:
  the relay starts no programs, and does not act without credentials that were meant.
* Contents of files are read by :class:`~relay.control.kubernetes.access.Credentials`, again when
  they change. No message or repr contains a token, password or key.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.config.yaml.document import read_documents
from relay.runtime.errors import ConfigError, Fault

KUBECONFIG_BYTES_MAX = 1024 * 1024
HOST_CHARS_MAX = 253
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Directory in which Kubernetes mounts a pod's token, CA and namespace."""

_UNSUPPORTED_USER = {
    "exec": "programs that fetch credentials are not supported; give a token, a tokenFile or a "
    "client certificate, such as a service account's",
    "auth-provider": "plugins are not supported; give a token, a tokenFile or a client certificate",
    "as": "impersonation is not supported",
    "as-uid": "impersonation is not supported",
    "as-groups": "impersonation is not supported",
    "as-user-extra": "impersonation is not supported",
}


@dataclass(frozen=True, slots=True)
class PemSource:
    """A PEM text: given as such, or the path of a file; neither where there is none."""

    text: str = field(default="", repr=False)
    path: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.path)


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """Address of a control plane, and how to authenticate.

    ``server`` has no trailing slash and may have a path (one control plane a project). A token file
    comes before a token, as with kubectl. ``namespace`` is the context's, or "".
    """

    server: str
    ca: PemSource = PemSource()
    server_name: str = ""
    insecure_skip_verify: bool = False
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    certificate: PemSource = PemSource()
    key: PemSource = PemSource()
    username: str = ""
    password: str = field(default="", repr=False)
    namespace: str = ""


def read_kubeconfig(path: Path, *, context: str = "") -> ClusterAccess:
    """Return the access that a kubeconfig's context describes. Raises ConfigError."""
    documents = read_documents(path, bytes_max=KUBECONFIG_BYTES_MAX)
    reader = _Reader(path)
    if len(documents) != 1 or documents[0].faults or not isinstance(documents[0].value, dict):
        for document in documents:
            for _, message in document.faults:
                reader.fault("", message)
        if not reader.faults:
            reader.fault("", f"must be one YAML mapping; found {len(documents)} documents")
        raise ConfigError(reader.faults)
    access = reader.access(documents[0].value, context)
    if reader.faults:
        raise ConfigError(reader.faults)
    return access


def in_cluster(environment: Mapping[str, str], *, root: Path = SERVICE_ACCOUNT) -> ClusterAccess:
    """Return the access of a pod's service account. Raises ConfigError outside of a pod."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError(
            [Fault("inCluster", "KUBERNETES_SERVICE_HOST is not set: this is not a pod")]
        )
    missing = [name for name in ("token", "ca.crt") if not (root / name).is_file()]
    if missing:
        message = (
            f"{root} has no {' and no '.join(missing)}: the pod's automountServiceAccountToken "
            "must not be false"
        )
        raise ConfigError([Fault("inCluster", message)])
    shown = f"[{host}]" if ":" in host else host
    try:
        namespace = (root / "namespace").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        namespace = ""  # not every token projection has one; only leases need it
    return ClusterAccess(
        f"https://{shown}:{port}",
        ca=PemSource(path=root / "ca.crt"),
        token_file=root / "token",
        namespace=namespace,
    )


class _Reader:
    """Reads one kubeconfig and collects faults."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[Fault] = []

    def fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(path, message, str(self.path)))

    def access(self, document: dict[str, Any], context: str) -> ClusterAccess:
        name = context or self.text(document, "", "current-context")
        if not name:
            self.fault("current-context", "is missing, and no context is named")
            return ClusterAccess("")
        where, chosen = self.named(document, "contexts", "context", name)
        cluster_name = self.text(chosen, where, "cluster") if chosen else ""
        if chosen and not cluster_name:
            self.fault(f"{where}.cluster", "is missing")
        user_name = self.text(chosen, where, "user")
        cluster_at, cluster = self.named(document, "clusters", "cluster", cluster_name)
        user_at, user = self.named(document, "users", "user", user_name)
        if not cluster:
            return ClusterAccess("")
        self.refuse(user, user_at)
        if "proxy-url" in cluster:
            self.fault(f"{cluster_at}.proxy-url", "a proxy is not supported here")
        certificate = self.pem(user, user_at, "client-certificate")
        key = self.pem(user, user_at, "client-key")
        if bool(certificate) != bool(key):
            self.fault(user_at, "client-certificate and client-key must be given together")
        ca = self.pem(cluster, cluster_at, "certificate-authority")
        insecure = self.flag(cluster, cluster_at, "insecure-skip-tls-verify")
        if ca and insecure:
            message = "must not be given together with insecure-skip-tls-verify"
            self.fault(f"{cluster_at}.certificate-authority", message)
        token_file = self.text(user, user_at, "tokenFile")
        return ClusterAccess(
            self.server(cluster, cluster_at),
            ca=ca,
            server_name=self.server_name(cluster, cluster_at),
            insecure_skip_verify=insecure,
            token=self.token(user, user_at),
            token_file=self.path.parent / token_file if token_file else None,
            certificate=certificate,
            key=key,
            username=self.text(user, user_at, "username"),
            password=self.text(user, user_at, "password"),
            namespace=self.text(chosen, where, "namespace"),
        )

    def named(
        self, document: dict[str, Any], listed: str, inner: str, name: str
    ) -> tuple[str, dict[str, Any]]:
        """Return the place and the content of a list's entry, {} with a fault if it has none.

        Without a name there is nothing to find, and no fault.
        """
        if not name:
            return listed, {}
        entries = document.get(listed) or []
        if not isinstance(entries, list):
            self.fault(listed, "must be a list")
            return listed, {}
        for number, entry in enumerate(entries):
            if isinstance(entry, dict) and entry.get("name") == name:
                where = f"{listed}[{number}].{inner}"
                found = entry.get(inner)
                if isinstance(found, dict):
                    return where, found
                self.fault(where, "must be a mapping")
                return where, {}
        known = [str(e.get("name")) for e in entries[:20] if isinstance(e, dict)]
        has = f"; there is {', '.join(known)}" if known else ""
        self.fault(listed, f"has no {inner} named {name}{has}")
        return listed, {}

    def refuse(self, user: dict[str, Any], where: str) -> None:
        for name, message in _UNSUPPORTED_USER.items():
            if user.get(name):
                self.fault(f"{where}.{name}", message)

    def server(self, cluster: dict[str, Any], where: str) -> str:
        url = self.text(cluster, where, "server").rstrip("/")
        try:
            parts = urlsplit(url)
            bad = (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or parts.username is not None
                or bool(parts.query or parts.fragment)
                or (parts.port is not None and parts.port < 1)
                or not _is_host(parts.hostname)
                or not (url.isascii() and url.isprintable() and " " not in url)
            )
        except ValueError:
            bad = True
        if bad:
            message = "must be an http or https URL without user, query and fragment"
            self.fault(f"{where}.server", message)
        return url

    def server_name(self, cluster: dict[str, Any], where: str) -> str:
        name = self.text(cluster, where, "tls-server-name")
        if name and not _is_host(name):
            self.fault(f"{where}.tls-server-name", "must be a DNS name or an IP address")
        return name

    def token(self, user: dict[str, Any], where: str) -> str:
        token = self.text(user, where, "token")
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            self.fault(f"{where}.token", "must be printable ASCII without spaces")
            return ""
        return token

    def pem(self, section: dict[str, Any], where: str, name: str) -> PemSource:
        """Return a PEM text from ``name``-data in base64, or the path from ``name``."""
        data = self.text(section, where, f"{name}-data")
        path = self.text(section, where, name)
        if not data:
            return PemSource(path=self.path.parent / path) if path else PemSource()
        try:
            return PemSource(text=base64.b64decode(data, validate=True).decode("ascii"))
        except ValueError:  # binascii.Error and UnicodeDecodeError among them
            # The foreign error may hold the value, so it is not chained.
            self.fault(f"{where}.{name}-data", "is not base64 of a PEM text")
            return PemSource()

    def text(self, section: dict[str, Any], where: str, name: str) -> str:
        value = section.get(name)
        if value is None:
            return ""
        path = f"{where}.{name}".lstrip(".")
        if not isinstance(value, str):
            self.fault(path, "must be a string")
            return ""
        if "\0" in value:
            self.fault(path, "must not hold a NUL")
            return ""
        return value

    def flag(self, section: dict[str, Any], where: str, name: str) -> bool:
        value = section.get(name, False)
        if isinstance(value, bool):
            return value
        self.fault(f"{where}.{name}", "must be true or false")
        return False


def _is_host(text: str) -> bool:
    """Return whether a name can be looked up, and put into a TLS handshake."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        return len(text) <= HOST_CHARS_MAX and all(map(_LABEL.fullmatch, labels))
    return True
