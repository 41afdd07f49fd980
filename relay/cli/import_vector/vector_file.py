"""Reads Vector configurations: bare, or as Kubernetes Secrets and ConfigMaps hold them.

* A file's ending says its language. Without one it is YAML, and JSON if it begins with a brace,
  because YAML takes no tabs.
* The operator's Secrets (``export-policy-vector-config-UID``, key ``UID.json``) are unpacked, one,
  several documents, or a List as ``kubectl get -o yaml`` prints. A Secret holds configurations, not
  other Secrets.
* Faults name files, fields and lines, never values: a source line may hold a password.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Final

from relay.cli.import_vector.components import Note
from relay.config.schema.words import kind_of
from relay.config.yaml.document import parse_documents
from relay.config.yaml.source_positions import shown
from relay.runtime.errors import ConfigError, Fault

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
TOML_CHARS_MAX: Final = 1024 * 1024
"""Longest TOML: its parser is slow."""
DEPTH_MAX: Final = 64
VALUES_MAX: Final = 2_000_000

CONFIG_NAME: Final = "export-policy-vector-config-"
CONFIG_LABEL: Final = "telemetry.miloapis.com/vector-export-policy-config"

# As tomllib's time is quadratic in the parts of a key.
_LONG_TOML_KEY: Final = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)"""
    f"{{{DEPTH_MAX}}}"
)
_SUFFIXES: Final = (".json", ".toml", ".yaml", ".yml")
_SECTIONS: Final = ("sources", "sinks")
_LISTS: Final = ("List", "SecretList", "ConfigMapList")


class VectorConfig:
    """The configurations of several files, merged as Vector merges them."""

    def __init__(self) -> None:
        self.sections: dict[str, Any] = {}
        """``sources`` and ``sinks`` by component id; of other sections only the names count."""
        self.notes: list[Note] = []

    def add(self, text: str, file: str) -> None:
        """Add what a file holds. Raises ConfigError, with one fault, if it cannot be read."""
        found = False
        for value in _values(text, file, PurePath(file).suffix):
            for config in self._configs(value, file):
                found = True
                self._merge(config, file)
        if not found:
            raise _error("holds no Vector configuration", file)

    def __repr__(self) -> str:
        return f"<VectorConfig: {', '.join(self.sections)}>"

    def _configs(self, value: object, file: str) -> Iterator[Mapping[str, Any]]:
        """Yield the configurations in a document: itself, or what its Secrets hold."""
        if not isinstance(value, Mapping):
            raise _error(f"must hold settings by section, not {kind_of(value)}", file)
        kind = value.get("kind")
        if kind in _LISTS:
            items = value.get("items")
            if not isinstance(items, list):
                raise _error("must be a list", file, "items")
            for number, item in enumerate(items):
                yield from self._from_item(item, file, f"items[{number}]")
        elif kind in ("Secret", "ConfigMap"):
            yield from _from_object(value, file, "")
        elif "apiVersion" in value:
            message = f"must be Secret, ConfigMap or a List of them, not {_kind_shown(kind)}"
            raise _error(message, file, "kind")
        else:
            yield value

    def _from_item(self, item: object, file: str, path: str) -> Iterator[Mapping[str, Any]]:
        if not isinstance(item, Mapping):
            raise _error(f"must be a Secret or a ConfigMap, not {kind_of(item)}", file, path)
        if item.get("kind") in ("Secret", "ConfigMap") and _holds_config(item):
            yield from _from_object(item, file, f"{path}.")
        else:
            # Lists of a whole namespace hold the tokens of others as well.
            message = f"is not the Secret of a policy ({CONFIG_NAME}UID)"
            self.notes.append(Note(f"{file}: {path}", message))

    def _merge(self, config: Mapping[str, Any], file: str) -> None:
        """Add a configuration's sections; components of one id must not come twice."""
        for section, content in config.items():
            if section not in _SECTIONS:
                self.sections.setdefault(section, None)
                continue
            if not isinstance(content, Mapping):
                message = f"must hold components by their ids, not {kind_of(content)}"
                raise _error(message, file, section)
            present = self.sections.setdefault(section, {})
            for identifier, component in content.items():
                if present.get(identifier, component) != component:
                    path = f"{section}[{shown(identifier)}]"
                    raise _error("is there twice, and not the same", file, path)
                present[identifier] = component


def _values(text: str, file: str, suffix: str) -> list[object]:
    """Return the documents of a text, within limits of depth and number."""
    if suffix == ".json" or (suffix not in _SUFFIXES and text.lstrip()[:1] == "{"):
        value = _json(text, file)
    elif suffix == ".toml":
        value = _toml(text, file)
    else:
        return _yaml(text, file)  # its reader has limits of its own
    _check_size(value, file)
    return [value]


def _json(text: str, file: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) < len(pairs):
            (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise _error(f"the key {shown(repeated)} stands twice in one mapping", file)
        return members

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _error(f"is no JSON: {error.msg}", f"{file}:{error.lineno}:{error.colno}") from None
    except RecursionError:
        raise _error("is nested too deeply", file) from None
    except ValueError:  # sys.set_int_max_str_digits
        raise _error("is no JSON: a number has too many digits", file) from None


def _toml(text: str, file: str) -> object:
    if len(text) > TOML_CHARS_MAX:
        raise _error(f"is longer than {TOML_CHARS_MAX} characters; write JSON instead", file)
    if _LONG_TOML_KEY.search(text):
        raise _error(f"is nested deeper than {DEPTH_MAX} levels", file)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _error(f"is no TOML: {error}", file) from None
    except RecursionError:
        raise _error("is nested too deeply", file) from None
    except ValueError:  # a number with too many digits, or a date that is none
        raise _error("is no TOML: a number or a date is out of range", file) from None


def _yaml(text: str, file: str) -> list[object]:
    documents = parse_documents(text, file)
    for document in documents:
        if document.faults:
            where, message = document.faults[0]
            raise ConfigError([replace(document.fault(where, message), excerpt="")])
    return [document.value for document in documents]


def _check_size(value: object, file: str) -> None:
    """Raise ConfigError for values nested too deeply, or too many of them."""
    number = 0
    level = [value]
    for _ in range(DEPTH_MAX):
        number += len(level)
        if number > VALUES_MAX:
            raise _error(f"holds more than {VALUES_MAX} values", file)
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return
        level = below
    raise _error(f"is nested deeper than {DEPTH_MAX} levels", file)


def _holds_config(item: Mapping[str, Any]) -> bool:
    """Return True for the Secrets of the operator's policies, and for ConfigMaps of Vector."""
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    labels = metadata.get("labels")
    if isinstance(labels, Mapping) and CONFIG_LABEL in labels:
        return True
    name = metadata.get("name")
    return isinstance(name, str) and name.startswith(CONFIG_NAME)


def _from_object(item: Mapping[str, Any], file: str, path: str) -> Iterator[Mapping[str, Any]]:
    """Yield the configurations in a Secret or a ConfigMap."""
    is_secret = item.get("kind") == "Secret"
    for section in ("data", "stringData") if is_secret else ("data",):
        entries = item.get(section)
        if entries is None:
            continue
        if not isinstance(entries, Mapping):
            raise _error(f"must be a mapping, not {kind_of(entries)}", file, path + section)
        for key, content in entries.items():
            where = f"{path}{section}[{shown(key)}]"
            if not isinstance(content, str):
                raise _error(f"must be text, not {kind_of(content)}", file, where)
            text = _decoded(content, file, where) if is_secret and section == "data" else content
            origin = f"{file}: {where}"
            for value in _values(text, origin, PurePath(key).suffix):
                yield _configuration(value, origin)


def _configuration(value: object, origin: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _error(f"must hold settings by section, not {kind_of(value)}", origin)
    if "kind" in value or "apiVersion" in value:
        raise _error("must be a Vector configuration, not a Kubernetes object", origin)
    return value


def _decoded(content: str, file: str, where: str) -> str:
    try:
        return base64.b64decode("".join(content.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _error("is no UTF-8 text in base64", file, where) from None


def _kind_shown(kind: object) -> str:
    return shown(kind) if isinstance(kind, str) else kind_of(kind)


def _error(message: str, file: str, path: str = "") -> ConfigError:
    return ConfigError([Fault(path, message, file, file=file)])
