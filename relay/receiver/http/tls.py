"""TLS for the listeners."""

from __future__ import annotations

import ssl

from relay.config.settings.settings import ServerTls
from relay.runtime.errors import ConfigError, Fault


def server_context(tls: ServerTls, *, setting: str = "ingest.tls") -> ssl.SSLContext:
    """Return a listener's TLS context; ``client_ca_file``: senders must present a certificate.

    TLS 1.2 is the least, without renegotiation. Raises ConfigError that names the setting of an
    unusable file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client of TLS 1.2 may ask for handshake after handshake, which cost the server most.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except (OSError, ValueError) as error:
        message = f"cannot use certificate {tls.cert_file} with key {tls.key_file}: {error}"
        raise ConfigError([Fault(setting, message)]) from error
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(cafile=tls.client_ca_file)
        except (OSError, ValueError) as error:
            message = f"cannot use certificates {tls.client_ca_file}: {error}"
            raise ConfigError([Fault(f"{setting}.clientCaFile", message)]) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    """Return "": without a callback, OpenSSL asks the terminal for an encrypted key's password."""
    return ""
