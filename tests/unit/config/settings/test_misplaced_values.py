"""Settings that are a manifest, and addresses that are a port."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.settings.settings import load_settings
from relay.runtime.errors import ConfigError, Fault


def faults_of(path: Path, text: str) -> tuple[Fault, ...]:
    """The faults of settings with this text."""
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    return raised.value.faults


@pytest.mark.parametrize("port", ["9490", '"9490"'])
@pytest.mark.parametrize("setting", ["listen", "adminListen"])
def test_a_port_alone_gets_the_forms_that_are_accepted(
    tmp_path: Path, port: str, setting: str
) -> None:
    path = tmp_path / "relay.yaml"
    (fault,) = faults_of(path, f"{setting}: {port}\n")
    assert fault.text == (
        f'{setting}: must be host:port: write "127.0.0.1:9490", or ":9490" for every interface'
    )
    for form in ("127.0.0.1:9490", ":9490"):
        other = "adminListen" if setting == "listen" else "listen"
        path.write_text(f'{setting}: "{form}"\n{other}: ":9999"\n')
        assert load_settings(path)


@pytest.mark.parametrize("value", ["99999", "true", "1.5", "[9490]"])
def test_other_values_get_no_form_that_would_be_refused(tmp_path: Path, value: str) -> None:
    (fault,) = faults_of(tmp_path / "relay.yaml", f"listen: {value}\n")
    assert value == "99999" or "write" not in fault.message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "apiVersion: telemetry.datumapis.com/v1alpha1\nkind: Exporter\nspec: {sinks: 5}\n",
            "Exporter",
        ),
        ("kind: ConfigMap\n---\nkind: Exporter\n", "ConfigMap"),
        ("apiVersion: v1\n", "an object"),
        ("kind: [hunter2]\n", "an object"),
    ],
)
def test_a_manifest_in_place_of_settings_is_said_once(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "gateway.yaml"
    (fault,) = faults_of(path, text)
    assert fault.message == (
        f"this is a Kubernetes manifest ({what}), not settings: name the file in the settings, "
        f"exporters: [{{path: gateway.yaml}}], or with --exporters {path}"
    )
