"""A sink and its credential, as read from a snippet; what all snippets share. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from relay.ui.authoring.backends import backend_of_url

SECRET_HEADER: Final = re.compile(r"(?i)(auth|key|token|secret|password|credential|team)")
"""Headers whose value is taken for a credential."""
NOT_SECRET: Final = frozenset({"x-honeycomb-dataset", "x-scope-orgid"})
_PLACEHOLDER: Final = re.compile(
    r"\$\{?[\w:.-]+\}?|<[^<>]*>|\[[^\]]*\]|x{3,}|\*{3,}|(?i:your|my)[-_ ].*|(?i:changeme)"
)
_KEY_WORDS: Final = {
    "username": "user",
    "password": "password",
    "token": "token",
    "apiKey": "key",
}
_NAME: Final = re.compile(r"[^a-z0-9]+")
NAME_CHARS_MAX: Final = 40


@dataclass(slots=True)
class PastedSink:
    """A sink without its name: ``endpoint`` is the value of its field ``kind``.

    ``credential`` are the keys of its Secret; a value that the snippet leaves open is "". ``notes``
    say what of the snippet was not taken.
    """

    kind: str
    endpoint: dict[str, Any] = field(default_factory=dict)
    credential: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    name: str = ""

    def note(self, text: str) -> None:
        """Add a note once."""
        if text not in self.notes:
            self.notes.append(text)

    def note_left_out(
        self, given: Mapping[str, Any], left_out: Mapping[str, str], known: Collection[str]
    ) -> None:
        """Note what is given and not taken: ``left_out`` has notes by key, ``known`` is taken."""
        for key, text in left_out.items():
            if key in given:
                self.note(text)
        for key in given:
            if key not in known:
                self.note(f"{str(key)[:60]} was not understood and left out")

    def sign_with(self, type_: str, credential: Mapping[str, str], header: str = "") -> None:
        """Set the authentication; what is a placeholder is left open."""
        if "authentication" in self.endpoint:
            self.note("more than one way to authenticate: the first was taken")
            return
        self.endpoint["authentication"] = {"type": type_}
        if header:
            self.endpoint["authentication"]["header"] = header
        self.credential = {
            key: "" if is_placeholder(text) else text for key, text in credential.items()
        }
        for key, text in credential.items():
            if text.strip() and not self.credential[key]:
                self.note(
                    f"{_KEY_WORDS[key]}: {_shown(text.strip())} stands for it: enter it below"
                )

    def sink(self) -> dict[str, Any]:
        """Return the sink with a name, that of its backend or host, and its Secret."""
        name = self.name or sink_name(str(self.endpoint.get("endpoint", "")))
        endpoint = dict(self.endpoint)
        backend = backend_of_url(str(endpoint.get("endpoint", "")))
        if backend is not None and backend.kind == self.kind and backend.profile:
            endpoint["profile"] = backend.profile
        if "authentication" in endpoint:
            endpoint["authentication"] = {
                **endpoint["authentication"],
                "secretRef": {"name": name},
            }
        return {"name": name, self.kind: endpoint}


def _shown(placeholder: str) -> str:
    """Return a placeholder, unless it may be a value after all."""
    return placeholder[:60] if placeholder[0] in "$<[" else "a placeholder"


def take_url(pasted: PastedSink, url: str) -> str:
    """Return an endpoint without its user and password, which are the credential if there is none.

    An endpoint is shown to everybody who may read the exporter.
    """
    start, _, rest = url.partition("//")
    authority, slash, path = rest.partition("/")
    user_info, at, host = authority.rpartition("@")
    if not at:
        return url
    user, _, password = user_info.partition(":")
    if "authentication" not in pasted.endpoint:
        credential = {"username": unquote(user), "password": unquote(password)}
        pasted.sign_with("basicAuth", credential)
    return f"{start}//{host}{slash}{path}"


def is_placeholder(text: str) -> bool:
    """Return True for a value that stands for one to be filled in."""
    return not text.strip() or _PLACEHOLDER.fullmatch(text.strip()) is not None


def sink_name(url: str) -> str:
    """Return a name for a sink by its endpoint: its backend's, or of its host."""
    backend = backend_of_url(url)
    if backend is not None:
        return backend.key
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if host.replace(".", "").isdigit() or ":" in host:
        return "collector"
    labels = [one for one in host.split(".") if one not in ("www", "api", "otlp", "com", "net")]
    name = _NAME.sub("-", "-".join(labels[:2]).lower()).strip("-")[:NAME_CHARS_MAX].strip("-")
    return name or "backend"


def sign_by_header(pasted: PastedSink, name: str, value: str) -> bool:
    """Take a header for the authentication if it is one; return whether it was."""
    if name.lower() == "authorization":
        scheme, _, rest = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            pasted.sign_with("bearerToken", {"token": rest.strip()})
        elif scheme.lower() == "basic":
            user, password = _user_and_password(rest.strip())
            pasted.sign_with("basicAuth", {"username": user, "password": password})
        else:
            pasted.sign_with("apiKey", {"apiKey": value.strip()}, "Authorization")
        return True
    if name.lower() in NOT_SECRET or not SECRET_HEADER.search(name):
        return False
    pasted.sign_with("apiKey", {"apiKey": value.strip()}, name)
    return True


def _user_and_password(encoded: str) -> tuple[str, str]:
    """Return the parts of a basic credential, "" for what cannot be read."""
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    user, _, password = text.partition(":")
    return user, password


def take_headers(pasted: PastedSink, headers: Mapping[str, Any]) -> None:
    """Take headers: credentials into the Secret, the others as they are."""
    kept = {
        name: str(value)
        for name, value in headers.items()
        if not sign_by_header(pasted, name, str(value))
    }
    if kept:
        pasted.endpoint["headers"] = kept


def take_tls(pasted: PastedSink, tls: object) -> None:
    """Take what a Secret is not needed for, and note the files, which are not here."""
    if not isinstance(tls, Mapping):
        return
    made: dict[str, Any] = {}
    name = tls.get("server_name") or tls.get("server_name_override")
    if isinstance(name, str) and name:
        made["serverName"] = name
    if tls.get("insecure_skip_verify") is True:
        made["insecureSkipVerify"] = True
    for key in ("ca_file", "cert_file", "key_file", "ca", "cert", "key", "ca_pem", "cert_pem"):
        if tls.get(key):
            pasted.note(f"tls {key}: certificates come from a Secret: see tls in the reference")
    if made:
        pasted.endpoint["tls"] = made
