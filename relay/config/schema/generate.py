"""Generates the CRD, the JSON Schemas for editors and the reference pages from the schemas.

``make schema`` runs it; a test compares the files with its output.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from relay.config.export_policy.build import export_policy_schema
from relay.config.exporter import endpoints
from relay.config.exporter.build import exporter_schema
from relay.config.schema.checks import (
    HEADER_NAME_PATTERN,
    HEADERS_RESERVED,
    LABEL_KEY_PATTERN,
    LABEL_NAME_PATTERN,
    REMOTE_WRITE_HEADERS_RESERVED,
)
from relay.config.schema.rules import Rule
from relay.config.schema.source import Node, children, load
from relay.config.schema.validate import Schema
from relay.config.settings.settings import settings_schema
from relay.runtime.quantity import parse_bytes

DURATION_PATTERN: Final = (
    "^[-+]?(0|(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)$"
)
SIZE_PATTERN: Final = "^[0-9]+([.][0-9]+)? ?([kKMGTP]?B?|[KMGTP]iB?)$"
_QUANTITY: Final = (
    "quantity(self.replace(' ', '').replace('B', '').replace('K', 'k').replace('ki', 'Ki'))"
)
_RESERVED: Final = {
    check: ", ".join(f"'{name}'" for name in sorted(names))
    for check, names in (
        ("headerName", HEADERS_RESERVED),
        ("remoteWriteHeader", REMOTE_WRITE_HEADERS_RESERVED),
    )
}
"""Headers that must not be given, by the name of the check."""
_URL_FAULTS: Final = (
    ("!self.matches('^[!-~]*$')", endpoints.NOT_ASCII),
    ("!self.matches('^[Hh][Tt][Tt][Pp][Ss]?://')", endpoints.WRONG_SCHEME),
    ("self.matches('^[^/]*//[^/?#]*@')", endpoints.HAS_USER),
    ("self.contains('?') || self.contains('#')", endpoints.HAS_QUERY),
)
"""Conditions in CEL of what is wrong with a URL, and the words of the loader's check."""
_EXAMPLES: Final = {
    "endpoint": endpoints.OTLP_EXAMPLE,
    "remoteWriteEndpoint": endpoints.REMOTE_WRITE_EXAMPLE,
}
"""Checks of URLs, and the example that their messages show."""
_DURATION: Final = re.compile(r"duration\((self[.\w]+)\)")
"""Durations in a rule. It says nothing where one is none, which another rule says."""
_GENERATED: Final = "of relay/config/schema/{name}.yaml by make schema: change that"


def files() -> Iterator[tuple[str, str]]:
    """Yield the path of every generated file below the repository's root, and its content."""
    schemas = {
        "exporter": exporter_schema(),
        "export_policy": export_policy_schema(),
        "settings": settings_schema(),
    }
    for name, schema in schemas.items():
        source = load(name)
        for group in source.get("groups", ()):
            crd = yaml.dump(
                crd_of(source, schema, group),
                sort_keys=False,
                width=100,
                allow_unicode=True,
                Dumper=_Dumper,
            )
            note = f"# Made {_GENERATED.format(name=name)}.\n"
            yield f"config/crds/{source['plural']}.{group}.yaml", note + crd
        file = name.replace("_", "-")
        yield f"config/schema/{file}.json", _json(editor_schema(name, schema))
        yield f"docs/reference/{file}.md", reference(name, schema)


class _Dumper(yaml.SafeDumper):
    """Writes every value in full, without aliases, for editors and readers."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: aliases make files harder to read."""
        return True


def crd_of(source: Node, schema: Schema, group: str) -> Node:
    """Return the CustomResourceDefinition of a kind in one of its API groups."""
    root = crd_schema(schema)
    root["description"] = source["description"]
    root["required"] = ["spec"]
    properties = root["properties"]
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    status = load("status")
    properties["status"] = status["schema"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{source['plural']}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": source["kind"],
                "listKind": f"{source['kind']}List",
                "plural": source["plural"],
                "singular": source["singular"],
                "shortNames": source["shortNames"],
                "categories": source["categories"],
            },
            "versions": [
                {
                    "name": source["version"],
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [*source["printerColumns"], *status["columns"]],
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def crd_schema(schema: Schema, node: Node | None = None, lists: int = 0) -> Node:
    """Return a schema in the form that Kubernetes accepts, with rules in CEL.

    ``lists`` is the number of enclosing lists.
    """
    node = schema.root if node is None else node
    copy = {
        key: value
        for key, value in node.items()
        if not key.startswith("x-relay-") and not isinstance(value, dict)
    }
    if "default" in node:
        copy["default"] = node["default"]
    if "not" in node:
        copy["not"] = node["not"]
    rules = [schema.rules[name] for name in node.get("x-relay-rules", ())]
    validations = [_validation(rule) for rule in rules if rule.cel]
    validations += _validations_of_text(node, lists)
    _add_quantity(copy, node)
    if _is_worded(node, lists) or node.get("x-relay-check") in _EXAMPLES:
        copy.pop("pattern", None)
    for key, child in children(node):
        if key == "properties":
            copy[key] = {
                name: crd_schema(schema, one, lists)
                for name, one in child.items()
                if "x-relay-hidden" not in one
            }
        else:
            copy[key] = crd_schema(schema, child, lists + (key == "items"))
    if validations:
        copy["x-kubernetes-validations"] = validations
    return copy


def _add_quantity(copy: Node, node: Node) -> None:
    if "x-relay-size" in node:
        copy["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        copy["pattern"] = SIZE_PATTERN
        copy["maxLength"] = 64


def _is_worded(node: Node, lists: int) -> bool:
    """Return True if a rule, which has our message, replaces a pattern.

    Inside nested lists the API server refuses the rule for its estimated cost.
    """
    return lists < 2 and "pattern" in node and "{shown}" in node.get("x-relay-message", "")


def _validation(rule: Rule) -> Node:
    guards = "".join(
        f"!{text}.matches('{DURATION_PATTERN}') || " for text in _DURATION.findall(rule.cel)
    )
    found: Node = {"rule": f"{guards}({rule.cel})" if guards else rule.cel}
    if rule.cel_message:
        found["messageExpression"] = rule.cel_message
    elif "{" in rule.message:
        parts = re.split(r"\{([\w.]+)\}", rule.message)
        found["messageExpression"] = " + ".join(
            f"self.{part}" if number % 2 else f"'{part}'"
            for number, part in enumerate(parts)
            if part
        )
    else:
        found["message"] = rule.message
    if rule.field:
        found["fieldPath"] = f".{rule.field}"
    return found


def _validations_of_text(node: Node, lists: int) -> Iterator[Node]:
    """Yield the checks of a text that a pattern cannot express."""
    if _is_worded(node, lists):
        words = node["x-relay-message"].replace("{shown}", "\"' + self + '\"")
        yield {
            "rule": f"self.matches('{node['pattern']}')",
            "messageExpression": f"'{words}'".removesuffix(" + ''"),
        }
    elif "x-relay-duration" in node:
        least, most = node["x-relay-duration"]["minimum"], node["x-relay-duration"]["maximum"]
        yield {
            "rule": f"self.matches('{DURATION_PATTERN}') && duration(self) >= duration('{least}') "
            f"&& duration(self) <= duration('{most}')",
            "messageExpression": f"'must be a duration from {least} to {most}, not \"' + self"
            " + '\"'",
        }
    elif "x-relay-size" in node:
        bounds = [node["x-relay-size"][key] for key in ("minimum", "maximum")]
        low, high = (parse_bytes(bound) for bound in bounds)
        yield {
            "rule": f"type(self) == int ? self >= {low} && self <= {high} : "
            f"{_QUANTITY}.compareTo(quantity('{low}')) >= 0 && "
            f"{_QUANTITY}.compareTo(quantity('{high}')) <= 0",
            "message": f"must be a size from {bounds[0]} to {bounds[1]}",
        }
    elif node.get("x-relay-check") in _EXAMPLES and "pattern" in node:
        choice = "".join(f"{fault} ? '{words}' : " for fault, words in _URL_FAULTS)
        no_host = endpoints.NO_HOST.format(example=_EXAMPLES[node["x-relay-check"]])
        yield {
            "rule": f'self.matches(r"{node["pattern"]}")',
            "messageExpression": f"{choice}'{no_host}'",
        }
    elif node.get("x-relay-check") in _RESERVED:
        yield {
            "rule": f"!(self.lowerAscii() in [{_RESERVED[node['x-relay-check']]}])",
            "message": "is set by the relay itself and must not be given",
        }
    elif node.get("x-relay-keys") in _RESERVED:
        yield {
            "rule": f'self.all(name, size(name) <= 256 && name.matches("{HEADER_NAME_PATTERN}"))',
            "message": "a name is not a valid header name",
        }
        yield {
            "rule": f"!self.exists(name, name.lowerAscii() in [{_RESERVED[node['x-relay-keys']]}])",
            "message": "a header is set by the relay itself and must not be given",
        }
    elif node.get("x-relay-keys") == "externalLabel":
        yield {
            "rule": f"self.all(name, name != '__name__' && name.matches('{LABEL_NAME_PATTERN}'))",
            "message": "a name is not a valid label name, or is __name__",
        }
    elif node.get("x-relay-keys") == "labelOfObject":
        yield {
            "rule": f"self.all(key, key.matches('{LABEL_KEY_PATTERN}'))",
            "message": "a key is not a valid label of a Kubernetes object",
        }


def editor_schema(name: str, schema: Schema) -> Node:
    """Return a JSON Schema by which editors complete and check files."""
    root = _editor_node(schema.root)
    if "kind" in load(name):
        root["properties"]["kind"] = {"const": load(name)["kind"]}
        root["required"] = ["apiVersion", "kind", *root["required"][1:]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Made {_GENERATED.format(name=name)}.",
        "title": load(name)["description"],
        **root,
    }


def _editor_node(node: Node) -> Node:
    copy = {key: value for key, value in node.items() if not key.startswith("x-")}
    _add_quantity(copy, node)
    if "x-relay-duration" in node:
        copy["pattern"] = DURATION_PATTERN
    for key, child in children(node):
        if key == "properties":
            copy[key] = {one: _editor_node(value) for one, value in child.items()}
            copy["additionalProperties"] = False
        else:
            copy[key] = _editor_node(child)
    return copy


def _json(value: Node) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def reference(name: str, schema: Schema) -> str:
    """Return the reference page of a schema: a table for each mapping."""
    source = load(name)
    title = source.get("kind", "Settings")
    lines = [f"<!-- Made {_GENERATED.format(name=name)}. -->", "", f"# {title}: reference", ""]
    lines += [source["description"], ""]
    lines += [
        "Durations are written `500ms`, `30s`, `1m30s`, `2h`; sizes `16KiB`, `32MiB`, `8GiB`.",
        "Unknown fields are refused. A text has 1 to 4096 characters unless it says otherwise.",
        "",
    ]
    lines += _tables(schema, schema.root, "", has_crd="kind" in source)
    return "\n".join(lines).rstrip() + "\n"


_IN_CEL: Final = (
    "The same in CEL, in this order, as the CRD has them:",
    "Some of them in CEL, in this order; the others are the relay's own, and not in the CRD:",
)
"""Lines before the CEL of a mapping: of all its rules, or of a part of them."""


def _tables(schema: Schema, node: Node, path: str, *, has_crd: bool) -> Iterator[str]:
    shown = {
        k: v for k, v in node["properties"].items() if "x-relay-hidden" not in v or k == "kind"
    }
    if path:
        yield from (f"## `{path}`", "", node.get("description", ""), "")
    yield from ("| field | value | default | |", "|---|---|---|---|")
    for name, one in shown.items():
        default = _default(one, is_required=name in node.get("required", ()))
        text = " ".join(str(one.get("description", "")).split()).replace("|", "\\|")
        yield f"| `{name}` | {_value(one)} | {default} | {text} |"
    yield ""
    rules = [schema.rules[name] for name in node.get("x-relay-rules", ())]
    if rules:
        yield from ("Rules:", "", *(_stated(rule, node) for rule in rules), "")
        in_cel = [rule.cel for rule in rules if rule.cel]
        if has_crd and in_cel:
            yield from (_IN_CEL[len(in_cel) < len(rules)], "")
            yield from ("```", *in_cel, "```", "")
    for name, one in shown.items():
        inner = one.get("items", one) if one.get("type") == "array" else one
        if inner.get("properties") and "x-relay-brief" not in one:
            below = f"{path}.{name}".lstrip(".") + ("[]" if inner is not one else "")
            described = {"description": one.get("description", ""), **inner}
            yield from _tables(schema, described, below, has_crd=has_crd)


def _stated(rule: Rule, node: Node) -> str:
    """Return a rule as an entry of a list.

    Where its message quotes a field, the words of the field that break the rule stand there.
    """
    said = rule.message + (" with type: {type}" if rule.message == "is required" else "")
    said = re.sub(r" \(\{[\w.]+\}\)", "", said)  # the value of a field that stands before
    for field in re.findall(r"\{([\w.]+)\}", said):
        words = [f"`{word}`" for word in _breaking(rule, field, node)]
        assert words, f"no value of {field} breaks the rule: {said}"
        listed = re.sub(", ([^,]+)$", r" or \1", ", ".join(words))
        said = said.replace(f"{{{field}}}", listed)
    subject = f"`{rule.field}`: " if rule.field else ""
    return f"- {subject}{said}"


def _breaking(rule: Rule, field: str, node: Node) -> list[str]:
    """Return the words of a field with which a rule is broken, by other fields absent or given."""
    others = {name: ["…"] for name in node["properties"] if name != field}
    return [
        word
        for word in node["properties"][field]["enum"]
        if any(next(rule.faults({**given, field: word}), None) for given in ({}, others))
    ]


def _default(node: Node, *, is_required: bool) -> str:
    if "x-relay-default" in node:
        return str(node["x-relay-default"])
    if "default" in node and not isinstance(node["default"], dict):
        return f"`{json.dumps(node['default'])}`"
    return "**required**" if is_required else ""


def _value(node: Node) -> str:
    """Return the kind and the bounds of a field's value in words."""
    if "x-relay-value" in node:
        return str(node["x-relay-value"])
    if "x-relay-size" in node or "x-relay-duration" in node:
        kind = "size" if "x-relay-size" in node else "duration"
        bounds = node[f"x-relay-{kind}"]
        return f"{kind}, {bounds['minimum']} to {bounds['maximum']}"
    if "enum" in node:
        return ", ".join(f"`{word}`" for word in node["enum"])
    kind = node.get("type", "string")
    if kind == "number":
        return f"{node['minimum']} to {node['maximum']}"
    if kind == "integer":
        return f"{node['minimum']} to {node['maximum']}"
    if kind == "array":
        return f"list of {node.get('minItems', 0)} to {node['maxItems']}"
    if kind == "object" and "properties" not in node:
        return f"map of at most {node['maxProperties']}"
    return {"object": "mapping", "string": "text", "boolean": "`true`, `false`"}[kind]


def main(root: Path) -> None:
    """Write the files below ``root``."""
    for name, content in files():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
