"""Warnings about valid settings, printed by ``relay check`` and at the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay.config.settings.addresses import is_loopback
from relay.config.settings.proxy import ignored_variables
from relay.config.settings.settings import Settings
from relay.selector.resources.kind_table import shadowed_rows


def notices(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield one warning per line, naming the setting."""
    ingest = settings.ingest
    has_client_ca = ingest.tls is not None and ingest.tls.client_ca_file is not None
    if not (is_loopback(settings.listen.host) or has_client_ca):
        if ingest.authentication.type == "none":
            yield (
                f"listen: anybody who reaches {settings.listen} may write; "
                "set ingest.authentication, or ingest.tls.clientCaFile"
            )
        elif ingest.tls is None:
            yield f"listen: credentials reach {settings.listen} unencrypted; set ingest.tls"
    if not is_loopback(settings.admin_listen.host):
        yield (
            f"adminListen: anybody who reaches {settings.admin_listen} may read "
            "every customer's status"
        )
    ignored = ignored_variables(environment)
    if ignored and settings.proxy is None:
        yield f"proxy: {', '.join(ignored)} is set and not used; set proxy.url to use a proxy"
    yield from shadowed_rows(settings.resources.kinds)
    if not (settings.exporters or settings.kubernetes or settings.api):
        yield "exporters: none, so nothing will be exported"
