"""``python3 -m bench.newest``: build the newest releases of peers from the Go module proxy.

* Each peer is pinned to a version and built once, into ``bin`` of :func:`directory`, outside of the
  checkout; a stamp beside it records the recipe.
* A module with replacements in its go.mod cannot be installed directly: a module of our own
  requires it, with the same replacements. Kubernetes replaces modules by folders that are not
  published: the recipe says with which version those modules are published.
* cgo is used if there is a C compiler, as in the projects' own releases; Kubernetes needs none.
* Only the standard library is imported, because this runs before anything is installed.
* Needs Go 1.21 or newer; newer toolchains come from the proxy as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_COLLECTOR = "go.opentelemetry.io/collector"
_CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib"
_COLLECTOR_VERSION, _COLLECTOR_STABLE_VERSION = "v0.165.0", "v1.71.0"
_PROMETHEUS = "github.com/prometheus/prometheus"
_VICTORIA_METRICS = "github.com/VictoriaMetrics/VictoriaMetrics"
_VICTORIA_METRICS_VERSION = "v1.153.0"
_VICTORIA_LOGS = "github.com/VictoriaMetrics/VictoriaLogs"
_HELM = "helm.sh/helm/v3"
_KUBERNETES = "k8s.io/kubernetes"
_ETCD = "go.etcd.io/etcd/server/v3"
_MODULE = "relay.invalid/peer"


class BuildError(Exception):
    """Report a peer that cannot be built; the text has the reason."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Recipe of one peer's build.

    ``modules``: path to version, the peer's own first. ``package``: the package to build; "." for
    ``sources``, files of our own. ``link``: a linker variable with its value. ``folders``: the
    version of the modules that the peer's go.mod replaces by folders.
    """

    name: str
    modules: Mapping[str, str]
    package: str
    link: str = ""
    tags: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    folders: str = ""
    cgo: bool = True

    @property
    def version(self) -> str:
        """Version of the peer's own module."""
        return next(iter(self.modules.values()))

    @property
    def stamp(self) -> str:
        """Version, and a digest of everything else that determines the binary."""
        parts = (self.modules, self.package, self.link, self.tags, self.sources)
        text = repr(parts + ((self.folders, self.cgo) if self.folders or not self.cgo else ()))
        return f"{self.version} {hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def _victoria(name: str, module: str, version: str) -> Recipe:
    """Return the recipe of a command of VictoriaMetrics' projects."""
    buildinfo = f"{_VICTORIA_METRICS}/lib/buildinfo.Version={name}-{version}"
    return Recipe(name, {module: version}, f"{module}/app/{name}", link=buildinfo)


def _kubernetes(name: str, command: str, version: str) -> Recipe:
    """Return the recipe of a command of Kubernetes; "1.2.3" has its modules at 0.2.3."""
    return Recipe(
        name,
        {_KUBERNETES: f"v{version}"},
        f"{_KUBERNETES}/cmd/{command}",
        link=f"k8s.io/component-base/version.gitVersion=v{version}",
        folders=f"v0.{version.partition('.')[2]}",
        cgo=False,
    )


def _etcd(version: str) -> Recipe:
    """Return the recipe of an etcd with which an API server has streaming lists."""
    return Recipe("etcd", {_ETCD: version}, ".", sources={"main.go": _ETCD_MAIN}, cgo=False)


def _collector() -> Recipe:
    """Return the recipe of a Collector with the components that tests and the bench use."""
    components = {
        "Receivers": {f"{_COLLECTOR}/receiver/otlpreceiver": _COLLECTOR_VERSION},
        "Processors": {f"{_COLLECTOR}/processor/batchprocessor": _COLLECTOR_VERSION},
        "Exporters": {
            f"{_COLLECTOR}/exporter/debugexporter": _COLLECTOR_VERSION,
            f"{_COLLECTOR}/exporter/otlphttpexporter": _COLLECTOR_VERSION,
            f"{_CONTRIB}/exporter/fileexporter": _COLLECTOR_VERSION,
            f"{_CONTRIB}/exporter/prometheusexporter": _COLLECTOR_VERSION,
            f"{_CONTRIB}/exporter/prometheusremotewriteexporter": _COLLECTOR_VERSION,
        },
        "Extensions": {f"{_CONTRIB}/extension/healthcheckextension": _COLLECTOR_VERSION},
    }
    providers = {
        f"{_COLLECTOR}/confmap/provider/{name}provider": _COLLECTOR_STABLE_VERSION
        for name in ("env", "file", "yaml")
    }
    telemetry = f"{_COLLECTOR}/service/telemetry/otelconftelemetry"
    used = {path: v for group in components.values() for path, v in group.items()} | providers
    parts = {name: "\n".join(map(_factory, paths)) for name, paths in components.items()}
    imports = [
        *(f"{_COLLECTOR}/{name}" for name in ("component", "confmap", "otelcol")),
        *(f"{_COLLECTOR}/{name}" for name in ("exporter", "extension", "processor", "receiver")),
        *used,
        telemetry,
    ]
    source = _COLLECTOR_MAIN.format(
        imports="\n".join(f'\t"{path}"' for path in sorted(imports)),
        version=_COLLECTOR_VERSION.removeprefix("v"),
        providers="\n".join(map(_factory, providers)),
        **parts,
    )
    return Recipe(
        "otelcol",
        {
            f"{_COLLECTOR}/otelcol": _COLLECTOR_VERSION,
            f"{_COLLECTOR}/service": _COLLECTOR_VERSION,
            **used,
        },
        ".",
        sources={"main.go": source},
    )


def _factory(path: str) -> str:
    return f"\t\t{path.rpartition('/')[2]}.NewFactory(),"


_COLLECTOR_MAIN = """\
package main

import (
\t"os"

{imports}
)

func factories() (factories otelcol.Factories, err error) {{
\tfactories.Telemetry = otelconftelemetry.NewFactory()
\tif factories.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](
{Receivers}
\t); err != nil {{
\t\treturn
\t}}
\tif factories.Processors, err = otelcol.MakeFactoryMap[processor.Factory](
{Processors}
\t); err != nil {{
\t\treturn
\t}}
\tif factories.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](
{Exporters}
\t); err != nil {{
\t\treturn
\t}}
\tfactories.Extensions, err = otelcol.MakeFactoryMap[extension.Factory](
{Extensions}
\t)
\treturn
}}

func main() {{
\tsettings := otelcol.CollectorSettings{{
\t\tBuildInfo: component.BuildInfo{{Command: "otelcol", Version: "{version}"}},
\t\tFactories: factories,
\t}}
\tsettings.ConfigProviderSettings.ResolverSettings.ProviderFactories = []confmap.ProviderFactory{{
{providers}
\t}}
\tif otelcol.NewCommand(settings).Execute() != nil {{
\t\tos.Exit(1)
\t}}
}}
"""

_ETCD_MAIN = f"""\
package main

import (
\t"os"

\t"{_ETCD}/etcdmain"
)

func main() {{
\tetcdmain.Main(os.Args)
}}
"""

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _victoria("vmagent", _VICTORIA_METRICS, _VICTORIA_METRICS_VERSION),
        Recipe(
            "prometheus",
            {_PROMETHEUS: "v0.316.0"},
            f"{_PROMETHEUS}/cmd/prometheus",
            link="github.com/prometheus/common/version.Version=3.16.0",
            # Keeps static and file discovery; without "builtinassets" the pages are left out.
            tags="netgo,remove_all_sd",
        ),
        _collector(),
        _victoria("victoria-metrics", _VICTORIA_METRICS, _VICTORIA_METRICS_VERSION),
        _victoria("victoria-logs", _VICTORIA_LOGS, "v1.52.2"),
        # Without the variable it takes a cluster that it does not ask for one of 1.20.
        Recipe(
            "helm",
            {_HELM: "v3.22.0"},
            f"{_HELM}/cmd/helm",
            link=f"{_HELM}/pkg/chartutil.k8sVersionMinor=37",
        ),
        _kubernetes("kube-apiserver", "kube-apiserver", "1.37.2"),
        _kubernetes("kubectl-1.37", "kubectl", "1.37.2"),
        _kubernetes("kubectl-1.32", "kubectl", "1.32.13"),
        _etcd("v3.6.5"),
        # Not a program of others: a client of their library, for what only that can show.
        Recipe(
            "informer",
            {"k8s.io/client-go": "v0.37.2"},
            ".",
            sources={"main.go": (Path(__file__).parent / "informer.go").read_text("utf-8")},
            cgo=False,
        ),
    )
}


def directory() -> Path:
    """Return the peers' directory: ``$RELAY_PEERS`` or ``relay-peers`` in the user's cache."""
    given = os.environ.get("RELAY_PEERS")
    if given:
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relay-peers"


def binary(name: str) -> Path:
    """Return the path of a peer's binary."""
    return directory() / "bin" / RECIPES[name].name


def is_built(name: str) -> bool:
    """Return whether the pinned version of a peer is built."""
    try:
        stamp = _stamp_file(name).read_text(encoding="utf-8")
    except OSError:
        return False
    return stamp == RECIPES[name].stamp and os.access(binary(name), os.X_OK)


def build(name: str, jobs: int) -> None:
    """Build one peer. Raise BuildError."""
    recipe = RECIPES[name]
    go = _go()
    target = binary(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="relay-peer-") as scratch:
        source = Path(scratch)
        environment = {
            **os.environ,
            "GOTOOLCHAIN": "auto",
            "GOFLAGS": "-mod=mod -trimpath -buildvcs=false",
            "GOWORK": "off",
            # The compiler is multi-threaded, too.
            "GOMAXPROCS": str(jobs),
            "CGO_ENABLED": "1" if recipe.cgo and _has_compiler() else "0",
        }
        _write_module(go, recipe, source, environment)
        for file_name, text in recipe.sources.items():
            (source / file_name).write_text(text, encoding="utf-8")
        fresh = target.with_name(f"{name}.new")
        flags = f"-s -w -X {recipe.link}" if recipe.link else "-s -w"
        command = ["build", f"-p={jobs}", f"-tags={recipe.tags}", f"-ldflags={flags}"]
        _run(go, [*command, "-o", str(fresh), recipe.package], source, environment)
        fresh.replace(target)
    _stamp_file(name).write_text(recipe.stamp, encoding="utf-8")


def _has_compiler() -> bool:
    return shutil.which(os.environ.get("CC", "gcc")) is not None


def _go() -> str:
    """Return the go command, of a version that fetches other toolchains."""
    go = shutil.which("go")
    if go is None:
        raise BuildError("there is no Go; 1.21 or newer is needed: https://go.dev/dl/")
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    version = said.stdout.strip()
    found = re.match(r"go1\.(\d+)", version)
    if found is None or int(found[1]) < 21:
        raise BuildError(f"{go} is {version!r}; 1.21 or newer is needed: https://go.dev/dl/")
    return go


def _write_module(go: str, recipe: Recipe, source: Path, environment: Mapping[str, str]) -> None:
    """Write a go.mod that requires the peer's modules, with the first one's replacements."""
    first, version = next(iter(recipe.modules.items()))
    found = _run(go, ["mod", "download", "-json", f"{first}@{version}"], source, environment)
    own = _run(go, ["mod", "edit", "-json", json.loads(found)["GoMod"]], source, environment)
    own_mod = json.loads(own)
    requires = "".join(f"\t{path} {version}\n" for path, version in recipe.modules.items())
    replacements = own_mod.get("Replace") or []
    replaced = "".join(_replacement(one, recipe.folders) for one in replacements)
    # The line "go" selects the toolchain.
    text = (
        f"module {_MODULE}\n\ngo {own_mod['Go']}\n\n"
        f"require (\n{requires})\n\nreplace (\n{replaced})\n"
    )
    (source / "go.mod").write_text(text, encoding="utf-8")
    if recipe.package != ".":
        # Import the package, or its dependencies are not resolved.
        text = f'//go:build tools\n\npackage peer\n\nimport _ "{recipe.package}"\n'
        (source / "tools.go").write_text(text, encoding="utf-8")


def _replacement(one: Mapping[str, Any], folders: str) -> str:
    """Return a line of a replace block; "" for a folder where ``folders`` names no version."""
    old, new = one["Old"], one["New"]
    path, version = new["Path"], new.get("Version", "")
    if not version:
        path, version = old["Path"], folders
    return f"\t{old['Path']} {old.get('Version', '')} => {path} {version}\n" if version else ""


def _run(go: str, arguments: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    """Return the output of a go command."""
    done = subprocess.run(
        [go, *arguments],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise BuildError(f"go {' '.join(arguments)} failed:\n{said}")
    return done.stdout


def _stamp_file(name: str) -> Path:
    return directory() / f"{name}.stamp"


def main(arguments: list[str] | None = None) -> int:
    """Build the peers of the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m bench.newest",
        description="Build the newest vmagent, Prometheus, Collector, Kubernetes and others.",
        epilog="Exit 0, also where some could not be built; with --require, 1.",
    )
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="default: all cores")
    parser.add_argument("--require", action="store_true", help="exit 1 where one is missing")
    parser.add_argument("--missing", action="store_true", help="build nothing, print what is not")
    options = parser.parse_args(arguments)
    for name in options.peers:
        if name not in RECIPES:
            parser.error(f"there is no peer {name!r}; choose from {', '.join(RECIPES)}")
    names = options.peers or list(RECIPES)
    if options.missing:
        missing = [name for name in names if not is_built(name)]
        print(" ".join(missing))
        return 1 if missing and options.require else 0
    missing = []
    for name in names:
        version = RECIPES[name].version
        if not is_built(name):
            print(f"{name} {version}: building; minutes, the first time", flush=True)
            try:
                build(name, options.jobs)
            except (BuildError, OSError) as error:
                print(f"{name} {version}: NOT BUILT: {error}", file=sys.stderr, flush=True)
                missing.append(name)
                continue
        print(f"{name} {version}: {binary(name)}", flush=True)
    if missing:
        print(f"newest peers: MISSING: {' '.join(missing)}", file=sys.stderr)
    return 1 if missing and options.require else 0


if __name__ == "__main__":
    sys.exit(main())
