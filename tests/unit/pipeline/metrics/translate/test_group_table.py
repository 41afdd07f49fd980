"""The table of groups: each metric of a scope once, for as long as anything refers to it."""

from __future__ import annotations

import gc
import random
import sys
from zlib import crc32

from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import MetricIdentity
from relay.pipeline.metrics.translate.group_table import GroupTable


def scope(number: int = 0) -> ScopeGroup:
    return ScopeGroup(ResourceGroup([("service.name", f"service-{number}")]), "relay")


def identity(number: int) -> MetricIdentity:
    return MetricIdentity(f"metric_{number}", "gauge")


def test_equal_identities_of_one_scope_are_one_group() -> None:
    table, home, other = GroupTable(1000), scope(), scope()
    group = table.find(home, identity(1))
    assert (group.scope, group.identity) == (home, identity(1))
    assert table.find(home, identity(1)) is group
    assert table.find(home, identity(2)) is not group
    assert table.find(other, identity(1)) is not group, "scopes are compared by identity"
    assert (len(table), repr(table)) == (3, "<GroupTable 3>")


def test_as_a_dictionary_would() -> None:
    """Groups in use are found whatever comes and goes; the number of idle ones is bounded."""
    rng = random.Random(20)
    table, homes = GroupTable(200), [scope(number) for number in range(9)]
    used: dict[tuple[int, int], MetricGroup] = {}
    for _ in range(20_000):
        key = rng.randrange(len(homes)), rng.randrange(300)
        found = table.find(homes[key[0]], identity(key[1]))
        assert used.setdefault(key, found) is found
        if len(used) > 100 or rng.random() < 0.3:
            del used[rng.choice(list(used))]
    assert len(table) < 500
    for (home, number), group in used.items():
        assert table.find(homes[home], identity(number)) is group


def test_groups_become_idle_after_a_long_time_in_which_none_was() -> None:
    table, home = GroupTable(100), scope()
    used = [table.find(home, identity(number)) for number in range(2_000)]
    assert len(table) == 2_000
    for number in range(0, 2_000, 7):
        assert table.find(home, identity(number)) is used[number]
    del used
    for number in range(2_000, 4_000):
        table.find(home, identity(number))
    assert len(table) < 500


def test_groups_are_small_and_none_of_the_collectors_business() -> None:
    group = MetricGroup(scope(), identity(1))
    assert sys.getsizeof(group) == 64
    assert not any(map(gc.is_tracked, (group, group.scope, group.scope.resource)))
    assert group.shard_key == crc32(b"metric_1", group.scope.resource.shard_key)


def test_many_identities_are_told_apart() -> None:
    """More than are known by their address, and others at addresses that are free again."""
    table, homes = GroupTable(100_000), [scope(number) for number in range(2)]
    for _ in range(2):
        for number in range(5_000):
            one = identity(number)
            for home in homes:
                group = table.find(home, one)
                model = MetricGroup(home, one)
                assert (group.identity, group.scope) == (one, home)
                assert (group.head, group.data_tag) == (model.head, model.data_tag)
                assert group.data_tail == model.data_tail
                assert group.shard_key == model.shard_key
    assert len(table) == 10_000
