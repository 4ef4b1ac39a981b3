"""Commands for working on the template: `uvx nox --list` shows them.

Sessions that run rendered code render a project and install its dependencies.
"""

import json
import re
import shutil
from pathlib import Path

import nox

HERE = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
TARGETS = sorted(facts.stem for facts in (HERE / "extensions" / "targets").glob("*.yml"))
# Must be green before a change lands, after `lint` and `tests`: `uvx nox -s lanes`.
ENGINES = {engine.stem: engine.read_text() for engine in (HERE / "tools" / "engines").glob("*.py")}
SLOW_TARGETS = [target for target in TARGETS if "\nIS_SLOW = True" in ENGINES.get(target, "")]
QUICK_TARGETS = [target for target in TARGETS if target not in SLOW_TARGETS]
LANES = (
    "runs",
    "mutations",
    "updates",
    "demo",
    "sign_in",
    "quick_targets",
)
# Too slow for that: run before a release, and after a change that concerns them.
BY_HAND = (*(f"targets({target})" for target in SLOW_TARGETS), "answers", "recipes", "sql", "deploy")

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group of pyproject.toml."""
    session.install(*nox.project.dependency_groups(PYPROJECT, group))


def install_rendered(session: nox.Session, *requirements: str) -> None:
    """Install the dependencies of the default project and `requirements`, in one resolution."""
    rendered = Path(session.create_tmp()) / "rendered"
    shutil.rmtree(rendered, ignore_errors=True)
    session.run("python", "-m", "tools.rendering", str(rendered), silent=True)
    groups = nox.project.dependency_groups(nox.project.load_toml(rendered / "pyproject.toml"), "dev")
    session.install("-r", str(rendered / "pyproject.toml"), *groups, *requirements)


def install_all(session: nox.Session, group: str) -> None:
    """Install a dependency group, the dependencies of the default project, and uv, which installs rendered projects."""
    install(session, group)
    session.install("uv")
    install_rendered(session)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Render the defaults, install the project, build everything through Dagster, and show the results."""
    session.install("uv", "opentelemetry-proto>=1.45,<2", *nox.project.dependency_groups(PYPROJECT, "render"))
    session.run("python", "demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Test the template and the projects that it renders: the fast tests."""
    install_all(session, "tests")
    session.run("pytest", *(session.posargs or ["--numprocesses=2", "--dist=loadgroup"]))


@nox.session(default=False)
def answers(session: nox.Session) -> None:
    """Render every combination of answers twice, parse and load what is distinct; type 200 hostile sets of answers."""
    install_all(session, "tests")
    session.run(
        "pytest",
        "--every-combination",
        "--hypothesis-profile=answers",
        *(
            session.posargs
            or [
                *("--numprocesses=2", "--dist=loadgroup"),
                *("tests/test_combinations.py", "tests/test_contents.py", "tests/test_hostile.py"),
            ]
        ),
    )


@nox.session(default=False)
def runs(session: nox.Session) -> None:
    """Run whole projects through Dagster: several dbt commands per step, existing projects, deferral, images."""
    install_all(session, "tests")
    session.run(
        "pytest",
        "--override-ini=addopts=--strict-markers --ignore=tests/runs/test_prepare.py",  # the session sign_in runs it
        *(session.posargs or ["--numprocesses=2", "--dist=loadgroup", "tests/runs"]),
    )


@nox.session(default=False)
def recipes(session: nox.Session) -> None:
    """Run the commands of template/docs/recipes.md unchanged, in copies of the default project; check its code."""
    install(session, "tests")
    session.install("uv")
    session.run(
        "pytest",
        "--override-ini=filterwarnings=error",  # pytest's settings name Dagster, which only the project installs here
        "--override-ini=addopts=--strict-markers",
        *(session.posargs or ["--numprocesses=2", "--dist=worksteal", "tests/recipes"]),
    )


@nox.session(default=False)
def hostile(session: nox.Session) -> None:
    """Try 2,000 hostile sets of answers, random each time: each is refused, or rendered correctly."""
    install(session, "tests")
    session.run(
        "pytest",
        "--override-ini=filterwarnings=error",  # pytest's settings name Dagster, which is not installed here
        "--hypothesis-profile=hostile",
        *(session.posargs or ["tests/test_hostile.py"]),
    )


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Check format, rules and types of the template's own Python, and of the sources under template/ in place."""
    install(session, "tests")
    install_rendered(session, "nox")
    for folder in (".", "template"):
        with session.chdir(folder):
            session.run("ruff", "check")
            session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session(default=False)
def lanes(session: nox.Session) -> None:
    """Run what must be green before a change lands, after `lint` and `tests`."""
    for lane in LANES:
        session.notify(lane)


@nox.session(default=False)
def readme(session: nox.Session) -> None:
    """Write the generated parts: the READMEs' tables, the issue form's targets, the SQL table in docs/lineage.md."""
    install(session, "render")
    session.run("python", "-m", "tools.readme")


@nox.session(default=False)
@nox.parametrize("target", TARGETS, ids=TARGETS)
def targets(session: nox.Session, target: str) -> None:
    """Build a target's sample project twice through Dagster on its engine, then try mistakes; show the times."""
    build_targets(session, [target])


@nox.session(default=False)
def quick_targets(session: nox.Session) -> None:
    """Do what the session `targets` does, for all targets whose engine starts quickly, two at a time."""
    build_targets(session, QUICK_TARGETS, "--numprocesses=2", "--dist=loadgroup")


def build_targets(session: nox.Session, chosen: list[str], *options: str) -> None:
    """Run the tests of the chosen targets on their engines."""
    install(session, "tests")
    session.install("uv")
    rows = Path(session.create_tmp()) / "rows"
    shutil.rmtree(rows, ignore_errors=True)
    rows.mkdir()
    session.run(
        "pytest",
        "--override-ini=filterwarnings=error",  # pytest's settings name Dagster, which only the projects install here
        *options,
        *(f"--target={target}" for target in chosen),
        f"--rows={rows}",
        *(
            session.posargs
            or ["tests/targets/test_build.py", "tests/targets/test_columns.py", "tests/targets/test_mistakes.py"]
        ),
    )
    print(table([json.loads(row.read_text()) for row in sorted(rows.iterdir())]))


@nox.session(default=False)
def sign_in(session: nox.Session) -> None:
    """Try each way to sign in, and `floe prepare`, with the adapters of all seven targets in one environment."""
    install(session, "tests")
    facts = (HERE / "extensions" / "targets").glob("*.yml")
    adapters = [re.search(r'^requirement: "(.+)"', file.read_text(), re.MULTILINE) for file in sorted(facts)]
    install_rendered(session, *(found[1] for found in adapters if found))
    session.run(
        "pytest",
        *(
            session.posargs
            or ["--numprocesses=2", "--dist=worksteal", "tests/targets/test_sign_in.py", "tests/runs/test_prepare.py"]
        ),
    )


@nox.session(default=False)
def public(session: nox.Session) -> None:
    """Build three public dbt projects through Dagster on DuckDB, and compare the events with the warehouse."""
    install_all(session, "tests")
    session.run("pytest", "--override-ini=addopts=--strict-markers", *(session.posargs or ["-rA", "tests/public"]))


@nox.session(default=False)
def sql(session: nox.Session) -> None:
    """Check the column reader's answers for each shape of SQL on DuckDB, PostgreSQL and Spark; count the shapes."""
    install(session, "sql")
    session.install("uv")
    session.run(
        "pytest",
        "--override-ini=filterwarnings=error",  # pytest's settings name Dagster, which is not installed here
        "--override-ini=addopts=--strict-markers",
        "-W=ignore:unclosed <socket:ResourceWarning",  # PySpark leaves the socket of each result open
        *(session.posargs or ["tests/sql"]),
    )
    session.run("python", "-m", "tools.sql.table")


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Kill runs and endpoints, mutate 10,000 dbt events, write the cost of each fault: benchmarks/faults.md."""
    install_all(session, "tests")
    if session.posargs:
        session.run("python", "-m", "tests.faults.table", *session.posargs)
        return
    session.run("pytest", "tests/faults", "tests/faults/slow/test_runs.py", env={"FLOE_FUZZ": "10000"})
    session.run("python", "-m", "tests.faults.table", "--file=benchmarks/faults.md")


@nox.session(default=False)
def deploy(session: nox.Session) -> None:
    """Build images from the rendered Dockerfile, start compose.yaml's processes from them, run; needs root, buildah."""
    install_all(session, "deploy")
    session.run(
        "pytest",
        "--override-ini=addopts=--strict-markers",
        "-pno:kmock",  # its plugin wants pytest-asyncio, and the tests start its server themselves
        *(session.posargs or ["-rA", "tests/deploy", "tests/runs/test_container.py"]),
    )


@nox.session(default=False)
def mutations(session: nox.Session) -> None:
    """Break the rendered floe/ in some fifty ways; show which of the owner's tests notices each."""
    install_all(session, "tests")
    session.run(
        "pytest",
        "--override-ini=addopts=--strict-markers",
        *(session.posargs or ["--numprocesses=3", "tests/mutations"]),  # most of their time is waiting
    )


@nox.session(default=False)
def updates(session: nox.Session) -> None:
    """Update projects: all targets and pairs of targets, each version of copier, the update workflow; show a table."""
    install_all(session, "tests")
    session.run(
        "pytest",
        "--override-ini=addopts=--strict-markers",
        *(session.posargs or ["--numprocesses=2", "--dist=loadgroup", "tests/update"]),
    )


@nox.session(name="release-check", default=False)
def release_check(session: nox.Session) -> None:
    """Check a release, then run all its tests; "-- write" writes its promises, "-- notes" prints its notes."""
    install(session, "tests")
    session.run("python", "-m", "tools.release", *(session.posargs or ["check"]))
    if not session.posargs:
        for lane in ("lint", "tests", *LANES, *BY_HAND):
            session.notify(lane)


@nox.session(default=False)
def record(session: nox.Session) -> None:
    """Record dbt's output on each target again, or on those named after "--", into tests/recorded/.

    "-- --excerpt" writes only the excerpts that projects get, from the existing recordings.
    """
    install(session, "tests")
    session.install("uv")
    session.run("python", "-m", "tools.record", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Compare with stock dagster-dbt and others, into benchmarks/RESULTS.md; "-- NAME" runs one, "--quick" is short."""
    install_all(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(default=False)
def bench_truth(session: nox.Session) -> None:
    """Test that the benchmarks notice a slow emitter and refuse unfair comparisons."""
    install_all(session, "tests")
    session.run("pytest", *(session.posargs or ["tests/bench"]))


def table(rows: list[dict[str, str]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
