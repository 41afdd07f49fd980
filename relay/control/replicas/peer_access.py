"""Address, credential and TLS by which relays ask each other for reports.

All relays of a group share their settings, so each knows the credential of the others' admin
listeners. It is only sent with the scheme that this relay's own listener has: never in clear text
where the settings ask for TLS.
"""

from __future__ import annotations

import base64
import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from yarl import URL

from relay.config.settings.ingest_security import Admin, SenderAuthentication
from relay.config.settings.settings import ListenAddress
from relay.control.replicas.report import REPORT_PATH, ReportError

URL_CHARS_MAX: Final = 512


class PeerAccess:
    """The access to other relays, from the settings of this one's admin listener.

    ``ca_file`` holds the certificates that are trusted, the names in them are checked against the
    address. Without it the other relays must have a certificate that this one's own signed, or the
    same one, whatever their names.
    """

    def __init__(self, admin: Admin, *, ca_file: Path | None = None) -> None:
        self.headers = credential_headers_of(admin.authentication)
        self._tls = admin.tls
        self._ca_file = ca_file

    @property
    def scheme(self) -> str:
        """``https`` if the listeners have TLS, else ``http``."""
        return "https" if self._tls is not None else "http"

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context, from the files as they are now; None without TLS.

        Raises ReportError.
        """
        if self._tls is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self._ca_file or self._tls.cert_file)
            if self._ca_file is None:
                context.check_hostname = False
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            if self._tls.client_ca_file is not None:
                context.load_cert_chain(self._tls.cert_file, self._tls.key_file, password="")
        except (OSError, ValueError) as error:
            raise ReportError(f"this relay's certificates cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def url(self, address: str) -> URL:
        """Return the URL of a report at an advertised address. Raises ReportError."""
        problem = ""
        url = URL()
        if len(address) > URL_CHARS_MAX:
            problem = f"is longer than {URL_CHARS_MAX} characters"
        else:
            try:
                url = URL(address)
            except ValueError:
                problem = "is no URL"
        if not problem and (not url.host or url.user or url.password):
            problem = "is no URL of a host"
        if not problem and url.scheme != self.scheme:
            problem = f"is not of the scheme {self.scheme}, which this relay's own listener has"
        if problem:
            raise ReportError(f"the address in its Lease {problem}")
        return url.origin().with_path(REPORT_PATH)

    def __repr__(self) -> str:
        return f"<PeerAccess {self.scheme}, {'a' if self.headers else 'no'} credential>"


def credential_headers_of(authentication: SenderAuthentication) -> dict[str, str]:
    """Return the header that a listener with this authentication admits."""
    if authentication.type == "bearer":
        return {"Authorization": f"Bearer {authentication.token}"}
    if authentication.type == "basic":
        pair = f"{authentication.username}:{authentication.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def advertised_address(
    setting: str, listen: ListenAddress, scheme: str, environment: Mapping[str, str], hostname: str
) -> str:
    """Return the address at which other relays find this one's admin listener, as a URL.

    It is that of the settings, else that of the listener if it has one of its own, else
    ``POD_IP``, else the name of the machine. ``listen`` has the port that is bound.
    """
    if setting:
        return setting
    host = listen.host
    if host in ("", "0.0.0.0", "::", "[::]"):  # noqa: S104 - compared, not bound
        host = environment.get("POD_IP", "") or hostname
    host = host.strip("[]")
    try:
        is_v6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        is_v6 = False
    return f"{scheme}://{f'[{host}]' if is_v6 else host}:{listen.port}"
