"""Undo what a part of a test does to logging, which belongs to the whole process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from relay.runtime.log_setup import RelayHandler


@contextmanager
def kept_log() -> Iterator[None]:
    """Put level, the relay's handlers and what is switched off back after the block.

    A relay sets up the log of its process, and so does setuptools when it builds; pytest's own
    handlers are left alone.
    """
    root, access = logging.getLogger(), logging.getLogger("aiohttp.access")
    level, is_off = root.level, access.disabled
    handlers = [one for one in root.handlers if isinstance(one, RelayHandler)]
    yield
    for one in list(root.handlers):
        if isinstance(one, RelayHandler) and one not in handlers:
            root.removeHandler(one)
    for one in handlers:
        root.addHandler(one)
    root.setLevel(level)
    access.disabled = is_off
    logging.captureWarnings(capture=False)
