"""Checks across resources: the secrets of an exporter, and other exporters.

Run over every Exporter that was read without fault. Each check notes faults in the report of the
exporter that has to go; the others are not affected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from relay.config.export_policy.dialect import in_dialect
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import (
    ENDPOINT_FIELDS,
    Authentication,
    ClientTls,
    Exporter,
    Place,
    SecretRef,
    Sink,
)
from relay.config.schema.checks import header_value_problem
from relay.config.yaml.document import Where
from relay.config.yaml.report import Report
from relay.runtime.errors import MissingSecretError, SecretError
from relay.runtime.event_loop import yield_to_loop
from relay.selector.matchers import Selector
from relay.selector.regex import compile_regex

PROJECT_COST_MAX = 50_000
"""RE2 instructions of the distinct regular expressions of a project: 1,600 usual ones."""

# The schemes of RFC 9110 §11.1 that people copy together with the credentials.
_SCHEME = re.compile(r"(bearer|basic|token|apikey|api-token)(?:\s|:)", re.IGNORECASE)
_PAIR = "username:password"  # stands for one key that holds both


class Candidate(msgspec.Struct, frozen=True):
    """An Exporter that is valid by itself, its place in its document, and its report."""

    exporter: Exporter
    where: Where
    report: Report


def check_secrets(candidate: Candidate, secrets: SecretStore) -> None:
    """Check that every secret and key that an exporter names is there and fit for its use."""
    exporter = candidate.exporter

    def say(where: Where, message: str) -> None:
        candidate.report.fault(where, in_dialect(message, exporter.kind))

    missing: set[tuple[str, Where]] = set()

    def value(ref: SecretRef, where: Where, default_key: str = "") -> str:
        yield_to_loop()
        if not ref.name:
            return ""  # faulty, and reported where it stands
        try:
            return secrets.get(exporter.project, exporter.namespace, ref, default_key)
        except SecretError as error:
            # A secret that is not there lacks both name and password: that is one fault.
            if (ref.name, where) not in missing:
                say(where, str(error))
            if isinstance(error, MissingSecretError):
                missing.add((ref.name, where))
            return ""

    def is_there(ref: SecretRef | None, where: Where) -> bool:
        if ref is None or not ref.type or not ref.name:
            return True
        try:
            secrets.require(exporter.project, exporter.namespace, ref)
        except SecretError as error:
            say(where, str(error))
            return False
        return True

    for index, sink in enumerate(exporter.sinks):
        where = (*candidate.where, *_secret_place(index, sink))
        authentication = sink.endpoint.authentication
        if is_there(authentication.secret, where):
            values = {key: value(ref, where, key) for key, ref in _credentials(authentication)}
            problem = _credential_problem(authentication, values)
            if problem:
                say(where, problem)
        for field, ref, default_key in _certificates(sink.endpoint.tls):
            endpoint = ENDPOINT_FIELDS[type(sink.endpoint)]
            place = (*candidate.where, *_sink_place(index, endpoint, "tls", field))
            value(ref, place, default_key)


def check_overflow(candidates: Iterable[Candidate], *, exporters: int) -> None:
    """Refuse ``overflow: block`` beside other exporters, whose data would wait, too.

    ``exporters`` is how many there are, the candidates among them.
    """
    for candidate in candidates:
        if exporters == 1 and not candidate.exporter.project:
            continue
        for index, sink in enumerate(candidate.exporter.sinks):
            if sink.queue.overflow == "block":
                candidate.report.fault(
                    (*candidate.where, *_sink_place(index, "queue", "overflow")),
                    "block is only possible for the single exporter of a relay without tenancy, "
                    "because it holds up all others; use dropOldest or dropNewest",
                )


def check_cost(candidates: Iterable[Candidate]) -> None:
    """Refuse exporters whose regular expressions are too costly for their project.

    Each new series of the project is matched against all of them. Without tenancy all exporters are
    the operator's, and are not limited. The first exporters of a project count.
    """
    spent: dict[str, int] = {}
    known: dict[str, set[str]] = {}
    for candidate in candidates:
        project = candidate.exporter.project
        if not project:
            continue
        seen = known.setdefault(project, set())
        patterns = patterns_of(candidate.exporter) - seen
        cost = spent.get(project, 0) + sum(compile_regex(one).cost for one in patterns)
        if cost > PROJECT_COST_MAX:
            candidate.report.fault(
                (*candidate.where, "spec", "sources"),
                f"the regular expressions of project {project} are too expensive with these: "
                f"{cost} instructions for each character of a value, at most {PROJECT_COST_MAX}",
            )
        else:
            spent[project] = cost
            seen |= patterns


def patterns_of(exporter: Exporter) -> set[str]:
    """Return the distinct regular expressions of an exporter's selectors."""
    metrics = {
        matcher.value
        for source in exporter.sources
        if isinstance(source.selector, Selector)
        for group in source.selector.groups
        for matcher in group
        if matcher.op in ("=~", "!~")
    }
    selectors = [source.selection.selector for source in exporter.record_sources]
    return metrics | {pattern for selector in selectors for pattern in selector.patterns}


def places(exporter: Exporter | None, where: Where) -> Iterator[Where]:
    """Yield where this module may find a fault in a resource that stands at ``where``."""
    yield where
    yield (*where, "metadata", "name")
    yield (*where, "spec", "sources")
    for index, sink in enumerate(exporter.sinks if exporter else ()):
        yield (*where, *_sink_place(index, "queue", "overflow"))
        endpoint = ENDPOINT_FIELDS[type(sink.endpoint)]
        yield (*where, *_secret_place(index, sink))
        for field in ("caSecretRef", "certificateSecretRef"):
            yield (*where, *_sink_place(index, endpoint, "tls", field))


def _sink_place(index: int, *fields: str) -> Where:
    return ("spec", "sinks", index, *fields)


def _secret_place(index: int, sink: Sink) -> Place:
    """Return where the reference to a sink's credential stands in the words of its document."""
    endpoint = ENDPOINT_FIELDS[type(sink.endpoint)]
    default = _sink_place(index, endpoint, "authentication", "secretRef")
    return sink.places.get("authentication.secretRef", default)


def _credentials(authentication: Authentication) -> Iterator[tuple[str, SecretRef]]:
    """Yield the keys that are needed, by their default names."""
    ref = authentication.secret
    if ref is None or authentication.type == "none":
        return
    if authentication.type == "bearerToken":
        yield "token", ref
    elif authentication.type == "apiKey":
        yield "apiKey", ref
    elif ref.key:
        yield _PAIR, ref
    else:
        yield "username", ref
        yield "password", ref


def _credential_problem(authentication: Authentication, values: dict[str, str]) -> str:
    """Return why credentials cannot be sent, without showing them, or "".

    Absent ones are reported already.
    """
    if authentication.type == "basicAuth":
        if ":" in values.get("username", ""):
            return 'the user name must not contain ":" (RFC 7617)'
        if values.get(_PAIR) and ":" not in values[_PAIR]:
            return "the key must hold username:password"
        # Credentials of this kind travel in base64, so any character will do.
        return ""
    for value in values.values():
        problem = header_value_problem(value)
        if problem:
            return f"the secret's value {problem}"
        if authentication.type != "bearerToken":
            continue
        word = _SCHEME.match(value)
        if word is not None:
            return (
                f'the secret\'s value begins with "{word[1]}", which type bearerToken writes by '
                "itself: keep the token alone in the Secret"
                if word[1].lower() == "bearer"
                else f'the secret\'s value begins with "{word[1]}": to send it as it stands, use '
                "type: apiKey with header: Authorization"
            )
        if " " in value:
            return "the secret's value must be a token alone, without spaces"
    return ""


def _certificates(tls: ClientTls | None) -> Iterator[tuple[str, SecretRef, str]]:
    if tls is not None and tls.ca is not None:
        yield "caSecretRef", tls.ca, "ca.crt"
    if tls is not None and tls.certificate is not None:
        yield "certificateSecretRef", tls.certificate, "tls.crt"
        yield "certificateSecretRef", tls.certificate, "tls.key"
