"""URLs that the sinks' client reads itself are to yarl what they are to it."""

from __future__ import annotations

from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from relay.sink.http.request_head import _any_url, _plain_url

HOSTS: Final = st.from_regex(r"[a-z0-9.\-]{1,12}", fullmatch=True) | st.sampled_from(
    [
        "localhost",
        "127.0.0.1",
        "otlp.example.com",
        "1.2",
        "0x7f.1",
        "Example.com",
        "xn--bcher-kva.x",
    ]
)
PORTS: Final = st.sampled_from(["", ":80", ":443", ":4318", ":0", ":", ":65535", ":65536", ":080"])
CHARS: Final = "azAZ09-._~%!$&'()*+,;=:@/"
PATHS: Final = st.just("") | st.text(CHARS, max_size=8).map("/".__add__)
QUERIES: Final = st.just("") | st.text(CHARS + "?", max_size=8).map("?".__add__)


@given(st.sampled_from(["http", "https"]), HOSTS, PORTS, PATHS, QUERIES)
@example("https", "h", ":80", "", "?a=%zz&b=+")
@example("http", "h", "", "//a/../b/./%2e%2E", "")
@example("http", "h", "", "", "??")
def test_a_plain_url_has_the_parts_that_yarl_finds(
    scheme: str, host: str, port: str, path: str, query: str
) -> None:
    text = f"{scheme}://{host}{port}{path}{query}"
    found = _plain_url(text)
    if found is not None:
        assert found == _any_url(text)
    else:
        assert not text.startswith(("http://localhost:4318", "https://127.0.0.1:65535"))


def test_usual_endpoints_are_plain() -> None:
    for text in ("http://127.0.0.1:4318/v1/logs", "https://otlp.example.com/v1/metrics?x=y"):
        assert _plain_url(text) is not None
