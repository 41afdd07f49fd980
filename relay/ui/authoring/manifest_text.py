"""Objects as YAML that people read, edit and give to kubectl; and back. Pure.

The text is what the relay's own reader makes the same value of, so form and text can follow each
other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from relay.apiserver.objects.field_checks import shape_of
from relay.apiserver.objects.metadata import FILE_ANNOTATION
from relay.config.yaml.document import dotted, parse_documents
from relay.ui.api_calls import FieldProblem

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_KEPT_METADATA: Final = ("name", "namespace", "labels", "annotations")
_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./()-]+)*")
"""Text that needs no quotes, unless it is one of :data:`_WORDS`."""
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"})
_WIDTH: Final = 88
_LARGE_VALUES: Final = 200


class ManifestTextError(Exception):
    """A text is no manifest; ``problems`` say where and why."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        self.problems: Final = problems
        super().__init__("; ".join(one.message for one in problems))


class _Dumper(yaml.SafeDumper):
    """Quotes every text that any reader might take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        is_plain = _PLAIN.fullmatch(data) and data.lower() not in _WORDS
        style = None if is_plain else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def own_part(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what people write of an object: no status, nothing that the server fills in."""
    metadata = value.get("metadata", {})
    kept = {name: metadata[name] for name in _KEPT_METADATA if metadata.get(name)}
    annotations = {
        name: text
        for name, text in kept.pop("annotations", {}).items()
        if name not in (LAST_APPLIED, FILE_ANNOTATION)
    }
    if annotations:
        kept["annotations"] = annotations
    ordered = {"apiVersion": value.get("apiVersion"), "kind": value.get("kind"), "metadata": kept}
    rest = {
        name: own
        for name, own in value.items()
        if name not in ordered and name not in ("status", "metadata")
    }
    return {**ordered, **rest}


def in_order(value: Any, node: Mapping[str, Any]) -> Any:
    """Return a value with its fields in the order of their schema, those without one behind."""
    if isinstance(value, Mapping):
        known: Mapping[str, Any] = node.get("properties") or {}
        rest = node.get("additionalProperties")
        inner = rest if isinstance(rest, Mapping) else {}
        names = [name for name in known if name in value]
        names += [name for name in value if name not in known]
        names.sort(key=lambda name: name != "name")
        return {name: in_order(value[name], known.get(name, inner)) for name in names}
    if isinstance(value, list):
        items = node.get("items") or {}
        return [in_order(one, items) for one in value]
    return value


def without_defaults(value: Any, node: Mapping[str, Any]) -> Any:
    """Return a value without the fields that have the default of their schema."""
    if isinstance(value, Mapping):
        known: Mapping[str, Any] = node.get("properties") or {}
        required = node.get("required") or ()
        kept = {}
        for name, own in value.items():
            inner: Mapping[str, Any] = known.get(name) or {}
            short = without_defaults(own, inner)
            if name not in required and "default" in inner:
                default = inner["default"]
                if short in (default, without_defaults(default, inner)):
                    continue
            kept[name] = short
        return kept
    if isinstance(value, list):
        items = node.get("items") or {}
        return [without_defaults(one, items) for one in value]
    return value


def short_manifest(value: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return what people write of an object of a kind whose schema is ``node``."""
    own = own_part(value)
    spec: Mapping[str, Any] = (node.get("properties") or {}).get("spec") or {}
    if "spec" in own:
        own["spec"] = in_order(without_defaults(own["spec"], spec), spec)
    return own


def is_large(value: object) -> bool:
    """Return True for a value whose text takes more than a few milliseconds."""
    size = shape_of(value)
    return size is None or size > _LARGE_VALUES


def manifest_text(value: Mapping[str, Any]) -> str:
    """Return an object as YAML, in the order of its keys."""
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


def read_manifest_text(text: str) -> dict[str, Any]:
    """Return the one object of a text in YAML or JSON; raise ManifestTextError."""
    documents = parse_documents(text, "")
    problems = tuple(
        FieldProblem(dotted(where), message)
        for document in documents
        for where, message in document.faults
    )
    if problems:
        raise ManifestTextError(problems)
    if len(documents) != 1:
        said = "has no document" if not documents else "must be one document"
        raise ManifestTextError((FieldProblem("", f"the text {said}"),))
    value = documents[0].value
    if not isinstance(value, dict):
        message = "the text must be an object: apiVersion, kind, metadata, spec"
        raise ManifestTextError((FieldProblem("", message),))
    return value
