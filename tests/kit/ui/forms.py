"""The fields of a form as a browser without scripts sends them."""

from __future__ import annotations

from html.parser import HTMLParser


class _Fields(HTMLParser):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._form = form
        self._is_within = False
        self._name = ""
        """Name of the control whose text or choice is read."""
        self._is_text = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._is_within = given.get("id", "") == self._form
        if not self._is_within:
            return
        name = given.get("name", "")
        if tag == "input" and name:
            if given.get("type") != "checkbox" or "checked" in given:
                self.found[name] = given.get("value", "")
        elif tag in ("select", "textarea"):
            self._name, self._is_text = name, tag == "textarea"
            self.found[name] = ""
        elif tag == "option" and self._name and "selected" in given:
            self.found[self._name] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_within = False
        elif tag in ("select", "textarea"):
            self._name, self._is_text = "", False

    def handle_data(self, data: str) -> None:
        if self._is_text and self._is_within:
            text = self.found[self._name] + data
            self.found[self._name] = text.removeprefix("\n")


def fields_of(html: str, form: str = "author") -> dict[str, str]:
    """Return the fields of a page's form by its id."""
    parser = _Fields(form)
    parser.feed(html)
    return parser.found
