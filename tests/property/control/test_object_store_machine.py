"""ObjectStore against a model: whatever events, lists and takes, the consumer ends up right."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.control.kubernetes.object_store import ObjectStore
from relay.control.kubernetes.objects import ApiObject
from tests.kit.examples import examples

NAMES = st.sampled_from("abcd")
CONTENTS = st.sampled_from([b"1", b"22"])


class StoreMachine(RuleBasedStateMachine):
    """``cluster`` is the truth, ``taken`` what a consumer knows by its changes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.store = ObjectStore()
        self.cluster: dict[str, ApiObject] = {}
        self.taken: dict[str, ApiObject] = {}
        self.uid = 0

    def change(self, name: str, content: bytes, *, again: bool) -> ApiObject:
        known = self.cluster.get(name)
        if known is None or again:
            self.uid += 1
            uid = str(self.uid)
        else:
            uid = known.uid
        self.cluster[name] = ApiObject("n", name, uid, "1", 1, content)
        return self.cluster[name]

    @rule(name=NAMES, content=CONTENTS, again=st.booleans())
    def put(self, name: str, content: bytes, again: bool) -> None:
        verb = "MODIFIED" if name in self.cluster else "ADDED"
        self.store.apply(verb, self.change(name, content, again=again))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if name in self.cluster:
            self.store.apply("DELETED", self.cluster.pop(name))

    @rule(changes=st.lists(st.tuples(NAMES, st.none() | CONTENTS, st.booleans())))
    def miss_and_list(self, changes: list[tuple[str, bytes | None, bool]]) -> None:
        for name, content, again in changes:
            if content is None:
                self.cluster.pop(name, None)
            else:
                self.change(name, content, again=again)
        self.store.replace(self.cluster.values())

    @rule(count=st.integers(1, 5))
    def take(self, count: int) -> None:
        for change in self.store.take(count):
            assert change.before or change.after
            if change.before is not None:
                assert self.taken.pop(change.before.name) == change.before
            if change.after is not None:
                assert change.after.name not in self.taken
                self.taken[change.after.name] = change.after
            if change.before and change.after:
                assert change.before.uid == change.after.uid
                assert change.before != change.after

    @rule()
    def take_all(self) -> None:
        while self.store.has_changes:
            self.take(count=3)
        assert self.taken == self.cluster

    @invariant()
    def the_store_is_the_cluster(self) -> None:
        assert {name: one for (_, name), one in self.store.objects.items()} == self.cluster
        sizes = sum(len(one.content) for one in self.cluster.values())
        assert self.store.statistics().bytes == sizes


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = examples(100)
