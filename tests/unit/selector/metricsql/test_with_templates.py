"""WITH templates: what they become, what is refused, and that none can grow without bound."""

from __future__ import annotations

import time

import pytest

from relay.runtime.errors import SelectorError
from relay.selector.evaluate import render_selector
from relay.selector.metricsql.parser import parse_selector
from relay.selector.metricsql.with_templates import DEFINITIONS_MAX
from tests.own_time import slowness


def expanded(text: str) -> str:
    return render_selector(parse_selector(text))


def fault(text: str) -> SelectorError:
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('WITH (x={a="b"}) foo{x,c="d"}', '{__name__="foo",a="b",c="d"}'),
        ('WITH (p="x", s=p+"y") {a="<"+s+">"}', '{a="<xy>"}'),
        ('WITH (x="a", v=x+"b") {c=v}', '{c="ab"}'),
        ('WITH (f(v,w)={a=v,b=w}) f("1", "2")', '{a="1",b="2"}'),
        ('WITH (f(v)={a=v}, g(v)=f("<"+v)) g("x")', '{a="<x"}'),
        ('WITH (f(x)=m{x,c="d"}) f({a="b"})', '{__name__="m",a="b",c="d"}'),
        ('WITH (x={a="b" or c="d"}) x{e="f"}', '{a="b",e="f" or c="d",e="f"}'),
        ('WITH (x=foo{a="b"}) x{c="d" or e="f"}', None),
        ('WITH (x=WITH (y={a="b"}) {y}) foo{x}', '{__name__="foo",a="b"}'),
        ('WITH (x={a="1"}) WITH (x={a="2"}) foo{x}', '{__name__="foo",a="2"}'),
        ('WITH (x={a="1"}) WITH (y={x}, x={a="2"}) foo{y}', '{__name__="foo",a="1"}'),
        ('with (x={a="b"},) x', '{a="b"}'),
        ("WITH () foo", '{__name__="foo"}'),
        ('WITH (f()={a="b"}) f()', '{a="b"}'),
        ('WITH (f("v",)={a=v}) f("q",)', '{a="q"}'),
        ("WITH (x=x) x", '{__name__="x"}'),
        ('WITH (f(v)={a=v}) f{b="c"}', '{__name__="f",b="c"}'),
        ('WITH (x=({a="b"})) x', '{a="b"}'),
        ('WITH (r\\-s="t") {a=r\\-s}', '{a="t"}'),
        # What the selector does not need may be any MetricsQL.
        ('WITH (r=rate(x[5m:1m] offset 1h) > bool 5, a={b="c"}) m{a}', '{__name__="m",b="c"}'),
        ('WITH (n=1, s=sum(x) by (y) keep_metric_names, m=-1+2) {a="b"}', '{a="b"}'),
        ('WITH (f(v,w)={a=v}) f("1", sum(x{y="z"}[5m]))', '{a="1"}'),
    ],
)
def test_expansion(text: str, result: str | None) -> None:
    if result is None:
        result = '{__name__="foo",a="b",c="d" or __name__="foo",a="b",e="f"}'
    assert expanded(text) == result


def test_a_condition_on_everything_stays_a_condition() -> None:
    # metricsql v0.87 loses a="b" here and selects everything.
    assert expanded('WITH (x={}) x{a="b"}') == '{a="b"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("WITH (x={y}, y={}) {x}", "no template y"),
        ('{a="b"+c}', "no template c"),
        ('WITH (a="foo") {a}', "is a string"),
        ('WITH (x={a="b"}) {a=x}', "is a selector, not a string"),
        ("WITH (x=5) {a=x}", "is the number 5, not a string"),
        ('WITH (x=("s","t")) {a=x}', "is a list of 2"),
        ("WITH (x=foo) {x}", "metric name"),
        ('WITH (x={a="b" or c="d"}) {x}', '"or"'),
        ('WITH (x={a="b" or c="d"}) x{e="f" or g="h"}', "both contain"),
        ('WITH (x="s") x{a="b"}', "not a selector"),
        ("WITH (f(v)={a=v}) f()", "given 0 of 1 arguments"),
        ('WITH (x={a="b"}) x(foo)', "given 1 of 0 arguments"),
        ("WITH (x=a, x=b) x", "defined twice"),
        ("WITH (f(v,v)={a=v}) f(1)", "same name"),
        ("WITH (f(5)={}) f(1)", "expected a parameter"),
        ('WITH (f("")={}) f(1)', "expected a parameter"),
        ("WITH (5=x) foo", "name of a template"),
        ("WITH (x) foo", "expected ="),
        ("WITH (x=a y=b) x", "expected , or )"),
        ("WITH (x=a + ) x", 'unexpected ")"'),
        ("WITH (x=a > ) foo", "nothing follows >"),
        ("WITH (x=a and y=b) foo", 'unexpected "="'),
        ("WITH (x=a[5m)) foo", 'unexpected ")"'),
        ('WITH (x=a+"s") x', "binary operation +"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    assert message in fault(text).message


def _doubling(first: str, step: str, last: str, times: int) -> str:
    definitions = [first] + [step.format(this=f"x{n + 1}", last=f"x{n}") for n in range(times)]
    return f"WITH ({', '.join(definitions)}) {last.format(last=f'x{times}')}"


@pytest.mark.parametrize(
    "text",
    [
        _doubling('x0="0123456789abcdef"', "{this}={last}+{last}", "{{a={last}}}", 18),
        _doubling('x0=""', "{this}={last}+{last}", "{{a={last}}}", 30),
        _doubling('x0={a="b"}', "{this}={{{last},{last}}}", "{{{last}}}", 30),
        _doubling('x0={a="b"}', '{this}={last}{{c="d",{last}}}', "{last}", 30),
        _doubling('x0(v)={a=v or b="c"}', "{this}(v)={last}(v+v)", '{last}("xxxxxxxx")', 25),
        _doubling('x0={a="b"}', "{this}={last}", "{last}", 150),
    ],
    ids=["strings", "empty strings", "label sets", "prefixes", "functions", "chain"],
)
def test_growth_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    fault(text)
    assert time.process_time() - start < 0.5 * slowness()


def test_the_245_byte_bomb() -> None:
    text = _doubling('x0="0123456789abcdef"', "{this}={last}+{last}", "{{a={last}}}", 18)
    assert len(text) < 300
    error = fault(text)
    assert "expand" in error.message


def test_number_of_templates() -> None:
    definitions = ",".join(f"x{n}=a" for n in range(DEFINITIONS_MAX + 1))
    assert "templates" in fault(f"WITH ({definitions}) foo").message


def test_number_of_groups_and_conditions() -> None:
    groups = " or ".join(f'a="{n}"' for n in range(1_100))
    assert "groups" in fault("{" + groups + "}").message
    wide = ",".join(f'a{n}="b"' for n in range(60))
    many = " or ".join(f'c="{n}"' for n in range(100))
    assert "conditions" in fault(f"WITH (x={{{wide}}}) x{{{many}}}").message
