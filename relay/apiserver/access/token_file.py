"""Follow the file of tokens: a changed file counts within seconds, a faulty one never.

A file with a fault leaves the users as they were, which is logged and counted. A file that is gone
is a fault, too: removing every user takes an empty list.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from relay.apiserver.access.tokens import TokenAuthentication, read_tokens
from relay.config.yaml.file_watcher import FileWatch, Signature, signature
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_in_thread

_log: Final = logging.getLogger("relay.api")
LOOK_S: Final = 1.0


class TokenFile:
    """Users by the tokens of a file. Lives on the event loop after :meth:`read`.

    ``changed`` is awaited after other users were read.
    """

    def __init__(
        self,
        path: Path,
        setting: str,
        *,
        tenancy: bool,
        changed: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.authentication: Final = TokenAuthentication()
        self._path = path
        self._setting = setting
        self._tenancy = tenancy
        self._changed = changed
        self._clock = clock
        self._watch = FileWatch()
        self._faults: tuple[Fault, ...] = ()

    def __repr__(self) -> str:
        return f"<TokenFile {self._path}: {self.authentication!r}>"

    @property
    def faults(self) -> int:
        """Faults of the file as it is now; above 0 the users are those of an earlier one."""
        return len(self._faults)

    def read(self) -> None:
        """Read the file at the start; raise ConfigError. Blocks."""
        self._watch.take(self._seen())
        self._take(self._read())

    def _seen(self) -> dict[Path, Signature]:
        return {self._path: signature(self._path)}

    def _read(self) -> TokenAuthentication:
        return read_tokens(self._path, self._setting, tenancy=self._tenancy)

    def _take(self, found: TokenAuthentication) -> None:
        self.authentication.take(found)
        for notice in found.notices:
            _log.warning("%s", notice)

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                _log.exception("bug in the relay: the file of tokens is not followed")

    async def look(self) -> None:
        """Read the file if it has changed and rested."""
        if not self._watch.observe(self._seen(), self._clock()):
            return
        try:
            found = await run_in_thread(self._read)
        except ConfigError as error:
            self._faults = error.faults
            for fault in error.faults:
                _log.error("the users stay as they were: %s", fault)
            return
        self._faults = ()
        self._take(found)
        _log.info("the file of tokens was read", extra={"tokens": len(found)})
        await self._changed()
