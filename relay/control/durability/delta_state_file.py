"""Where every delta stood when the relay was stopped: one file of the data directory.

Rules:

* It is written at an orderly stop, behind the last sample, and taken away when it is read. So after
  a crash there is none: the streams begin anew then, which leaves out the increment over the crash.
  An old file would add a second time what was exported since it was written.
* What cannot be read or written costs the same, no more: it is logged, and the relay goes on.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from relay.pipeline.metrics.temporality.delta import DeltaStore
from relay.pipeline.metrics.temporality.delta_state_codec import recall, remember
from relay.runtime.errors import DecodeError

_log = logging.getLogger("relay.control.durability")

NAME = "deltas"


def load_and_delete(directory: Path, deltas: DeltaStore) -> None:
    """Let deltas go on where they stood, if the relay was stopped in good order."""
    path = directory / NAME
    try:
        data = path.read_bytes()
        path.unlink()
        recall(data, deltas)
    except FileNotFoundError:
        return
    except (OSError, DecodeError) as error:
        _log.error("deltas begin anew: %s cannot be used: %s", path, error)


def save(directory: Path, deltas: DeltaStore) -> None:
    """Write down where deltas stand; nothing may be ingested behind it."""
    path = directory / NAME
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            file.write(remember(deltas))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        _log.error("deltas will begin anew: %s cannot be written: %s", path, error)
