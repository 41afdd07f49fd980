"""Serve the API alone, until SIGTERM: ``python -m tests.kit.apiserver.serve FOLDER PORT``.

Users are in FOLDER/tokens.yaml; FOLDER/keys encrypts Secrets, if it exists. With the argument
``tenancy``, projects are below ``/projects``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop

from relay.apiserver.access.tokens import read_tokens
from relay.apiserver.server import ApiServer
from relay.apiserver.store.encryption import read_cipher
from relay.config.settings.api import ApiSettings
from relay.config.settings.settings import ListenAddress


async def main(folder: Path, port: int, *, tenancy: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    authentication = read_tokens(folder / "tokens.yaml", "tokens", tenancy=tenancy)
    keys = folder / "keys"
    server = ApiServer(
        ApiSettings(folder / "api.db", ListenAddress("127.0.0.1", port)),
        authentication,
        tenancy=tenancy,
        cipher=read_cipher(keys, "keys") if keys.exists() else None,
    )
    await server.start()
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    print("ready", server.addresses[0], flush=True)
    await stopped.wait()
    await server.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), tenancy="tenancy" in sys.argv[3:]))
