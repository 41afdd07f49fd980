"""Encryption of Secrets at rest: AES-256-GCM with keys from a file.

The file has one key a line, 32 bytes in base64. The first one encrypts; the others only decrypt, so
that keys can be replaced. A sealed value is the first 8 bytes of its key's SHA-256, a nonce of 12
bytes, and the ciphertext with its tag; the place of the object is authenticated with it, so that a
value cannot be moved to another object.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.runtime.errors import ConfigError, Fault

KEY_BYTES: Final = 32
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_FILE_BYTES_MAX: Final = 64 * 1024
_FORM: Final = (
    f"a key is {KEY_BYTES} bytes in base64: head -c {KEY_BYTES} /dev/urandom | base64 makes one"
)


class SealedValueError(Exception):
    """A sealed value cannot be opened."""


class ValueCipher:
    """Seals and opens values; ``nonce`` returns random bytes, never the same ones twice."""

    def __init__(self, keys: list[bytes], nonce: Callable[[int], bytes] = os.urandom) -> None:
        assert keys, "the caller has checked that there is a key"
        self._keys = {hashlib.sha256(key).digest()[:_ID_BYTES]: AESGCM(key) for key in keys}
        self._first = hashlib.sha256(keys[0]).digest()[:_ID_BYTES]
        self._nonce = nonce

    def __repr__(self) -> str:
        return f"<ValueCipher: {len(self._keys)} keys>"

    def seal(self, value: bytes, place: bytes) -> bytes:
        """Return a value encrypted for an object's place."""
        nonce = self._nonce(_NONCE_BYTES)
        return self._first + nonce + self._keys[self._first].encrypt(nonce, value, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Return the value; raise SealedValueError for a key that is missing, or altered data."""
        key = self._keys.get(sealed[:_ID_BYTES])
        if key is None:
            raise SealedValueError("it is encrypted with a key that is not in the key file")
        nonce = sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        try:
            return key.decrypt(nonce, sealed[_ID_BYTES + _NONCE_BYTES :], place)
        except (InvalidTag, ValueError):
            raise SealedValueError("it was altered, or belongs to another object") from None

    def is_current(self, sealed: bytes) -> bool:
        """Return True if a value is sealed with the first key."""
        return sealed[:_ID_BYTES] == self._first


def read_cipher(path: Path, setting: str) -> ValueCipher:
    """Return a cipher with the keys of a file; raise ConfigError that names the setting."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _refused(setting, f"{path}: {error.strerror}") from error
    if len(content) > _FILE_BYTES_MAX:
        raise _refused(setting, f"{path}: has more than {_FILE_BYTES_MAX} bytes")
    keys = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise _refused(setting, f"{path}:{number}: is not base64; {_FORM}") from None
        if len(key) != KEY_BYTES:
            message = f"{path}:{number}: has {len(key)} bytes; {_FORM}"
            raise _refused(setting, message)
        keys.append(key)
    if not keys:
        raise _refused(setting, f"{path}: has no key; {_FORM}")
    return ValueCipher(keys)


def _refused(setting: str, message: str) -> ConfigError:
    return ConfigError((Fault(setting, message),))
