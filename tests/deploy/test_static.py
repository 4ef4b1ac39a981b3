"""Static checks of the files of a deployment, for different targets and starting points."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from tools.rendering import render, run

CHART: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "chart.yml").read_text())
KUBERNETES = "1.34"  # a version that is supported now
PROJECTS: dict[str, dict[str, str]] = {
    "compose": {},
    "compose-server": {"compute_target": "postgres"},
    "compose-existing": {
        "start_from": "existing",
        "dbt_project_dir": "../transform",
        "folder_in_repository": "pipeline",
        "deployment": "compose",
    },
    "kubernetes": {"deployment": "kubernetes"},
    "kubernetes-server": {"deployment": "kubernetes", "compute_target": "postgres"},
}
COMPOSE = [name for name in PROJECTS if name.startswith("compose")]
ON_KUBERNETES = [name for name in PROJECTS if name.startswith("kubernetes")]


@pytest.fixture(scope="module")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a project of each kind."""
    folder = tmp_path_factory.mktemp("projects")
    return {
        name: render(template, folder / name / "pipeline", project_name="pipeline", **answers)
        for name, answers in PROJECTS.items()
    }


def documents(file: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(file.read_text()))


def values(project: Path) -> dict[str, Any]:
    """Return the values for the chart."""
    [found] = documents(project / "deploy" / "kubernetes" / "values.yaml")
    return found


class TestImage:
    """Dockerfile and its workflow."""

    @pytest.mark.parametrize("name", PROJECTS)
    def test_hadolint(self, projects: dict[str, Path], name: str) -> None:
        """Hadolint finds nothing."""
        done = run("hadolint", "--failure-threshold=style", "Dockerfile", cwd=projects[name])

        assert (0, "") == (done.returncode, done.stdout)

    @pytest.mark.parametrize("name", PROJECTS)
    def test_context(self, projects: dict[str, Path], name: str) -> None:
        """Each path that the Dockerfile copies from its context is there, and dbt's project is one of them or below."""
        project = projects[name]
        context = project.parent if "existing" in name else project
        (context / "transform").mkdir(exist_ok=True)
        text = (project / "Dockerfile").read_text()
        copied = [line.split()[1:-1] for line in text.splitlines() if re.match(r"COPY (?!--from)", line)]

        paths = [path for paths in copied for path in paths if "uv.loc[k]" not in path]
        assert [] == [path for path in paths if not (context / path).exists()]
        dbt = (project / PROJECTS[name].get("dbt_project_dir", "dbt")).resolve()
        assert any((context / path).resolve() in (dbt, *dbt.parents) for path in paths)

    def test_secrets(self, projects: dict[str, Path]) -> None:
        """Neither context contains `.env`, a virtual environment or a warehouse."""
        for file in (".dockerignore", "Dockerfile.dockerignore"):
            lines = {line.removeprefix("**/") for line in (projects["compose-existing"] / file).read_text().split()}

            assert {".env*", ".git/", ".venv/"} <= lines

    @pytest.mark.parametrize("name", PROJECTS)
    def test_versions(self, projects: dict[str, Path], name: str) -> None:
        """The image has the uv of CI, and a Python that the project supports."""
        dockerfile, workflow = (
            (projects[name] / file).read_text() for file in ("Dockerfile", ".github/workflows/floe.yml")
        )
        pyproject = tomllib.loads((projects[name] / "pyproject.toml").read_text())
        [uv] = re.findall(r"astral-sh/uv:(\S+)", dockerfile)
        [python] = set(re.findall(r"^FROM python:3\.(\d+)-", dockerfile, re.MULTILINE))

        assert f'version: "{uv}"' in workflow
        assert pyproject["project"]["requires-python"] == ">=3.11,<3.14"
        assert 11 <= int(python) < 14

    @pytest.mark.parametrize("name", PROJECTS)
    def test_duckdb(self, projects: dict[str, Path], name: str) -> None:
        """Without its development group, a project for another target does not have DuckDB; with `deploy` neither."""
        pyproject = tomllib.loads((projects[name] / "pyproject.toml").read_text())
        installed = " ".join([*pyproject["project"]["dependencies"], *pyproject["dependency-groups"]["deploy"]])

        assert ("duckdb" in installed) == ("compute_target" not in PROJECTS[name])


class TestCompose:
    """compose.yaml and the settings that it uses."""

    @pytest.mark.parametrize("name", COMPOSE)
    def test_schema(self, projects: dict[str, Path], name: str) -> None:
        """The schema of the Compose specification passes."""
        done = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml", cwd=projects[name])

        assert 0 == done.returncode, done.stdout

    @pytest.mark.parametrize("name", COMPOSE)
    def test_hardened(self, projects: dict[str, Path], name: str) -> None:
        """Each service of ours is read-only and has no capabilities; each service has a place in the start order."""
        [compose] = documents(projects[name] / "compose.yaml")
        own = [service for service in compose["services"].values() if "build" in service]

        assert 3 == len(own)
        for service in own:
            assert service["read_only"]
            assert ["ALL"] == service["cap_drop"]
            assert ["no-new-privileges:true"] == service["security_opt"]
            assert {"condition": "service_healthy"} in service["depends_on"].values()
        volumes = {
            mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", ())
        }
        assert compose["volumes"].keys() == volumes

    @pytest.mark.parametrize("name", COMPOSE)
    def test_variables(self, projects: dict[str, Path], name: str) -> None:
        """Each required variable is in .env.example, and each that dagster.yaml reads has a value."""
        text = (projects[name] / "compose.yaml").read_text()
        [compose] = documents(projects[name] / "compose.yaml")
        settings = (projects[name] / "deploy" / "dagster.yaml").read_text()
        example = (projects[name] / ".env.example").read_text()

        required = set(re.findall(r"\$\{(\w+):\?", text))
        read = set(re.findall(r"\{env: (\w+)\}", settings))
        assert [] == [variable for variable in required if f"# {variable}=" not in example]
        for service in ("code-server", "webserver", "daemon"):
            assert read <= compose["services"][service]["environment"].keys(), service

    @pytest.mark.parametrize("name", COMPOSE)
    def test_settings(self, projects: dict[str, Path], name: str) -> None:
        """Dagster accepts dagster.yaml; a file has one writer; no telemetry."""
        config, _ = dagster_instance_config(str(projects[name] / "deploy"))

        assert not config["telemetry"]["enabled"]
        assert config["run_monitoring"]["enabled"]
        assert config["run_retries"]["enabled"]
        assert (4 if "server" in name else 1) == config["concurrency"]["pools"]["default_limit"]

    @pytest.mark.parametrize("name", COMPOSE)
    def test_port(self, projects: dict[str, Path], name: str) -> None:
        """Image, workspace and health check agree on the code server's port."""
        dockerfile = (projects[name] / "Dockerfile").read_text()
        [workspace] = documents(projects[name] / "deploy" / "workspace.yaml")
        server = workspace["load_from"][0]["grpc_server"]

        assert server["host"] in documents(projects[name] / "compose.yaml")[0]["services"]
        assert {str(server["port"])} == set(re.findall(r'(?:"-p"|"--port"), "(\d+)"|EXPOSE (\d+)', dockerfile)[0]) - {
            ""
        }


class TestKubernetes:
    """deploy/kubernetes/."""

    @pytest.mark.parametrize("name", ON_KUBERNETES)
    def test_values_by_an_excerpt_of_the_charts_schema(self, projects: dict[str, Path], name: str) -> None:
        """Each value is one that the chart knows, by a hand-written excerpt of the chart's own schema."""
        jsonschema.Draft202012Validator(CHART).validate(values(projects[name]))

    @pytest.mark.parametrize("wrong", [{"dagsterDaemon": {"runRetrys": {}}}, {"telemetrie": {}}], ids=str)
    def test_unknown_value(self, wrong: dict[str, Any]) -> None:
        """The excerpt refuses a value that the chart does not know."""
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(CHART).validate(wrong)

    @pytest.mark.parametrize("name", ON_KUBERNETES)
    def test_manifests(self, projects: dict[str, Path], name: str) -> None:
        """Kubernetes' own schemas accept each manifest, and pods made from the values."""
        folder = projects[name] / "deploy" / "kubernetes"
        manifests = [
            document for file in folder.glob("*.yaml") if file.name != "values.yaml" for document in documents(file)
        ]
        pods = list(pods_of(values(projects[name])))

        assert len(manifests) > 5
        assert 4 == len(pods)
        for manifest in (*manifests, *pods):
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)

    @pytest.mark.parametrize("name", ON_KUBERNETES)
    def test_hardened(self, projects: dict[str, Path], name: str) -> None:
        """No pod runs as root, writes to its image, or lacks a limit of memory; all have /tmp."""
        for pod in pods_of(values(projects[name])):
            [container] = pod["spec"]["containers"]
            assert pod["spec"]["securityContext"]["runAsNonRoot"]
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert {"ALL"} == set(container["securityContext"]["capabilities"]["drop"])
            assert "memory" in container["resources"]["limits"]
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]

    @pytest.mark.parametrize("name", ON_KUBERNETES)
    def test_settings(self, projects: dict[str, Path], name: str, tmp_path: Path) -> None:
        """Dagster accepts the settings for which the chart has no values."""
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(values(projects[name])["additionalInstanceConfig"]))

        config, _ = dagster_instance_config(str(tmp_path))

        assert 1 == config["run_retries"]["max_retries"]
        assert (4 if "server" in name else 1) == values(projects[name])["concurrency"]["pools"]["defaultLimit"]

    @pytest.mark.parametrize("name", ON_KUBERNETES)
    def test_names(self, projects: dict[str, Path], name: str) -> None:
        """The README makes each secret and volume of the values, and names the chart of the project's Dagster."""
        folder = projects[name] / "deploy" / "kubernetes"
        readme, text = (folder / "README.md").read_text(), (folder / "values.yaml").read_text()
        claims = [document["metadata"]["name"] for document in documents(folder / "state.yaml")]
        pyproject = tomllib.loads((projects[name] / "pyproject.toml").read_text())
        [version] = [
            re.search(r">=([\d.]+)", line)
            for line in pyproject["project"]["dependencies"]
            if re.match(r"dagster>", line)
        ]

        [deployment] = values(projects[name])["dagster-user-deployments"]["deployments"]
        for secret in ("dagster-postgresql-secret", *(secret["name"] for secret in deployment["envSecrets"])):
            assert f"kubectl create secret generic {secret} " in readme
        assert claims == re.findall(r"claimName: (\S+?)\}", text)
        assert version
        assert f"--version {version[1]} " in readme
        assert f"version {version[1]}:" in text

    @pytest.mark.parametrize("name", ON_KUBERNETES)
    def test_ports(self, projects: dict[str, Path], name: str) -> None:
        """The network policies open the ports of the values, and no others but the database's."""
        found = values(projects[name])
        [deployment] = found["dagster-user-deployments"]["deployments"]
        policies = documents(projects[name] / "deploy" / "kubernetes" / "network-policy.yaml")
        opened = {
            port["port"] for policy in policies for rule in policy["spec"].get("ingress", ()) for port in rule["ports"]
        }

        assert {deployment["port"], found["dagsterWebserver"]["service"]["port"], 5432} == opened
        assert found["dagsterWebserver"]["readinessProbe"]["httpGet"]["port"] in opened


def pods_of(chart_values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a pod for the code server, the webserver, the daemon and a run, made from what the chart hands on."""
    [code_server] = chart_values["dagster-user-deployments"]["deployments"]
    launcher = chart_values["runLauncher"]["config"]["k8sRunLauncher"]
    run_pod = code_server | {"securityContext": launcher["securityContext"]}
    run_spec = launcher["runK8sConfig"]["podSpecConfig"]
    for part, more in (
        (code_server, {}),
        (chart_values["dagsterWebserver"], {}),
        (chart_values["dagsterDaemon"], {}),
        (run_pod, run_spec),
    ):
        probes = {
            name: {key: value for key, value in part[name].items() if key != "enabled"}
            for name in ("readinessProbe", "livenessProbe", "startupProbe")
            if name in part
        }
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod"},
            "spec": {
                "securityContext": part["podSecurityContext"],
                "volumes": part["volumes"],
                "containers": [
                    {
                        "name": "container",
                        "image": f"{part['image']['repository']}:{part['image']['tag']}",
                        "env": part.get("env", []),
                        "envFrom": [{"secretRef": secret} for secret in part.get("envSecrets", [])],
                        "volumeMounts": part["volumeMounts"],
                        "securityContext": part["securityContext"],
                        "resources": part["resources"],
                        **probes,
                    }
                ],
                **more,
            },
        }
