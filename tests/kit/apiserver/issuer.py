"""An issuer of tokens: its keys, and tokens that are good or wrong in one way."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://issuer.example"
AUDIENCE = "relay"
_DIGESTS: dict[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}


def encoded(content: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def number(value: int) -> str:
    """Return a number as a JWKS has it."""
    return encoded(value.to_bytes((value.bit_length() + 7) // 8))


def public(kid: str, key: Any, **more: Any) -> dict[str, Any]:
    """Return the public part of a key as a JWKS has it."""
    one = key.public_key()
    if isinstance(one, rsa.RSAPublicKey):
        numbers = one.public_numbers()
        made = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(one, ec.EllipticCurvePublicKey):
        point = one.public_numbers()
        name = {256: "P-256", 384: "P-384"}[one.key_size]
        made = {"kty": "EC", "crv": name, "x": number(point.x), "y": number(point.y)}
    else:
        raw = one.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        made = {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw)}
    return {"kid": kid, **made, **more}


def jwks(*keys: dict[str, Any]) -> bytes:
    """Return a key set."""
    return json.dumps({"keys": keys}).encode()


def signature(algorithm: str, key: Any, signed: bytes) -> bytes:
    """Sign with an asymmetric algorithm."""
    if algorithm == "EdDSA":
        return bytes(key.sign(signed))
    one = _DIGESTS[algorithm[2:]]()
    if algorithm.startswith("RS"):
        return bytes(key.sign(signed, padding.PKCS1v15(), one))
    if algorithm.startswith("PS"):
        return bytes(key.sign(signed, padding.PSS(padding.MGF1(one), one.digest_size), one))
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(one)))
    half = (key.key_size + 7) // 8
    return r.to_bytes(half) + s.to_bytes(half)


def signed_token(
    claims: dict[str, Any], key: Any, algorithm: str = "RS256", kid: str = "rsa", **more: Any
) -> str:
    """Return a token; ``more`` are fields of its header."""
    header = {"alg": algorithm, "kid": kid, **more}
    text = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
    return f"{text}.{encoded(signature(algorithm, key, text.encode()))}"


class Issuer:
    """Signs tokens with one RSA key; ``now`` is the Unix time of its tokens."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._key = rsa.generate_private_key(65537, 2048)
        self._other = rsa.generate_private_key(65537, 2048)

    @property
    def keys(self) -> bytes:
        """The key set."""
        return jwks(public("rsa", self._key))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token, with changes."""
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": self.now + 3600,
            "sub": "ann",
            "projects": ["acme"],
            "role": "admin",
        }
        return good | changes

    def token(self, **changes: Any) -> str:
        """Return a token with a valid signature."""
        return signed_token(self.claims(**changes), self._key)

    def refused(self) -> Iterator[tuple[str, str]]:
        """Yield tokens that are good but for one fault, with its name."""
        good = self.token()
        head, payload, sign = good.split(".")
        yield "expired", self.token(exp=self.now - 3600)
        yield "without expiry", signed_token(_without(self.claims(), "exp"), self._key)
        yield "not valid yet", self.token(nbf=self.now + 3600)
        yield "for another audience", self.token(aud="another")
        yield "of another issuer", self.token(iss="https://another.example")
        yield "without a role", signed_token(_without(self.claims(), "role"), self._key)
        yield "of an unknown role", self.token(role="root")
        yield "without a user", signed_token(_without(self.claims(), "sub"), self._key)
        yield "of an unknown key", signed_token(self.claims(), self._other, kid="other")
        yield "of another key", signed_token(self.claims(), self._other)
        yield "without a signature", f"{head}.{payload}."
        yield "with a cut signature", f"{head}.{payload}.{sign[:-4]}"
        forged = encoded(json.dumps(self.claims(sub="root")).encode())
        yield "with another payload", f"{head}.{forged}.{sign}"
        for name in ("none", "None", "NONE", ""):
            header = encoded(json.dumps({"alg": name, "kid": "rsa"}).encode())
            yield f"with the algorithm {name!r}", f"{header}.{payload}."
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        yield "HS256 with the public key", self._with_shared(payload, spki)
        pkcs1 = serialization.PublicFormat.PKCS1
        yield "HS256 with the public key as PKCS #1", self._with_shared(payload, pkcs1)

    def _with_shared(self, payload: str, form: serialization.PublicFormat) -> str:
        """Return a token signed with the public key as a shared secret (RFC 8725, 2.1)."""
        pem = self._key.public_key().public_bytes(serialization.Encoding.PEM, form)
        header = encoded(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
        text = f"{header}.{payload}"
        return f"{text}.{encoded(hmac.new(pem, text.encode(), hashlib.sha256).digest())}"


def _without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: own for key, own in claims.items() if key != name}
