"""The OpenLineage jobs of a dbt command, of its nodes and of a step of Python code: their names and facets.

In: a node of the manifest or a step, and the repository. Out: a name, and the facets of https://openlineage.io/docs/spec/facets/job-facets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from openlineage.client.facet_v2 import (
    JobFacet,
    documentation_job,
    job_type_job,
    ownership_job,
    source_code_location_job,
    sql_job,
    tags_job,
)
from openlineage.client.git import get_git_branch, get_git_repo_url, get_git_tag, get_git_version

from ..assets.catalog import StepAssets
from ..assets.meta import Owners
from ..dbt.manifest_graph import Graph, Node
from ..faults import detail
from ..step import PACKAGE, Step
from .custom_facets import DbtNodeJobFacet

TAG_SOURCE = "DBT"
SSH = re.compile(r"(?:ssh://)?(?:[^@/]+@)(?P<host>[^:/]+)[:/](?P<path>.+)")


def command_job_name(project_name: str) -> str:
    """Return the name of the job of a project's dbt commands; that of a Dagster run is `Step.display_name`."""
    return f"dbt.{project_name}"


def node_job_name(unique_id: str) -> str:
    """Return the name of the job of a dbt node: its unique id, which dbt keeps from run to run."""
    return unique_id


def step_job_name(step: Step, assets: StepAssets) -> str:
    """Return the name of the job of a step of Python code, which has the form of dbt's unique ids.

    It is `asset.<package>.<step>` or `asset_check.<package>.<step>`, and `op.<job>.<step>` for an op of another job.
    """
    key = step.key.partition("[")[0]  # the steps of a dynamic output are runs of one job
    if assets.is_of_asset:
        return f"asset.{PACKAGE}.{key}"
    return f"asset_check.{PACKAGE}.{key}" if assets.checks else f"op.{step.display_name}.{key}"


def check_job_name(check: dg.AssetCheckKey) -> str:
    """Return the name of the job of a check that an asset evaluates itself."""
    return f"asset_check.{PACKAGE}.{check.asset_key.to_user_string().replace('/', '.')}.{check.name}"


def step_facets(assets: StepAssets, kind: str, repository: Repository | None) -> dict[str, JobFacet]:
    """Return the facets of the job of a step of Python code; `kind` is its type, such as ASSET."""
    owners = dict.fromkeys(owner for spec in assets.specs for owner in spec.owners)
    facets: dict[str, JobFacet | None] = {
        "jobType": job_type(kind, "DAGSTER"),
        "documentation": documentation_job.DocumentationJobFacet(description=assets.description)
        if assets.description
        else None,
        "ownership": ownership_job.OwnershipJobFacet(
            owners=[ownership_job.Owner(name=owner, type="OWNER") for owner in owners]
        )
        if owners
        else None,
        "sourceCodeLocation": detail(_location, repository, assets.source[0]) if repository and assets.source else None,
    }
    return {name: facet for name, facet in facets.items() if facet is not None}


@dataclass(frozen=True, slots=True)
class Repository:
    """A git checkout: the URL of its remote, without credentials, and the version that is checked out."""

    root: Path
    url: str
    version: str | None
    branch: str | None
    tag: str | None

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """Return the checkout that contains `folder`, or None without git or without a remote."""
        root = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
        if root is None:
            return None
        git = root / ".git"
        if git.is_file():  # in a worktree, a file with `gitdir: <folder>`
            git = (root / git.read_text().strip().removeprefix("gitdir: ")).resolve()
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        url = get_git_repo_url(git_dir=common)
        if not url:
            return None
        version = get_git_version(git) or _worktree_version(git, common)
        return cls(root, _https(url), version, get_git_branch(git), get_git_tag(common))


class JobFacets:
    """The job facets of one run, by dbt node; each node's facets are made once."""

    def __init__(
        self, graph: Graph, dialect: str, project_dir: Path, repository: Repository | None, owners: Owners
    ) -> None:
        self._graph = graph
        self._dialect = dialect
        self._project_dir = project_dir.resolve()
        self._repository = repository
        self._owners = owners
        self._made: dict[str, dict[str, JobFacet]] = {}

    def facets(self, node: Node) -> dict[str, JobFacet]:
        """Return the facets of a node's job, including its SQL once dbt has compiled it."""
        key = node["unique_id"]
        if key not in self._made:
            self._made[key] = self._make(node)
        made = self._made[key]
        if "sql" not in made and (sql := detail(self._graph.compiled_sql, node)):
            made["sql"] = sql_job.SQLJobFacet(query=sql, dialect=self._dialect)
        return dict(made)  # a copy, because the sender reads it in another thread

    def _make(self, node: Node) -> dict[str, JobFacet]:
        names = detail(self._owners, node) or []
        owners = [ownership_job.Owner(name=name, type="OWNER") for name in names]
        tags = [tags_job.TagsJobFacetFields(key=tag, value="true", source=TAG_SOURCE) for tag in node.get("tags", [])]
        facets: dict[str, JobFacet | None] = {
            "jobType": job_type(_kind(node)),
            "dbt_node": detail(_dbt_node, node),
            "sourceCodeLocation": detail(self._source, node),
            "documentation": documentation_job.DocumentationJobFacet(description=node["description"])
            if node.get("description")
            else None,
            "ownership": ownership_job.OwnershipJobFacet(owners=owners) if owners else None,
            "tags": tags_job.TagsJobFacet(tags=tags) if tags else None,
        }
        return {name: facet for name, facet in facets.items() if facet is not None}

    def _source(self, node: Node) -> JobFacet | None:
        repository, path = self._repository, node.get("original_file_path")
        # The files of dbt packages are not in this repository.
        if repository is None or not path or node.get("package_name") != self._graph.metadata.get("project_name"):
            return None
        return _location(repository, self._project_dir / path)


def _location(repository: Repository, file: Path) -> JobFacet | None:
    if not file.is_relative_to(repository.root):
        return None
    inside = file.relative_to(repository.root).as_posix()
    return source_code_location_job.SourceCodeLocationJobFacet(
        type="git",
        url=f"{repository.url.removesuffix('.git')}/blob/{repository.version or repository.branch}/{inside}",
        repoUrl=repository.url,
        path=inside,
        version=repository.version,
        tag=repository.tag,
        branch=repository.branch,
    )


def job_type(kind: str, integration: str = "DBT") -> JobFacet:
    """Return the facet with the type of a job."""
    return job_type_job.JobTypeJobFacet(processingType="BATCH", integration=integration, jobType=kind)


def _kind(node: Node) -> str:
    return "SOURCE_FRESHNESS" if node["resource_type"] == "source" else str(node["resource_type"]).upper()


def _dbt_node(node: Node) -> JobFacet:
    test = ("generic" if node.get("test_metadata") else "singular") if node["resource_type"] == "test" else None
    return DbtNodeJobFacet(
        original_file_path=node.get("original_file_path"),
        database=node.get("database"),
        schema=node.get("schema"),
        alias=node.get("alias"),
        unique_id=node["unique_id"],
        test_type=test,
    )


def _https(url: str) -> str:
    """Return a remote's address in the form for browsers, without a part that may be a token."""
    if match := SSH.fullmatch(url):
        return f"https://{match['host']}/{match['path']}"
    return re.sub(r"^(https?://)[^@/]*@", r"\1", url)


def _worktree_version(git: Path, common: Path) -> str | None:
    """Return the commit of a worktree's branch, whose reference is in the main checkout."""
    reference = common / (git / "HEAD").read_text().strip().removeprefix("ref: ")
    return reference.read_text().strip() if reference.is_file() else None
