"""Memory of label tables: what is dead does not stay, however few series left it behind."""

from __future__ import annotations

import _testcapi
from itertools import count

from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.v1 import label_key
from tests.kit.engine_rig import RAW1, Rig, RigSink
from tests.kit.remote_write import raw

LONG = 4_000


def test_long_fields_are_counted_once() -> None:
    table = LabelTable()
    for n in range(100):
        table.place(label_key([("n", f"{n}{'x' * LONG}")]))
    assert 100 * LONG < table.memory_bytes < 2 * 100 * LONG


def test_few_dead_series_with_long_labels_are_a_reason_for_another_table() -> None:
    table = LabelTable()
    for n in range(10_000):
        table.place(label_key([("n", f"{n}{'x' * LONG}")]))
    assert table.memory_bytes > 10_000 * LONG
    assert table.is_due(1)
    assert not table.is_due(9_000), "most of it lives"


def test_a_small_table_stays_while_some_series_come_and_go() -> None:
    table = LabelTable()
    for n in range(10_000):
        table.place(label_key([("n", str(n))]))
    assert not table.is_due(1)


def test_series_with_long_labels_leave_nothing_behind_once_they_are_idle() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=500, options=RAW1))
    for start in range(0, 10_000, 1_000):
        rig.feed(
            b"".join(
                raw.series([(b"__name__", b"m"), (b"n", b"%d" % n + LONG * b"x")], (1.0, 1_000 + n))
                for n in range(start, start + 1_000)
            )
        )
    assert rig.engine.resolver.raw.table.memory_bytes > 10_000 * LONG
    alive = raw.series([(b"__name__", b"m"), (b"n", b"alive")], (1.0, 20_000))
    for turn in range(500):
        rig.feed(alive, tick=10_000.0 * (1 + turn))
        rig.due(10_000.0 * (1 + turn))
        sink.forget()
    assert rig.engine.table.active == 1
    assert rig.engine.resolver.raw.table.memory_bytes < 1_000_000


def test_a_kind_that_there_is_no_memory_for_leaves_the_table_as_it_was() -> None:
    """Fail each allocation in turn of the field that makes the array of kinds grow."""
    kinds = 64
    for failing in count():
        table = LabelTable()
        # More fields than kinds: the array of fields is not full when that of kinds is.
        for n in range(kinds):
            table.place(label_key([(f"n{n}", "x")]))
        for n in range(6):
            table.place(label_key([("n0", str(n))]))
        before, key = table.memory_bytes, label_key([("another", "x")])
        _testcapi.set_nomemory(failing, failing + 1)
        try:
            prefix = table.place(key)
        except MemoryError:
            prefix = b""
        finally:
            _testcapi.remove_mem_hooks()
        if prefix:
            break
        assert table.memory_bytes == before
        assert table.fields_of(table.place(key)) == (key,)
    assert failing > 1
    assert table.memory_bytes > before, "it had to grow"
