"""The commands to work on the template: `uvx nox --list` shows them.

A session that runs rendered code installs what a rendered project depends on, read from the rendering itself.
"""

import json
import re
import shutil
from pathlib import Path

import nox

HERE = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
TARGETS = sorted(facts.stem for facts in (HERE / "extensions" / "targets").glob("*.yml"))
ROWS: list[dict[str, str]] = []  # of the targets session

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group of pyproject.toml."""
    session.install(*nox.project.dependency_groups(PYPROJECT, group))


def install_rendered(session: nox.Session, *requirements: str) -> None:
    """Install what the default rendering depends on, and `requirements`, in one resolution."""
    rendered = Path(session.create_tmp()) / "rendered"
    shutil.rmtree(rendered, ignore_errors=True)
    session.run("python", "-m", "tests.rendering", str(rendered), silent=True)
    groups = nox.project.dependency_groups(nox.project.load_toml(rendered / "pyproject.toml"), "dev")
    session.install("-r", str(rendered / "pyproject.toml"), *groups, *requirements)


def install_all(session: nox.Session, group: str) -> None:
    """Install a dependency group, uv, which installs rendered projects, and what the default rendering depends on."""
    install(session, group)
    session.install("uv")
    install_rendered(session)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Render the defaults, install them, build everything through Dagster, and show what happened."""
    session.install("uv", "opentelemetry-proto>=1.45,<2", *nox.project.dependency_groups(PYPROJECT, "render"))
    session.run("python", "demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Test the template and what it renders: the fast lane."""
    install_all(session, "tests")
    session.run("pytest", *(session.posargs or ["--numprocesses=2", "--dist=loadgroup"]))


@nox.session(default=False)
def hostile(session: nox.Session) -> None:
    """Type 2,000 hostile sets of answers, never the same: each is refused, or is what the rendered project says."""
    install(session, "tests")
    session.run(
        "pytest",
        "--override-ini=filterwarnings=error",  # pytest's settings name Dagster, which is not needed here
        "--hypothesis-profile=hostile",
        *(session.posargs or ["tests/test_hostile.py"]),
    )


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Check format, rules and types of the template's own Python and of the sources under template/ as they lie."""
    install(session, "tests")
    install_rendered(session, "nox")
    for folder in (".", "template"):
        with session.chdir(folder):
            session.run("ruff", "check")
            session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session(default=False)
def readme(session: nox.Session) -> None:
    """Write what is generated: the README's tables, the issue form's targets, the table of SQL in docs/lineage.md."""
    install(session, "render")
    session.run("python", "-m", "tests.readme")


@nox.session(default=False)
@nox.parametrize("target", TARGETS, ids=TARGETS)
def targets(session: nox.Session, target: str) -> None:
    """Build a target's sample project through Dagster on its engine, twice, then try mistakes; show what it took."""
    install(session, "tests")
    session.install("uv")
    row = Path(session.create_tmp()) / "row.json"
    row.unlink(missing_ok=True)
    session.run(
        "pytest",
        "--override-ini=filterwarnings=error",  # pytest's settings name Dagster, which is only in the projects here
        f"--target={target}",
        f"--row={row}",
        *(
            session.posargs
            or ["tests/targets/test_build.py", "tests/targets/test_columns.py", "tests/targets/test_mistakes.py"]
        ),
    )
    ROWS.append(json.loads(row.read_text()))
    # All rows so far: the last session of a run prints the whole table.
    print(table(ROWS))


@nox.session(default=False)
def sign_in(session: nox.Session) -> None:
    """Try each way to sign in, and `floe prepare`, with each target's adapter: all seven in one environment."""
    install(session, "tests")
    facts = (HERE / "extensions" / "targets").glob("*.yml")
    adapters = [re.search(r'^requirement: "(.+)"', file.read_text(), re.MULTILINE) for file in sorted(facts)]
    install_rendered(session, *(found[1] for found in adapters if found))
    session.run("pytest", *(session.posargs or ["tests/targets/test_sign_in.py", "tests/test_prepare.py"]))


@nox.session(default=False)
def public(session: nox.Session) -> None:
    """Clone three public dbt projects, build them through Dagster on DuckDB, and compare events with the warehouse."""
    install_all(session, "tests")
    session.run("pytest", "--override-ini=addopts=--strict-markers", *(session.posargs or ["-rA", "tests/public"]))


@nox.session(default=False)
def sql(session: nox.Session) -> None:
    """Try what the column reader says of each shape of SQL on DuckDB, PostgreSQL and Spark; show shapes by dialect."""
    install(session, "sql")
    session.install("uv")
    session.run(
        "pytest",
        "--override-ini=filterwarnings=error",  # pytest's settings name Dagster, which is not needed here
        "--override-ini=addopts=--strict-markers",
        "-W=ignore:unclosed <socket:ResourceWarning",  # PySpark leaves the socket of each result open
        *(session.posargs or ["tests/sql"]),
    )
    session.run("python", "-m", "tests.sql.table")


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Kill runs and their endpoints in every way, mutate 10,000 of dbt's events; write what each fault costs a run."""
    install_all(session, "tests")
    if session.posargs:
        session.run("python", "-m", "tests.faults.table", *session.posargs)
        return
    session.run("pytest", "tests/faults", "tests/faults/slow/test_runs.py", env={"FLOE_FUZZ": "10000"})
    session.run("python", "-m", "tests.faults.table", "--file=benchmarks/faults.md")


@nox.session(default=False)
def mutations(session: nox.Session) -> None:
    """Break the rendered floe/ in some twenty ways, and show which of the tests that an owner gets notices each."""
    install_all(session, "tests")
    session.run(
        "pytest",
        "--override-ini=addopts=--strict-markers",
        *(session.posargs or ["--numprocesses=2", "tests/mutations"]),
    )


@nox.session(default=False)
def updates(session: nox.Session) -> None:
    """Update projects of every target: all pairs of targets, each version of copier, the update workflow; a table."""
    install_all(session, "tests")
    session.run(
        "pytest",
        "--override-ini=addopts=--strict-markers",
        *(session.posargs or ["--numprocesses=2", "--dist=loadgroup", "tests/test_update.py", "tests/update"]),
    )


@nox.session(name="release-check", default=False)
def release_check(session: nox.Session) -> None:
    """Check what a release needs, then run every lane; "-- write" writes its promises, "-- notes" prints its notes."""
    install(session, "tests")
    session.run("python", "-m", "tests.release", *(session.posargs or ["check"]))
    if not session.posargs:
        for lane in ("lint", "tests", "mutations", "updates", "sign_in", "targets"):
            session.notify(lane)


@nox.session(default=False)
def record(session: nox.Session) -> None:
    """Record anew what dbt prints and writes on each target, or on those named after "--": tests/recorded/.

    "-- --excerpt" only writes the excerpts that projects get, from what is recorded.
    """
    install(session, "tests")
    session.install("uv")
    session.run("python", "-m", "tests.record", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure beside stock and the peers: benchmarks/RESULTS.md. After "--": the name of one, --quick to try it."""
    install_all(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(default=False)
def bench_truth(session: nox.Session) -> None:
    """Show that the benchmarks notice a slow emitter and refuse what cannot be compared."""
    install_all(session, "tests")
    session.run("pytest", *(session.posargs or ["tests/bench"]))


def table(rows: list[dict[str, str]]) -> str:
    """Return rows, all with the same keys, as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
