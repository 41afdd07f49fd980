"""Series, and where they go.

A *series* is its raw label bytes, as they stand in the sender's message. What depends on labels
alone is worked out when those bytes are first seen and kept here; a sample then costs a comparison
of bytes and an append. Rules:

* ``Series.generation`` is that of the table when the series was seen last, and its routes may be
  used as they are exactly while that is still the table's generation (:mod:`relay.pipeline.table`).
  It is negative for a series that is forgotten, or not kept yet.
* ``Series.next`` is only a guess: the series that followed last time. A wrong guess costs a
  dictionary look-up, never a wrong answer, because bytes are compared first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.inventory.info_series import Claim
from relay.pipeline.plans import UNMATCHED
from relay.pipeline.route import Fact, Route

if TYPE_CHECKING:
    from relay.pipeline.metric_types import Typing
    from relay.pipeline.native import NativeRoute
    from relay.pipeline.streams import Handler


class Series:
    """One series as the kernel sees it; see the module's rules.

    ``name`` is the metric's name and ``fault`` the reason why none of its samples can be used, ""
    for a good series. ``resolved`` is the version of ``plan.partition`` when it was resolved.
    ``typing`` is the type that its routes were made for, None where they are for no type or there
    are none; ``facts`` is what else they rest on, and ``seen`` the sum of the facts' versions then.
    ``handlers`` get each sample besides the routes, where the plan says so; ``native`` is where
    native histograms go, None until the first one comes.
    ``claim`` is what an info series says about an object, None for nearly all series.
    ``is_known`` and ``shard`` are the table's: whether it was seen a second time, and the
    dictionary that it is in.
    """

    __slots__ = (
        "claim",
        "facts",
        "fault",
        "generation",
        "handlers",
        "is_known",
        "key",
        "name",
        "native",
        "next",
        "plan",
        "resolved",
        "routes",
        "seen",
        "shard",
        "typing",
    )

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.next: Series | None = None
        self.generation = -1
        self.resolved = -1
        self.plan = UNMATCHED
        self.routes: tuple[Route, ...] = ()
        self.handlers: tuple[Handler, ...] = ()
        self.typing: Typing | None = None
        self.facts: tuple[Fact, ...] = ()
        self.seen = 0
        self.native: NativeRoute | None = None
        self.name = ""
        self.fault = ""
        self.claim: Claim | None = None
        self.is_known = False
        self.shard: dict[bytes, Series] | None = None

    def empty(self, key: bytes) -> None:
        """Keep nothing alive any more, and be recognised by no message: its guess is cut, or a
        whole chain of forgotten series would live on behind one that is still somebody's guess."""
        self.key = key
        self.next = None
        self.generation = -1
        self.plan = UNMATCHED
        self.routes = ()
        self.handlers = ()
        self.facts = ()
        self.typing = self.native = None
        self.claim = None
        self.shard = None

    def __repr__(self) -> str:
        return f"<Series {self.name or self.key!r} -> {len(self.routes)} routes>"
