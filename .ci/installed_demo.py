"""Run the demo of an installed relay, and read its pages meanwhile, as a browser would.

    python3 .ci/installed_demo.py RELAY

A customer signs in; what its first page names (styles, scripts, pictures) has to come with the
package, and the demo's ledger has to balance. Only the standard library is imported.
"""

from __future__ import annotations

import http.cookiejar
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterable
from urllib.parse import urljoin

SECONDS = "10"
TIMEOUT_S = 10.0
WANTED = {".css", ".js", ".svg"}


def access(lines: Iterable[str]) -> tuple[str, str]:
    """Return where the pages are and a customer's token, by what the demo says; show that."""
    pages = ""
    for line in lines:
        print(line, end="", flush=True)
        if found := re.search(r"http://\S+/ui/", line):
            pages = found[0]
        if found := re.match(r"  acme +(\S{32}) ", line):
            return pages, found[1]
    raise SystemExit("installed_demo: the demo does not say where the pages are")


def assets(pages: str, token: str) -> list[str]:
    """Sign in; return the addresses that the first page names. Raises HTTPError for a fault."""
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    )
    form = urllib.parse.urlencode({"token": token}).encode()
    origin = {"Origin": pages.removesuffix("/ui/")}
    request = urllib.request.Request(urljoin(pages, "login"), form, origin)
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        html = answer.read().decode()
    assert "Sign out" in html, html
    found = re.findall(r'<(?:link|script)\b[^>]*?\b(?:href|src)="([^"]+)"', html)
    return [urljoin(pages, one) for one in found]


def main() -> int:
    """Return the demo's exit status, 1 where a page lacks something."""
    command = [sys.argv[1], "demo", "--seconds", SECONDS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None, "a pipe was asked for"
        try:
            found = assets(*access(demo.stdout))
            sizes = {}
            for address in found:
                with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
                    sizes[address] = len(answer.read())
            kinds = {f".{address.rpartition('.')[2]}" for address in found}
            assert kinds == WANTED, sizes
            assert all(sizes.values()), sizes
        except BaseException:
            demo.kill()
            raise
        for line in demo.stdout:
            print(line, end="", flush=True)
    print(f"installed_demo: a customer's page came with {len(sizes)} files")
    return demo.returncode


if __name__ == "__main__":
    sys.exit(main())
