"""Render templates, and answer with the headers that every page has.

Everything that a template puts out is escaped, and invisible characters of it are written out.
Values of controls are escaped alone (``as_is``): a form has to send back what it was given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from relay.control.kubernetes.status_body import written_time
from relay.runtime.excerpt import clipped
from relay.ui.static_files import StaticFiles
from relay.ui.views import quantities
from relay.ui.views.texts import visible

_FOLDER: Final = Path(__file__).parent / "templates"
_PACKED_BYTES_MIN: Final = 1024
_UNFIT: Final = re.compile(r"\W")
"""Characters that an id of an element has not, so that it needs no escapes in selectors."""
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
HEADERS: Final = {
    "Server": "relay",
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Rendering:
    """Renders templates; ``clock`` is the wall clock, s. Blocks while it is made."""

    def __init__(self, static: StaticFiles, clock: Callable[[], float] = time.time) -> None:
        environment = self._environment = Environment(
            loader=FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_finalized,
        )
        environment.globals.update(asset=static.address)
        environment.filters.update(
            count=quantities.count,
            rate=quantities.rate,
            whole=quantities.whole,
            duration=quantities.duration,
            bytes=quantities.bytes_,
            share=lambda pair: quantities.share(*pair),
            ago=lambda at: quantities.ago(None if at is None else max(0.0, clock() - at)),
            as_is=escape,
            clip=clipped,
            ident=lambda path: _UNFIT.sub("-", path),
            utc=written_time,
        )

        for name in environment.list_templates():
            environment.get_template(name)  # compiled now, not for the first visitor

    def __repr__(self) -> str:
        return "<Rendering>"

    def text(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a template as text."""
        return self._environment.get_template(template).render(values)

    def fragment(self, template: str, block: str, values: Mapping[str, Any]) -> str:
        """Return one block of a template as text."""
        found = self._environment.get_template(template)
        context = found.new_context(dict(values))
        return "".join(found.blocks[block](context))

    def answer(self, text: str, *, status: int = 200) -> web.Response:
        """Return an answer with HTML."""
        response = web.Response(
            text=text, status=status, content_type="text/html", charset="utf-8", headers=HEADERS
        )
        if len(text) >= _PACKED_BYTES_MIN:
            response.enable_compression()
        return response


def _finalized(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def redirect(location: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer that leads to another page, to be read with GET."""
    return web.Response(status=303, headers={**HEADERS, **(headers or {}), "Location": location})
