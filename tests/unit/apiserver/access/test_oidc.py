"""Tokens of an issuer: signatures of every algorithm, claims, times, and keys that change."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from relay.apiserver.access.json_web_tokens import (
    KeySetError,
    TokenInvalidError,
    UnknownKeyError,
    read_keys,
    verified_claims,
)
from relay.apiserver.access.oidc import (
    LEEWAY_S,
    LOG_S,
    REFRESH_S,
    UNKNOWN_KEY_S,
    KeySource,
    OidcAuthentication,
    key_source,
)
from relay.config.settings.api import OidcSettings
from relay.runtime.errors import ConfigError
from tests.kit.apiserver.issuer import encoded, jwks, number, public, signed_token
from tests.kit.http.closing import clean_up
from tests.own_time import patience

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
EC384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
NOW = 1_800_000_000.0
CLAIMS: dict[str, Any] = {
    "iss": "https://issuer.example",
    "aud": "relay",
    "exp": NOW + 60,
    "sub": "ann",
    "projects": ["acme"],
    "role": "editor",
}
SETTINGS = OidcSettings("https://issuer.example", "relay")


KEYS = read_keys(
    jwks(public("rsa", RSA), public("ec", EC), public("ec384", EC384), public("ed", ED))
)


def token(
    claims: dict[str, Any], algorithm: str = "RS256", kid: str = "rsa", key: Any = RSA, **more: Any
) -> str:
    return signed_token(claims, key, algorithm, kid, **more)


@pytest.mark.parametrize(
    ("algorithm", "kid", "key"),
    [
        ("RS256", "rsa", RSA),
        ("RS512", "rsa", RSA),
        ("PS384", "rsa", RSA),
        ("ES256", "ec", EC),
        ("ES384", "ec384", EC384),
        ("EdDSA", "ed", ED),
    ],
)
def test_signatures(algorithm: str, kid: str, key: Any) -> None:
    made = token(CLAIMS, algorithm, kid, key)
    assert verified_claims(made, KEYS) == CLAIMS
    head, payload, sign = made.split(".")
    other = encoded(json.dumps({**CLAIMS, "role": "admin"}).encode())
    for altered in (f"{head}.{other}.{sign}", f"{head}.{payload}.{sign[:-8]}AAAAAAAA"):
        with pytest.raises(TokenInvalidError):
            verified_claims(altered, KEYS)


def test_a_public_key_is_no_shared_secret() -> None:
    header = encoded(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
    signed = f"{header}.{encoded(json.dumps(CLAIMS).encode())}"
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    with pytest.raises(TokenInvalidError, match="algorithm"):
        verified_claims(f"{signed}.{encoded(forged)}", KEYS)
    none = encoded(json.dumps({"alg": "none", "kid": "rsa"}).encode())
    with pytest.raises(TokenInvalidError, match="algorithm"):
        verified_claims(f"{none}.{signed.partition('.')[2]}.", KEYS)


def test_what_is_no_token() -> None:
    good = token(CLAIMS)
    for wrong in ("", "a.b", "a.b.c.d", "....", f"{good}=", f"!{good}", "e30.e30.", "W10.e30.AA"):
        with pytest.raises(TokenInvalidError):
            verified_claims(wrong, KEYS)
    with pytest.raises(TokenInvalidError, match="characters"):
        verified_claims("x" * 20_000, KEYS)
    with pytest.raises(TokenInvalidError, match="extensions"):
        verified_claims(token(CLAIMS, crit=["b64"]), KEYS)
    with pytest.raises(UnknownKeyError):
        verified_claims(token(CLAIMS, kid="other"), KEYS)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"keys":{}}', "must be a list"),
        (b'{"keys":[]}', "no key for signatures"),
        (jwks(public("x", RSA, use="enc")), "no key for signatures"),
        (jwks(public("x", EC, x="!")), r"keys\[0\]: x is not base64url"),
        (jwks(public("x", EC, x="AA")), r"keys\[0\]"),
        (jwks(public("x", RSA, n=number((1 << 1023) + 1))), "1024 bits; 2048 are needed"),
        (b" " * 300_000, "more than"),
    ],
)
def test_what_is_no_key_set(document: bytes, said: str) -> None:
    with pytest.raises(KeySetError, match=said):
        read_keys(document)


class Issuer:
    """Keys that can be replaced and that can be away."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.document = jwks(*keys)
        self.asked = 0
        self.is_away = False
        self.answers: asyncio.Event | None = None
        self.now = 0.0

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.is_away:
            raise OSError("away")
        if self.answers is not None:
            await self.answers.wait()
        return self.document

    def authentication(self) -> OidcAuthentication:
        source = KeySource(self.fetch, lambda: self.now)
        return OidcAuthentication(SETTINGS, source, lambda: NOW)


async def user(authentication: OidcAuthentication, text: str) -> Any:
    return await authentication.principal(f"Bearer {text}")


async def test_claims_tell_the_user() -> None:
    found = await user(Issuer(public("rsa", RSA)).authentication(), token(CLAIMS))
    assert (found.user, found.projects, found.role) == ("ann", {"acme"}, "editor")
    spaced = token({**CLAIMS, "aud": ["other", "relay"], "projects": "a b"})
    found = await user(Issuer(public("rsa", RSA)).authentication(), spaced)
    assert found.projects == {"a", "b"}


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://other.example"},
        {"aud": "other"},
        {"aud": None},
        {"exp": NOW - 31},
        {"exp": None},
        {"exp": True},
        {"nbf": NOW + 31},
        {"sub": ""},
        {"sub": 5},
        {"role": "root"},
        {"projects": []},
        {"projects": None},
        {"projects": ["A_B"]},
        {"projects": [["acme"]]},
    ],
)
async def test_claims_that_are_refused(change: dict[str, Any]) -> None:
    authentication = Issuer(public("rsa", RSA)).authentication()
    assert await user(authentication, token({**CLAIMS, **change})) is None
    assert await authentication.principal(None) is None


async def test_a_new_key_is_learned_and_an_old_one_kept() -> None:
    issuer = Issuer(public("rsa", RSA))
    authentication = issuer.authentication()
    assert await user(authentication, token(CLAIMS)) is not None
    rotated = token(CLAIMS, "ES256", "ec", EC)
    issuer.document = jwks(public("ec", EC))
    assert await user(authentication, rotated) is None  # asked a moment ago
    assert issuer.asked == 1
    issuer.now += UNKNOWN_KEY_S
    assert await user(authentication, rotated) is not None
    assert issuer.asked == 2
    issuer.is_away = True
    issuer.now += 10_000
    assert await user(authentication, rotated) is not None
    await asyncio.sleep(0)
    assert issuer.asked == 3


async def test_an_issuer_that_does_not_answer_holds_up_nobody() -> None:
    issuer = Issuer(public("rsa", RSA))
    authentication = issuer.authentication()
    assert await user(authentication, token(CLAIMS)) is not None
    issuer.answers = asyncio.Event()
    issuer.now += REFRESH_S
    unknown = asyncio.create_task(user(authentication, token(CLAIMS, "ES256", "ec", EC)))
    async with patience(5):
        for _ in range(100):
            assert await user(authentication, token(CLAIMS)) is not None
            await asyncio.sleep(0)
        assert not unknown.done()
        assert issuer.asked == 2
        issuer.document = jwks(public("ec", EC))
        issuer.answers.set()
        assert await unknown is not None
        assert await user(authentication, token(CLAIMS)) is None  # its key was withdrawn


async def test_clocks_may_differ_a_little() -> None:
    authentication = Issuer(public("rsa", RSA)).authentication()
    for change in ({"exp": NOW - LEEWAY_S + 1}, {"nbf": NOW + LEEWAY_S - 1}):
        assert await user(authentication, token({**CLAIMS, **change})) is not None


async def test_without_tenancy_projects_are_not_needed() -> None:
    source = KeySource(Issuer(public("rsa", RSA)).fetch, lambda: 0.0)
    authentication = OidcAuthentication(SETTINGS, source, lambda: NOW, tenancy=False)
    for projects in (None, "", [], "A_B"):
        found = await user(authentication, token({**CLAIMS, "projects": projects}))
        assert found.may_enter("")


async def test_refusals_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [NOW]
    source = KeySource(Issuer(public("rsa", RSA)).fetch, lambda: 0.0)
    authentication = OidcAuthentication(SETTINGS, source, lambda: now[0])
    for _ in range(1000):
        assert await user(authentication, "a.b.c") is None
    now[0] += LOG_S
    assert await user(authentication, "a.b.c") is None
    assert [vars(one)["unlogged"] for one in caplog.records] == [0, 999]


async def test_keys_of_a_file_and_of_an_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "jwks.json"
    settings = OidcSettings("https://issuer.example", "relay", jwks_file=file)
    with pytest.raises(ConfigError, match="No such file"):
        key_source(settings, lambda: 0.0)
    file.write_bytes(b"{}")
    with pytest.raises(ConfigError, match="not a JSON object with keys"):
        key_source(settings, lambda: 0.0)
    file.write_bytes(jwks(public("rsa", RSA)))
    assert set(await key_source(settings, lambda: 0.0).keys()) == {"rsa"}

    async def serve(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=file.read_bytes())

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    settings = OidcSettings("i", "a", jwks_uri=f"http://127.0.0.1:{port}/keys")
    assert set(await key_source(settings, lambda: 0.0).keys()) == {"rsa"}
    await clean_up(runner)
    assert dict(await key_source(settings, lambda: 0.0).keys()) == {}
    said = f"http://127.0.0.1:{port}/keys: cannot be reached: Connection refused"
    assert caplog.messages == [f"the issuer's keys cannot be read: {said}"]
