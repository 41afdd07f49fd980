"""The table of kinds: recognition, selection, reasons, covers, inventory, and rows in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from relay.selector.index.selector_index import SelectorIndex
from relay.selector.inventory.info_series import InfoReader
from relay.selector.inventory.store import Inventory, ManifestIndex, Object
from relay.selector.matchers import Matcher
from relay.selector.resources.compiler import COVER_ROWS_MAX, Compiler
from relay.selector.resources.kind_table import KindTable, shadowed_rows
from relay.selector.resources.label_selector import (
    NAMESPACE_NAME,
    Conventions,
    KindMarks,
    KindRow,
    KindSelector,
    LabelSelector,
    Requirement,
    ResourceSelection,
    ResourceSelector,
)

GATEWAY = KindRow(
    "Gateway",
    group="gateway.networking.k8s.io",
    name_label="gateway_name",
    namespace_label="gateway_namespace",
    uid_label="",
    marks=KindMarks(label="gateway_name"),
)
SECRET = KindRow(
    "Secret",
    name_label="name",
    namespace_label="namespace",
    uid_label="uid",
    marks=KindMarks("datum_cloud_core_secret_"),
)
INDEX = KindRow("Index", plural="indices", group="g.io", marks=KindMarks("index_"))
CLUSTER = KindRow(
    "Node",
    name_label="node",
    namespace_label="",
    marks=KindMarks(labels=(("job", "node"), ("tier", "1"))),
)
TABLE = Conventions(kinds=(KindRow("Mouse", plural="mice"), GATEWAY, SECRET, INDEX, CLUSTER))
EVERYWHERE = LabelSelector()

EDGE = {"__name__": "envoy_rq", "gateway_name": "edge", "gateway_namespace": "default"}
TOKEN = {"__name__": "datum_cloud_core_secret_info", "name": "token", "namespace": "default"}
NODE = {"__name__": "up", "job": "node", "tier": "1", "node": "n1"}


def selection(
    *kinds: KindSelector,
    namespaces: LabelSelector | None = None,
    labels: LabelSelector = EVERYWHERE,
) -> ResourceSelection:
    return ResourceSelection("default", (ResourceSelector(namespaces, labels, kinds),))


def takes(selected: ResourceSelection, labels: Mapping[str, str]) -> bool:
    one = Compiler(TABLE).compile(selected)
    taken = one.matches(labels)
    assert one.explain(labels).matched is taken
    return taken


def test_the_first_row_that_fits_decides() -> None:
    table = KindTable(TABLE)
    assert len(table.rows) == 4, "a row without marks recognises nothing"
    assert table.identify(EDGE)[:4] == ("gateway.networking.k8s.io", "Gateway", "default", "edge")
    assert table.identify(TOKEN)[:4] == ("", "Secret", "default", "token")
    assert table.identify(NODE)[:4] == ("", "Node", "", "n1")
    both = {**TOKEN, "gateway_name": "edge"}
    assert table.identify(both).kind == "Gateway"
    swapped = KindTable(Conventions(kinds=(SECRET, GATEWAY)))
    assert swapped.identify(both).kind == "Secret"


@pytest.mark.parametrize(
    "labels",
    [
        {"__name__": "up"},
        {**EDGE, "gateway_name": ""},
        {**TOKEN, "__name__": "datum_cloud_core_secret"},
        {**TOKEN, "__name__": "x_datum_cloud_core_secret_info"},
        {**NODE, "tier": "2"},
        {"__name__": "up", "job": "node"},
    ],
)
def test_all_marks_must_stand_on_the_series(labels: dict[str, str]) -> None:
    found = KindTable(TABLE).identify({**labels, "resource_kind": "Pod", "resource_name": "p"})
    assert found[:4] == ("", "Pod", "", "p")
    assert found.row.marks is None


def test_prefixes_that_begin_each_other_are_asked_in_the_order_of_the_table() -> None:
    def row(kind: str, prefix: str) -> KindRow:
        return KindRow(kind, marks=KindMarks(prefix))

    table = KindTable(
        Conventions(
            kinds=(row("Claim", "subnet_claim_"), row("Subnet", "subnet_"), row("All", "s"))
        )
    )
    found = [
        table.identify({"__name__": name}).kind
        for name in ("subnet_claim_info", "subnet_info", "subnet_", "subnet", "sa", "r", "t", "")
    ]
    assert found == ["Claim", "Subnet", "Subnet", "All", "All", "", "", ""]
    other = KindTable(Conventions(kinds=(row("Subnet", "subnet_"), row("Claim", "subnet_claim_"))))
    assert other.identify({"__name__": "subnet_claim_info"}).kind == "Subnet"


def test_labels_left_out_are_those_of_the_platform() -> None:
    conventions = Conventions(name_label="n", namespace_label="ns", kinds=(INDEX,))
    found = KindTable(conventions).identify({"__name__": "index_x", "n": "a", "ns": "b"})
    assert found[:4] == ("g.io", "Index", "b", "a")


@pytest.mark.parametrize("written", ["gateways", "Gateway", "gateway", "GATEWAYS"])
@pytest.mark.parametrize("group", ["gateway.networking.k8s.io", "*"])
def test_a_kind_and_its_plural_select_the_same(written: str, group: str) -> None:
    selected = selection(KindSelector((group,), (written,)))
    assert takes(selected, EDGE)
    assert not takes(selected, {**EDGE, "gateway_namespace": "other"})
    assert not takes(selected, TOKEN)


def test_groups_wildcards_and_given_plurals() -> None:
    assert takes(selection(KindSelector(("gateway.networking.k8s.io",), ("*",))), EDGE)
    assert not takes(selection(KindSelector(("",), ("gateways",))), EDGE)
    assert takes(selection(KindSelector(("",), ("secrets",))), TOKEN)
    assert takes(selection(KindSelector(("*",), ("*",))), TOKEN)
    assert takes(selection(), TOKEN)
    index = {"__name__": "index_size", "resource_namespace": "default"}
    for written in ("indices", "Index", "indexes"):
        assert takes(selection(KindSelector(("g.io",), (written,))), index)
    mouse = {"__name__": "m", "resource_kind": "Mouse", "resource_namespace": "default"}
    assert takes(selection(KindSelector(kinds=("mice",))), mouse)


def test_a_row_hides_the_labels_of_the_platform() -> None:
    labels = {**EDGE, "resource_kind": "ExportPolicy", "resource_namespace": "telemetry"}
    assert not takes(selection(KindSelector(kinds=("exportpolicies",))), labels)
    assert takes(selection(KindSelector(kinds=("Gateway",))), labels)


def test_a_kind_in_no_namespace_needs_a_selector_of_all() -> None:
    node = KindSelector(("",), ("nodes",))
    assert takes(selection(node, namespaces=EVERYWHERE), NODE)
    assert not takes(selection(node), NODE)
    assert takes(selection(namespaces=EVERYWHERE), {"__name__": "up"})


@pytest.mark.parametrize(
    ("labels", "kinds", "reason", "subject"),
    [
        (
            TOKEN,
            (KindSelector(("g.io", ""), ("gateways",)),),
            'wants kinds gateways of g.io,"": it is Secret of ""',
            "Secret default/token, by resources.kinds[2] (metricPrefix datum_cloud_core_secret_)",
        ),
        (
            {**EDGE, "gateway_namespace": "dev"},
            (),
            (
                'wants namespace "default", the exporter\'s own, as it has no namespaceSelector: '
                'gateway_namespace is "dev"'
            ),
            "Gateway dev/edge, by resources.kinds[1] (label gateway_name)",
        ),
        (
            NODE,
            (),
            (
                'wants namespace "default", the exporter\'s own, as it has no namespaceSelector: '
                "no label tells it"
            ),
            'Node n1, by resources.kinds[4] (labels {job="node",tier="1"})',
        ),
        (
            {"__name__": "up"},
            (KindSelector(kinds=("pods",)),),
            "wants kinds pods of *: resource_kind is absent, service_name is absent",
            (
                "a resource of unknown kind, by the labels of the platform: "
                "no row of resources.kinds fits"
            ),
        ),
    ],
)
def test_the_explanation_names_the_row(
    labels: dict[str, str], kinds: tuple[KindSelector, ...], reason: str, subject: str
) -> None:
    explanation = Compiler(TABLE).compile(selection(*kinds)).explain(labels)
    assert [str(one) for one in explanation.failures] == [f"resourceSelectors[0]: {reason}"]
    assert explanation.subject == subject


def test_without_rows_nothing_is_said_of_the_table() -> None:
    one = Compiler().compile(selection())
    assert one.explain({"__name__": "up", "resource_namespace": "default"}).subject == ""
    assert len(one.selector.groups) == 1


def test_a_cover_has_the_marks_of_each_row_that_is_selected() -> None:
    own = Matcher("resource_namespace", "=", "default")
    one = Compiler(TABLE).compile(selection(KindSelector(("gateway.networking.k8s.io",), ("*",))))
    assert one.selector.groups == (
        (own, Matcher("service_name", "=", "gateway.networking.k8s.io")),
        (Matcher("gateway_namespace", "=", "default"), Matcher("gateway_name", "!=", "")),
    )
    core = selection(KindSelector(("",), ("secrets", "nodes")), namespaces=EVERYWHERE)
    assert Compiler(TABLE).compile(core).selector.groups[1:] == (
        (Matcher("__name__", "=~", "datum_cloud_core_secret_.*"),),
        (Matcher("job", "=", "node"), Matcher("tier", "=", "1")),
    )
    assert Compiler(TABLE).compile(selection()).selector.groups == (
        (own,),
        (Matcher("gateway_namespace", "=", "default"),),
        (Matcher("namespace", "=", "default"),),
    )


def test_the_index_asks_no_selection_of_every_series() -> None:
    index: SelectorIndex[int] = SelectorIndex()
    compiler = Compiler(TABLE)
    index.add(0, compiler.compile(selection(KindSelector(kinds=("Gateway",)))))
    index.add(1, compiler.compile(selection(KindSelector(("",)), namespaces=EVERYWHERE)))
    named = LabelSelector((Requirement(NAMESPACE_NAME, "In", ("a", "b")),))
    index.add(2, compiler.compile(selection(namespaces=named)))
    assert index.statistics().always == 1, "the core group of any namespace: no label is needed"
    assert index.match(EDGE) == [0]
    assert index.match({**EDGE, "gateway_namespace": "a"}) == [2]
    assert index.match(TOKEN) == [1]


def test_a_long_list_of_rows_is_covered_by_namespace() -> None:
    rows = tuple(
        KindRow(f"K{n}", group="g.io", namespace_label="ns", marks=KindMarks(f"k{n}_"))
        for n in range(COVER_ROWS_MAX + 1)
    )
    one = Compiler(Conventions(kinds=rows)).compile(selection(KindSelector(("g.io",))))
    assert one.selector.groups[1:] == ((Matcher("ns", "=", "default"),),)
    assert one.matches({"__name__": "k7_up", "ns": "default"})


def stored(*objects: Object) -> Inventory:
    inventory = Inventory()
    inventory.replace_manifests(ManifestIndex(objects))
    return inventory


def test_manifests_are_found_by_the_identity_that_the_row_tells() -> None:
    app = LabelSelector((Requirement("app", "In", ("shop",)),))
    manifest = {"labels": {"app": "shop"}, "project": "p", "uid": ""}
    gateway = Object(
        group=GATEWAY.group, kind="Gateway", namespace="default", name="edge", **manifest
    )
    secret = Object(group="", kind="Secret", namespace="default", name="token", **manifest)
    objects = stored(gateway, secret).for_project("p")
    one = Compiler(TABLE).compile(selection(labels=app), objects)
    assert one.matches(EDGE)
    assert one.matches(TOKEN)
    assert not one.matches({**EDGE, "gateway_name": "other"})
    assert not one.matches({**TOKEN, "namespace": "other"})
    of_another = Object(group="istio.io", kind="Gateway", namespace="default", name="x", **manifest)
    other = Compiler(TABLE).compile(selection(labels=app), stored(of_another).for_project("p"))
    assert not other.matches({**EDGE, "gateway_name": "x"}), "a Gateway of another group"


def test_manifests_are_found_by_the_uid_that_the_row_tells() -> None:
    app = LabelSelector((Requirement("app", "Exists"),))
    secret = Object("p", "", "Secret", "default", "old-name", "u-1", {"app": "shop"})
    one = Compiler(TABLE).compile(selection(labels=app), stored(secret).for_project("p"))
    assert one.matches({**TOKEN, "uid": "u-1"})
    assert not one.matches({**TOKEN, "resource_uid": "u-1"})


def test_info_series_are_found_by_the_identity_that_the_row_tells() -> None:
    inventory = Inventory()
    info = {
        "__name__": "kube_secret_labels",
        "namespace": "default",
        "secret": "token",
        "label_app": "shop",
    }
    claim = InfoReader().claim(info, "p")
    assert claim is not None
    inventory.apply_info_series(claim, begins=True)
    app = LabelSelector((Requirement("app", "In", ("shop",)),))
    one = Compiler(TABLE).compile(selection(labels=app), inventory.for_project("p"))
    assert one.matches(TOKEN)
    assert not one.matches({**TOKEN, "name": "other"})


class Counted(Mapping[str, str]):
    """Labels that count how often the mark of the table is asked for."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.asked = 0

    def __getitem__(self, name: str) -> str:
        self.asked += name == "gateway_name"
        return self.labels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)


def test_the_table_is_asked_once_for_a_series() -> None:
    compiler = Compiler(TABLE)
    some = [compiler.compile(selection(KindSelector(kinds=("Gateway",)))) for _ in range(5)]
    alone, labels = Counted(EDGE), Counted(EDGE)
    assert some[0].matches(alone)
    assert all(one.matches(labels) for one in some)
    assert labels.asked == alone.asked > 0
    assert not some[0].matches({"__name__": "up"})
    assert some[0].matches(labels), "and answers each mapping for itself"


def marked(*marks: KindMarks) -> list[str]:
    return list(shadowed_rows([KindRow("A", group="g", marks=one) for one in marks]))


def test_rows_in_vain() -> None:
    assert marked(KindMarks("a_b_"), KindMarks("a_"), KindMarks("b_", "x"), KindMarks("b_")) == []
    assert marked(KindMarks("a_"), KindMarks("a_b_"), KindMarks("a_", "x")) == [
        f"resources.kinds[{number}]: never decides: kinds[0] (A by metricPrefix a_) fits all its "
        "series; put it before that one"
        for number in (1, 2)
    ]
    assert len(marked(KindMarks(label="a"), KindMarks(labels=(("a", "b"),)))) == 1
    one, two = (("a", "b"),), (("c", "d"), ("a", "b"))
    assert len(marked(KindMarks(labels=one), KindMarks(labels=two))) == 1
    assert marked(KindMarks(labels=two), KindMarks(labels=one)) == []
    assert marked(KindMarks(labels=one), KindMarks(labels=(("a", "c"),))) == []
    assert list(shadowed_rows([KindRow("A"), KindRow("A")])) == []
