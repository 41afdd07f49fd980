"""The board: every object has its conditions, and only what happened changes them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.config.exporter.load_result import ObjectKey, ObjectResult
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Authentication, OtlpHttp, RefusedSink, SecretRef
from relay.control.status import board
from relay.control.status.assess import ObjectVerdicts
from relay.control.status.board import LOOK_S, ROUND_S, StatusBoard
from relay.control.status.conditions import ConditionVerdict, StatusCondition
from relay.control.status.history import CARRY_S, Amend
from relay.control.status.object_status import ObjectStatus, UsageFigures
from relay.control.status.usage import ExporterUsage
from relay.runtime.errors import Fault
from tests.kit.sink.running_sinks import ToldSinks, exporter, result, sink


class Bench:
    """A board over told sinks, and its clock."""

    def __init__(self) -> None:
        self.sinks = ToldSinks()
        self.now = 1000.0
        self.board = StatusBoard(self.sinks, lambda: self.sinks.loaded, clock=lambda: self.now)

    async def look(self, *, after_s: float = LOOK_S) -> list[str]:
        """Look later; return the names of what changed."""
        self.now += after_s
        return [key.name for key in await self.board.look()]

    def status(self, name: str = "e") -> ObjectStatus:
        found = self.board.status(self.key(name))
        assert found is not None
        return found

    def key(self, name: str = "e") -> ObjectKey:
        return next(key for key in self.board.objects() if key.name == name)

    def condition(self, kind: str, name: str = "e") -> StatusCondition:
        return next(one for one in self.status(name).conditions if one.type == kind)

    def shown(self, name: str = "e") -> list[str]:
        """Return type, status and reason of an object's conditions."""
        return [f"{one.type}={one.status}/{one.reason}" for one in self.status(name).conditions]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_from_loaded_to_delivering(bench: Bench) -> None:
    one = exporter()
    bench.sinks.load(result(one))
    assert await bench.look() == ["e"]
    assert bench.shown() == [
        "Accepted=True/Accepted",
        "ResolvedRefs=True/ResolvedRefs",
        "Programmed=False/Pending",
        "Delivering=Unknown/NotProgrammed",
    ]
    bench.sinks.apply(one, bench.now)
    assert await bench.look() == ["e"]
    assert bench.shown()[2:] == ["Programmed=True/Programmed", "Delivering=Unknown/NoData"]
    assert "relay preview" in bench.condition("Delivering").message
    assert await bench.look() == []
    bench.sinks.workers["n/e", "out"].deliver(bench.now, 5)
    assert await bench.look() == ["e"]
    assert bench.shown()[3] == "Delivering=True/Delivering"
    status = bench.status().sinks[0]
    assert (status.name, status.last_success) == ("out", bench.now - LOOK_S)
    assert status.ledger is not None
    assert (status.ledger.matched, status.ledger.delivered) == (5, 5)


async def test_nothing_is_judged_while_counters_alone_move(bench: Bench) -> None:
    one = exporter()
    bench.sinks.load(result(one))
    bench.sinks.apply(one, bench.now)
    worker = bench.sinks.workers["n/e", "out"]
    worker.deliver(bench.now)
    await bench.look()
    before = bench.status().conditions
    for _ in range(3):
        worker.deliver(bench.now)
        assert await bench.look() == []
    assert bench.status().conditions is before
    assert bench.status().sinks[0].ledger.delivered == 4  # type: ignore[union-attr]


async def test_an_edit_is_judged_for_its_own_generation(bench: Bench) -> None:
    first = exporter()
    bench.sinks.load(result(first))
    bench.sinks.apply(first, bench.now)
    bench.sinks.workers["n/e", "out"].deliver(bench.now)
    await bench.look()
    second = exporter("e", sink(endpoint=OtlpHttp("https://other")), generation=2)
    bench.sinks.load(result(second))
    await bench.look()
    assert bench.condition("Programmed").reason == "Pending"
    bench.sinks.apply(second, bench.now)
    await bench.look()
    assert bench.condition("Programmed").status == "True"
    assert bench.condition("Delivering").reason == "NoData"
    assert {one.observed_generation for one in bench.status().conditions} == {2}


async def test_a_faulty_edit_keeps_the_delivery_of_the_last_good_version(bench: Bench) -> None:
    one = exporter()
    bench.sinks.load(result(one))
    bench.sinks.apply(one, bench.now)
    bench.sinks.workers["n/e", "out"].deliver(bench.now)
    await bench.look()
    fault = Fault("spec.sinks[0].otlp_http.endpoint", "is required", "f.yaml:7")
    bench.sinks.load(result("e", faults=(fault,), generation=2))
    bench.sinks.loaded = replace(bench.sinks.loaded, exporters=(one,))
    await bench.look()
    assert bench.shown() == [
        "Accepted=False/Invalid",
        "ResolvedRefs=True/ResolvedRefs",
        "Programmed=False/LastGoodRuns",
        "Delivering=True/Delivering",
    ]
    assert bench.condition("Accepted").message == "spec.sinks[0].otlp_http.endpoint: is required"
    assert bench.condition("Accepted").observed_generation == 2
    assert bench.condition("Delivering").observed_generation == 1


async def test_a_missing_secret_that_comes_later(bench: Bench) -> None:
    lack = Fault("spec.sinks[0]", "secret n/s, key token: there is no such secret")
    bench.sinks.load(result("e", faults=(lack,), lacks=True))
    await bench.look()
    assert bench.shown() == [
        "Accepted=True/Accepted",
        "ResolvedRefs=False/RefNotUsable",
        "Programmed=False/NotResolved",
        "Delivering=Unknown/NotProgrammed",
    ]
    assert "secret n/s, key token" in bench.condition("ResolvedRefs").message
    one = exporter()
    bench.sinks.load(result(one))
    bench.sinks.apply(one, bench.now)
    await bench.look()
    assert bench.condition("ResolvedRefs").status == "True"


async def test_a_secret_that_changes_while_it_is_used(bench: Bench) -> None:
    endpoint = OtlpHttp("https://h", Authentication("bearerToken", SecretRef("s")))
    one = exporter("e", sink(endpoint=endpoint))
    secrets = SecretStore()
    secrets.add("", "n", "s", {"token": b"good"})
    bench.sinks.load(result(one), secrets=secrets)
    bench.sinks.apply(one, bench.now)
    await bench.look()
    assert bench.condition("ResolvedRefs").status == "True"
    bench.sinks.load(result(one), secrets=SecretStore())
    await bench.look()
    assert bench.condition("ResolvedRefs").status == "True", "nobody said that it was read again"
    bench.sinks.reread = {"n/e"}
    await bench.look()
    assert bench.condition("ResolvedRefs").status == "False"
    bench.sinks.load(result(one), secrets=secrets)
    await bench.look(after_s=10)  # what cannot be used is looked up again by itself
    assert bench.condition("ResolvedRefs").status == "True"


async def test_of_two_objects_of_one_name_the_first_counts(bench: Bench) -> None:
    one = replace(exporter(), origin="/etc/relay/e.yaml:1")
    first = result(one, key=ObjectKey("files", "", "Exporter", "", "n", "e"))
    later = result(
        exporter(), conflict=True, key=ObjectKey("kubernetes", "", "Exporter", "", "n", "e")
    )
    bench.sinks.load(first, later)
    bench.sinks.apply(one, bench.now)
    bench.sinks.workers["n/e", "out"].deliver(bench.now)
    await bench.look()
    shown = {key.source: bench.board.status(key) for key in bench.board.objects()}
    assert shown["files"].conditions[3].status == "True"  # type: ignore[union-attr]
    loser = shown["kubernetes"]
    assert loser is not None
    assert [one.reason for one in loser.conditions] == [
        "Conflict",
        "NotAccepted",
        "NotAccepted",
        "NotProgrammed",
    ]
    assert "taken by the one in the relay's files, which" in loser.conditions[0].message
    assert loser.sinks == ()


async def test_policies_of_one_name_in_two_groups(bench: Bench) -> None:
    keys = [
        ObjectKey("kubernetes", "", "ExportPolicy", "", "n", "p", f"telemetry.{one}.com")
        for one in ("datumapis", "miloapis")
    ]
    first = exporter("p", kind="ExportPolicy")
    later = exporter("p", kind="ExportPolicy", uid="another")
    bench.sinks.load(
        result(first, key=keys[0]), result(later, key=keys[1], uid="another", conflict=True)
    )
    bench.sinks.apply(first, bench.now)
    await bench.look()
    assert list(bench.board.objects()) == keys
    statuses = [bench.board.status(key) for key in keys]
    accepted = [one.conditions[0] for one in statuses if one is not None]
    assert [one.reason for one in accepted] == ["Accepted", "Conflict"]
    assert "the ExportPolicy n/p of telemetry.datumapis.com" in accepted[1].message
    assert [one.runs for one in bench.board.conditions()] == [True, False]


async def test_two_documents_of_one_name_in_one_source(bench: Bench) -> None:
    bench.sinks.load(result(exporter()), result(exporter(), conflict=True))
    await bench.look()
    found = list(bench.board.statuses())
    assert [one.conflict for one, _ in found] == [False, True]
    assert [status.conditions[0].reason for _, status in found] == ["Accepted", "Conflict"]
    assert len(list(bench.board.objects())) == 1


async def test_an_export_policy_has_the_conditions_of_its_operator(bench: Bench) -> None:
    refused = (RefusedSink("bad", "InvalidAuthentication", "no secret n/s"),)
    policy = exporter(kind="ExportPolicy", refused=refused)
    bench.sinks.load(result(policy))
    bench.sinks.apply(policy, bench.now)
    await bench.look()
    ready = bench.condition("Ready")
    assert (ready.status, ready.reason, ready.observed_generation) == (
        "False",
        "SinksNotAccepted",
        1,
    )
    assert ready.message == "1/2 sinks are accepted"
    accepted = {
        one.name: next(each for each in one.conditions if each.type == "Accepted")
        for one in bench.status().sinks
    }
    assert (accepted["out"].status, accepted["out"].reason) == ("True", "SinkConfigured")
    assert (accepted["bad"].status, accepted["bad"].reason) == ("False", "InvalidAuthentication")
    bench.sinks.load(
        result(replace(policy, name="x")),
        result(
            "y",
            key=ObjectKey("kubernetes", "", "ExportPolicy", "", "n", "y"),
            faults=(Fault("spec.sinks", "is required"),),
        ),
    )
    await bench.look()
    ready = bench.condition("Ready", "y")
    assert (ready.reason, ready.message) == ("SinksNotAccepted", "spec.sinks: is required")


async def test_what_is_gone_is_told_and_forgotten(bench: Bench) -> None:
    told: list[list[str]] = []
    bench.board.subscribe(lambda keys: told.append([key.name for key in keys]))
    bench.sinks.load(result(exporter("a")), result(exporter("b")))
    await bench.look()
    bench.sinks.load(result(exporter("b")))
    assert await bench.look() == ["a"]
    assert told == [["a", "b"], ["a"]]
    assert [key.name for key in bench.board.objects()] == ["b"]


async def test_a_successor_of_the_same_name_begins_anew(bench: Bench) -> None:
    bench.sinks.load(result(exporter()))
    await bench.look()
    began = bench.condition("Accepted").since
    bench.sinks.load(result(exporter(uid="other"), uid="other"))
    await bench.look()
    assert bench.condition("Accepted").since == began + LOOK_S


async def test_a_relay_that_has_just_started_goes_on_from_what_is_written(bench: Bench) -> None:
    one = exporter()
    bench.sinks.load(result(one))
    await bench.look()
    written = tuple(
        StatusCondition(name, "True", name, "every sink delivers", 1, 5.0)
        for name in ("Accepted", "ResolvedRefs", "Programmed", "Delivering")
    )
    bench.board.seed(bench.key(), "uid-e", written, {"out": written})
    await bench.look()
    assert {(one.status, one.since) for one in bench.status().conditions} == {("True", 5.0)}
    bench.sinks.apply(one, bench.now)
    await bench.look(after_s=CARRY_S / 2)
    assert {(one.status, one.since) for one in bench.status().conditions} == {("True", 5.0)}
    await bench.look(after_s=CARRY_S)
    assert bench.shown()[3] == "Delivering=Unknown/NoData"


async def test_what_is_written_of_another_object_or_version_is_no_seed(bench: Bench) -> None:
    one = exporter(generation=2)
    bench.sinks.load(result(one))
    bench.sinks.apply(one, bench.now)
    await bench.look()
    written = (StatusCondition("Delivering", "True", "Delivering", "", 1, 5.0),)
    bench.board.seed(bench.key(), "another", written, {"out": written})
    await bench.look()
    assert bench.condition("Delivering").reason == "NoData"
    bench.board.seed(bench.key(), "uid-e", written, {"out": written})
    await bench.look()
    assert bench.condition("Delivering").reason == "NoData"


async def test_sinks_that_rest_are_looked_at_in_turns(bench: Bench) -> None:
    names = [f"e{number}" for number in range(120)]
    for name in names:
        bench.sinks.apply(exporter(name), bench.now)
    bench.sinks.load(*(result(bench.sinks.runs[f"n/{name}"].exporter) for name in names))
    bench.sinks.asleep = {f"n/{name}" for name in names}
    await bench.look()
    for name in names:
        bench.sinks.workers[f"n/{name}", "out"].deliver(bench.now)
    found = [await bench.look() for _ in range(int(ROUND_S / LOOK_S))]
    assert max(map(len, found)) == 2
    assert sorted(name for names in found for name in names) == sorted(names)


async def test_a_failure_is_settled_by_time_alone_while_the_sink_rests(bench: Bench) -> None:
    one = exporter()
    bench.sinks.load(result(one))
    bench.sinks.apply(one, bench.now)
    worker = bench.sinks.workers["n/e", "out"]
    worker.deliver(bench.now)
    await bench.look()
    worker.outcomes.rejected("400", bench.now, in_part=False)
    await bench.look()
    bench.sinks.asleep = {"n/e"}
    assert bench.shown()[3] == "Delivering=True/Delivering"
    for _ in range(5):
        await bench.look()
    assert bench.shown()[3] == "Delivering=False/Rejected"


async def test_usage_is_shown_by_source_and_sink(bench: Bench) -> None:
    total, sources = UsageFigures(3, 4, 5, 6), {"s": UsageFigures(1)}
    usage = ExporterUsage(total, sources, {"out": UsageFigures(2)})
    board = StatusBoard(
        bench.sinks, lambda: bench.sinks.loaded, usage=lambda _: usage, clock=lambda: bench.now
    )
    one = exporter()
    bench.sinks.load(result(one))
    bench.sinks.apply(one, bench.now)
    await board.look()
    status = board.status(next(board.objects()))
    assert status is not None
    assert status.usage == total
    assert status.source_usage == sources
    assert status.sinks[0].usage == UsageFigures(2)


async def test_what_others_add_is_judged_when_its_sign_changes(bench: Bench) -> None:
    said = ""

    def extra(_result: ObjectResult) -> Amend:
        def amend(verdicts: ObjectVerdicts) -> None:
            if said:
                verdicts.conditions["Accepted"] = ConditionVerdict("True", "LimitExceeded", said)

        return amend

    board = StatusBoard(
        bench.sinks,
        lambda: bench.sinks.loaded,
        extra=extra,
        extra_sign=lambda _: said,
        clock=lambda: bench.now,
    )
    one = exporter()
    bench.sinks.load(result(one))
    bench.sinks.apply(one, bench.now)
    await board.look()
    assert await board.look() == []
    said = "too many series"
    assert [key.name for key in await board.look()] == ["e"]
    status = board.status(next(board.objects()))
    assert status is not None
    assert status.conditions[0].message == "too many series"
    assert await board.look() == []


async def test_a_bug_in_judging_one_object_costs_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    bench.board.subscribe(lambda keys: told.extend(key.name for key in keys))
    bench.sinks.load(result(exporter("bad")), result(exporter("good")))
    running = bench.sinks.running
    monkeypatch.setattr(
        bench.sinks, "running", lambda one: running(one) if one != "n/bad" else {}[one]
    )
    assert await bench.look() == ["good"]
    assert told == ["good"]
    assert "a status was not judged" in caplog.text
    monkeypatch.undo()
    assert [*await bench.look(), *await bench.look()] == ["bad"]  # in its turn


async def test_a_change_that_two_looks_share_is_frozen_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[float] = []
    monkeypatch.setattr(board, "BIG_CHANGE", 2)
    monkeypatch.setattr(board.gc_pacing, "freeze_survivors", lambda: frozen.append(bench.now))
    bench.sinks.load(result(exporter("a")))
    await bench.look()
    assert not frozen
    bench.sinks.load(result(exporter("a")), result(exporter("b")))
    await bench.look()
    assert frozen == [bench.now]
    await bench.look()
    assert len(frozen) == 1
