"""The section ``api`` of the settings."""

from __future__ import annotations

from pathlib import Path

from relay.config.settings.api import ApiAuthentication, ApiSettings, OidcSettings
from relay.config.settings.lint import notices
from relay.config.settings.settings import ListenAddress, ServerTls, Settings, load_settings


def settings_of(folder: Path, text: str) -> Settings:
    """The settings of a text, in a folder with the files that it names."""
    for name in ("tokens.yaml", "api.crt", "api.key", "keys", "jwks.json"):
        (folder / name).touch()
    (folder / "relay.yaml").write_text(text)
    return load_settings(folder / "relay.yaml")


def test_storage_gives_the_database_a_place(tmp_path: Path) -> None:
    text = "storage: {path: data}\napi: {authentication: {type: tokens, file: tokens.yaml}}\n"
    settings = settings_of(tmp_path, text)
    api = settings.api
    assert api == ApiSettings(
        tmp_path / "data/api.db",
        authentication=ApiAuthentication("tokens", tmp_path / "tokens.yaml"),
    )
    assert api is not None
    assert str(api.listen) == "127.0.0.1:9492"
    assert api.directory == tmp_path / "data/api-pki"
    assert not any("nothing will be exported" in one for one in notices(settings, {}))


def test_every_setting_is_read(tmp_path: Path) -> None:
    text = """
api:
  listen: :1
  httpListen: localhost:2
  path: sub/objects.db
  tls: {certFile: api.crt, keyFile: api.key}
  hostnames: [relay.example.com, 10.0.0.7]
  encryptionKeyFile: keys
  authentication:
    type: oidc
    oidc:
      issuer: https://issuer.example
      jwksFile: jwks.json
      audience: telemetry
      userClaim: email
      projectsClaim: groups
      roleClaim: relay_role
      clientId: page
"""
    assert settings_of(tmp_path, text).api == ApiSettings(
        tmp_path / "sub/objects.db",
        ListenAddress("", 1),
        ListenAddress("localhost", 2),
        ServerTls(tmp_path / "api.crt", tmp_path / "api.key"),
        ("relay.example.com", "10.0.0.7"),
        tmp_path / "keys",
        ApiAuthentication(
            "oidc",
            None,
            OidcSettings(
                "https://issuer.example",
                "telemetry",
                "",
                tmp_path / "jwks.json",
                "email",
                "groups",
                "relay_role",
                "page",
            ),
        ),
    )
