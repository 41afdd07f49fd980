"""Credentials in headers, and never anywhere else."""

from __future__ import annotations

import base64

import pytest

from relay.config.exporter.types import Authentication, AuthenticationType, SecretRef
from relay.runtime.errors import SecretError
from relay.sink.http.credentials import SecretLookup, credential_headers, redact


def lookup(values: dict[str, str]) -> SecretLookup:
    def get(reference: SecretRef, default_key: str) -> str:
        key = reference.key or default_key
        if key not in values:
            raise SecretError(f"no key {key}")
        return values[key]

    return get


def headers(kind: AuthenticationType, values: dict[str, str], key: str = "") -> dict[str, str]:
    authentication = Authentication(kind, SecretRef("s", key), "X-Key" if kind == "apiKey" else "")
    return credential_headers(authentication, lookup(values))


def test_none() -> None:
    assert credential_headers(Authentication(), lookup({})) == {}


def test_bearer() -> None:
    assert headers("bearerToken", {"token": "abc"}) == {"Authorization": "Bearer abc"}
    assert headers("bearerToken", {"k": "abc"}, "k") == {"Authorization": "Bearer abc"}


def test_api_key() -> None:
    assert headers("apiKey", {"k": "abc"}, "k") == {"X-Key": "abc"}


@pytest.mark.parametrize(
    ("values", "key"),
    [({"username": "us", "password": "pä:ss"}, ""), ({"both": "us:pä:ss"}, "both")],
)
def test_basic(values: dict[str, str], key: str) -> None:
    value = headers("basicAuth", values, key)["Authorization"]
    assert base64.b64decode(value.removeprefix("Basic ")).decode() == "us:pä:ss"


@pytest.mark.parametrize("kind", ["bearerToken", "apiKey"])
@pytest.mark.parametrize(
    "bad",
    ["", "sesame\r\nX-Evil: 1", "sesame\n", "sesame\x00", "sésame", "sesame\u2028", " sesame"],
)
def test_values_that_no_header_can_carry(kind: AuthenticationType, bad: str) -> None:
    with pytest.raises(SecretError) as caught:
        headers(kind, {"k": bad}, "k")
    assert "same" not in str(caught.value)
    assert '"s"' in str(caught.value)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"both": "sesame"}, "both"),
        ({"both": "us:ses\name"}, "both"),
        ({"username": "u:ses", "password": "p"}, ""),
        ({"username": "u", "password": "ses\x7fame"}, ""),
        ({"username": "sesame"}, ""),
    ],
)
def test_bad_basic(values: dict[str, str], key: str) -> None:
    with pytest.raises(SecretError) as caught:
        headers("basicAuth", values, key)
    assert "ses" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("invalid token glc_abcdefghij!", "invalid token [redacted]!"),
        ("cut off: glc_abc", "cut off: glc_abc"),
        ("cut off: glc_abcdef", "cut off: [redacted]"),
        ("nothing here", "nothing here"),
        ("glc_abcdefghij glc_abcdefghij", "[redacted] [redacted]"),
    ],
)
def test_redact_bearer(text: str, expected: str) -> None:
    assert redact(text, {"Authorization": "Bearer glc_abcdefghij"}) == expected


def test_redact_every_spelling_of_basic() -> None:
    credentials = headers("basicAuth", {"username": "user", "password": "p4ss"})
    encoded = credentials["Authorization"].removeprefix("Basic ")
    text = redact(f"{encoded} user:p4ss p4ss", credentials)
    assert text == "[redacted] [redacted] [redacted]"


def test_redact_api_key_with_spaces() -> None:
    assert redact("bad key one two three", {"X-Key": "one two three"}) == "bad key [redacted]"
