"""What requests have taught, from one process to the next."""

from __future__ import annotations

import zlib

import pytest

from relay.control.durability.learned_state import decode_knowledge, encode_knowledge
from relay.pipeline.engine import Knowledge, MetricsPipeline
from relay.pipeline.metrics.metadata.metric_types import COUNTER, GAUGE, FamilyMetadata
from relay.pipeline.metrics.metadata.project_types import KnownFamily
from relay.pipeline.metrics.translate.target_info import TargetInfo
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.inventory.info_series import InfoSeriesClaim, StreamKey
from relay.storage.journal.checkpoint import seal
from relay.storage.log.frame import FormatError
from tests.kit.remote_write import raw

KNOWLEDGE = Knowledge(
    {
        "": {"up": KnownFamily(FamilyMetadata(COUNTER, "help “quoted”", "seconds"))},
        "acme": {
            "up": KnownFamily(FamilyMetadata(GAUGE, "another"), "quantile"),
            "h": KnownFamily(None, "bucket"),
        },
    },
    [InfoSeriesClaim(StreamKey("acme", "namespace", "", "web"), {"team": "a"})],
    [TargetInfo("acme", ("shop", None), (("env", "prod"), ("zone", "a")))],
    [("acme", "new"), ("zeta", "new")],
)
TENANCY = Tenancy("tenant")


def test_what_is_written_is_read_again() -> None:
    assert decode_knowledge(encode_knowledge(KNOWLEDGE)) == KNOWLEDGE


def test_damage_is_told_from_another_format() -> None:
    data = encode_knowledge(KNOWLEDGE)
    assert decode_knowledge(data[:-1]) is None
    assert decode_knowledge(data.replace(b"acme", b"ecma")) is None
    other = b"relay-knowledge 4 %08x\n{}" % zlib.crc32(b"{}", zlib.crc32(b"4"))
    with pytest.raises(FormatError, match="format 4"):
        decode_knowledge(other)


def test_an_engine_knows_what_another_knew() -> None:
    engine = MetricsPipeline(tenancy=TENANCY)
    engine.import_metadata(KNOWLEDGE)
    assert engine.export_metadata() == KNOWLEDGE
    labels = engine.inventory.namespace("acme", "web")
    assert labels is not None
    assert labels.labels == {"team": "a"}
    assert engine.types.of("acme").identity("up").kind == "gauge"
    assert engine.types.of("zeta").identity("up").kind == "sum"
    assert (
        engine.resources.find({"job": "shop"}, "acme").attributes == KNOWLEDGE.targets[0].attributes
    )


def test_what_earlier_revisions_wrote_is_everybodys() -> None:
    old = b'{"families":[["up",1,"help","seconds"]],"claims":[]}'
    knowledge = decode_knowledge(seal(b"relay-knowledge", old))
    assert knowledge is not None
    for tenancy, description in ((None, "help"), (TENANCY, "")):
        engine = MetricsPipeline(tenancy=tenancy)
        engine.import_metadata(knowledge)
        known = engine.types.of("" if tenancy is None else "acme").identity("up")
        assert (known.kind, known.description) == ("sum", description)


def test_histograms_that_an_earlier_revision_inferred_are_known_by_their_siblings() -> None:
    old = b"""{"families":[["up",1,"help",""],["h",0,"words",""]],"claims":[],
        "settled":[["","up"],["acme","x"]],"inferred":["h","other"]}"""
    knowledge = decode_knowledge(seal(b"relay-knowledge", old))
    assert knowledge is not None
    assert knowledge.settled == [("", "up"), ("acme", "x")]
    assert knowledge.families[""]["h"] == KnownFamily(FamilyMetadata(0, "words"), "bucket")
    engine = MetricsPipeline(first_sight_s=1.0)
    engine.import_metadata(knowledge)
    for name in ("h_count", "other_count"):
        assert engine.types.of("").typing(name).part == "count"
    assert set(engine.first_sight.settled()) == set(knowledge.settled)


def test_projects_of_a_time_with_tenancy_are_nobodys_without_it() -> None:
    engine = MetricsPipeline()
    engine.import_metadata(KNOWLEDGE)
    assert engine.types.of("").identity("up").kind == "sum"
    assert set(engine.types.families()) == {""}


def test_only_what_teaches_something_is_worth_keeping() -> None:
    engine = MetricsPipeline()
    metadata = raw.metadata("up", COUNTER, "help")
    before = engine.metadata_version
    assert engine.ingest(metadata, now=1.0, tick=0.0).has_effect
    assert engine.metadata_version != before
    before = engine.metadata_version
    assert not engine.ingest(metadata, now=2.0, tick=1.0).has_effect
    assert not engine.dry_run(metadata, now=2.0).wanted
    assert engine.metadata_version == before
    assert engine.dry_run(raw.metadata("down", COUNTER), now=2.0).wanted
