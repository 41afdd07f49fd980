"""Access of the demo's customers to the relay's own API: a token and a kubeconfig for each.

The operator has a token for the pages.

Tokens are made anew at each start; every file with one has mode 0600.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from relay.apiserver.access.certificates import CA_FILE
from relay.apiserver.access.kubeconfig_document import kubeconfig_document
from relay.cli.usage import UsageError
from relay.config.settings.addresses import ListenAddress
from relay.config.settings.api import ApiSettings

ROLE: Final = "editor"
OPERATOR: Final = "operator"
"""An admin of every project."""
TOKEN_BYTES: Final = 24

_PRIVATE_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Addresses of the API, with TLS and without, the users' tokens, and what is for readers.

    ``directory`` holds ``<customer>.kubeconfig``, and a folder of manifests to write.
    """

    listen: ListenAddress
    http_listen: ListenAddress
    tokens: Mapping[str, str]
    directory: Path

    @property
    def customers(self) -> Mapping[str, str]:
        """Tokens of the customers."""
        return {name: token for name, token in self.tokens.items() if name != OPERATOR}

    def kubeconfig(self, customer: str) -> Path:
        """Return the path of a customer's kubeconfig."""
        return self.directory / f"{customer}.kubeconfig"

    def write_kubeconfigs(self, settings: ApiSettings) -> None:
        """Write a kubeconfig for each customer, with the authority that the relay has made."""
        ca = (settings.directory / CA_FILE).read_bytes()
        for customer, token in self.customers.items():
            document = kubeconfig_document(f"https://{self.listen}", ca, token, customer)
            write_private(self.kubeconfig(customer), document)


def make_tokens(customers: tuple[str, ...]) -> dict[str, str]:
    """Return a random token for each customer, and one for the operator."""
    return {name: secrets.token_urlsafe(TOKEN_BYTES) for name in (*customers, OPERATOR)}


def users_document(tokens: Mapping[str, str]) -> str:
    """Return the file of ``api.authentication.file``."""
    users = [
        {"token": token, "user": OPERATOR, "projects": ["*"], "role": "admin"}
        if name == OPERATOR
        else {"token": token, "user": name, "projects": [name], "role": ROLE}
        for name, token in tokens.items()
    ]
    return yaml.safe_dump(users, sort_keys=False)


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, also where it was there before."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_MODE)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), _PRIVATE_MODE)
        file.truncate()
        file.write(text)


def hand_out(manifests: Path, directory: Path) -> None:
    """Copy a folder of manifests into a directory, which is made where it is missing.

    Raise UsageError if the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copytree(manifests, directory / manifests.name, dirs_exist_ok=True)
    except OSError as error:
        raise UsageError("--directory", f"{directory}: {error.strerror}") from error
