"""Log what a relay starts with."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from relay import __version__
from relay.config.settings.lint import notices
from relay.config.settings.settings import ListenAddress, Settings

_log = logging.getLogger("relay.app")


def log_start(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    listen: ListenAddress,
    admin_listen: ListenAddress,
    exporters: int,
    faults: int,
) -> None:
    """Log notices about the settings, and that the relay runs; the addresses are the bound ones."""
    for notice in notices(settings, environment):
        _log.warning("%s", notice)
    if settings.exporters and not exporters:
        paths = ", ".join(str(one.path) for one in settings.exporters)
        _log.warning("no Exporter: nothing is exported", extra={"paths": paths})
    _log.info(
        "relay started",
        extra={
            "version": __version__,
            "listen": str(listen),
            "adminListen": str(admin_listen),
            "exporters": exporters,
            "faults": faults,
        },
    )
