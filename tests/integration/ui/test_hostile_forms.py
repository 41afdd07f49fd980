"""Forms that no page of ours has sent: each is refused or shown, and costs nobody else anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.ui.compose import ROUTES
from tests.integration.ui.test_every_route import path_of
from tests.kit.apiserver.running import EDITOR, EXPORTERS, exporter
from tests.kit.ui.visitor import Visitor, local_pages

SINK: dict[str, Any] = {"name": "a", "otlp_http": {"endpoint": "https://a.example/"}}
DEEP = 10_000
SHAPES: tuple[Any, ...] = (
    5,
    [],
    {"metadata": 5},
    {"metadata": None, "spec": None},
    {"metadata": {"name": {}, "namespace": [], "labels": 7, "annotations": 5}},
    {"kind": 7, "apiVersion": [], "spec": []},
    {"spec": {"sinks": {"a": 1}, "sources": "x"}},
    {"spec": {"sinks": [5, None], "sources": [[]]}},
    {"spec": {"sinks": [{"otlp_http": 5}], "sources": [{"metrics": 5, "name": []}]}},
    {"spec": {"sinks": [{"name": {}, "otlp_http": {"endpoint": {}, "authentication": 5}}]}},
    {"spec": {"sinks": [{"otlp_http": {"authentication": {"type": [], "secretRef": 7}}}]}},
    {"spec": {"sinks": [{"name": 1, "otlp_http": {"headers": [1], "endpoint": 5}, "sources": 5}]}},
    {"spec": {"sinks": [SINK] * 1000}},
    {"spec": {"sinks": [{**SINK, "sources": ["x"] * 9000}]}},
    {"metadata": {"name": "{{7*7}}</textarea><script>", "namespace": "../../\r\nX: y"}},
)
TEXTS = (
    "[" * DEEP,
    "a: &a [1]\n" + "".join(f"b{n}: &b{n} [*a, *a, *a]\n" for n in range(300)),
    "!!python/object/apply:os.system ['id']",
    "a: 1\na: 2\n",
    "a: .inf\nb: 1e999\nc: " + "9" * 400,
    'a: "\\ud800"\n',
    "---\na: 1\n---\nb: 2\n",
    "spec: {sinks: [" + "{},\n" * 5000 + "]}",
    "\x00\ufeff\u202e",
)
RAW = (
    b"\xff\xfe",
    b"base=%ff",
    b"base=%ED%A0%80",
    b"&".join(b"f%d=1" % number for number in range(10_000)),
    b"base=" + b"x" * 1_000_000,
    b'--x\r\nContent-Disposition: form-data; name="base"\r\n\r\n{}\r\n--x--\r\n',
)
DO = ("save", "paste", "backend.grafana-cloud", "backend.none", "add-source", "remove-sink.0", "x")


def forms() -> list[dict[str, str]]:
    """Forms of every shape, as the object before and as text."""
    made = [{"base": "[" * DEEP + "]" * DEEP}, {"base": '{"a":' * 190 + "1" + "}" * 190}]
    for shape in SHAPES:
        text = json.dumps(shape)
        made += [{"base": text}, {"base": "{}", "text": text}]
    made += [{"base": "{}", "text": text} for text in TEXTS]
    return made


async def send_raw(visitor: Visitor, path: str, body: bytes) -> int:
    """Send a body as it is; return the code of the answer."""
    async with visitor._session.post(
        visitor.url + path,
        data=body,
        headers={"Origin": visitor.url, "Content-Type": "multipart/form-data; boundary=x"},
        ssl=visitor._ca,
        allow_redirects=False,
    ) as response:
        return response.status


async def test_no_form_is_a_bug_or_large(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        local_pages(tmp_path) as pages,
        pages.visitor(EDITOR) as visitor,
        pages.api() as admin,
    ):
        await admin.ask("POST", EXPORTERS, exporter("own"))
        before = pages.server.objects.version
        paths = [
            path_of(route.path, "", "own").replace("/projects/", "")
            for route in ROUTES
            if route.method == "POST" and "sinks" not in route.path
        ]
        for path in (path for path in paths if not path.endswith("delete")):
            is_written = path.endswith("new")
            for form in forms() if is_written else forms()[::3]:
                for do in DO if is_written and len(str(form)) < 500 else ("save",):
                    sent = {**form, "do": do, "sink": "0", "at": "9" * 9}
                    if do == "paste":
                        sent["snippet"] = "[" * DEEP
                    answer = await visitor.post(path, sent)
                    assert answer.status < 500, (path, do, str(form)[:200])
                    assert len(answer.text) < 300_000, (path, do, str(form)[:200])
                    assert "<script>" not in answer.text.replace("</textarea>", "")
            for body in RAW:
                assert await send_raw(visitor, path, body) < 500
        assert pages.server.objects.version == before
    assert not [one for one in caplog.records if "bug" in one.message]


async def test_what_a_page_keeps_of_a_text_comes_back(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        check = "/ui/exporters/new/check"
        for text, said in (
            ("spec: {sinks: [" + "{}," * 21 + "]}", "spec.sinks: must have at most 20 items"),
            ("metadata: [x]", "metadata: must be an object"),
            ("spec: {sources: [{}, x]}", "spec.sources[1]: must be an object"),
            ("a: [" + "1," * 6000 + "]", "must have at most 5000 values"),
        ):
            answer = await visitor.post(check, {"base": "{}", "text": text, "pane": "text"})
            assert said in answer.text
            assert text not in answer.text  # what was written stays in the browser
