"""The selections of an Exporter and of its stored version, as a preview asks them of each series.

* Selection ``n`` is bit ``n`` of a mask: first those of the new version, then those of the stored
  one.
* For each metric name the matchers of the name are evaluated once; what is left depends on the
  values of a few labels (:class:`~relay.control.preview.scan.NamePlan`).
* Resource selectors are asked one by one, of those series only that meet their cover.
* Streams of OTLP metrics have several names, so each is asked as a whole.
* The inventory is read without leaving a trace: what a preview looks up is not *asked for*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.codec.remote_write.label_parser import LabelParser
from relay.codec.remote_write.v1 import parse_labels
from relay.config.exporter.types import Exporter
from relay.control.preview.scan import NamePlan
from relay.pipeline.metrics.otlp.labels import TEMPORALITY, views_of
from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, IngestPath
from relay.runtime.errors import ConfigError, Fault
from relay.selector.evaluate import compile_selector, matcher_test
from relay.selector.inventory.store import Inventory
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.named_views import takes
from relay.selector.resources.compiler import Compiled, Compiler
from relay.selector.resources.object_lookup import ObjectLabels, ObjectRef

SELECTIONS_MAX: Final = 60
"""Sources of both versions: an Exporter has at most 20."""
LABELS_MAX: Final = 1_000_000
BYTES_MAX: Final = 1 << 40
"""No limits of their own for labels: every key in the table has passed the receiver's."""


class QuietObjects:
    """One project's objects of an inventory, read without being asked for."""

    def __init__(self, inventory: Inventory, project: str) -> None:
        self._inventory = inventory
        self._project = project

    def namespace(self, name: str) -> ObjectLabels | None:
        """Return the labels of a namespace; None if unknown."""
        return self._inventory.namespace(self._project, name, ask=False)

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        """Return the labels of an object; None if unknown."""
        return self._inventory.resource(self._project, ref, ask=False)

    def __repr__(self) -> str:
        return f"<QuietObjects {self._project!r}>"


class Question:
    """The selections of an Exporter and of its stored version, if there is one."""

    def __init__(
        self,
        exporter: Exporter,
        stored: Exporter | None,
        compiler: Compiler,
        inventory: Inventory,
    ) -> None:
        objects = QuietObjects(inventory, exporter.project)
        sources = [*exporter.sources, *(stored.sources if stored is not None else ())]
        if len(sources) > SELECTIONS_MAX:
            message = f"a preview is of at most {SELECTIONS_MAX} sources, both versions together"
            raise ConfigError([Fault("spec.sources", message)])
        self.exporter: Final = exporter
        self.stored: Final = stored
        self.selections: Final[tuple[Compiled, ...]] = tuple(
            compiler.compile(source.selector, objects) for source in sources
        )
        self.new: Final = (1 << len(exporter.sources)) - 1
        """Mask of the new version's selections."""
        self.old: Final = (1 << len(sources)) - 1 - self.new
        """Mask of the stored version's."""
        self.deltas: Final = [0] * len(exporter.sources)
        """Streams that come as deltas, of each source of the new version."""
        self._parser = LabelParser(labels_max=LABELS_MAX, bytes_max=BYTES_MAX)

    @property
    def lists(self) -> tuple[tuple[int, int], ...]:
        """The groups of series that are listed.

        For each source of the new version its own; all of its series; those added, and those
        removed. Each is a mask of which one bit must be set and a mask of which none may.
        """
        own = [(1 << number, 0) for number in range(len(self.exporter.sources))]
        return (*own, (self.new, 0), (self.new, self.old), (self.old, self.new))

    def stream_plan(self, _name: str) -> NamePlan:
        """Return how streams of OTLP metrics are asked: each by all its labels and names."""
        return NamePlan(0, (), self._answer_stream, cached=False)

    def _answer_stream(self, _values: object, key: bytes) -> int:
        labels = self._parser.read(key)
        views = views_of(labels)
        mask = 0
        for number, compiled in enumerate(self.selections):
            if takes(compiled, views):
                mask |= 1 << number
        if mask and labels.get(TEMPORALITY):
            for number in range(len(self.exporter.sources)):
                self.deltas[number] += mask >> number & 1
        return mask

    def plan(self, name: str, origin: IngestPath) -> NamePlan:
        """Return how the series of one metric name and origin are asked."""
        fixed = {NAME: name}
        if origin.by_labels:  # the account is no label of the series
            fixed |= dict.fromkeys(ACCOUNT_LABELS, "")
        decided = 0
        rest: list[tuple[int, Selector, Compiled | None]] = []
        for number, compiled in enumerate(self.selections):
            cover = _reduced(compiled.selector, fixed)
            if cover is None:
                continue
            bit = 1 << number
            whole = compiled if compiled.labels_read is None else None
            if whole is None and not all(cover.groups):
                decided |= bit
            else:
                rest.append((bit, cover, whole))
        if not rest:
            return NamePlan(decided)
        names = sorted(
            {matcher.label for _, cover, _ in rest for group in cover.groups for matcher in group}
        )
        return self._plan(decided, rest, names, hides=origin.by_labels)

    def _plan(
        self,
        decided: int,
        rest: list[tuple[int, Selector, Compiled | None]],
        names: list[str],
        *,
        hides: bool,
    ) -> NamePlan:
        tests = [(bit, compile_selector(cover), whole) for bit, cover, whole in rest]

        def answer(values: tuple[bytes | None, ...] | None, key: bytes) -> int:
            labels = {
                name: value.decode()
                for name, value in zip(names, values or (), strict=True)
                if value is not None
            }
            mask = decided
            for bit, cover, whole in tests:
                if cover.matches(labels) and (whole is None or self._asks(whole, key, hides)):
                    mask |= bit
            return mask

        encoded = tuple(name.encode() for name in names)
        cached = all(whole is None for _, _, whole in rest)
        return NamePlan(decided, encoded, answer, cached=cached)

    def _asks(self, compiled: Compiled, key: bytes, hides: bool) -> bool:
        labels = self._parser.read(key)
        return compiled.matches(labels.without(ACCOUNT_LABELS) if hides else labels)

    def __repr__(self) -> str:
        return f"<Question of {self.exporter.id}>"


def read_values(key: bytes, names: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
    """Return the values of labels of a key in any encoding; None for missing ones."""
    labels = dict(parse_labels(key, labels_max=LABELS_MAX))
    values = (labels.get(name.decode()) for name in names)
    return tuple(value.encode() if value else None for value in values)


def _reduced(selector: Selector, fixed: Mapping[str, str]) -> Selector | None:
    """Return what is left of a selector where some labels have fixed values; None: nothing matches.

    A group that is left without matchers matches everything.
    """
    if not selector.groups:
        return Selector(((),))
    groups: list[tuple[Matcher, ...]] = []
    for group in selector.groups:
        known = [matcher for matcher in group if matcher.label in fixed]
        if all(matcher_test(matcher)(fixed[matcher.label]) for matcher in known):
            left = tuple(matcher for matcher in group if matcher.label not in fixed)
            groups.append(left)
    return Selector(tuple(groups)) if groups else None
