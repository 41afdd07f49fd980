"""What requests have taught the pipeline, as bytes in the data directory.

A sample is read by what came before it: the type of its metric, the labels of the objects that
resource selectors ask for. The requests that said so are long gone from the journal when a crash
comes, and may not come again for minutes; replayed samples must not be read without.
"""

from __future__ import annotations

import msgspec

from relay.inventory.info_series import Claim, StreamKey
from relay.journal.checkpoint import seal, unseal
from relay.pipeline.accounts import Knowledge
from relay.pipeline.metric_types import FamilyMetadata

_MAGIC = b"relay-knowledge"


class _Family(msgspec.Struct, array_like=True):
    name: str
    type: int
    help: str
    unit: str


class _Claim(msgspec.Struct, array_like=True):
    project: str
    kind: str
    namespace: str
    name: str
    labels: dict[str, str]


class _Document(msgspec.Struct):
    families: list[_Family]
    claims: list[_Claim]
    settled: list[tuple[str, str]] = []
    inferred: list[str] = []


def encode_knowledge(knowledge: Knowledge) -> bytes:
    """The file's content."""
    families = [
        _Family(name, family.type, family.help, family.unit)
        for name, family in knowledge.families.items()
    ]
    claims = [_Claim(*claim.key, dict(claim.labels)) for claim in knowledge.claims]
    return seal(
        _MAGIC,
        msgspec.json.encode(_Document(families, claims, knowledge.settled, knowledge.inferred)),
    )


def decode_knowledge(data: bytes) -> Knowledge | None:
    """What :func:`encode_knowledge` made; None where it is damaged. Raises FormatError."""
    body = unseal(_MAGIC, data)
    if body is None:
        return None
    document = msgspec.json.decode(body, type=_Document)
    return Knowledge(
        {one.name: FamilyMetadata(one.type, one.help, one.unit) for one in document.families},
        [
            Claim(StreamKey(one.project, one.kind, one.namespace, one.name), one.labels)
            for one in document.claims
        ],
        document.settled,
        document.inferred,
    )
