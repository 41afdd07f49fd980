"""Whatever a kubeconfig holds: access that can be used, or faults; never anything else."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from relay.control.kubernetes.access import Credentials
from relay.control.kubernetes.client import ApiClient, ClientTimings, WatchTarget
from relay.control.kubernetes.errors import UnreachableError
from relay.control.kubernetes.kubeconfig import read_kubeconfig
from relay.control.kubernetes.objects import ApiResource
from relay.runtime.errors import ConfigError, SecretError
from relay.sink.http.tls import TlsContexts
from tests.kit.examples import examples

TEXTS = st.text(max_size=12) | st.sampled_from(["c", "u", "x", "127.0.0.1", "Zm9v", "::1"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CLUSTER_FIELDS = (
    "certificate-authority",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    "tls-server-name",
)
USER_FIELDS = (
    "token",
    "tokenFile",
    "client-certificate-data",
    "client-key-data",
    "username",
    "password",
    "exec",
)
SERVERS = st.sampled_from(["http://127.0.0.1:1", "https://127.0.0.1:1/p"]) | TEXTS.map(
    lambda text: f"https://{text}"
)
CLUSTERS = st.builds(
    lambda server, more: {"server": server, **more},
    SERVERS,
    st.dictionaries(st.sampled_from(CLUSTER_FIELDS), TEXTS | VALUES, max_size=2),
)
USERS = st.dictionaries(st.sampled_from(USER_FIELDS), TEXTS | VALUES, max_size=2)


def document(cluster: object, user: object) -> dict[str, object]:
    return {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


@given(st.builds(document, CLUSTERS | VALUES, USERS | VALUES) | VALUES)
@examples(200)
def test_access_or_faults(content: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kubeconfig"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        try:
            access = read_kubeconfig(file)
        except ConfigError:
            return
        try:
            Credentials(access, TlsContexts(), lambda: 0.0).current()
        except SecretError:
            return
        if "127.0.0.1:1" in access.server:  # nobody listens there

            async def ask() -> None:
                timings = ClientTimings(connect_s=1, answer_s=1)
                async with ApiClient(access, timings=timings) as client:
                    await client.list_page(WatchTarget(ApiResource("", "v1", "pods", "Pod")))

            try:
                asyncio.run(ask())
            except UnreachableError:
                return
            raise AssertionError("there is no such server")
