"""Which endpoints go through the proxy, and what its settings refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.settings.proxy import Proxy
from relay.config.settings.settings import load_settings
from relay.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("host", "serves"),
    [
        ("otlp.example.com", True),
        ("collector.svc.cluster.local", False),
        ("cluster.local", False),
        ("Collector.Cluster.Local.", False),
        ("notcluster.local", True),
        ("otel.internal", False),
        ("x.otel.internal", True),
    ],
)
def test_excluded_hosts_are_reached_directly(host: str, serves: bool) -> None:
    proxy = Proxy("http://proxy:3128", exclude=(".cluster.local", "otel.internal"))
    assert proxy.serves(host) is serves


def test_the_section_is_read(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim\n")
    file = tmp_path / "relay.yaml"
    file.write_text(
        "proxy:\n  url: http://proxy.example.com:3128\n  username: relay\n"
        "  passwordFile: password\n  exclude: [.Cluster.Local]\n"
    )
    assert load_settings(file).proxy == Proxy(
        "http://proxy.example.com:3128",
        "relay",
        "geheim",
        tmp_path / "password",
        (".cluster.local",),
    )


@pytest.mark.parametrize(
    ("section", "path", "words"),
    [
        ("{}", "proxy.url", "is required"),
        ("{url: 'https://proxy:3128'}", "proxy.url", "http://"),
        ("{url: 'http://user:word@proxy:3128'}", "proxy.url", "credentials"),
        ("{url: 'http://proxy:3128/path'}", "proxy.url", "http://host:port"),
        ("{url: 'http://proxy:port'}", "proxy.url", "is not a URL"),
        ("{url: 'http://p:1', password: x}", "proxy.username", "required"),
        ("{url: 'http://p:1', username: 'a:b'}", "proxy.username", "':'|\":\""),
        ("{url: 'http://p:1', exclud: []}", "proxy.exclud", "exclude"),
    ],
)
def test_faults_name_the_setting(tmp_path: Path, section: str, path: str, words: str) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(f"proxy: {section}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(file)
    assert path in [fault.path for fault in caught.value.faults]
