"""The daemon's settings: files, flags, defaults, every fault at once, and the commented example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from relay.config.settings.kubernetes import (
    KubernetesProjects,
    KubernetesRelays,
    KubernetesSettings,
    ServerPath,
)
from relay.config.settings.resource_labels import InventorySettings
from relay.config.settings.settings import (
    Account,
    ExporterPath,
    Ingest,
    ListenAddress,
    Log,
    Memory,
    SenderAuthentication,
    Settings,
    Shutdown,
    Storage,
    TenancySettings,
    TranslationSettings,
    load_settings,
)
from relay.runtime.errors import ConfigError
from relay.selector.inventory.info_series import InfoSeries
from relay.selector.resources.label_selector import Conventions, KindMarks, KindRow
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/settings"
EXAMPLE = ROOT / "config/relay.yaml"
BAD = sorted((DATA / "bad").glob("*.yaml"))
IRREGULAR = ("indices", "idx")


def faults_of(path: Path | None = None, overrides: dict[str, object] | None = None) -> list[str]:
    """Path and message of each fault, without the folder that the tests happen to be in."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path, overrides)
    return [
        (f"{fault.path}: {fault.message}" if fault.path else fault.message).replace(
            f"{DATA / 'bad'}/", ""
        )
        for fault in caught.value.faults
    ]


def test_without_a_file_everything_has_its_default() -> None:
    assert load_settings() == Settings()
    assert str(Settings().listen) == "127.0.0.1:9490"
    assert str(Settings().admin_listen) == "127.0.0.1:9491"


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n", "ingest:\nlog:\n"])
def test_an_empty_file_is_all_defaults(tmp_path: Path, content: str) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(content)
    assert load_settings(file) == Settings()


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_each_rule_has_its_fault(file: Path) -> None:
    expected = [
        line.removeprefix("# fault: ")
        for line in file.read_text().splitlines()
        if line.startswith("# fault: ")
    ]
    faults = faults_of(file)
    assert faults == expected
    assert not any(secret in str(faults) for secret in ("hunter2", "7345129"))


def test_every_setting_is_read() -> None:
    settings = load_settings(DATA / "good/everything-changed.yaml")
    assert settings == Settings(
        listen=ListenAddress("relay.example.com", 1),
        admin_listen=ListenAddress("127.0.0.1", 2),
        exporters=(ExporterPath(DATA / "good/exporters"),),
        storage=Storage(
            DATA / "good/data", bytes_max=1 << 30, fsync="always", fsync_interval_s=0.2
        ),
        memory=Memory(bytes_max=64 << 20),
        allow_private_endpoints=False,
        ingest=Ingest(
            body_bytes_max=1 << 20,
            decoded_bytes_max=2 << 20,
            concurrent_requests_max=3,
            labels_max=4,
            series_bytes_max=5 << 10,
            series_max=6,
            metadata_max=7,
            read_timeout_s=8.0,
            authentication=SenderAuthentication("basic", username="vmagent", password="hunter2"),
        ),
        translation=TranslationSettings(infer_types=False),
        shutdown=Shutdown(drain_timeout_s=90.0),
        log=Log("json", "debug"),
    )


def test_tenancy_and_files_are_read() -> None:
    settings = load_settings(DATA / "good/tenancy.yaml")
    assert settings.listen == ListenAddress("::1", 9490)
    assert str(settings.listen) == "[::1]:9490"
    assert settings.admin_listen == ListenAddress("", 9491)
    assert settings.tenancy == TenancySettings("resourcemanager_datumapis_com_project_name")
    assert settings.allow_private_endpoints is False
    assert settings.exporters == (
        ExporterPath(DATA / "good/acme", "acme"),
        ExporterPath(Path("/srv/umbrella.yaml"), "umbrella"),
    )
    assert settings.secrets == DATA / "good/../secrets"
    assert settings.ingest.authentication.token == "fake-token"
    assert settings.ingest.tls is not None
    assert settings.ingest.tls.client_ca_file == DATA / "good/../token"


def test_customers_and_resources_are_read() -> None:
    settings = load_settings(DATA / "good/customers.yaml")
    assert settings.tenancy == TenancySettings(
        "", (Account("42:7", "acme"), Account("0", "globex"))
    )
    assert [one.number for one in settings.tenancy.accounts] == [(42, 7), (0, 0)]
    assert settings.resources == Conventions(
        "group", "kind", "namespace", "name", "", "l_", "ns_", (KindRow("Index", IRREGULAR),)
    )
    assert settings.inventory == InventorySettings(
        (ExporterPath(DATA / "good/objects", "acme"),),
        (
            InfoSeries("workload_info", "workload", "ns", "workload", "l_"),
            InfoSeries("x_<kind>_labels"),
        ),
        10,
    )


def test_kubernetes_is_read() -> None:
    assert load_settings(DATA / "good/kubernetes.yaml").kubernetes == KubernetesSettings(
        DATA / "good/admin.conf",
        namespaces=("monitoring", "default"),
        projects=KubernetesProjects(
            server_path=ServerPath("/projects/{project}/control-plane", ("acme", "umbrella"))
        ),
        status_writes_per_second_max=7,
        relays=KubernetesRelays(
            "telemetry",
            "relays",
            DATA / "good/relays.conf",
            "https://10.0.0.7:9491",
            DATA / "good/relays-ca.crt",
        ),
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{inCluster: true}", KubernetesSettings(in_cluster=True)),
        (
            "{inCluster: true, projects: {namespaceLabel: a.io/b}}",
            KubernetesSettings(in_cluster=True, projects=KubernetesProjects("a.io/b")),
        ),
        (
            "{projects: {kubeconfigs: /planes}}",
            KubernetesSettings(projects=KubernetesProjects(kubeconfigs=Path("/planes"))),
        ),
    ],
)
def test_each_access_to_kubernetes_is_read(
    tmp_path: Path, content: str, expected: KubernetesSettings
) -> None:
    file = tmp_path / "relay.yaml"
    tenancy = "tenancy: {label: project}\n" if expected.projects else ""
    file.write_text(f"{tenancy}kubernetes: {content}\n")
    assert load_settings(file).kubernetes == expected


@pytest.mark.parametrize(
    "path", ["{project}", "/a/../{project}", "/a b/{project}", "/a?b={project}"]
)
def test_a_servers_path_must_be_one(tmp_path: Path, path: str) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(
        "tenancy: {label: project}\nkubernetes:\n  inCluster: true\n"
        f"  projects: {{serverPath: {{path: '{path}', names: [a]}}}}\n"
    )
    (fault,) = faults_of(file)
    assert fault == (
        'kubernetes.projects.serverPath.path: must be a path that begins with "/", such as '
        '"/projects/{project}"'
    )


def test_the_table_of_kinds_is_read() -> None:
    assert load_settings(DATA / "good/kinds.yaml").resources.kinds == (
        KindRow(
            "Gateway",
            group="g.io",
            name_label="gateway_name",
            namespace_label="",
            marks=KindMarks(label="gateway_name"),
        ),
        KindRow(
            "Index",
            ("idx",),
            "indices",
            uid_label="uid",
            marks=KindMarks("index:", "a", (("b", "c"), ("d", "1"))),
        ),
        KindRow("Mouse", plural="mice"),
    )


def test_a_fault_in_the_table_of_kinds_has_its_line_and_place() -> None:
    file = DATA / "bad/kinds.yaml"
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    message, _, caret = str(caught.value.faults[1]).splitlines()
    assert message == (
        f'{file}:22:7: resources.kinds[1].group: is required with marks; "" is the core group'
    )
    assert caret == "          ^"
    rows = [str(fault).splitlines()[1:] for fault in caught.value.faults]
    assert all(line.strip() and caret.strip() == "^" for line, caret in rows)


def test_private_endpoints_may_be_allowed_with_tenancy(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text("tenancy: {label: project}\nallowPrivateEndpoints: true\n")
    assert load_settings(file).allow_private_endpoints is True


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8 text")],
)
def test_a_credential_file_must_hold_something(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "token").write_bytes(content)
    file = tmp_path / "relay.yaml"
    file.write_text("ingest: {authentication: {type: bearer, tokenFile: token}}\n")
    assert faults_of(file) == [f"ingest.authentication.tokenFile: {tmp_path / 'token'} {message}"]


def test_flags_replace_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        DATA / "good/everything-changed.yaml",
        {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "exporters": ["one", Path("/two")],
            "secrets": "mounted",
            "data": None,
            "log_format": "text",
            "log_level": None,
        },
    )
    assert settings.listen == settings.admin_listen == ListenAddress("127.0.0.1", 0)
    assert settings.exporters == (ExporterPath(tmp_path / "one"), ExporterPath(Path("/two")))
    assert settings.secrets == tmp_path / "mounted"
    assert settings.log == Log("text", "debug")


def test_a_flag_mends_what_the_file_says_wrongly() -> None:
    settings = load_settings(DATA / "bad/listen-number.yaml", {"listen": "127.0.0.1:1"})
    assert settings.listen == ListenAddress("127.0.0.1", 1)


def test_a_flags_fault_names_the_flag_beside_the_files_own(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text("tenancy: {label: project}\nlog: {levl: info}\n")
    overrides: dict[str, object] = {
        "listen": "nowhere",
        "exporters": ["manifests"],
        "log_level": "loud",
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(file, overrides)
    assert [(fault.path, fault.origin) for fault in caught.value.faults] == [
        ("--listen", "command line"),
        ("--exporters", "command line"),
        ("--log-level", "command line"),
        ("log.levl", f"{file}:2:7"),
    ]


def test_the_data_flag_replaces_the_path_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {"data": "data"}).storage == Storage(tmp_path / "data")
    settings = load_settings(DATA / "good/everything-changed.yaml", {"data": "elsewhere"})
    assert settings.storage == Storage(
        tmp_path / "elsewhere", bytes_max=1 << 30, fsync="always", fsync_interval_s=0.2
    )


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "relay.yaml") == ["cannot be read: No such file or directory"]


def test_credentials_stay_out_of_repr() -> None:
    settings = load_settings(DATA / "good/everything-changed.yaml")
    assert settings.ingest.authentication.password == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings}"
    assert "fake-token" not in repr(load_settings(DATA / "good/tenancy.yaml"))


def yaml_name(field: str) -> str:
    """``body_bytes_max`` is ``maxBodyBytes`` in YAML, ``read_timeout_s`` is ``readTimeout``."""
    words = field.removesuffix("_s").split("_")
    if words[-1] == "max":
        words = ["max", *words[:-1]]
    return words[0] + "".join(word.capitalize() for word in words[1:])


def paths_of_model(model: type[Any], prefix: str = "") -> set[str]:
    """The YAML path of every setting that a class of settings has."""
    paths: set[str] = set()
    for field in model.__match_args__:
        path = prefix + yaml_name(field)
        paths.add(path)
        hint = get_type_hints(model)[field]
        for nested in (hint, *get_args(hint)):
            if hasattr(nested, "__match_args__") and nested is not ListenAddress:
                paths |= paths_of_model(nested, f"{path}.")
    return paths


def paths_of_yaml(value: object, prefix: str = "") -> set[str]:
    """The path of every key in a YAML value, lists left out."""
    if isinstance(value, list):
        return set().union(*(paths_of_yaml(item, prefix) for item in value))
    if not isinstance(value, dict):
        return set()
    nested = (paths_of_yaml(item, f"{prefix}{key}.") for key, item in value.items())
    return {f"{prefix}{key}" for key in value}.union(*nested)


def test_the_example_is_good_says_the_defaults_and_exports_to_nobody() -> None:
    assert load_settings(EXAMPLE) == Settings()
    assert Settings().exporters == ()


def test_the_example_has_every_setting_and_no_other() -> None:
    uncommented = re.sub(r"^( *)#(?=[A-Za-z]|- )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert paths_of_yaml(yaml.safe_load(uncommented)) == paths_of_model(Settings)


def test_every_setting_of_the_example_is_explained() -> None:
    lines = EXAMPLE.read_text().splitlines()
    settings = [index for index, line in enumerate(lines) if re.match(r" *#?(- )?[A-Za-z]+:", line)]
    assert len(settings) > 30
    assert [lines[index] for index in settings if not re.match(" *# ", lines[index - 1])] == []
