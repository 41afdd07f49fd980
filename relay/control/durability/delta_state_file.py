"""The state of delta streams between two processes, as a file of the data directory.

Rules:

* It is written at an orderly stop, after the last sample, and deleted when it is read. After a
  crash there is none and streams restart, which loses the increment over the crash. An old file
  would export increments twice.
* A file that cannot be read or written costs the same: it is logged, and streams restart.
"""

from __future__ import annotations

import logging
from pathlib import Path

from relay.pipeline.metrics.temporality.delta import DeltaStore
from relay.pipeline.metrics.temporality.delta_state_codec import recall, remember
from relay.runtime.errors import DecodeError
from relay.storage.log.filesystem import Disk

_log = logging.getLogger("relay.control.durability")

NAME = "deltas"


def load_and_delete(directory: Path, deltas: DeltaStore) -> None:
    """Restore the state of an orderly stop, if there was one, and delete the file."""
    path = directory / NAME
    try:
        data = path.read_bytes()
        path.unlink()
        recall(data, deltas)
    except FileNotFoundError:
        return
    except (OSError, DecodeError) as error:
        _log.error("delta streams restart: %s cannot be used: %s", path, error)


def save(directory: Path, deltas: DeltaStore) -> None:
    """Save the state; no sample may be ingested afterwards."""
    path = directory / NAME
    try:
        Disk().replace(path, remember(deltas), sync=True)
    except OSError as error:
        _log.error("delta streams will restart: %s cannot be written: %s", path, error)
