"""Share what is translated and compiled between several builds, by content.

* ``RELAY_BUILD_CACHE`` names the folder; without it nothing is kept, and every build does all.
* A key covers all that an output depends on: no file goes stale, and the folder may be removed.
  What was edited while it was compiled is not kept: its key may be of what it was before.
* Builds may share the folder at the same time: a file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

SWITCH = "RELAY_BUILD_CACHE"


def kept(
    output: Path,
    make: Callable[[], object],
    *key: object,
    is_unchanged: Callable[[], bool] = lambda: True,
) -> None:
    """Write ``output``: a copy of what was kept under the key, else what ``make`` writes there.

    That is kept if ``is_unchanged`` says so afterwards.
    """
    folder = os.environ.get(SWITCH, "")
    if not folder:
        make()
        return
    entry = Path(folder, hashlib.sha256(repr(key).encode()).hexdigest() + output.suffix)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(entry, output)
        return
    make()
    if not is_unchanged():
        return
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=entry.parent, delete=False) as copy:
        copy.write(output.read_bytes())
    Path(copy.name).replace(entry)
