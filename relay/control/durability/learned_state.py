"""Encode learned state: metric types, labels of objects, resource attributes.

Requests carry them apart from the samples that depend on them. At a crash these requests may be
trimmed from the journal, and senders repeat them only every few minutes, so a replay needs the
saved state.
"""

from __future__ import annotations

import msgspec

from relay.pipeline.metrics.metadata.metric_types import NOTHING_SAID, FamilyMetadata, Part
from relay.pipeline.metrics.metadata.project_types import KnownFamily
from relay.pipeline.metrics.translate.target_info import TargetInfo
from relay.pipeline.statistics import Knowledge
from relay.selector.inventory.info_series import InfoSeriesClaim, StreamKey
from relay.storage.journal.checkpoint import seal, unseal

_MAGIC = b"relay-knowledge"


class _Family(msgspec.Struct, array_like=True):
    """Earlier revisions lack the last two fields: their types hold for every project."""

    name: str
    type: int
    help: str
    unit: str
    project: str = ""
    siblings: Part = ""


class _Claim(msgspec.Struct, array_like=True):
    project: str
    kind: str
    namespace: str
    name: str
    labels: dict[str, str]


class _Target(msgspec.Struct, array_like=True):
    project: str
    job: str | None
    instance: str | None
    attributes: list[tuple[str, str]]


class _Document(msgspec.Struct):
    families: list[_Family]
    claims: list[_Claim]
    targets: list[_Target] = []
    settled: list[tuple[str, str]] = []
    inferred: list[str] = []
    """From earlier revisions: families of every project that are histograms by their buckets."""


def encode_knowledge(knowledge: Knowledge) -> bytes:
    """Encode the file's content."""
    families = [
        _Family(name, *_words(family.metadata), project, family.siblings)
        for project, known in knowledge.families.items()
        for name, family in known.items()
    ]
    claims = [_Claim(*claim.key, dict(claim.labels)) for claim in knowledge.claims]
    targets = [
        _Target(one.project, one.target[0], one.target[1], list(one.attributes))
        for one in knowledge.targets
    ]
    document = _Document(families, claims, targets, knowledge.settled)
    return seal(_MAGIC, msgspec.json.encode(document))


def decode_knowledge(data: bytes) -> Knowledge | None:
    """Decode the file's content; None if it is damaged. Raises FormatError."""
    body = unseal(_MAGIC, data)
    if body is None:
        return None
    document = msgspec.json.decode(body, type=_Document)
    families: dict[str, dict[str, KnownFamily]] = {}
    for one in document.families:
        metadata = FamilyMetadata(one.type, one.help, one.unit)
        # A family with siblings only has no metadata.
        said = None if one.siblings and metadata == NOTHING_SAID else metadata
        families.setdefault(one.project, {})[one.name] = KnownFamily(said, one.siblings)
    for name in document.inferred:
        known = families.setdefault("", {}).get(name)
        families[""][name] = KnownFamily(known.metadata if known else None, "bucket")
    return Knowledge(
        families,
        [
            InfoSeriesClaim(StreamKey(one.project, one.kind, one.namespace, one.name), one.labels)
            for one in document.claims
        ],
        [
            TargetInfo(one.project, (one.job, one.instance), tuple(one.attributes))
            for one in document.targets
        ],
        document.settled,
    )


def _words(metadata: FamilyMetadata | None) -> tuple[int, str, str]:
    known = metadata or NOTHING_SAID
    return known.type, known.help, known.unit
