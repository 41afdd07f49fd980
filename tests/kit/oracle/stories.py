"""An engine with tenancy to which all kinds of things happen, held to the slow derivation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.pipeline.limits import Limits
from relay.pipeline.routing.tenancy import ANYWHERE, MULTITENANT, Tenancy
from relay.runtime.errors import DecodeError, OverloadedError, TooLargeError
from tests.kit.engine_rig import NUMBERS, Rig, RigSink
from tests.kit.oracle.bodies_check import read_officially
from tests.kit.oracle.number_points import Alternatives, Identity, assert_same
from tests.kit.oracle.slow_otlp import SlowRelay
from tests.kit.remote_write import raw

PROJECTS = ("red", "blue")
OWNERS = {str(number).encode(): project for number, project in enumerate(PROJECTS, 1)}
"""Whose series are on the multitenant path, by their label ``vm_account_id``."""
TENANCY = Tenancy("", {(number, 0): project for number, project in enumerate(PROJECTS, 1)})
ORIGINS = (*(TENANCY.origin((number, 0)) for number in (1, 2)), ANYWHERE, MULTITENANT)

Step = list[Any]
"""What happens: ``["feed", tick, protocol, origin, body in hex]``,
``["export", exporter, project, limit, timeout_s]``, ``["remove", exporter]``, ``["due", tick]``;
``origin`` is a place in :data:`ORIGINS`. All series of a body are of one owner; its metadata, if it
has any, is :data:`METADATA`."""

METADATA = raw.metadata("m1", 1)
_TYPED = "m1", Identity("sum", True, "", "", "counter")


def check_story(series_max: int, steps: Sequence[Step]) -> Rig:
    """Let it happen; return the engine's rig, all of whose points have left.

    AssertionError where a sink has not got exactly the points that its exporter was to get.
    """
    story = _Story(series_max)
    for kind, *given in steps:
        getattr(story, kind)(*given)
    story.rig.flush()
    story.rig.engine.statistics()  # which counts what was matched
    for sink in story.rig.sinks:
        wanted = story.wanted[sink.counter.exporter]
        assert_same(wanted, sink.points())
        assert sink.counter.points == len(wanted)
    return story.rig


class _Story:
    """The engine, and what each exporter is to get."""

    def __init__(self, series_max: int) -> None:
        self.rig = Rig(Limits(series_max=series_max), tenancy=TENANCY)
        self.wanted: dict[str, list[Alternatives]] = {}
        self._oracles = {owner: SlowRelay() for owner in ("", *PROJECTS)}
        """By owner, because what one says of its metrics is nothing to others."""
        self._projects: dict[str, str] = {}
        self._may_be_typed: set[str] = set()
        """Owners for whom metadata of a refused request may have been learned before."""

    def export(self, exporter: str, project: str, limit: int, timeout_s: float) -> None:
        """An exporter comes."""
        sinks = [
            RigSink(exporter, limit=limit, timeout_s=timeout_s, exporter=exporter),
            RigSink(f"{exporter} too", limit=limit + 4, exporter=exporter, options=NUMBERS),
        ]
        self.rig.export(*sinks, exporter=exporter, project=project)
        self._projects[exporter] = project
        self.wanted[exporter] = []

    def remove(self, exporter: str) -> None:
        """An exporter goes."""
        self.rig.engine.remove_exporter(exporter)
        del self._projects[exporter]

    def due(self, tick: float) -> None:
        """Time passes."""
        self.rig.due(tick)

    def feed(self, tick: float, protocol: Any, origin: int, body_hex: str) -> None:
        """A request comes."""
        body = bytes.fromhex(body_hex)
        official = read_officially(body, protocol)
        before = self.rig.snapshot()
        try:
            transaction = self.rig.feed(body, tick=tick, origin=ORIGINS[origin], protocol=protocol)
        except (DecodeError, TooLargeError, OverloadedError):
            assert self.rig.snapshot() == before
            assert official is None
            if METADATA in body:
                self._may_be_typed |= self._told(origin)
            return
        assert official is not None
        owner = ORIGINS[origin].project
        if ORIGINS[origin].by_labels:
            owner = _without_account(official)
        if official.metadata:
            for told in self._told(origin) - {owner}:
                self._oracles[told].learn_of_series(_TYPED[0], 1, "", "")
        if owner not in self._told(origin):
            del official.metadata[:]
        derived = self._oracles[owner].take(official)
        assert transaction.dropped == derived.dropped
        assert transaction.exemplars == derived.exemplars
        assert transaction.samples == len(derived.points)
        for exporter, project in self._projects.items():
            if project == owner:
                self.wanted[exporter] += (self._or_typed(one, owner) for one in derived.points)

    def _told(self, origin: int) -> set[str]:
        """Who believes metadata by a path: a project its own, everybody the platform's."""
        project = ORIGINS[origin].project
        return {project} if project else set(self._oracles)

    def _or_typed(self, alternatives: Alternatives, owner: str) -> Alternatives:
        name, identity = _TYPED
        if owner in self._may_be_typed and alternatives[0].name == name:
            typed = alternatives[0]._replace(identity=identity)
            return (*alternatives, typed) if typed not in alternatives else alternatives
        return alternatives


def _without_account(official: Any) -> str:
    """Take the account out of all labels; return whose it is, "" for nobody's."""
    owner = ""
    for series in official.timeseries:
        for at in reversed(range(len(series.labels))):
            if series.labels[at].name == b"vm_account_id":
                owner = OWNERS.get(series.labels[at].value, "")
                del series.labels[at]
    return owner
