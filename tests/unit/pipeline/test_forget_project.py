"""What is left of a project that is gone: nothing that was learned, and all of the others."""

from __future__ import annotations

from collections import Counter

from relay.pipeline.forget_project import ProjectForgetting
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import Tenancy
from tests.kit.engine_rig import RAW2, Rig, RigSink
from tests.kit.remote_write import raw

DELTA = OutputOptions(temporality="delta")


def series(project: str, name: str, **labels: str) -> bytes:
    pairs = {"__name__": name, "tenant": project, "job": "j", "instance": "i", **labels}
    return raw.series([(k.encode(), v.encode()) for k, v in pairs.items()], (1.0, raw.T0_MS))


def taught(project: str, counters: int = 3) -> bytes:
    body = series(project, "target_info", version="1")
    for number in range(counters):
        body += series(project, "requests_total", n=str(number), __type__="counter")
    for bound in ("1", "+Inf"):
        body += series(project, "took_bucket", le=bound, __type__="histogram")
    return body + series(project, "kube_pod_labels", pod="p", namespace="n", label_app="web")


def rig_with(*projects: str) -> Rig:
    rig = Rig(tenancy=Tenancy("tenant"), assembly_wait_s=1.0)
    for project in projects:
        exporter = f"{project}/x"
        sinks = [
            RigSink("delta", limit=1000, exporter=exporter, options=DELTA),
            RigSink("raw", limit=1000, exporter=exporter, options=RAW2),
        ]
        rig.export(*sinks, exporter=exporter, project=project)
        rig.feed(taught(project))
    rig.due(10.0)
    return rig


def forgotten(rig: Rig, project: str, *, step_max: int = 1) -> Counter[str]:
    forgetting = ProjectForgetting(rig.engine, project, step_max=step_max)
    for _ in range(200):
        if forgetting.done:
            return forgetting.dropped
        forgetting.step()
    raise AssertionError("no end")


def test_everything_that_was_learned_goes_and_others_keep_theirs() -> None:
    rig = rig_with("acme", "globex")
    engine = rig.engine
    before = engine.metadata_version
    engine.remove_exporter("acme/x")
    dropped = forgotten(rig, "acme")
    assert dropped["series"] == 7
    assert dropped["families"] == 2
    assert dropped["objects"] == 1
    assert dropped["deltaStates"] >= 3
    assert dropped["histograms"] == 1
    assert dropped["describedMetrics"] >= 2
    known = engine.export_metadata()
    assert set(known.families) == {"globex"}
    assert {one.project for one in known.targets} == {"globex"}
    assert {one.key.project for one in known.claims} == {"globex"}
    assert {state.part.project for state in engine.deltas.states()} == {"globex"}
    assert engine.metadata_version != before
    assert forgotten(rig, "acme") == Counter()


def test_a_project_that_comes_back_begins_anew_and_others_go_on() -> None:
    rig = rig_with("acme", "globex")
    rig.engine.remove_exporter("acme/x")
    forgotten(rig, "acme", step_max=1000)
    sink = RigSink("again", limit=1000, exporter="acme/y", options=DELTA)
    rig.export(sink, exporter="acme/y", project="acme")
    rig.feed(taught("acme"), tick=20.0)
    rig.feed(taught("globex"), tick=20.0)
    rig.due(40.0)
    assert set(rig.engine.export_metadata().families) == {"acme", "globex"}
    rig.engine.router.flush_counters()
    assert sink.counter.samples > 0
    (known,) = [one for one in rig.engine.export_metadata().targets if one.project == "acme"]
    assert ("version", "1") in known.attributes
