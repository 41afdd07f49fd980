"""What one project's senders teach changes nothing for another project.

Two tenants use equal names and contradict each other in everything: types, help, units, the members
of histograms, what targets and objects say of themselves. What each endpoint gets is what it gets
when the other tenant does not exist: the same resources, scopes, metrics with type, unit and help,
and points, at the same time. In both protocols, by label, by account and on the multitenant path,
alone in a request or side by side, with restarts between. Metadata of remote write 1.0 that names
no account is the platform's and the same in both worlds. With and without families that wait at
first sight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hypothesis import event, example, given
from hypothesis import strategies as st

from relay.control.durability.learned_state import decode_knowledge, encode_knowledge
from relay.pipeline.metrics.temporality.delta_state_codec import recall, remember
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import ANYWHERE, MULTITENANT, IngestPath, Tenancy
from relay.selector.metricsql.parser import parse_query
from relay.selector.resources.label_selector import (
    LabelSelector,
    Requirement,
    ResourceSelection,
    ResourceSelector,
)
from tests.kit.engine_rig import NUMBERS, PLAIN, Rig, RigSink
from tests.kit.examples import examples
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write import raw
from tests.kit.remote_write.symbolic import Request2, native

ACCOUNTS = {"acme": (1, 0), "zeta": (2, 5)}
TENANCY = Tenancy("tenant", {account: name for name, account in ACCOUNTS.items()})
T = raw.T0_MS
Way = Literal["label", "account", "multitenant"]
Protocol = Literal[1, 2]
Metadata = tuple[int, str, str]
"""Type, help and unit."""


Got = tuple[float, str, AnyPoint]
"""When it left, by which sink."""


@dataclass(frozen=True)
class Sent:
    """One series of a tenant: labels without those that say whose it is, a value, and what it says
    of itself in 2.0."""

    tenant: str
    labels: tuple[tuple[str, str], ...]
    value: float
    metadata: Metadata | None = None
    is_native: bool = False


@dataclass(frozen=True)
class Told:
    """Metadata of remote write 1.0; ``tenant`` "" is the platform."""

    tenant: str
    family: str
    metadata: Metadata


@dataclass(frozen=True)
class Step:
    """A request, or a restart where there is none of anything."""

    way: Way
    protocol: Protocol
    parts: tuple[Sent | Told, ...] = ()
    is_restart: bool = False


tenants = st.sampled_from(sorted(ACCOUNTS))
words = st.sampled_from(["", "first", "second"])
metadata = st.tuples(st.integers(0, 7), words, st.sampled_from(["", "seconds", "bytes"]))
bounded = st.one_of(
    st.tuples(st.just("h_bucket"), st.just("le"), st.sampled_from(["1", "5", "+Inf"])),
    st.tuples(st.just("h_bucket"), st.just("vmrange"), st.just("1.0e+00...2.0e+00")),
    st.tuples(st.just("s"), st.just("quantile"), st.sampled_from(["0.5", "0.9"])),
)
plain_names = st.sampled_from(
    ["m", "m_total", "m_created", "h", "h_count", "h_sum", "s_sum", "s_count", "s", "a:m_sum"]
)
infos = st.sampled_from(
    [
        (("__name__", "target_info"), ("env", "prod")),
        (("__name__", "target_info"), ("env", "dev"), ("zone", "z")),
        (("__name__", "kube_namespace_labels"), ("namespace", "n"), ("label_team", "a")),
        (("__name__", "kube_namespace_labels"), ("namespace", "n"), ("label_team", "b")),
    ]
)
target_labels = st.sampled_from(
    [
        (("job", "j"), ("instance", "i")),
        (("job", "j"), ("instance", "other")),
        (("job", "j"), ("instance", "i"), ("resource_namespace", "n")),
        (("job", "j"), ("instance", "i"), ("__type__", "gauge")),
        (("job", "j"), ("instance", "i"), ("__type__", "counter"), ("__unit__", "bytes")),
    ]
)
names = st.one_of(
    plain_names.map(lambda name: (("__name__", name),)),
    bounded.map(lambda of: (("__name__", of[0]), (of[1], of[2]))),
    infos,
)
sent = st.builds(
    Sent,
    tenants,
    st.tuples(names, target_labels).map(lambda both: (*both[0], *both[1])),
    st.sampled_from([1.0, 3.0, 4.0]),
    st.none() | metadata,
    st.booleans(),
)
families = st.sampled_from(["m", "m_total", "h", "s", "h_count", "a:m_sum", "target_info"])
told = st.builds(Told, st.sampled_from(["", *sorted(ACCOUNTS)]), families, metadata)
requests = st.builds(
    Step,
    st.sampled_from(["label", "account", "multitenant"]),
    st.sampled_from([1, 2]),
    st.lists(st.one_of(sent, sent, sent, told), min_size=1, max_size=8).map(tuple),
)
steps = st.lists(
    st.one_of(requests, requests, requests, st.just(Step("label", 1, (), is_restart=True))),
    min_size=2,
    max_size=8,
)

DELTA = OutputOptions(temporality="delta")
OF_TEAM_A = ResourceSelection(
    "",
    (ResourceSelector(LabelSelector((Requirement("team", "In", ("a",)),)), LabelSelector(()), ()),),
)


class World:
    """A relay that serves some of the tenants; what their endpoints got so far."""

    def __init__(self, served: Sequence[str], first_sight_s: float = 0.0) -> None:
        self.served = served
        self.first_sight_s = first_sight_s
        self.waited = False
        """Whether anything has waited at first sight."""
        self.got: dict[str, Counter[Got]] = {name: Counter() for name in served}
        self.rig = self._start()
        self.tick = 0.0

    def _start(self) -> Rig:
        rig = Rig(tenancy=TENANCY, assembly_wait_s=3.0, first_sight_s=self.first_sight_s)
        for tenant in self.served:
            for name, options in (("plain", PLAIN), ("delta", DELTA), ("numbers", NUMBERS)):
                exporter = f"{tenant}/{name}"
                sources = {"all": parse_query("{}")}
                if name == "plain":
                    sources["team"] = OF_TEAM_A  # type: ignore[assignment]
                rig.export(
                    RigSink(name, limit=100_000, exporter=exporter, options=options),
                    exporter=exporter,
                    project=tenant,
                    sources=sources,  # type: ignore[arg-type]
                )
        return rig

    def take(self, step: Step) -> None:
        """Let a step happen, as far as it is of tenants that are served, and time pass."""
        if step.is_restart:
            self.restart()
        parts = tuple(part for part in step.parts if part.tenant in ("", *self.served))
        if step.way == "account":
            # A request is of one account; the platform's metadata comes on the plain path.
            for tenant in ("", *ACCOUNTS):
                own = tuple(part for part in parts if part.tenant == tenant)
                origin = IngestPath(tenant) if tenant else ANYWHERE
                self.feed(replace(step, parts=own), origin)
        else:
            self.feed(
                replace(step, parts=parts), MULTITENANT if step.way == "multitenant" else ANYWHERE
            )
        self.waited |= self.rig.engine.statistics().first_sight.samples > 0
        self.tick += 1.0
        self.rig.due(self.tick)
        self.collect()

    def feed(self, step: Step, origin: IngestPath) -> None:
        if not step.parts:
            return
        time_ms = T + int(self.tick * 1000)
        if step.protocol == 1:
            body = b"".join(_written(part, step.way, time_ms) for part in step.parts)
            self.rig.feed(body, tick=self.tick, origin=origin)
            return
        request = Request2()
        for part in step.parts:
            if isinstance(part, Sent):
                labels = dict(_labels(part, step.way))
                series = request.series(labels, metadata=part.metadata)
                if part.is_native:
                    native(series, time_ms)
                else:
                    series.samples.add(value=part.value, timestamp=time_ms)
        self.rig.feed(request.body, tick=self.tick, origin=origin, protocol="remote_write_v2")

    def restart(self) -> None:
        """Stop in good order, and start with what was learned."""
        self.rig.hand_over(self.rig.engine.finish(self.tick))
        self.collect()
        knowledge = decode_knowledge(encode_knowledge(self.rig.engine.export_metadata()))
        assert knowledge is not None
        deltas = remember(self.rig.engine.deltas)
        self.rig = self._start()
        self.rig.engine.import_metadata(knowledge)
        recall(deltas, self.rig.engine.deltas)

    def collect(self) -> None:
        self.rig.flush()
        for sink in self.rig.sinks:
            tenant, _, name = sink.counter.exporter.partition("/")
            self.got[tenant].update((self.tick, name, point) for point in sink.any_points())
            sink.forget()


def _labels(part: Sent, way: Way) -> list[tuple[str, str]]:
    labels = list(part.labels)
    if way == "label":
        labels.append(("tenant", part.tenant))
    elif way == "multitenant":
        account, project = ACCOUNTS[part.tenant]
        labels += [("vm_account_id", str(account)), ("vm_project_id", str(project))]
    return labels


def _written(part: Sent | Told, way: Way, time_ms: int) -> bytes:
    if isinstance(part, Sent):
        pairs = [(name.encode(), value.encode()) for name, value in _labels(part, way)]
        return raw.series(pairs, (part.value, time_ms))
    account = ACCOUNTS.get(part.tenant) if way == "multitenant" else None
    if way == "label" and part.tenant:
        return b""  # what has an owner comes by a path that says so
    return raw.metadata(part.family, *part.metadata, account=account)


def outcome(served: Sequence[str], story: Sequence[Step], first_sight_s: float) -> World:
    world = World(served, first_sight_s)
    for step in story:
        world.take(step)
    world.rig.hand_over(world.rig.engine.finish(world.tick))
    world.collect()
    return world


def _alone(part: Sent | Told) -> Step:
    return Step("account", 1, (part,))


M = (("__name__", "m"), ("job", "j"), ("instance", "i"))
NEXT = Step("account", 1)
SETTLED_BY_ANOTHER = [
    _alone(Sent("zeta", M, 1.0)),
    *[NEXT] * 3,
    _alone(Sent("acme", M, 1.0)),
    _alone(Told("acme", "m", (1, "", ""))),
]
"""One has waited for its metadata in vain; then the other one begins."""


@example(SETTLED_BY_ANOTHER, 2.5)
@example([*SETTLED_BY_ANOTHER[:4], Step("label", 1, is_restart=True), *SETTLED_BY_ANOTHER[4:]], 2.5)
@examples(120)
@given(steps, st.sampled_from([0.0, 1.5, 2.5]))
def test_each_gets_what_it_gets_alone(story: list[Step], first_sight_s: float) -> None:
    together = outcome(sorted(ACCOUNTS), story, first_sight_s)
    for tenant in ACCOUNTS:
        alone = outcome([tenant], story, first_sight_s)
        assert together.got[tenant] == alone.got[tenant]
    if all(together.got.values()):
        event("both got something")
    event(f"something waited at first sight: {together.waited}")
