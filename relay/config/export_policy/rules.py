"""Rules over several fields of an ExportPolicy, which its schema names in ``x-relay-rules``.

A rule without CEL is the loader's alone: the platform's own definition accepts what it refuses, and
the CRD must accept it, too. See :mod:`relay.config.schema.rules` for the form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from relay.config.export_policy.dialect import ROWS
from relay.config.schema.rules import RULES, Faults, Rule
from relay.config.yaml.document import shown

_TARGETS: Final = ("prometheusRemoteWrite", "openTelemetry")


def _aliases() -> dict[str, Rule]:
    """Return a rule for each two words of the table that mean the same field."""
    rules: dict[str, Rule] = {}
    for row in ROWS:
        first, *others = [path.split(".") for path in row.paths]
        for other in others:
            differing = [pair for pair in zip(first, other, strict=False) if pair[0] != pair[1]]
            if len(first) == len(other) and len(differing) == 1:
                ((word, alias),) = differing
                rules[f"aliasOf{word[0].upper()}{word[1:]}"] = _alias(word, alias)
    return rules


def _alias(word: str, alias: str) -> Rule:
    return Rule(
        cel=f"!(has(self.{word}) && has(self.{alias}))",
        holds=lambda self: not (word in self and alias in self),
        message=f"means the same as {word}: remove one",
        field=alias,
    )


def _first_of(self: Any, *words: str) -> str:
    """Return the first of the words that is a field, or ""."""
    return next((word for word in words if word in self), "")


def _two_kinds_of_authentication(self: Any) -> Faults:
    basic, bearer = _first_of(self, "basicAuth", "basic"), _first_of(self, "bearer", "bearerToken")
    if basic and bearer:
        yield (), f"{basic} and {bearer} are mutually exclusive: remove one"


def _no_authentication(self: Any) -> Faults:
    if not _first_of(self, "basicAuth", "basic", "bearer", "bearerToken"):
        yield (
            (),
            (
                "needs basicAuth (or basic), or bearer; leave it out for an endpoint without "
                "authentication"
            ),
        )


def _lone_attempts(self: Any) -> Faults:
    backoff = _first_of(self, "backoffDuration", "backoff")
    if backoff and "maxAttempts" not in self:
        yield ("maxAttempts",), f"is required beside {backoff}"


def _no_target(sink: Any) -> Faults:
    if not _first_of(sink, "target", *_TARGETS):
        yield ("target",), "is required"


def _no_sources(sink: Any) -> Faults:
    if "target" in sink and "sources" not in sink:
        yield ("sources",), "is required"


def _target_beside_target(sink: Any) -> Faults:
    beside = [word for word in _TARGETS if word in sink]
    if beside and "target" in sink:
        yield (beside[0],), "is there twice: the sink has a target, too; remove one"
    elif len(beside) > 1:
        yield (beside[1],), f"is there beside {beside[0]}: write a sink for each"


def _twice(field: str) -> Callable[[Any], Faults]:
    """Return a rule's search for a field of the target that stands beside it as well."""

    def find(sink: Any) -> Faults:
        target = sink.get("target")
        holder, path = (target, "target.") if isinstance(target, dict) else (sink, "")
        for word in _TARGETS:
            own = holder.get(word)
            if field in sink and isinstance(own, dict) and field in own:
                yield (field,), f"is there twice: {path}{word} has one, too; remove one"
                return

    return find


def _sources_twice(names: Any) -> Faults:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if isinstance(name, str) and name in seen:
            yield (index,), f"{shown(name)} is listed twice"
        elif isinstance(name, str):
            seen.add(name)


_UNKNOWN_TARGETS: Final = tuple((word,) for word in ("otlp_http", "otlp", *_TARGETS, "target"))

POLICY_RULES: Final[dict[str, Rule]] = {
    **_aliases(),
    "oneAuthentication": Rule(
        cel="!((has(self.basicAuth) || has(self.basic)) && "
        "(has(self.bearer) || has(self.bearerToken)))",
        find=_two_kinds_of_authentication,
        message="basicAuth and bearer are mutually exclusive: remove one",
        cel_message="(has(self.basicAuth) ? 'basicAuth' : 'basic') + ' and ' + "
        "(has(self.bearer) ? 'bearer' : 'bearerToken') + ' are mutually exclusive: remove one'",
    ),
    "anyAuthentication": Rule(
        cel="",
        find=_no_authentication,
        message="needs basicAuth (or basic), or bearer",
        reads=tuple(
            (word,) for word in ("basicAuth", "basic", "bearer", "bearerToken", "type", "secretRef")
        )
        + tuple((word,) for word in ("token", "password", "username", "apiKey")),
    ),
    "timeoutOfBatch": Rule(
        cel="has(self.timeout) || !has(self.maxSize)",
        holds=lambda self: "timeout" in self or "maxSize" not in self,
        message="is required beside maxSize",
        field="timeout",
        reads=(("timeout",),),
    ),
    "maxSizeOfBatch": Rule(
        cel="has(self.maxSize) || !has(self.timeout)",
        holds=lambda self: "maxSize" in self or "timeout" not in self,
        message="is required beside timeout",
        field="maxSize",
        reads=(("maxSize",),),
    ),
    "attemptsOfRetry": Rule(
        cel="has(self.maxAttempts) || !(has(self.backoffDuration) || has(self.backoff))",
        find=_lone_attempts,
        message="is required beside backoffDuration",
        field="maxAttempts",
        cel_message="'is required beside ' + "
        "(has(self.backoffDuration) ? 'backoffDuration' : 'backoff')",
        reads=(("maxAttempts",),),
    ),
    "backoffOfRetry": Rule(
        cel="has(self.backoffDuration) || has(self.backoff) || !has(self.maxAttempts)",
        holds=lambda self: (
            "backoffDuration" in self or "backoff" in self or "maxAttempts" not in self
        ),
        message="is required beside maxAttempts",
        field="backoffDuration",
        reads=(("backoffDuration",), ("backoff",)),
    ),
    "anyTarget": Rule(
        cel="has(self.target) || has(self.prometheusRemoteWrite) || has(self.openTelemetry)",
        find=_no_target,
        message="target is required, or one of its fields beside the name",
        reads=_UNKNOWN_TARGETS,
    ),
    "targetBesideTarget": Rule(
        cel="!(has(self.prometheusRemoteWrite) && has(self.openTelemetry)) && "
        "!(has(self.target) && (has(self.prometheusRemoteWrite) || has(self.openTelemetry)))",
        find=_target_beside_target,
        message="a sink has one target",
    ),
    "sourcesOfTarget": Rule(
        cel="has(self.sources) || !has(self.target)",
        find=_no_sources,
        message="is required beside target",
        field="sources",
        reads=(("sources",),),
    ),
    "batchTwice": Rule(cel="", find=_twice("batch"), message="batch is there twice"),
    "retryTwice": Rule(cel="", find=_twice("retry"), message="retry is there twice"),
    "sourcesOnce": Rule(cel="", find=_sources_twice, message="a source is listed twice"),
    "anyKindOfTarget": Rule(
        cel="",
        holds=lambda self: bool(_first_of(self, *_TARGETS)),
        message="needs one of prometheusRemoteWrite, openTelemetry",
        reads=_UNKNOWN_TARGETS,
    ),
    "oneKindOfTarget": Rule(
        cel="!(has(self.prometheusRemoteWrite) && has(self.openTelemetry))",
        holds=lambda self: not all(word in self for word in _TARGETS),
        message="prometheusRemoteWrite and openTelemetry are mutually exclusive: "
        "write a sink for each",
    ),
    "sourcesOfPolicySinks": Rule(
        cel="",
        find=RULES["sourcesOfSinks"].find,
        message=RULES["sourcesOfSinks"].message,
        reads=RULES["sourcesOfSinks"].reads,
    ),
}
"""Rules of the ExportPolicy by name."""
