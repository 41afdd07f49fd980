"""Texts of the demo: what is running, and what to try next."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from relay.cli.demo.access import OPERATOR, ApiAccess
from relay.cli.demo.platform import CUSTOMERS, example_series
from relay.cli.demo.scenario import CONFIG, GUEST, SETTINGS_NAME, config_files

_EXPORTER: Final = "gateways"
_EXPORTERS_PATH: Final = "/apis/telemetry.datumapis.com/v1alpha1/namespaces/default/exporters"

_INTRODUCTION = """\
A relay at work, with all that it needs in this one process:

  platform   {series:,} series of {customers} customers. Two agents send remote write, one
             as Prometheus does (snappy) and one as vmagent does (zstd):
             {requests_per_s:g} requests/s to {ingest_url}
             A third sends logs and traces, as a collector does:
             OTLP to {otlp_url}
  relay      selects by the customers' Exporters, and delivers as OTLP or remote
             write, at each endpoint's pace. Seen from outside:
             {admin_url}/status and {admin_url}/metrics
  endpoints  receivers that decode with the official classes and count

What to look for:

  acme     the proposal's own Exporter: gateways' network_bytes_.*, nothing else
  globex   all of its metrics, to two collectors. collector-us is down at times:
           its own queue grows, collector-eu never notices, nothing is lost;
           and every sample as it came, to a Prometheus. collector-eu gets the
           warnings of its gateways and half of its traces, too
  initech  its workloads, to a vendor that rejects some of the points: they are
           counted, not sent again; and its HTTP errors, to another sink
  hooli    has no Exporter: none of its samples is exported, until you write one

"""

_API = """\
The relay's own API, where customers write Exporters:

  {url}/projects/CUSTOMER
  {http_url}/projects/CUSTOMER, the same without TLS
  {http_url}/ui/, in a browser: paste the token of a customer

{users}
  operator {operator}, of all customers: in a browser

Give hooli an Exporter, in another terminal:

{commands}

"""

_KUBECTL = """\
  export KUBECONFIG={kubeconfig}
  kubectl apply -f {manifests}
  kubectl wait exporter/{exporter} --for=condition=Delivering
  kubectl describe exporter {exporter}"""

_CURL = """\
  API={http_url}/projects/{customer}
  AUTH="Authorization: Bearer {token}"
  APPLY="Content-Type: application/apply-patch+yaml"
  curl -sS -X PATCH -H "$AUTH" -H "$APPLY" --data-binary @{manifests}/secret.yaml \\
    "$API{needed_path}?fieldManager=curl"
  curl -sS -X PATCH -H "$AUTH" -H "$APPLY" --data-binary @{manifests}/exporter.yaml \\
    "$API{exporter_path}?fieldManager=curl"
  curl -sS -H "$AUTH" \\
    "$API{exporter_path}"    # its status

kubectl does the same with less to type; it is not installed here."""

_DRAINING = """\

The platform has stopped. The relay drains: what is queued goes out now, and no
endpoint is down any more.
"""

_BALANCED = """\
Balanced. The platform, the relay and the endpoints have each counted for
themselves, and agree."""

_NOT_BALANCED = "NOT balanced: see the lines marked !! above."

_FAREWELL = """\

{verdict}

Try next:

  {relay} demo --show-config    # the settings and Exporters that made this happen
  {relay} check {settings}
  {relay} explain --exporters {manifests} \\
    {series}
"""


def introduction(series: int, requests_per_s: float, ingest_url: str, admin_url: str) -> list[str]:
    """Return the introduction: what is running, and what to watch.

    ``ingest_url`` is the base of the addresses that senders use.
    """
    return _INTRODUCTION.format(
        series=series,
        customers=len(CUSTOMERS),
        requests_per_s=requests_per_s,
        ingest_url=f"{ingest_url}/api/v1/write",
        otlp_url=f"{ingest_url}/v1/{{logs,traces}}",
        admin_url=admin_url,
    ).splitlines()


def invitation(access: ApiAccess, *, with_kubectl: bool) -> list[str]:
    """Return what a reader needs to write an Exporter: addresses, tokens, and commands."""
    users = "\n".join(
        f"  {customer:<8} {token}  {shown(access.kubeconfig(customer))}"
        for customer, token in access.customers.items()
    )
    http_url = f"http://{access.http_listen}"
    manifests = shlex.quote(str(shown(access.directory / GUEST)))
    if with_kubectl:
        commands = _KUBECTL.format(
            kubeconfig=shlex.quote(str(shown(access.kubeconfig(GUEST)))),
            manifests=manifests,
            exporter=_EXPORTER,
        )
    else:
        commands = _CURL.format(
            http_url=http_url,
            customer=GUEST,
            token=access.tokens[GUEST],
            manifests=manifests,
            needed_path="/api/v1/namespaces/default/secrets/observatory",
            exporter_path=f"{_EXPORTERS_PATH}/{_EXPORTER}",
        )
    url = f"https://{access.listen}"
    return _API.format(
        url=url,
        http_url=http_url,
        users=users,
        operator=access.tokens[OPERATOR],
        commands=commands,
    ).splitlines()


def draining() -> list[str]:
    """Return the text for the time when the agents have stopped."""
    return _DRAINING.splitlines()


def farewell(*, balanced: bool) -> list[str]:
    """Return the verdict, and what to try next."""
    return _FAREWELL.format(
        verdict=_BALANCED if balanced else _NOT_BALANCED,
        relay=command(),
        settings=shlex.quote(str(shown(CONFIG / SETTINGS_NAME))),
        manifests=shlex.quote(str(shown(CONFIG / CUSTOMERS[0]))),
        series=shlex.quote(example_series()),
    ).splitlines()


def command() -> str:
    """Return how to call this very program from the current directory, for a shell."""
    found = shutil.which("relay")
    beside = Path(sys.executable).with_name("relay")
    if found is not None and (not beside.is_file() or Path(found).samefile(beside)):
        return "relay"
    if beside.is_file():
        return shlex.quote(str(shown(beside)))
    return f"{shlex.quote(str(shown(Path(sys.executable))))} -m relay"


def configuration() -> list[str]:
    """Return every packaged file, each after its path."""
    lines: list[str] = []
    for path in config_files():
        lines += [f"# ==== {shown(path)}", "", path.read_text(encoding="utf-8")]
    return lines


def shown(path: Path) -> Path:
    """Return the path relative to the current directory if it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
