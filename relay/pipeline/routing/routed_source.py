"""The sources that a router asks."""

from __future__ import annotations

from dataclasses import dataclass

from relay.pipeline.routing.match_set import MatchedSource
from relay.selector.resources.compiler import Compiled
from relay.selector.resources.label_selector import Selection


@dataclass(slots=True)
class RoutedSource:
    """A source as it is routed: what it selects, and where to."""

    selection: Selection
    compiled: Compiled
    route: MatchedSource
