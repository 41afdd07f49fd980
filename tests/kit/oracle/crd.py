"""What a Kubernetes API server says of an object by its CRD: schema, list types and rules in CEL.

Rules are run by an implementation of CEL that is not the API server's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import celpy
from celpy.celtypes import IntType, StringType
from jsonschema_rs import Draft202012Validator

from relay.runtime.quantity import parse_bytes


def quantity(text: Any) -> Any:
    """Stand in for Kubernetes' function of that name: a number that may be compared."""
    return IntType(parse_bytes(str(text)))


def compare_to(one: Any, other: Any) -> Any:
    """Stand in for the method of a quantity."""
    return IntType((one > other) - (one < other))


def lower_ascii(text: Any) -> Any:
    """Stand in for the method of a text, which is an extension of CEL."""
    return StringType(str(text).lower())


def replace(text: Any, old: Any, new: Any) -> Any:
    """Stand in for the method of a text, which is an extension of CEL."""
    return StringType(str(text).replace(str(old), str(new)))


FUNCTIONS = {
    "quantity": quantity,
    "compareTo": compare_to,
    "lowerAscii": lower_ascii,
    "replace": replace,
}


@cache
def program(rule: str) -> Any:
    """Return a rule, ready to run."""
    environment = celpy.Environment()
    return environment.program(environment.compile(rule), functions=FUNCTIONS)


def holds(rule: str, value: Any) -> bool:
    """Return whether a value meets a rule."""
    return bool(program(rule).evaluate({"self": celpy.json_to_cel(value)}))


def defaulted(schema: Any, value: Any) -> Any:
    """Return a value as the API server stores it: without nulls, pruned, with defaults."""
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), one) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return value
    stored = {
        key: defaulted(properties[key], one)
        for key, one in value.items()
        if key in properties and one is not None
    }
    for key, one in properties.items():
        if "default" in one and key not in stored:
            stored[key] = defaulted(one, one["default"])
    return stored


def broken_rules(schema: Any, value: Any) -> Iterator[str]:
    """Yield the rules that a value does not meet, list types among them."""
    for one in schema.get("x-kubernetes-validations", ()):
        if not holds(one["rule"], value):
            yield one["rule"]
    if isinstance(value, list):
        kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys")
        seen = [tuple(one[key] for key in keys) if kind == "map" else one for one in value]
        if kind in ("set", "map") and any(one in seen[:index] for index, one in enumerate(seen)):
            yield f"{kind}: repeated"
        for one in value:
            yield from broken_rules(schema.get("items", {}), one)
    elif isinstance(value, dict):
        for key, one in value.items():
            below = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            yield from broken_rules(below, one)


def faults_of_crd(schema: Any, value: Any) -> list[str]:
    """Return what the API server would say of an object; ``schema`` is the version's."""
    stored = defaulted(schema, value)
    found = [error.message for error in Draft202012Validator(schema).iter_errors(stored)]
    return found or list(broken_rules(schema, stored))
