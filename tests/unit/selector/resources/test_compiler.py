"""Resource selectors: Kubernetes' label selectors, names of kinds, namespaces, and the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.selector.matchers import Matcher
from relay.selector.resources.compiler import Compiled, Compiler, uses_inventory
from relay.selector.resources.label_selector import (
    NAMESPACE_NAME,
    Conventions,
    KindNames,
    KindRow,
    KindSelector,
    LabelSelector,
    Operator,
    Requirement,
    ResourceSelection,
    ResourceSelector,
    sanitized,
)
from relay.selector.resources.object_lookup import ObjectLabels, ObjectRef
from tests.kit.paths import DATA

TARGET = DATA / "exporters/good/seed-target-resource-selectors.yaml"
EVERYWHERE = LabelSelector()


@dataclass
class Known:
    """An inventory of one project."""

    namespaces: Mapping[str, ObjectLabels] = field(default_factory=dict)
    resources: Mapping[tuple[str, str, str], ObjectLabels] = field(default_factory=dict)

    def namespace(self, name: str) -> ObjectLabels | None:
        return self.namespaces.get(name)

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        found = (self.resources.get((kind, ref.namespace, ref.name)) for kind in ref.kinds)
        return next((labels for labels in found if labels is not None), None)


def compiled(
    *selectors: ResourceSelector,
    own: str = "default",
    known: Known | None = None,
    conventions: Conventions | None = None,
) -> Compiled:
    return Compiler(conventions).compile(ResourceSelection(own, selectors), known)


def series_labels(**labels: str) -> dict[str, str]:
    return {"__name__": "m", "resource_namespace": "default", **labels}


def needs(key: str, operator: Operator, *values: str) -> LabelSelector:
    return LabelSelector((Requirement(key, operator, values),))


@pytest.mark.parametrize(
    ("operator", "values", "accepted", "absent_too"),
    [
        ("In", ("a", "b"), {"a", "b"}, False),
        ("NotIn", ("a", "b"), {"c"}, True),
        ("Exists", (), {"a", "b", "c"}, False),
        ("DoesNotExist", (), set(), True),
    ],
)
def test_requirements_are_those_of_kubernetes(
    operator: Operator, values: tuple[str, ...], accepted: set[str], absent_too: bool
) -> None:
    requirement = Requirement("k", operator, values)
    assert {value for value in "abc" if requirement.accepts(value)} == accepted
    assert requirement.accepts(None) is absent_too
    labels = compiled(ResourceSelector(labels=LabelSelector((requirement,))))
    assert {v for v in "abc" if labels.matches(series_labels(label_k=v))} == accepted
    assert labels.matches(series_labels()) is absent_too
    assert labels.matches(series_labels(label_k="")) is absent_too, (
        "an empty label is a missing one"
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (written, value)
        for written in ("gateways", "gateway", "Gateway", "GATEWAYS")
        for value in ("Gateway", "gateway", "gateways")
    ]
    + [
        ("policies", "Policy"),
        ("Ingress", "ingresses"),
        ("ingresses", "Ingress"),
        ("httproutes", "HTTPRoute"),
        ("endpoints", "Endpoints"),
        ("proxies", "Proxy"),
        ("prometheuses", "Prometheus"),
    ],
)
def test_names_of_the_same_kind(written: str, value: str) -> None:
    selector = compiled(ResourceSelector(kinds=(KindSelector(kinds=(written,)),)))
    assert selector.matches(series_labels(resource_kind=value))
    assert not selector.matches(series_labels(resource_kind=f"x{value}"))
    assert not selector.matches(series_labels())


def test_the_operator_knows_irregular_plurals() -> None:
    names = KindNames([KindRow("Index", ("indices", "idx"))])
    assert {"index", "indices", "idx"} <= names.of("IDX") == names.of("idx")
    assert "indices" in names.of("Index")
    conventions = Conventions(kinds=(KindRow("Index", ("indices",)),))
    selector = ResourceSelector(kinds=(KindSelector(kinds=("indices",)),))
    assert compiled(selector, conventions=conventions).matches(series_labels(resource_kind="Index"))
    assert not compiled(selector).matches(series_labels(resource_kind="Index"))


def test_groups_and_kinds() -> None:
    selector = compiled(
        ResourceSelector(
            kinds=(
                KindSelector(("apps", ""), ("pods",)),
                KindSelector(("net.example.com",), ("*",)),
                KindSelector(("*",), ("gateways",)),
            )
        )
    )
    for group, kind, matched in (
        ("apps", "Pod", True),
        ("", "pod", True),
        ("batch", "Pod", False),
        ("net.example.com", "Anything", True),
        ("net.example.com", "", True),
        ("NET.example.com", "x", False),
        ("whatever", "Gateway", True),
    ):
        labels = series_labels(service_name=group, resource_kind=kind)
        assert selector.matches(labels) is matched, labels
        assert selector.explain(labels).matched is matched


def test_an_absent_namespace_selector_is_the_own_namespace_and_an_empty_one_all() -> None:
    own = compiled(ResourceSelector(), own="prod")
    every = compiled(ResourceSelector(namespaces=EVERYWHERE), own="prod")
    for namespace in ("prod", "dev", ""):
        labels = series_labels(resource_namespace=namespace)
        assert own.matches(labels) is (namespace == "prod")
        assert every.matches(labels)


def test_namespaces_by_label() -> None:
    known = Known({"prod": ObjectLabels({"env": "production"}), "bare": ObjectLabels({})})

    def taken(selector: LabelSelector) -> set[str]:
        one = compiled(ResourceSelector(namespaces=selector), known=known)
        names = ("prod", "bare", "unheard-of", "")
        return {name for name in names if one.matches(series_labels(resource_namespace=name))}

    assert taken(needs("env", "In", "production")) == {"prod"}
    assert taken(needs("env", "NotIn", "production")) == {"bare"}, "not one that nobody knows"
    assert taken(needs("env", "DoesNotExist")) == {"bare"}
    assert taken(needs("env", "Exists")) == {"prod"}
    assert taken(needs(NAMESPACE_NAME, "In", "prod", "unheard-of")) == {"prod", "unheard-of"}
    assert taken(needs(NAMESPACE_NAME, "NotIn", "prod")) == {"bare", "unheard-of"}


def test_labels_of_the_namespace_may_stand_on_the_sample() -> None:
    one = compiled(
        ResourceSelector(namespaces=needs("env", "In", "production")),
        conventions=Conventions(namespace_label_prefix="ns_"),
    )
    assert one.matches(series_labels(ns_env="production"))
    assert not one.matches(series_labels(ns_env="dev"))


def test_a_sample_goes_before_the_inventory() -> None:
    known = Known(resources={("gateway", "default", "g"): ObjectLabels({"app": "a", "x/y": "z"})})
    one = compiled(ResourceSelector(labels=needs("app", "In", "a")), known=known)
    resource = {"resource_kind": "Gateway", "resource_name": "g"}
    assert one.matches(series_labels(**resource))
    assert not one.matches(series_labels(**resource, label_app="b"))
    assert not one.matches(series_labels(resource_kind="Gateway", resource_name="h"))
    exact = compiled(ResourceSelector(labels=needs("x/y", "In", "z")), known=known)
    assert exact.matches(series_labels(**resource))
    assert exact.matches(series_labels(label_x_y="z")), "as Prometheus can have the key"
    other = compiled(ResourceSelector(labels=needs("x.y", "In", "z")), known=known)
    assert not other.matches(series_labels(**resource)), "a manifest has keys as they are"


def test_what_a_stream_tells_has_keys_as_prometheus_can_have_them() -> None:
    labels = ObjectLabels({"app_kubernetes_io_name": "web"}, exact=False)
    assert labels.get("app.kubernetes.io/name") == "web"
    assert sanitized("app.kubernetes.io/näme") == "app_kubernetes_io_n_me"


def test_several_selectors_are_alternatives() -> None:
    one = compiled(
        ResourceSelector(kinds=(KindSelector(kinds=("a",)),)),
        ResourceSelector(labels=needs("k", "In", "v")),
    )
    assert one.matches(series_labels(resource_kind="A"))
    assert one.matches(series_labels(resource_kind="B", label_k="v"))
    assert not one.matches(series_labels(resource_kind="B"))
    explanation = one.explain(series_labels(resource_kind="B", label_k="v"))
    assert explanation.group == 1
    assert one.describe(1) == "resourceSelectors[1]: the exporter's own namespace, labels k=v"


NO_LABEL = (
    "labelSelectors wants app: app is absent on the sample, and nothing is known of its resource"
)
OWN_NAMESPACE = (
    'wants namespace "default", the exporter\'s own, as it has no namespaceSelector: '
    'resource_namespace is "dev"'
)
UNKNOWN_NAMESPACE = (
    'namespaceSelector wants env in (a,b): nothing is known of the labels of namespace "default"'
)


@pytest.mark.parametrize(
    ("selector", "labels", "reason"),
    [
        (
            ResourceSelector(kinds=(KindSelector(("g.io", ""), ("gateways",)),)),
            {"resource_kind": "Pod"},
            'wants kinds gateways of g.io,"": resource_kind is "Pod", service_name is absent',
        ),
        (ResourceSelector(), {"resource_namespace": "dev"}, OWN_NAMESPACE),
        (ResourceSelector(namespaces=needs("env", "In", "a", "b")), {}, UNKNOWN_NAMESPACE),
        (
            ResourceSelector(namespaces=needs("env", "Exists")),
            {"resource_namespace": ""},
            "namespaceSelector wants a namespace: resource_namespace is absent",
        ),
        (
            ResourceSelector(labels=needs("app", "NotIn", "a")),
            {"label_app": "a"},
            'labelSelectors wants app notin (a): app is "a" on the sample',
        ),
        (
            ResourceSelector(labels=needs("app", "Exists")),
            {},
            NO_LABEL,
        ),
        (
            ResourceSelector(labels=needs("app", "DoesNotExist")),
            {"resource_kind": "Pod", "resource_name": "p"},
            'labelSelectors wants !app: app is "x" in the inventory',
        ),
    ],
    ids=["kinds", "own", "unknown", "none", "sample", "absent", "inventory"],
)
def test_why_not(selector: ResourceSelector, labels: dict[str, str], reason: str) -> None:
    known = Known(resources={("pod", "default", "p"): ObjectLabels({"app": "x"})})
    one = compiled(selector, known=known)
    asked = series_labels(**labels)
    assert not one.matches(asked)
    (failure,) = one.explain(asked).failures
    assert str(failure) == f"resourceSelectors[0]: {reason}"


def test_the_cover_is_made_of_what_labels_tell() -> None:
    one = compiled(
        ResourceSelector(kinds=(KindSelector(("a.io",), ("pods",)), KindSelector(("b.io",)))),
        ResourceSelector(namespaces=needs(NAMESPACE_NAME, "In", "x", "y")),
        ResourceSelector(namespaces=needs("env", "NotIn", "x")),
        ResourceSelector(namespaces=EVERYWHERE),
        own="prod",
    )
    own = Matcher("resource_namespace", "=", "prod")
    assert one.selector.groups == (
        (
            own,
            Matcher("service_name", "=", "a.io"),
            Matcher("resource_kind", "=~", "(?i)pod|pods|podses"),
        ),
        (own, Matcher("service_name", "=", "b.io")),
        (Matcher("resource_namespace", "=~", "x|y"),),
        (Matcher("resource_namespace", "!=", ""),),
        (),
    )


def test_which_selections_depend_on_objects() -> None:
    def depends(selector: ResourceSelector) -> bool:
        return uses_inventory(ResourceSelection("default", (selector,)))

    assert depends(ResourceSelector(labels=needs("a", "Exists")))
    assert depends(ResourceSelector(namespaces=needs("a", "Exists")))
    assert not depends(ResourceSelector(namespaces=EVERYWHERE, kinds=(KindSelector(),)))


def test_the_proposals_target_example() -> None:
    (exporter,) = load_exporters([ExporterPath(TARGET)], need_secrets=False).exporters
    known = Known({"prod": ObjectLabels({"environment": "production"})})
    one = Compiler().compile(exporter.sources[0].selector, known)
    gateway = series_labels(
        resource_namespace="prod",
        service_name="gateway.networking.k8s.io",
        resource_kind="Gateway",
        label_app="my-gateway",
    )
    assert one.matches(gateway)
    assert one.matches(
        gateway | {"service_name": "compute.datumapis.com", "resource_kind": "Workload"}
    )
    assert one.matches(gateway | {"service_name": "networking.datumapis.com", "resource_kind": "X"})
    assert not one.matches(gateway | {"label_app": "other"})
    assert not one.matches(gateway | {"resource_namespace": "default"})
    assert not one.matches(gateway | {"resource_kind": "HTTPRoute"})
