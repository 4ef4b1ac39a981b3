"""Tests of every way to sign in that the questions offer, with the adapter's own credentials class.

Runs where the seven adapters are installed together. Nothing leaves the machine: hosts of vendors are reached
through a proxy on loopback, which notes who is asked for and refuses.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dbt.adapters.contracts.connection import Credentials
from dbt.cli.main import dbtRunner
from dbt.config.profile import Profile
from dbt.config.renderer import ProfileRenderer
from dbt.flags import set_from_args
from dbt_common.context import set_invocation_context
from dotenv import dotenv_values
from packaging.requirements import Requirement

from tests.combinations import questions
from tools.rendering import TARGETS, facts, render, sign_ins

pytestmark = pytest.mark.filterwarnings("ignore")  # dbt and its adapters warn of themselves
QUIET = ["--quiet", "--no-send-anonymous-usage-stats", "--no-version-check"]
PASSPHRASE = "a passphrase"
STARTS = sorted(set(questions()["start_from"]["choices"].values()) - {"existing"})
TLS_OF_POSTGRES = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # its SSLRequest
TLS = b"\x16\x03"
SNOWFLAKE = b"CONNECT org-account.snowflakecomputing.com:443 "
GOOGLE = b"CONNECT oauth2.googleapis.com:443 "
DATABRICKS = b"CONNECT workspace.invalid:443 "
# What goes over the wire first: it shows that host and port are those of the variables, and that TLS is on.
FIRST_BYTES = {
    ("snowflake", "key_pair"): SNOWFLAKE,
    ("snowflake", "oauth"): SNOWFLAKE,
    ("snowflake", "externalbrowser"): SNOWFLAKE,
    ("snowflake", "password"): SNOWFLAKE,
    ("bigquery", "oauth"): GOOGLE,
    ("bigquery", "service_account"): GOOGLE,
    ("redshift", "password"): TLS_OF_POSTGRES,
    ("redshift", "iam"): b"CONNECT redshift.eu-west-1.amazonaws.com:443 ",
    ("databricks", "token"): DATABRICKS,
    ("databricks", "oauth"): DATABRICKS,
    ("postgres", "password"): TLS_OF_POSTGRES,
    ("spark", "thrift"): TLS,
    ("spark", "http"): TLS,
}
NEVER_CONNECT = {
    ("duckdb", "file"),  # has no server
    ("duckdb", "motherduck"),  # downloads MotherDuck's client first, and not through a proxy
    ("spark", "session"),  # has no server: Spark starts in dbt's process, which takes pyspark and Java
}


@dataclass(frozen=True)
class Project:
    """A rendered project, and throw-away values for what its profile asks for."""

    target: str
    method: str
    root: Path
    keys: Path

    @property
    def text(self) -> str:
        return (self.root / "dbt" / "profiles.yml").read_text()

    @property
    def raw_profile(self) -> dict[str, Any]:
        profile: dict[str, Any] = next(iter(yaml.safe_load(self.text).values()))
        return profile

    @property
    def required(self) -> set[str]:
        return set(re.findall(r"env_var\('(\w+)'\)", self.text))

    @property
    def optional(self) -> set[str]:
        return set(re.findall(r"env_var\('(\w+)',", self.text)) - {"DBT_TARGET"}

    @property
    def secret(self) -> set[str]:
        variables = facts(self.target)["variables"].items()
        return {name for name, variable in variables if variable.get("secret")}

    def values(self) -> dict[str, str]:
        """Return a value for each variable that is required."""
        known = {
            "SNOWFLAKE_ACCOUNT": "org-account",
            "DBT_PRIVATE_KEY_PATH": str(self.keys / "plain.p8"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.keys / "service_account.json"),
            "DATABRICKS_HOST": "workspace.invalid",
            "REDSHIFT_HOST": "127.0.0.1",
            "REDSHIFT_REGION": "eu-west-1",
            "SPARK_HOST": "127.0.0.1",
        }
        return {name: known.get(name, f"a-{name.lower()}") for name in self.required}

    def every_value(self) -> dict[str, str]:
        """Return a value for each variable, the optional ones too."""
        values = self.values() | {name: f"a-{name.lower()}" for name in self.optional}
        values |= {name: "7" for name in self.optional if re.search("PORT|SECONDS|BYTES", name)}
        values |= {name: "verify-full" for name in self.optional if name.endswith("SSLMODE")}
        if self.method == "key_pair":
            values["DBT_PRIVATE_KEY_PATH"] = str(self.keys / "protected.p8")
            values["SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"] = PASSPHRASE
        return values

    def credentials(self, output: str, values: dict[str, str]) -> Credentials:
        """Load an output as dbt does before it connects."""
        set_from_args(Namespace(), None)
        set_invocation_context(values)
        profile = Profile.from_raw_profile_info(self.raw_profile, "any", ProfileRenderer({}), target_override=output)
        return profile.credentials

    def parse(self) -> str:
        """Run `dbt parse` in this process and return the type of the adapter that it chose."""
        place = str(self.root / "dbt")
        options = ["--no-partial-parse", "--project-dir", place, "--profiles-dir", place]
        result = dbtRunner().invoke([*QUIET, "parse", *options])
        if result.exception:
            raise result.exception
        manifest: Any = result.result
        adapter: str = manifest.metadata.adapter_type
        return adapter


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make throw-away keys: with and without passphrase, of a service account, and gcloud's of a person."""
    folder = tmp_path_factory.mktemp("keys")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    protections: dict[str, serialization.KeySerializationEncryption] = {
        "plain.p8": serialization.NoEncryption(),
        "protected.p8": serialization.BestAvailableEncryption(PASSPHRASE.encode()),
    }
    for name, protection in protections.items():
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        (folder / name).write_bytes(pem)
    service_account = {
        "type": "service_account",
        "private_key": (folder / "plain.p8").read_text(),
        "client_email": "dbt@a-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (folder / "service_account.json").write_text(json.dumps(service_account))
    person = {"type": "authorized_user", "client_id": "1", "client_secret": "2", "refresh_token": "3"}
    (folder / "application_default_credentials.json").write_text(json.dumps(person))
    return folder


@pytest.fixture(scope="module")
def sample(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return what renders the sample project of one way to sign in, once."""
    folder = tmp_path_factory.mktemp("projects")

    def root(target: str, method: str) -> Path:
        destination = folder / f"{target}-{method}"
        if not destination.exists():
            render(template, destination, compute_target=target, auth_method=method)
        return destination

    return root


@pytest.fixture(params=sign_ins(), ids="-".join)
def project(
    request: pytest.FixtureRequest,
    sample: Callable[[str, str], Path],
    keys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    """Render one way to sign in, where none of its variables is set."""
    target, method = request.param
    project = Project(target, method, sample(target, method), keys)
    for name in os.environ.keys() - {"PATH", "HOME"}:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    if (target, method) == ("spark", "session"):
        # dbt-spark imports pyspark to accept this method and no more: its 500 MB are not needed here.
        (tmp_path / "pyspark.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    return project


def test_parses_without_a_variable(project: Project) -> None:
    """A fresh project parses on DuckDB with no variable set, whatever its target."""
    assert "duckdb" == project.parse()


@pytest.mark.parametrize("output", ["dev", "prod"])
@pytest.mark.parametrize("start", STARTS)
def test_parses_for_its_target(
    project: Project, output: str, start: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its variables set, each dbt project of the template's parses for its own target."""
    root = render(
        template, tmp_path / start, compute_target=project.target, auth_method=project.method, start_from=start
    )
    for name, value in (project.values() | {"DBT_TARGET": output}).items():
        monkeypatch.setenv(name, value)
    assert facts(project.target)["adapter"] == replace(project, root=root).parse()


@pytest.mark.parametrize("output", ["dev", "prod", "local"])
@pytest.mark.parametrize("every", [False, True], ids=["required", "every"])
def test_credentials_are_accepted(project: Project, output: str, every: bool) -> None:
    """The adapter accepts each output, with the required variables set and with all."""
    values = project.every_value() if every else project.values()
    credentials: Any = project.credentials(output, values)
    if project.method == "key_pair" and output != "local":
        assert credentials.auth_args()["private_key"].startswith(b"0\x82"), "the key was not read"
    expected = "duckdb" if output == "local" else facts(project.target)["adapter"]
    assert expected == credentials.type


@pytest.mark.parametrize("output", ["dev", "prod", "local"])
def test_every_key_is_known(project: Project, output: str) -> None:
    """No key of an output is unknown to the adapter, which would pass over it in silence."""
    credentials = type(project.credentials(output, project.values()))
    known = {field.name for field in fields(credentials)} | credentials._ALIASES.keys()
    assert {"type", "threads"} == project.raw_profile["outputs"][output].keys() - known


@pytest.mark.parametrize("output", ["dev", "prod"])
def test_a_missing_variable_is_named(project: Project, output: str) -> None:
    """Each required variable that is missing is named by the error."""
    named = set()
    for name in project.required:
        values = project.values()
        del values[name]
        with pytest.raises(Exception, match=f"Env var required but not provided: '{name}'"):
            project.credentials(output, values)
        named.add(name)
    assert project.required == named


def test_local_needs_no_variable(project: Project) -> None:
    """The output local asks for nothing, and its file lies in the project's data folder."""
    credentials: Any = project.credentials("local", {})
    assert project.root / "local" / "warehouse.duckdb" == (project.root / "dbt" / credentials.path).resolve()


@pytest.mark.parametrize("folder", ["transform", "a/b", "."])
def test_local_file_of_an_existing_project(folder: str, template: Path, tmp_path: Path) -> None:
    """Wherever an existing dbt project lies, its local file lies in the project's data folder."""
    root = tmp_path / "project"
    answers = {"start_from": "existing", "dbt_project_dir": folder, "package_name": "shop"}
    (root / folder).mkdir(parents=True)
    (root / folder / "dbt_project.yml").touch()
    render(template, root, compute_target="snowflake", **answers)
    profile = yaml.safe_load((root / "profiles" / "profiles.yml").read_text())["shop"]
    [default] = re.findall(r"env_var\('DUCKDB_PATH', '(.*)'\)", profile["outputs"]["local"]["path"])
    assert root / "local" / "warehouse.duckdb" == (root / folder / default).resolve()


def test_no_secret_is_shown(project: Project) -> None:
    """What dbt prints of a connection, in `dbt debug` and its log, holds no secret."""
    values = project.every_value()
    shown = str(list(project.credentials("dev", values).connection_info(with_aliases=True)))
    assert [] == [name for name in project.secret & values.keys() if values[name] in shown]


def test_env_example_lists_what_the_profile_asks_for(project: Project) -> None:
    """.env.example sets nothing when copied; its names are the profile's, the deployment's and the standard ones."""
    text = (project.root / ".env.example").read_text()
    assert {} == dotenv_values(stream=StringIO(text))
    names = dotenv_values(stream=StringIO(re.sub(r"(?m)^# (\w+=)$", r"\1", text)))
    standard = {
        "DBT_TARGET",
        "OPENLINEAGE_URL",
        "OPENLINEAGE_API_KEY",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
    }
    of_alerts = {
        *("FLOE_ALERT_WEBHOOK", "FLOE_ALERT_EMAIL_TO", "FLOE_ALERT_EMAIL_FROM"),
        *("SMTP_HOST", "SMTP_PORT", "SMTP_USER", "SMTP_PASSWORD"),
        *("FLOE_DAGSTER_URL", "FLOE_TRACE_URL", "FLOE_LINEAGE_URL"),
    }
    of_compose = {"DAGSTER_POSTGRES_PASSWORD", "IMAGE", "IMAGE_TAG"}
    assert of_compose <= set(re.findall(r"\$\{(\w+)", (project.root / "compose.yaml").read_text()))
    assert dict.fromkeys(project.required | project.optional | standard | of_compose | of_alerts, "") == names


def test_every_way_connects_or_says_why_not() -> None:
    """A new way to sign in gets a line in FIRST_BYTES, or in NEVER_CONNECT with its reason."""
    assert set(sign_ins()) == FIRST_BYTES.keys() | NEVER_CONNECT


@pytest.mark.parametrize(("target", "method"), FIRST_BYTES, ids=map("-".join, FIRST_BYTES))
def test_first_bytes_show_host_and_tls(
    target: str,
    method: str,
    sample: Callable[[str, str], Path],
    keys: Path,
) -> None:
    """`dbt debug` comes as far as the connection: to the host and port of the variables, over TLS."""
    project = Project(target, method, sample(target, method), keys)
    expected = FIRST_BYTES[target, method]
    with listening() as (port, received):
        environment = {"PATH": os.environ["PATH"], "HOME": str(keys), "DBT_TARGET": "dev"}
        environment |= project.values()
        if expected.startswith(b"CONNECT"):
            environment["HTTPS_PROXY"] = f"http://127.0.0.1:{port}"
            # What the machine of a person brings along who is signed in to AWS and to Google.
            environment |= {"AWS_ACCESS_KEY_ID": "1", "AWS_SECRET_ACCESS_KEY": "2"}
            environment |= {"CLOUDSDK_CONFIG": str(keys), "REDSHIFT_CLUSTER_ID": "a-cluster"}
        else:
            environment[f"{target.upper()}_HOST"] = "127.0.0.1"
            environment[f"{target.upper()}_PORT"] = str(port)
        said = debug(project.root / "dbt", environment, until=lambda: bool(received))
    assert received, said
    # The whole of it from PostgreSQL's clients: after a refusal of TLS nothing may follow in plain text.
    assert expected == (received[0] if expected == TLS_OF_POSTGRES else received[0][: len(expected)])


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """Listen on a free port, note what each connection says first, and refuse it."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    said = connection.recv(1024)
                    if said == TLS_OF_POSTGRES:
                        connection.sendall(b"N")  # how PostgreSQL refuses TLS
                        connection.settimeout(3)  # Redshift's client says nothing, and does not hang up
                        with suppress(TimeoutError):
                            said += connection.recv(1024)
                    received.append(said)

        Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], received
        server.shutdown(socket.SHUT_RDWR)


def debug(place: Path, environment: dict[str, str], until: Callable[[], bool]) -> str:
    """Run `dbt debug` until something holds, for two minutes at most: drivers retry for longer than that."""
    with (place / "debug.txt").open("w+") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("dbt")),
                *QUIET,
                "debug",
                "--connection",
                "--profiles-dir",
                ".",
            ],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and not until() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
        log.seek(0)
        return log.read()


@pytest.mark.parametrize("target", TARGETS)
def test_tried_with_the_versions_that_projects_ask_for(target: str) -> None:
    """The adapters installed here, all in one environment, are within the ranges of the facts."""
    requirement = Requirement(facts(target)["requirement"])
    assert requirement.specifier.contains(version(requirement.name))
