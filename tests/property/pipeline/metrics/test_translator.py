"""What is remembered of names, fields and targets gives what the slow translation gives."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from relay.codec.otlp.metrics import (
    MetricIdentity,
    finish_prefix,
    point_prefix,
    prefix_heads,
)
from relay.codec.protobuf import varint
from relay.codec.remote_write.label_intern import label_field
from relay.codec.remote_write.label_parser import LabelParser
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.translate.target_info import TargetInfoStore
from relay.pipeline.metrics.translate.translator import Translator

NAMES = st.sampled_from(
    [
        "job",
        "instance",
        "code",
        "le",
        "__type__",
        "__unit__",
        "otel_scope_name",
        "otel_scope_version",
        "otel_scope_x",
        "service.name",
        "service.instance.id",
        "exported_service.name",
        "Über",
        "a" * 130,
        "b" * 5_000,
    ]
)
SIZES = (1, 9, 50, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 600)
VALUES = st.sampled_from(["a/b", "a", "/b", "a/b/c", "é"]) | st.sampled_from(SIZES).map(
    lambda size: "v" * size
)
LABELS = st.dictionaries(NAMES, VALUES, max_size=8)
ENDS = st.sampled_from(
    [
        {},
        {"w": "1", "x": "2", "y": "3", "z": "4"},
        {"instance": "h:1", "job": "a/b", "pod": "p-1", "zone": "v" * 130},
        {"instance": "h:2", "job": "a/b", "pod": "p-2", "zone": "v" * 130},
        {"b": "1", "a": "2", "job": "x", "__unit__": "s"},
    ]
)
"""Series of one target end alike."""
SERIES = st.tuples(
    LABELS, ENDS, st.sampled_from(["m", "m_total"]), st.randoms(use_true_random=False)
)


@given(
    st.lists(SERIES, min_size=1, max_size=5),
    st.frozensets(NAMES, max_size=2),
    st.dictionaries(NAMES, VALUES, max_size=2),
)
def test_the_short_way_agrees_with_the_long_one(
    series: list[tuple[dict[str, str], dict[str, str], str, Random]],
    promoted: frozenset[str],
    told: dict[str, str],
) -> None:
    types = TypeStore(families_max=10).platform
    translator, resources = Translator(), TargetInfoStore()
    reader = LabelParser(labels_max=128, bytes_max=99_999)
    kept = []
    for labels, end, name, rng in [*series, *series, *series]:
        items = [("__name__", name), *((key, labels[key]) for key in labels if key not in end)]
        rng.shuffle(items)
        items += end.items()
        read = reader.read(b"".join(label_field(*item) for item in items))
        target = resources.find(read, "")
        kept.append(target)
        if len(kept) == len(series):  # a target_info comes in between
            told_by = {**read, **told}
            resources.learn(told_by, "")
        for wanted in (promoted, frozenset[str]()):
            group, prefix = translator.place(
                read, types.identity(name), target=target, promoted=wanted
            )
            translation = translator.translate(
                sorted(items), target=target.attributes, promoted=wanted
            )
            assert group is translator.group(translation, types.identity(name))
            assert prefix == point_prefix(translation.attributes)
            keeping, prefix = translator.place(
                read,
                types.identity(name),
                target=target,
                promoted=wanted,
                keeps_target_labels=True,
            )
            longer = translator.translate(
                sorted(items), target=target.attributes, promoted=wanted, keeps_target_labels=True
            )
            assert keeping is group
            assert prefix == point_prefix(longer.attributes)
            of_target = {key: value for key, value in items if key in ("job", "instance")}
            assert dict(longer.attributes) == {**dict(translation.attributes), **of_target}
        # On the multitenant path some labels are the relay's alone.
        _, prefix = translator.place(
            read.without({"code", "x", "zone"}), types.identity(name), target=target
        )
        kept = [item for item in items if item[0] not in ("code", "x", "zone")]
        translation = translator.translate(sorted(kept), target=target.attributes)
        assert prefix == point_prefix(translation.attributes)


def test_the_head_of_a_prefix_is_not_kept_for_every_size() -> None:
    for size in (0, 100, 5_000, 100_000):
        body = b"a" * size
        assert finish_prefix(body) == b"\x0a" + varint(size + 18) + body + b"\x19"
    assert 100 in prefix_heads
    assert 100_000 not in prefix_heads


def test_equal_identities_are_one_whatever_made_them() -> None:
    one, other = (MetricIdentity("m", "sum", monotonic=True, unit="s") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != MetricIdentity("m", "sum", monotonic=False, unit="s")
    assert len({one, other}) == 1
