"""Doubts about settings: each is said once, and sound settings raise none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relay.config.exporter.types import ExporterPath
from relay.config.settings.lint import notices
from relay.config.settings.proxy import Proxy
from relay.config.settings.settings import (
    Ingest,
    ListenAddress,
    SenderAuthentication,
    ServerTls,
    Settings,
)

EXPORTERS = (ExporterPath(Path("exporters")),)
OPEN = ListenAddress("", 9490)
BEARER = SenderAuthentication("bearer", token="secret")
TLS = ServerTls(Path("c"), Path("k"))


@pytest.mark.parametrize(
    ("settings", "first_words"),
    [
        (Settings(exporters=EXPORTERS), []),
        (Settings(exporters=EXPORTERS, listen=ListenAddress("::1", 1)), []),
        (Settings(exporters=EXPORTERS, listen=ListenAddress("localhost", 1)), []),
        (Settings(), ["exporters:"]),
        (Settings(exporters=EXPORTERS, listen=OPEN), ["listen: anybody"]),
        (
            Settings(exporters=EXPORTERS, listen=OPEN, ingest=Ingest(authentication=BEARER)),
            ["listen: credentials"],
        ),
        (
            Settings(
                exporters=EXPORTERS, listen=OPEN, ingest=Ingest(authentication=BEARER, tls=TLS)
            ),
            [],
        ),
        (
            Settings(exporters=EXPORTERS, admin_listen=ListenAddress("10.0.0.1", 9491)),
            ["adminListen:"],
        ),
    ],
)
def test_notices(settings: Settings, first_words: list[str]) -> None:
    lines = list(notices(settings, {}))
    assert len(lines) == len(first_words)
    assert all(line.startswith(words) for line, words in zip(lines, first_words, strict=True))


def test_a_proxy_of_the_environment_is_said_to_be_ignored() -> None:
    settings = Settings(exporters=(ExporterPath(Path("exporters")),))
    environment = {"https_proxy": "http://proxy:3128", "HTTP_PROXY": ""}
    assert list(notices(settings, environment)) == [
        "proxy: https_proxy is set and not used; set proxy.url to use a proxy"
    ]
    used = replace(settings, proxy=Proxy("http://proxy:3128"))
    assert list(notices(used, environment)) == []
