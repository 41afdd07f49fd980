"""Make the relay's own API and pages, and import what they are made of, only where they are wanted.

Their modules and libraries take 20 MiB, a quarter of a relay without an API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.config.settings.settings import Settings
from relay.control.tools import ExporterTools

if TYPE_CHECKING:
    from relay.apiserver.compose import OwnApi
    from relay.ui.visit import Look


def served_api(settings: Settings, tools: ExporterTools, look: Look) -> OwnApi | None:
    """Return the API that the settings name, with its pages; None without one."""
    if settings.api is None:
        return None
    from relay.ui.compose import make_served_api  # noqa: PLC0415 - see above

    return make_served_api(settings, tools, look)
