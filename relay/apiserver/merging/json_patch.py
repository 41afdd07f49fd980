"""Apply JSON patches (RFC 6902) and JSON merge patches (RFC 7386).

Bounds: :data:`OPERATIONS_MAX`, :data:`COPIED_CHARS_MAX` for what ``copy`` adds, and
:data:`PATH_CHARS_MAX`. The value given is never changed.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Final

from relay.apiserver.merging.typed_values import equal

OPERATIONS_MAX: Final = 10_000
COPIED_CHARS_MAX: Final = 3 * 1024 * 1024
PATH_CHARS_MAX: Final = 4096


class PatchError(ValueError):
    """A patch is malformed."""


class PatchNotApplicableError(ValueError):
    """A patch is well formed, and the value is not as it expects."""


def merge_patched(value: Any, patch: Any) -> Any:
    """Return the value with a merge patch applied: null removes, lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    made = dict(value) if isinstance(value, dict) else {}
    for name, own in patch.items():
        if own is None:
            made.pop(name, None)
        else:
            made[name] = merge_patched(made.get(name), own)
    return made


def json_patched(value: Any, operations: Any) -> Any:
    """Return the value with a JSON patch applied.

    Raise PatchError for what is no patch, PatchNotApplicableError where it does not fit.
    """
    if not isinstance(operations, list):
        raise PatchError("a JSON patch must be a list of operations")
    if len(operations) > OPERATIONS_MAX:
        raise PatchError(
            f"the allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, "
            f"got {len(operations)}"
        )
    made = copy.deepcopy(value)
    copied = 0
    for operation in operations:
        try:
            made, size = _applied(made, operation)
        except RecursionError:
            raise PatchNotApplicableError("the object would be nested too deeply") from None
        copied += size
        if copied > COPIED_CHARS_MAX:
            raise PatchNotApplicableError(
                f"the copies of the patch have more than {COPIED_CHARS_MAX} characters"
            )
    return made


def _applied(value: Any, operation: Any) -> tuple[Any, int]:
    if not isinstance(operation, dict):
        raise PatchError("an operation of a JSON patch must be an object")
    kind = operation.get("op")
    path = _steps(operation, "path")
    if kind == "remove":
        return _removed(value, path)[0], 0
    if kind in ("move", "copy"):
        source = _steps(operation, "from")
        if kind == "move":
            if path[: len(source)] == source and len(path) > len(source):
                raise PatchNotApplicableError(f"{_shown(source)} cannot be moved into itself")
            value, found = _removed(value, source)
            return _added(value, path, found), 0
        found = copy.deepcopy(_found(value, source))
        return _added(value, path, found), len(json.dumps(found))
    if kind not in ("add", "replace", "test"):
        raise PatchError(f"unexpected kind: {json.dumps(kind)}")
    if "value" not in operation and kind != "test":
        raise PatchError(f"the operation {kind} needs a value")
    given = copy.deepcopy(operation.get("value"))
    if kind == "add":
        return _added(value, path, given), 0
    if kind == "replace":
        return _replaced(value, path, given), 0
    try:
        found = _found(value, path)
    except PatchNotApplicableError:
        if given is not None:
            raise
        found = None
    if not equal(found, given):
        raise PatchNotApplicableError(f"testing value {_shown(path)} failed: test failed")
    return value, 0


def _steps(operation: dict[str, Any], name: str) -> list[str]:
    text = operation.get(name)
    if not isinstance(text, str):
        raise PatchError(f"an operation of a JSON patch needs {name}")
    if len(text) > PATH_CHARS_MAX:
        raise PatchError(f"{name} must have at most {PATH_CHARS_MAX} characters")
    if text and not text.startswith("/"):
        raise PatchError(f"{name} must be empty or begin with /")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _shown(path: list[str]) -> str:
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in path)


def _index(step: str, size: int, path: list[str]) -> int:
    """Return the place of an item; ``size`` is how many places there are."""
    if not step.isdecimal() or (len(step) > 1 and step[0] == "0"):
        raise PatchNotApplicableError(f"{_shown(path)}: {step!r} is not an index")
    if int(step) >= size:
        raise PatchNotApplicableError(f"{_shown(path)}: there is no such item: missing value")
    return int(step)


def _found(value: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list):
            value = value[_index(step, len(value), path)]
        else:
            raise PatchNotApplicableError(f"{_shown(path)} does not exist: missing value")
    return value


def _removed(value: Any, path: list[str]) -> tuple[Any, Any]:
    if not path:
        raise PatchNotApplicableError("the whole object cannot be removed")
    found = _found(value, path)
    holder, last = _found(value, path[:-1]), path[-1]
    if isinstance(holder, dict):
        del holder[last]
    else:
        del holder[_index(last, len(holder), path)]
    return value, found


def _added(value: Any, path: list[str], given: Any) -> Any:
    if not path:
        return given
    holder, last = _found(value, path[:-1]), path[-1]
    if isinstance(holder, dict):
        holder[last] = given
    elif isinstance(holder, list):
        place = len(holder) if last == "-" else _index(last, len(holder) + 1, path)
        holder.insert(place, given)
    else:
        raise PatchNotApplicableError(f"{_shown(path)} does not exist: missing value")
    return value


def _replaced(value: Any, path: list[str], given: Any) -> Any:
    if not path:
        return given
    _found(value, path)
    holder, last = _found(value, path[:-1]), path[-1]
    if isinstance(holder, dict):
        holder[last] = given
    else:
        holder[_index(last, len(holder), path)] = given
    return value
