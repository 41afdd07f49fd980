"""TLS contexts for endpoints, from PEM texts that came out of secrets.

Rules:

* TLS 1.2 at least. A custom CA replaces the system's authorities.
* ``ssl`` reads a private key only from a file. Ours is in a private file that is gone before the
  context is returned, and an encrypted key is refused rather than asked about on the terminal.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from relay.config.exporter.types import ClientTls
from relay.runtime.errors import SecretError
from relay.sink.http.credentials import SecretLookup


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """The parts of a TLS context; equal material gives an equal context.

    ``ca`` "" stands for the system's authorities; ``certificate`` and ``key`` are both set or
    neither. ``repr`` hides the PEM texts.
    """

    ca: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    server_name: str = ""
    insecure_skip_verify: bool = False


class TlsContexts:
    """TLS contexts by their material: equal material shares one, for as long as it is in use."""

    def __init__(self) -> None:
        self._contexts: WeakValueDictionary[TlsMaterial, ssl.SSLContext] = WeakValueDictionary()

    def of(self, material: TlsMaterial) -> ssl.SSLContext:
        """Return the context of a material. Raises SecretError for an invalid PEM text."""
        found = self._contexts.get(material)
        if found is None:
            found = self._contexts[material] = build_context(material)
        return found

    @property
    def count(self) -> int:
        """Number of contexts in use."""
        return len(self._contexts)

    def __repr__(self) -> str:
        return f"<TlsContexts: {self.count}>"


def read_material(tls: ClientTls, secrets: SecretLookup) -> TlsMaterial:
    """Look up what a sink's ``tls`` section refers to. Raises SecretError."""
    ca = secrets(tls.ca, "ca.crt") if tls.ca else ""
    certificate = key = ""
    if tls.certificate:
        certificate = secrets(tls.certificate, "tls.crt")
        key = secrets(tls.certificate, "tls.key")
    return TlsMaterial(ca, certificate, key, tls.server_name, tls.insecure_skip_verify)


def build_context(material: TlsMaterial) -> ssl.SSLContext:
    """Build a client context. Raises SecretError for an invalid PEM text.

    Reads the system's authorities from disk (some 10 ms) unless the material names its own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if material.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif material.ca:
        try:
            context.load_verify_locations(cadata=material.ca)
        except (ssl.SSLError, TypeError) as error:
            # TypeError: the text is not ASCII
            raise SecretError("the CA certificate is not valid PEM") from error
    else:
        context.load_default_certs()
    if material.certificate:
        _load_certificate(context, material)
    return context


def _load_certificate(context: ssl.SSLContext, material: TlsMaterial) -> None:
    import tempfile  # noqa: PLC0415 - for the few endpoints that want a certificate

    # mode 0700, removed with its content on every way out of the block
    with tempfile.TemporaryDirectory(prefix="relay-tls-") as folder:
        path = Path(folder) / "client.pem"
        path.write_text(f"{material.certificate}\n{material.key}\n")
        try:
            context.load_cert_chain(path, password=_no_password)
        except (ssl.SSLError, SecretError, ValueError) as error:
            raise SecretError(
                "the client certificate or its key is not valid PEM or is encrypted, or they differ"
            ) from error


def _no_password() -> str:
    raise SecretError("the client certificate's key is encrypted")
