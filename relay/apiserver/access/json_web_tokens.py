"""JSON Web Tokens: keys of a JWKS, and tokens whose signature is checked with them.

Only asymmetric algorithms are taken, and a key only for algorithms of its own type, so that neither
``none`` nor a public key as a shared secret works (RFC 8725). Nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

JWKS_BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 100
TOKEN_CHARS_MAX: Final = 16 * 1024
RSA_BITS_MIN: Final = 2048
_HASHES: Final[dict[str, Callable[[], hashes.HashAlgorithm]]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES: Final[dict[str, tuple[ec.EllipticCurve, str]]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "P-384": (ec.SECP384R1(), "ES384"),
    "P-521": (ec.SECP521R1(), "ES512"),
}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class TokenInvalidError(Exception):
    """A token is not valid; the message says why, and never repeats it."""


class UnknownKeyError(TokenInvalidError):
    """A token was signed with a key that is not in the key set."""


class KeySetError(ValueError):
    """A document is not a key set."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key with the algorithms for which it may be used."""

    key: PublicKey
    algorithms: frozenset[str]


def _decoded(text: Any, what: str) -> bytes:
    if not isinstance(text, str) or "=" in text:
        raise TokenInvalidError(f"{what} is not base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenInvalidError(f"{what} is not base64url") from None


def read_keys(document: bytes) -> dict[str, SigningKey]:
    """Return the signing keys of a JWKS by ``kid``; raise KeySetError.

    Keys of other types or uses are left out; a key without ``kid`` is known as "".
    """
    if len(document) > JWKS_BYTES_MAX:
        raise KeySetError(f"has more than {JWKS_BYTES_MAX} bytes")
    try:
        listed = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError("is not a JSON object with keys") from None
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise KeySetError(f"keys must be a list of at most {KEYS_MAX}")
    found: dict[str, SigningKey] = {}
    for index, one in enumerate(listed):
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        try:
            key = _key(one)
        except (TokenInvalidError, ValueError) as error:
            raise KeySetError(f"keys[{index}]: {error}") from None
        if key is not None:
            found[str(one.get("kid", ""))] = key
    if not found:
        raise KeySetError("has no key for signatures")
    return found


def _number(one: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_decoded(one.get(name), name))


def _key(one: Mapping[str, Any]) -> SigningKey | None:
    kind, curve = one.get("kty"), one.get("crv")
    key: PublicKey
    if kind == "RSA":
        key = rsa.RSAPublicNumbers(_number(one, "e"), _number(one, "n")).public_key()
        if key.key_size < RSA_BITS_MIN:
            raise TokenInvalidError(f"the key has {key.key_size} bits; {RSA_BITS_MIN} are needed")
        algorithms = {f"{name}{size}" for name in ("RS", "PS") for size in _HASHES}
    elif kind == "EC" and curve in _CURVES:
        form, algorithm = _CURVES[curve]
        x, y = _number(one, "x"), _number(one, "y")
        key = ec.EllipticCurvePublicNumbers(x, y, form).public_key()
        algorithms = {algorithm}
    elif kind == "OKP" and curve == "Ed25519":
        key = ed25519.Ed25519PublicKey.from_public_bytes(_decoded(one.get("x"), "x"))
        algorithms = {"EdDSA"}
    else:
        return None
    only = one.get("alg")
    return SigningKey(key, frozenset(algorithms & {only} if only else algorithms))


def verified_claims(token: str, keys: Mapping[str, SigningKey]) -> dict[str, Any]:
    """Return the claims of a token whose signature is valid; raise TokenInvalidError.

    Times, issuer and audience are the caller's to check.
    """
    if len(token) > TOKEN_CHARS_MAX:
        raise TokenInvalidError(f"has more than {TOKEN_CHARS_MAX} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenInvalidError("is not three parts")
    header = _object(parts[0], "the header")
    if header.get("crit") is not None:
        raise TokenInvalidError("has extensions that are not known")
    key = keys.get(str(header.get("kid", "")))
    if key is None and "kid" not in header and len(keys) == 1:
        (key,) = keys.values()
    if key is None:
        raise UnknownKeyError("was signed with a key that is not known")
    algorithm = header.get("alg")
    if algorithm not in key.algorithms:
        raise TokenInvalidError("has an algorithm that its key is not for")
    signature = _decoded(parts[2], "the signature")
    signed = f"{parts[0]}.{parts[1]}".encode()
    try:
        _verify(key.key, str(algorithm), signature, signed)
    except InvalidSignature:
        raise TokenInvalidError("has a wrong signature") from None
    return _object(parts[1], "the payload")


def expiry_of(token: str) -> float:
    """Return when a token that was found valid expires, Unix time; raise TokenInvalidError."""
    parts = token.split(".")
    found = _object(parts[1], "the payload").get("exp") if len(parts) == 3 else None
    if not isinstance(found, int | float):
        raise TokenInvalidError("has no time in its claim exp")
    return float(found)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(_decoded(text, what))
    except (ValueError, RecursionError):
        raise TokenInvalidError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise TokenInvalidError(f"{what} is not an object")
    return value


def _verify(key: PublicKey, algorithm: str, signature: bytes, signed: bytes) -> None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, signed)
        return
    digest = _HASHES[algorithm[2:]]()
    if isinstance(key, rsa.RSAPublicKey):
        form: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm.startswith("PS"):
            form = padding.PSS(padding.MGF1(digest), digest.digest_size)
        key.verify(signature, signed, form, digest)
        return
    half = (key.key_size + 7) // 8
    if len(signature) != 2 * half:
        raise InvalidSignature
    r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
