"""What commands say of a running relay's refusals."""

from __future__ import annotations

import io

import msgspec
import pytest

from relay.cli.live.admin_client import events
from relay.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("project: is required: this relay has tenancy", "--project: is required: this relay"),
        ("sink: is required; default/web has a, b", "--sink: is required; default/web has a, b"),
        ("exporter: there is no exporter x", "exporter: there is no exporter x"),
        ("body: is too large", "--relay: body: is too large"),
        ("try again later", "--relay: try again later"),
    ],
)
def test_a_refusal_names_the_argument_that_it_is_about(message: str, said: str) -> None:
    line = msgspec.json.encode({"event": "error", "message": message})
    with pytest.raises(ConfigError) as caught:
        list(events(io.BytesIO(line + b"\n")))
    assert str(caught.value).startswith(said)
