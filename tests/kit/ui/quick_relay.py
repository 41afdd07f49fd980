"""A relay whose pages move once a second, not every five: ``python -m tests.kit.ui.quick_relay``.

So a measurement of what open pages cost has as many ticks in a fifth of the time.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from relay.cli.main import main
from relay.ui import compose
from relay.ui.live import LiveStreams

QUICK_TICK_S: Final = 1.0

if __name__ == "__main__":
    compose.LiveStreams = partial(LiveStreams, tick_s=QUICK_TICK_S)  # type: ignore[misc,assignment]
    raise SystemExit(main())
