"""Doubts about settings: each is said once, and sound settings raise none."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.exporter.model import ExporterPath
from relay.notices import notices
from relay.settings import Address, Ingest, SenderAuthentication, ServerTls, Settings

EXPORTERS = (ExporterPath(Path("exporters")),)
OPEN = Address("", 9490)
BEARER = SenderAuthentication("bearer", token="secret")
TLS = ServerTls(Path("c"), Path("k"))


@pytest.mark.parametrize(
    ("settings", "first_words"),
    [
        (Settings(exporters=EXPORTERS), []),
        (Settings(exporters=EXPORTERS, listen=Address("::1", 1)), []),
        (Settings(exporters=EXPORTERS, listen=Address("localhost", 1)), []),
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
            Settings(exporters=EXPORTERS, admin_listen=Address("10.0.0.1", 9491)),
            ["adminListen:"],
        ),
    ],
)
def test_notices(settings: Settings, first_words: list[str]) -> None:
    lines = list(notices(settings))
    assert len(lines) == len(first_words)
    assert all(line.startswith(words) for line, words in zip(lines, first_words, strict=True))
