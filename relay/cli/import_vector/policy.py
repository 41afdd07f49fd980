"""Puts one ExportPolicy together from the components of a Vector configuration.

* Everything that is not carried over, or not as it was, is noted.
* A policy with more sources or sinks than an ExportPolicy may have becomes several.
* Limits and defaults are those of the CustomResourceDefinition.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from relay.cli.import_vector.components import (
    NAME_CHARS_MAX,
    Note,
    PolicyOwner,
    VectorComponent,
    dns_label,
    text_of,
    unresolved,
    without_escapes,
)
from relay.cli.import_vector.federation_selector import federation_selector
from relay.cli.import_vector.sink_settings import batch_settings, retry_settings
from relay.config.schema.words import kind_of

API_VERSION: Final = "telemetry.miloapis.com/v1alpha1"
SECRET_TYPE: Final = "kubernetes.io/basic-auth"  # noqa: S105 - a type

SOURCES_MAX: Final = 20
SINKS_MAX: Final = 20
INPUTS_MAX: Final = 1_000
"""Entries of a Vector sink's ``inputs``."""

_POLICY_CHARS_IN_SECRET_MAX: Final = 253 - 1 - NAME_CHARS_MAX
_WORD: Final = re.compile(r"[a-z_]{1,32}")
_SOURCE_FIELDS: Final = frozenset({"type", "endpoints", "auth", "query"})
_SINK_FIELDS: Final = frozenset({"type", "inputs", "endpoint", "auth", "batch", "request"})

_Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImportedPolicy:
    """One ExportPolicy and its Secrets. ``project`` is "" where the configuration names none."""

    project: str
    namespace: str
    name: str
    documents: tuple[Mapping[str, Any], ...] = field(repr=False)
    """Manifests, the policy last; Secrets hold credentials in plain text."""


@dataclass(slots=True)
class _Sink:
    name: str
    sources: list[str]
    target: _Manifest = field(repr=False)
    secret: str
    """Name of its Secret, "" for none."""


class PolicyBuilder:
    """Collects the sources and sinks of one owner, sources first."""

    def __init__(self, owner: PolicyOwner, notes: list[Note]) -> None:
        self._owner = owner
        self._notes = notes
        self._sources: dict[str, str] = {}  # name by component id
        self._selectors: dict[str, str] = {}  # selector by name
        self._sinks: list[_Sink] = []
        self._secrets: dict[tuple[str, str], str] = {}  # name by credentials
        self._names: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<PolicyBuilder {self._owner.subject}>"

    def add_source(self, short: str, component: VectorComponent, source: Mapping[str, Any]) -> None:
        """Take a source over under its name ``short``."""
        selector = federation_selector(
            self._owner.project, component, source.get("query"), self._notes
        )
        if selector is None:
            return
        for key in sorted(source.keys() - _SOURCE_FIELDS):
            self._note(component, key, "belongs to scraping, which the relay does not do")
        name = self._unique("source", short, component)
        self._sources[component.id] = name
        self._selectors[name] = selector

    def add_sink(self, short: str, component: VectorComponent, sink: Mapping[str, Any]) -> None:
        """Take a sink over under its name ``short``."""
        sources = self._inputs(component, sink.get("inputs"))
        problem = _endpoint_problem(sink.get("endpoint"))
        if problem:
            self._note(component, "endpoint", f"{problem}; the sink is not carried over")
        elif not sources:
            self._note(component, "inputs", "names no source; the sink is not carried over")
        elif len(sources) > SOURCES_MAX:
            message = f"names {len(sources)} sources; a sink takes {SOURCES_MAX} at most; it is not"
            self._note(component, "inputs", f"{message} carried over")
        else:
            self._add_sink(short, component, sink, sources)

    def _add_sink(
        self, short: str, component: VectorComponent, sink: Mapping[str, Any], sources: list[str]
    ) -> None:
        endpoint = sink["endpoint"]
        if waiting := unresolved(endpoint):
            self._note(component, "endpoint", waiting)
        name = self._unique("sink", short, component)
        target: _Manifest = {"endpoint": without_escapes(endpoint)}
        secret = self._secret(name, component, sink.get("auth"))
        if secret:
            target["authentication"] = {"basicAuth": {"secretRef": {"name": secret}}}
        for key in sorted(sink.keys() - _SINK_FIELDS):
            self._note(component, key, _why_not(key, sink[key]))
        if batch := batch_settings(component, sink.get("batch"), self._notes):
            target["batch"] = batch
        if retry := retry_settings(component, sink.get("request"), self._notes):
            target["retry"] = retry
        self._sinks.append(_Sink(name, sources, target, secret))

    def finished(self) -> list[ImportedPolicy]:
        """Return the policies; none, with a note, if there is nothing to export."""
        owner = self._owner
        if not self._sinks or not self._sources:
            lacking = "sinks" if self._sources else "sources"
            message = f"no {lacking} could be carried over: left out"
            self._notes.append(Note(owner.subject, message))
            return []
        parts = list(self._parts())
        if len(parts) > 1:
            message = (
                f"became {len(parts)} policies: one has at most {SOURCES_MAX} sources and "
                f"{SINKS_MAX} sinks"
            )
            self._notes.append(Note(owner.subject, message))
        written: set[str] = set()
        policies: list[ImportedPolicy] = []
        for number, (sources, sinks) in enumerate(parts, 1):
            name = owner.name if number == 1 else f"{owner.name}-{number}"
            policies.append(self._policy(replace(owner, name=name), sources, sinks, written))
        return policies

    def _parts(self) -> Iterator[tuple[list[str], list[_Sink]]]:
        """Yield the sources and sinks of each policy; more than one only where limits demand it."""
        if len(self._selectors) <= SOURCES_MAX and len(self._sinks) <= SINKS_MAX:
            yield list(self._selectors), self._sinks
            return
        taken = {source for sink in self._sinks for source in sink.sources}
        for name in self._selectors.keys() - taken:
            self._notes.append(Note(self._owner.subject, f"source {name} has no sink: left out"))
        sources: dict[str, None] = {}
        sinks: list[_Sink] = []
        for sink in self._sinks:
            together = sources | dict.fromkeys(sink.sources)
            if len(sinks) == SINKS_MAX or len(together) > SOURCES_MAX:
                yield list(sources), sinks
                together, sinks = dict.fromkeys(sink.sources), []
            sources = together
            sinks.append(sink)
        yield list(sources), sinks

    def _policy(
        self, owner: PolicyOwner, sources: list[str], sinks: list[_Sink], written: set[str]
    ) -> ImportedPolicy:
        """Return one policy with those of its Secrets that are not ``written`` yet."""
        spec = {
            "sources": [
                {"name": name, "metrics": {"metricsql": self._selectors[name]}} for name in sources
            ],
            "sinks": [
                {
                    "name": sink.name,
                    "sources": sink.sources,
                    "target": {"prometheusRemoteWrite": sink.target},
                }
                for sink in sinks
            ],
        }
        used = {sink.secret for sink in sinks} - written
        secrets = [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": owner.namespace},
                "type": SECRET_TYPE,
                "stringData": {"username": user, "password": password},
            }
            for (user, password), name in self._secrets.items()
            if name in used
        ]
        written |= used
        policy = {
            "apiVersion": API_VERSION,
            "kind": "ExportPolicy",
            "metadata": {"name": owner.name, "namespace": owner.namespace},
            "spec": spec,
        }
        return ImportedPolicy(owner.project, owner.namespace, owner.name, (*secrets, policy))

    def _note(self, component: VectorComponent, path: str, message: str) -> None:
        self._notes.append(Note(component.at(path), message))

    def _unique(self, kind: str, short: str, component: VectorComponent) -> str:
        """Return a DNS label for a component that no other source, or sink, of the policy has."""
        wanted = name = dns_label(short)
        number = 2
        while (kind, name) in self._names:
            ending = f"-{number}"
            name = wanted[: NAME_CHARS_MAX - len(ending)] + ending
            number += 1
        self._names.add((kind, name))
        if name != short:
            self._note(component, "", f"is called {name} now: names are lower-case DNS labels")
        return name

    def _inputs(self, component: VectorComponent, inputs: object) -> list[str]:
        """Return the names of the sources that a sink takes."""
        given = inputs if isinstance(inputs, list) else [inputs]
        if len(given) > INPUTS_MAX:
            self._note(component, "inputs", f"has more than {INPUTS_MAX} entries")
            return []
        names: dict[str, None] = {}
        for number, value in enumerate(given):
            text = text_of(value)
            if text is None:
                path = f"inputs[{number}]" if isinstance(inputs, list) else "inputs"
                self._note(component, path, f"must be the id of a source, not {kind_of(value)}")
                continue
            found = self._sources_called(text)
            if not found:
                other = VectorComponent("sources", text)
                self._note(component, "inputs", f"{other.at()} is none of those carried over")
            names |= dict.fromkeys(found)
        return list(names)

    def _sources_called(self, pattern: str) -> list[str]:
        if pattern in self._sources:
            return [self._sources[pattern]]
        if not any(char in pattern for char in "*?["):
            return []
        return [name for id_, name in self._sources.items() if fnmatchcase(id_, pattern)]

    def _secret(self, sink: str, component: VectorComponent, auth: object) -> str:
        """Return the name of the Secret with a sink's credentials; "", with a note, for none."""
        if auth is None:
            return ""
        strategy = auth.get("strategy") if isinstance(auth, Mapping) else None
        if not isinstance(auth, Mapping) or strategy != "basic":
            by_hand = "; write authentication.bearer by hand" if strategy == "bearer" else ""
            message = (
                f"only basic authentication is carried over, not {_word(strategy)}: the sink has "
                f"none{by_hand}"
            )
            self._note(component, "auth.strategy", message)
            return ""
        user, password = (text_of(auth.get(key)) for key in ("user", "password"))
        if user is None or password is None:
            path = "auth.password" if password is None else "auth.user"
            message = "must be text; the sink has no authentication"
            self._note(component, path, message)
            return ""
        for key in sorted(auth.keys() - {"strategy", "user", "password"}):
            self._note(component, f"auth.{key}", "has no counterpart in an ExportPolicy")
        self._note_doubts(component, user, password)
        credentials = without_escapes(user), without_escapes(password)
        name = self._secrets.get(credentials)
        if name is None:
            # With a dot, which no sink's name has: two policies' Secrets never share a name.
            policy = self._owner.name[:_POLICY_CHARS_IN_SECRET_MAX].rstrip(".-")
            name = self._secrets[credentials] = f"{policy}.{sink}"
        return name

    def _note_doubts(self, component: VectorComponent, user: str, password: str) -> None:
        """Note where credentials cannot be meant, or not be sent, as they are."""
        for key, value in (("user", user), ("password", password)):
            path = f"auth.{key}"
            if waiting := unresolved(value):
                self._note(component, path, f"{waiting}: write its value into the Secret")
            if not value.rstrip("\r\n"):
                self._note(component, path, "is empty, which the relay does not accept")
            elif value[-1] in "\r\n":
                self._note(component, path, "ends with a line break, which the relay does not send")
        if ":" in user:
            self._note(component, "auth.user", "must not contain a colon (RFC 7617)")


def _endpoint_problem(endpoint: object) -> str:
    """Return why an endpoint cannot be carried over, without showing it, or ""."""
    text = text_of(endpoint)
    if text is None:
        return f"must be text, not {kind_of(endpoint)}" if endpoint is not None else "is absent"
    try:
        has_user = "@" in urllib.parse.urlsplit(text).netloc
    except ValueError:
        return "is no URL"
    return "holds credentials, which belong into auth" if has_user else ""


def _why_not(key: str, value: object) -> str:
    if key == "compression" and value == "snappy":
        return "is what remote write always has"
    if key in ("buffer", "acknowledgements"):
        return "is the operator's to set: the relay's storage holds what is not delivered"
    if key in ("tls", "tenant_id", "compression"):
        return "has no counterpart in an ExportPolicy; an Exporter's sink has"
    return "has no counterpart in an ExportPolicy"


def _word(value: object) -> str:
    """Return one of Vector's words for a message; other texts may be secrets."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else kind_of(value)
