"""Commands of a walk with kubectl, a line each; manifests are those of :mod:`.kubectl_walk`."""

from __future__ import annotations

import shlex
from typing import Final

_LIFE: Final = "'-o=jsonpath={.metadata.generation} {.spec.sinks[0].otlp_http.timeout}'"

_PRUNED: Final = "--prune-allowlist=telemetry.datumapis.com/v1alpha1/Exporter"

_TEXT: Final = f"""
api-resources --api-group=telemetry.datumapis.com
# apply, diff, patch, label: one Exporter and several managers of its fields
apply -f exporter.yaml
apply -f exporter.yaml
get exporters
get exp -o wide
get exp acme -o name
get exp acme -o yaml
get exp acme -o json --show-managed-fields
get exp --show-labels
get exp -L team --sort-by=.metadata.name
get exp -o custom-columns=NAME:.metadata.name,SINK:.spec.sinks[*].name
diff -f changed.yaml
diff --server-side -f changed.yaml
apply -f changed.yaml
get exporter acme {_LIFE}
apply --server-side -f exporter.yaml
apply --server-side --force-conflicts -f exporter.yaml
apply --server-side --field-manager=other -f changed.yaml
apply --server-side --field-manager=other --dry-run=server -f changed.yaml
apply --server-side --field-manager=other --force-conflicts -f changed.yaml
apply --server-side --force-conflicts -f exporter.yaml -o yaml
patch exporter acme --type=merge -p '{{"metadata":{{"labels":{{"a":"b"}}}}}}'
patch exporter acme --type=json -p '[{{"op":"add","path":"/metadata/labels/c","value":"d"}}]'
patch exporter acme --type=json -p '[{{"op":"test","path":"/metadata/labels/c","value":"e"}}]'
patch exporter acme --type=json -p '[{{"op":"remove","path":"/metadata/labels/none"}}]'
patch exporter acme --type=strategic -p '{{"metadata":{{"labels":{{"a":"b"}}}}}}'
patch exporter acme --type=merge --dry-run=server -p '{{"spec":{{"sinks":[]}}}}'
patch exporter acme --type=merge -p '{{"spec":{{"bogus":1}}}}'
label exporter acme team=x
label exporter acme team=y
label exporter acme team=y --overwrite
label exporter acme team- --dry-run=server
label exporters --all tier=one
annotate exporter acme note=y
annotate exporter acme note-
get exporters -l 'team in (x,y),a' -o name
get exporters -l 'team=x y'
get exporters --field-selector metadata.name=acme -o name
get exporters --field-selector spec.sinks=acme -o name
# dry runs, strict fields
apply --dry-run=server -f changed.yaml
apply --dry-run=server -f unknown.yaml
apply --validate=warn --dry-run=server -f unknown.yaml
apply --validate=ignore --dry-run=server -f unknown.yaml
apply --validate=strict -f unknown.yaml
apply --validate=strict --server-side -f unknown.yaml
create --validate=strict -f unknown.yaml
create --validate=strict -f twice.yaml
create --validate=warn --dry-run=server -f twice.yaml
create -f exporter.yaml
create -f exporter.yaml --dry-run=server
create -f generated.yaml --dry-run=server -o jsonpath={{.metadata.generateName}}
replace -f exporter.yaml
replace -f other.yaml
replace --force -f exporter.yaml
replace --raw /apis/none -f exporter.yaml
# editors, and what kubectl keeps of an apply
edit exporter acme
get exporter acme {_LIFE}
apply -f exporter.yaml
apply view-last-applied exporter acme
apply set-last-applied -f changed.yaml
apply set-last-applied --create-annotation -f changed.yaml
get exporter acme {_LIFE}
# status
get exporter acme --subresource=status -o jsonpath={{.status}}
patch exporter acme --subresource=status --type=merge -p '{{"status":{{"relays":"1 of 2"}}}}'
get exporter acme -o jsonpath={{.status.relays}}
wait exporter/acme --for=jsonpath={{.status.relays}}='1 of 2' --timeout=5s
wait exporter/acme --for=condition=None --timeout=1s
wait exporter/acme --for=create --timeout=5s
wait exporter/none --for=create --timeout=1s
wait exporter/none --for=condition=None --timeout=1s
get exporter acme --subresource=scale
get exporters --watch-only --request-timeout=1s
get exporters -w --request-timeout=1s
rollout status exporter/acme
scale exporter/acme --replicas=2
# documentation
explain exporter
explain exporters --recursive
explain exporter.spec.sinks.retry
explain exporter.spec.sources --recursive
explain exporter.none
explain exportpolicies.spec.sinks.target --api-version=telemetry.miloapis.com/v1alpha1
explain secret.data
explain namespace.status
explain event.involvedObject
explain lease.spec
# Secrets
diff -f secret.yaml
apply -f secret.yaml
apply -f secret.yaml
diff -f secret.yaml
diff -f changed-secret.yaml
apply --dry-run=server -f changed-secret.yaml
apply -f changed-secret.yaml
apply -f changed-secret.yaml
get secret tok
get secrets
get secret tok -o=jsonpath={{.type}}
get secret tok -o=jsonpath={{.data.token}}
get secret tok -o yaml
describe secret tok
edit secret tok
label secret tok a=b
patch secret tok -p '{{"metadata":{{"annotations":{{"a":"b"}}}}}}'
patch secret tok -p '{{"stringData":{{"other":"value"}}}}'
patch secret tok --type=json -p '[{{"op":"remove","path":"/data/other"}}]'
patch secret tok --type=merge -p '{{"type":"other"}}'
apply --server-side -f secret.yaml
apply --server-side --force-conflicts -f secret.yaml
apply --server-side --field-manager=other -f changed-secret.yaml
diff --server-side --force-conflicts -f secret.yaml
apply view-last-applied secret tok
replace -f secret.yaml
create secret generic made --from-literal=a=b
create secret generic made --from-literal=a=b
create secret generic dry --from-literal=a=b --dry-run=server
create secret tls tls --cert=none --key=none
delete secret made --dry-run=server
delete secret made
delete -f secret.yaml
# namespaces, all at once, kustomize, prune
create namespace team
create namespace team --dry-run=server
create namespace Team
get namespace team -o=jsonpath={{.status.phase}}
-n team apply -f exporter.yaml
-n team apply -k kustomized
-n team get exporters -o name
-n team diff -k kustomized
-n team apply --prune -l app=prune -f pruned.yaml {_PRUNED}
-n team apply --prune -l app=prune -f kept.yaml {_PRUNED}
-n team get exporters -l app=prune -o name
get exporters -A -o name
get exporters -A
-n team describe exporter acme
-n none apply -f exporter.yaml
-n none get exporters
-n team delete exporters --all --dry-run=server
-n team delete exporters -l app=prune
-n team delete exporters --all
-n team get exporters
# finalizers and deletion
patch exporter acme --type=merge -p '{{"metadata":{{"finalizers":["x.example/f"]}}}}'
delete exporter acme --wait=false
delete exporter acme --wait=false
get exporter acme -o=jsonpath={{.metadata.finalizers}}
label exporter acme late=yes
patch exporter acme --type=merge -p '{{"metadata":{{"finalizers":["x.example/f","x.example/g"]}}}}'
patch exporter acme --type=merge -p '{{"metadata":{{"finalizers":null}}}}'
get exporter acme
delete exporter acme
delete exporter acme --ignore-not-found
wait --for=delete exporter/acme --timeout=5s
# Events, where kube-apiserver writes none by itself, as it does in the namespace default
-n team get events
-n team events
create -f event.yaml
-n team get events -o wide
-n team get events --field-selector involvedObject.name=acme
-n team events --for exporter/acme
-n team delete event one
# users, the server
auth can-i create exporters
auth can-i create exporters --subresource=status
auth can-i delete exporters/acme -n team
auth can-i '*' '*'
auth can-i get /healthz
auth can-i list secrets -A
auth can-i create nosuch
auth can-i --list
auth whoami
get nosuch
get pods
run web --image=none
cluster-info
api-versions
get --raw /healthz
get --raw /readyz
get --raw /apis/telemetry.datumapis.com/v1alpha1/namespaces/none/exporters/none
version
"""

STEPS: Final = tuple(
    tuple(shlex.split(line)) for line in _TEXT.splitlines() if line and not line.startswith("#")
)
