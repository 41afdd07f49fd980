"""Keep the credentials of a control plane current: tokens and certificates that rotate on disk.

* Files are read again at most every :data:`REREAD_S`, because Kubernetes rotates a projected token
  every hour and kubeadm's certificates every year; also after an answer 401.
* A file that cannot be read leaves the last good content in effect; the fault is kept.
* A TLS context is made anew only when its material has changed; equal material shares one.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from pathlib import Path

from relay.config.yaml.document import read_bounded
from relay.control.kubernetes.kubeconfig import ClusterAccess, PemSource
from relay.runtime.errors import SecretError
from relay.sink.http.tls import TlsContexts, TlsMaterial

REREAD_S = 60.0
"""Longest time for which a rotated file goes unnoticed; s."""
CREDENTIAL_BYTES_MAX = 1024 * 1024


class Credentials:
    """The present headers and TLS context of one control plane. ``clock`` is monotonic, s."""

    def __init__(
        self, access: ClusterAccess, contexts: TlsContexts, clock: Callable[[], float]
    ) -> None:
        self._access = access
        self._contexts = contexts
        self._clock = clock
        self._read_at: float | None = None
        self._authorization = ""
        self._context: ssl.SSLContext | None = None
        self._material: TlsMaterial | None = None
        self.fault = ""
        """Reason for which the last reading of a file failed; "" if it did not."""

    def expire(self) -> None:
        """Read the files again at the next use: the server has refused what they said."""
        self._read_at = None

    def current(self) -> tuple[dict[str, str], ssl.SSLContext | None]:
        """Return headers and TLS context (None without TLS).

        Raises SecretError if a file cannot be read and never could.
        """
        now = self._clock()
        if self._read_at is None or now - self._read_at >= REREAD_S:
            had_any = self._material is not None
            try:
                self._read()
                self.fault = ""
            except SecretError as error:
                self.fault = str(error)
                if not had_any:
                    raise
            self._read_at = now
        headers = {"Authorization": self._authorization} if self._authorization else {}
        return headers, self._context

    def _read(self) -> None:
        access = self._access
        authorization = _authorization(access)
        material = TlsMaterial(
            _pem(access.ca, "the CA"),
            _pem(access.certificate, "the client certificate"),
            _pem(access.key, "the client key"),
            access.server_name,
            access.insecure_skip_verify,
        )
        if material != self._material:
            if access.server.startswith("https:"):
                self._context = self._contexts.of(material)
            self._material = material
        self._authorization = authorization

    def __repr__(self) -> str:
        return f"<Credentials for {self._access.server}{', stale' if self.fault else ''}>"


def _authorization(access: ClusterAccess) -> str:
    token = access.token
    if access.token_file is not None:
        token = _read_text(access.token_file, "the token").strip()
        if not token or not (token.isascii() and token.isprintable()):
            raise SecretError(f"the token in {access.token_file} is empty or not printable ASCII")
    if token:
        return f"Bearer {token}"
    if access.username:
        pair = f"{access.username}:{access.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    return ""


def _pem(source: PemSource, what: str) -> str:
    return _read_text(source.path, what) if source.path is not None else source.text


def _read_text(path: Path, what: str) -> str:
    try:
        return read_bounded(path, bytes_max=CREDENTIAL_BYTES_MAX).decode("ascii")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SecretError(f"{what} in {path} cannot be read: {why}") from error
    except UnicodeDecodeError:
        raise SecretError(f"{what} in {path} is not ASCII text") from None
