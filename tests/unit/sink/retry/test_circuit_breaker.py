"""When an endpoint counts as out of reach, and who may try it then."""

from __future__ import annotations

import random

from relay.sink.retry.circuit_breaker import FAILURES_MAX, PROBE_S_MAX, Circuit, CircuitBreakers


def opened() -> Circuit:
    circuit = Circuit(random.Random(1))
    for _ in range(FAILURES_MAX):
        assert circuit.delay_s(0.0) == 0.0
        circuit.failed(object(), 0.0)
    assert circuit.open
    return circuit


def test_it_opens_after_failures_in_a_row_of_any_lane() -> None:
    circuit = Circuit(random.Random(1))
    for _ in range(10):
        for _ in range(FAILURES_MAX - 1):
            circuit.failed(object(), 0.0)
        circuit.answered(object())
    assert not circuit.open
    opened()


def test_one_probe_at_a_time() -> None:
    circuit = opened()
    delay = circuit.delay_s(0.0)
    assert 0.5 <= delay <= 1.0
    now = delay
    assert circuit.delay_s(now) == 0.0
    probe = object()
    circuit.probe(probe)
    assert circuit.delay_s(now) > 0  # everybody else waits
    circuit.failed(object(), now)  # a straggler from before says nothing new
    assert circuit.delay_s(now) > 0
    circuit.failed(probe, now)
    assert 1.0 <= circuit.delay_s(now) <= 2.0


def test_probes_grow_rare_but_not_too_rare() -> None:
    circuit = opened()
    now = 0.0
    waits = []
    for _ in range(20):
        waits.append(circuit.delay_s(now))
        now += waits[-1]
        probe = object()
        circuit.probe(probe)
        circuit.failed(probe, now)
    assert max(waits) <= PROBE_S_MAX
    assert min(waits[8:]) >= PROBE_S_MAX / 2


def test_the_first_answer_lets_everybody_go_on() -> None:
    circuit = opened()
    told: list[int] = []
    circuit.subscribe(lambda: told.append(1))
    circuit.subscribe(lambda: told.append(2))
    probe = object()
    circuit.probe(probe)
    circuit.answered(probe)
    assert told == [1, 2]
    assert not circuit.open
    assert circuit.delay_s(0.0) == 0.0
    circuit.answered(object())
    assert told == [1, 2]


def test_a_probe_that_says_nothing_is_followed_by_another() -> None:
    circuit = opened()
    probe = object()
    circuit.probe(probe)
    circuit.abandoned(object())
    assert circuit.delay_s(10.0) > 0
    circuit.abandoned(probe)
    assert circuit.delay_s(10.0) == 0.0


def test_endpoints_are_told_by_scheme_host_and_port() -> None:
    circuit_breakers = CircuitBreakers(random.Random(1))

    def tell() -> None:
        return None

    def tell_another() -> None:
        return None

    first = circuit_breakers.acquire("https://Otlp.example.com/a/v1/metrics", tell)
    assert circuit_breakers.acquire("https://otlp.example.com/b/v1/metrics", tell_another) is first
    assert circuit_breakers.acquire("http://otlp.example.com/a/v1/metrics", tell) is not first
    assert circuit_breakers.open == 0
    circuit_breakers.release("https://otlp.example.com/a/v1/metrics", tell)
    circuit_breakers.release("https://otlp.example.com/b/v1/metrics", tell_another)
    assert circuit_breakers.acquire("https://otlp.example.com/v1/metrics", tell) is not first
    assert "closed" in repr(first)


def test_it_is_clear_while_nothing_failed_since_the_last_answer() -> None:
    circuit = Circuit(random.Random(1))
    assert circuit.clear
    circuit.failed(object(), 0.0)
    assert not circuit.clear
    circuit.abandoned(object())
    assert not circuit.clear
    circuit.answered(object())
    assert circuit.clear
    assert not opened().clear
