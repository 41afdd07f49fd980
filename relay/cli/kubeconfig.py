"""Implement ``relay kubeconfig``."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from relay.apiserver.access.certificates import CA_FILE
from relay.apiserver.access.kubeconfig_document import kubeconfig_document
from relay.apiserver.access.tokens import read_tokens
from relay.apiserver.compose import AUTHENTICATION
from relay.cli.usage import UsageError
from relay.config.settings.api import ApiSettings
from relay.config.settings.settings import ListenAddress, load_settings
from relay.runtime.errors import ConfigError, Fault

_EVERY_INTERFACE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def add_kubeconfig_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``relay kubeconfig``."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="settings with the section api"
    )
    parser.add_argument("--project", default="", help="the project; with tenancy, and only then")
    parser.add_argument(
        "--token", default="", help="the user's token; not with api.authentication.type: none"
    )
    parser.add_argument(
        "--server",
        default="",
        metavar="URL",
        help="https://HOST[:PORT] for clients, where api.listen and api.hostnames do not tell it",
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="the authority of api.tls, or of a proxy, that clients do not know by themselves, PEM",
    )


def run_kubeconfig(arguments: argparse.Namespace) -> int:
    """Print a kubeconfig for the API of the settings; return the exit status."""
    settings = load_settings(arguments.config)
    api, project = settings.api, str(arguments.project)
    if api is None:
        raise ConfigError([Fault("api", "is required", str(arguments.config))])
    if settings.tenancy is not None and not project:
        raise UsageError("--project", "is required with tenancy")
    if settings.tenancy is None and project:
        raise UsageError("--project", "only has a meaning with tenancy")
    if api.authentication.type != "none" and not arguments.token:
        kind = api.authentication.type
        raise UsageError("--token", f"is required with api.authentication.type: {kind}")
    if api.authentication.file is not None:
        tenancy = settings.tenancy is not None
        _check_user(api.authentication.file, str(arguments.token), project, tenancy=tenancy)
    if not api.listen.port:
        raise ConfigError(
            [Fault("api.listen", "has port 0, which is another at each start: set one")]
        )
    # kubectl needs some user, also where the API does not ask for one.
    token = arguments.token or "none"
    ca = _authority_in(arguments.ca) if arguments.ca is not None else _authority_of(api)
    url = _checked(arguments.server) if arguments.server else _url_of(api)
    print(kubeconfig_document(url, ca, token, project), end="")
    return 0


def _checked(server: str) -> str:
    """Return the address of a server without a path; kubectl sends no token by plain HTTP."""
    url = server.rstrip("/")
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_address = False
    if not is_address or url != f"https://{parts.netloc}" or parts.username is not None:
        raise UsageError("--server", "must be https://HOST or https://HOST:PORT")
    return url


def _authority_in(path: Path) -> bytes:
    """Return the certificates of a file; raise UsageError for a file without."""
    try:
        content = path.read_bytes()
        x509.load_pem_x509_certificates(content)
    except OSError as error:
        raise UsageError("--ca", f"{path}: {error.strerror}") from error
    except ValueError:
        raise UsageError("--ca", f"{path} is no certificate in PEM") from None
    return content


def _check_user(file: Path, token: str, project: str, *, tenancy: bool) -> None:
    """Raise UsageError for a token that no user has, or a project that its user does not have."""
    users = read_tokens(file, f"{AUTHENTICATION}.file", tenancy=tenancy)
    user = asyncio.run(users.principal(f"Bearer {token}"))
    if user is None:
        raise UsageError("--token", f"is not in {file}: add it there, or take one that is")
    if project and not user.may_enter(project):
        named = ", ".join(sorted(user.projects))
        raise UsageError("--project", f"{user.user} of {file} has no {project}, but {named}")


def _url_of(api: ApiSettings) -> str:
    host = api.listen.host
    if host in _EVERY_INTERFACE:
        host = api.hostnames[0] if api.hostnames else "localhost"
    return f"https://{ListenAddress(host, api.listen.port)}"


def _authority_of(api: ApiSettings) -> bytes:
    """Return the authority that the relay has made; empty with the operator's certificate."""
    if api.tls is not None:
        return b""
    path = api.directory / CA_FILE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        message = f"there is no {path} yet: start the relay, which makes it"
        raise ConfigError([Fault("api.tls", message)]) from None
    except OSError as error:
        raise ConfigError([Fault("api.tls", f"{path}: {error.strerror}")]) from error
