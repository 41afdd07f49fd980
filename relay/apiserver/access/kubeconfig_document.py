"""A kubeconfig for this API, as ``relay kubeconfig`` prints it."""

from __future__ import annotations

import base64
from typing import Any, Final

import yaml

_NAME: Final = "relay"


def kubeconfig_document(url: str, ca: bytes, token: str, project: str = "") -> str:
    """Return a kubeconfig in YAML; ``project`` is "" without tenancy, ``ca`` a PEM, or empty.

    Without a CA the client's own authorities have to know the server.
    """
    server = f"{url}/projects/{project}" if project else url
    cluster: dict[str, Any] = {"server": server}
    if ca:
        cluster["certificate-authority-data"] = base64.b64encode(ca).decode()
    name = f"{_NAME}-{project}" if project else _NAME
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}
        ],
        "current-context": name,
    }
    return yaml.safe_dump(document, sort_keys=False)
