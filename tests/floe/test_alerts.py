"""Tests of the messages about failures, with Dagster's own instance and receivers on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from pipeline.floe.alerts import channels, evaluation, events, store
from pipeline.floe.alerts.config import read_config
from pipeline.floe.alerts.evaluation import alert_folder, evaluate
from pipeline.floe.cli import main
from pipeline.floe.cli.doctor import alerts as doctor
from pipeline.floe.daemon import sensor
from pipeline.floe.daemon.lost_runs import is_of
from pipeline.floe.redact import redact
from pipeline.floe.settings import Settings, settings

from tools.engines.certificates import write_certificate
from tools.engines.process import free_port
from tools.inbox import Hook, Mailbox, hook, mailbox


class Flags:
    """What the assets and checks below do."""

    is_broken = False
    passes = True
    severity = dg.AssetCheckSeverity.ERROR


@dg.asset(owners=["team:finance"])
def invoices() -> None:
    """Fail on demand."""
    if Flags.is_broken:
        raise ValueError("planted: no invoices")


@dg.asset(owners=["ann@example.com"], freshness_policy=dg.FreshnessPolicy.time_window(timedelta(hours=6)))
def customers() -> None:
    """Be fresh or late."""


@dg.asset
def orphan() -> None:
    """Have no owner."""


@dg.asset_check(asset=customers, description="Customers are complete.")
def complete() -> dg.AssetCheckResult:
    """Pass on demand."""
    return dg.AssetCheckResult(passed=Flags.passes, severity=Flags.severity, metadata={"missing": 3})


@dg.asset_check(asset=customers, blocking=True)
def blocking() -> dg.AssetCheckResult:
    """Pass on demand; the run fails otherwise."""
    return dg.AssetCheckResult(passed=not Flags.is_broken)


EVERYTHING = dg.define_asset_job("everything", dg.AssetSelection.all())
DEFINITIONS = dg.Definitions([invoices, customers, orphan], asset_checks=[complete, blocking], jobs=[EVERYTHING])


@dataclass
class Project:
    """A project whose failures have messages.

    Attributes:
        instance: Dagster's instance.
        hook: The webhook.
        mails: The mailbox.
        cursor: The sensor's cursor.
        settings: The project's settings.
    """

    instance: dg.DagsterInstance
    hook: Hook
    mails: Mailbox
    cursor: str | None = None
    settings: Settings = field(default_factory=lambda: settings)

    def tick(self, is_own: Callable[[dg.DagsterRun], bool] = lambda _: True) -> str:
        """Evaluate once; return the summary."""
        repository = DEFINITIONS.get_repository_def()
        config = read_config(self.settings)
        summary, self.cursor = evaluate(self.instance, self.settings, config, repository, is_own, self.cursor)
        return str(summary)

    def run(self, *assets: Any, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        """Run assets and checks."""
        return dg.materialize(assets, instance=self.instance, raise_on_error=False, tags=tags)

    def everything(self) -> dg.ExecuteInProcessResult:
        """Run the job."""
        job = DEFINITIONS.resolve_job_def("everything")
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def freshness(self, state: FreshnessState, asset: dg.AssetsDefinition = customers) -> None:
        """Let Dagster find that an asset is late or fresh."""
        change = FreshnessStateChange(
            key=asset.key, new_state=state, previous_state=FreshnessState.UNKNOWN, state_change_timestamp=time.time()
        )
        self.instance.report_runless_asset_event(change)

    @property
    def titles(self) -> list[str]:
        """Return the first line of each message of the webhook, without mark and project."""
        return [title(text) for text in self.hook.texts]


def title(text: str) -> str:
    """Return the first line of a text for a webhook without its mark and the project."""
    return text.splitlines()[0].split("*")[1].removesuffix(f" ({settings.name}, {settings.dbt_target})")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a state folder of the test; let events count at once."""
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(events, "SETTLING_SECONDS", 0.0)
    monkeypatch.setattr(evaluation, "REST_SECONDS", 0.0)
    for name, value in {"is_broken": False, "passes": True, "severity": dg.AssetCheckSeverity.ERROR}.items():
        monkeypatch.setattr(Flags, name, value)


@pytest.fixture(params=["memory", "disk"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Return an instance in memory, or one with a database per run as `dagster.yaml` has it."""
    if request.param == "memory":
        with dg.DagsterInstance.ephemeral() as made:
            yield made
        return
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as made:
        yield made


@pytest.fixture
def project(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Return a project with a webhook and a mail server, whose first evaluation is over."""
    with hook() as webhook, mailbox() as mails:
        for name, value in {
            "FLOE_ALERT_WEBHOOK": webhook.url,
            "FLOE_ALERT_EMAIL_TO": "team@example.com, owners",
            "FLOE_ALERT_EMAIL_FROM": "floe@example.com",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mails.port),
        }.items():
            monkeypatch.setenv(name, value)
        made = Project(instance, webhook, mails)
        made.tick()
        yield made


in_memory = pytest.mark.parametrize("instance", ["memory"], indirect=True)


def test_run(project: Project) -> None:
    """Each failed run has one message; the job's next success has one, and further ones have none."""
    Flags.is_broken = True
    for _ in range(2):
        project.everything()
        project.tick()
    Flags.is_broken = False
    for _ in range(2):
        project.everything()
        project.tick()

    assert [
        "Failed run: everything, in step invoices",
        "Failed run: everything, in step invoices",
        "Recovery: everything succeeds again after 2 failures",
    ] == project.titles
    assert "```planted: no invoices```" in project.hook.texts[0]
    assert "Owner: ann@example.com, team:finance" in project.hook.texts[0]
    assert "failed check: blocking of customers (error)" in project.hook.texts[0]
    assert "2 failures in a row" in project.hook.texts[1]
    assert project.titles == [
        str(mail["Subject"]).removesuffix(f" ({settings.name}, {settings.dbt_target})")
        for mail in project.mails.messages
    ]


@in_memory
def test_first_evaluation(project: Project, tmp_path: Path) -> None:
    """What has failed before alerts were switched on has no message."""
    Flags.is_broken, Flags.passes = True, False
    project.everything()
    project.freshness(FreshnessState.FAIL)
    (tmp_path / "state" / "alerts" / "history.json").unlink()
    project.cursor = None
    project.tick()
    project.tick()

    assert [] == project.titles
    project.everything()
    project.tick()
    assert ["Failed run: everything, in step invoices"] == project.titles


@in_memory
@pytest.mark.parametrize("is_state_lost", [False, True])
def test_lost_cursor(project: Project, tmp_path: Path, *, is_state_lost: bool) -> None:
    """Neither a lost cursor nor a lost state folder repeats a message, or loses one."""
    Flags.is_broken = True
    project.run(invoices)
    project.tick()
    project.run(invoices)
    if is_state_lost:
        for file in (tmp_path / "state" / "alerts").rglob("*.json"):
            file.unlink()
    else:
        project.cursor = None
    project.tick()

    assert 2 == len(project.hook.texts) == len(project.mails.messages)


def test_check(project: Project) -> None:
    """A failed check of a run that succeeds has one message until it passes, then one more, and then starts anew."""
    Flags.severity = dg.AssetCheckSeverity.WARN
    for passes in (True, False, False, True, True, False):
        Flags.passes = passes
        assert project.run(customers, complete).success
        project.tick()

    assert [
        "Failed check: complete of customers (warning)",
        "Recovery: complete of customers passes again",
        "Failed check: complete of customers (warning)",
    ] == project.titles
    assert "missing: 3" in project.hook.texts[0]
    assert "Owner: ann@example.com" in project.hook.texts[0]
    assert [["team@example.com", "ann@example.com"]] * 3 == project.mails.recipients


@in_memory
def test_check_of_failed_run(project: Project) -> None:
    """A check whose failure fails the run is named in the run's message, and recovers with the run."""
    Flags.is_broken = True
    project.run(customers, blocking)
    project.tick()
    Flags.is_broken = False
    project.run(customers, blocking)
    project.tick()

    assert ["Failed run: pipeline.assets, in step customers_blocking", "Recovery: pipeline.assets succeeds again"] == (
        project.titles
    )
    assert "failed check: blocking of customers (error)" in project.hook.texts[0]
    assert "Owner: ann@example.com" in project.hook.texts[0]


@in_memory
def test_check_after_failed_run(project: Project) -> None:
    """A check that a failed run's message has only named has a message if it still fails in a run that succeeds."""
    Flags.is_broken, Flags.passes = True, False
    project.everything()
    project.tick()
    Flags.is_broken = False
    project.everything()
    project.tick()

    assert [
        "Failed run: everything, in step invoices",
        "Failed check: complete of customers (error)",
        "Recovery: everything succeeds again",
    ] == project.titles


@in_memory
def test_check_without_run(project: Project) -> None:
    """A check that something reports to Dagster without a run has messages as well."""
    for passed in (False, False, True):
        evaluated = dg.AssetCheckEvaluation(asset_key=customers.key, check_name="outside", passed=passed)
        project.instance.report_runless_asset_event(evaluated)
        project.tick()

    assert [
        "Failed check: outside of customers (error)",
        "Recovery: outside of customers passes again",
    ] == project.titles


def test_late(project: Project) -> None:
    """A late asset has one message, and one when it is fresh again."""
    project.run(customers)
    for state in (FreshnessState.PASS, FreshnessState.FAIL, FreshnessState.WARN, FreshnessState.FAIL):
        project.freshness(state)
        project.tick()
    for _ in range(2):
        project.freshness(FreshnessState.PASS)
        project.tick()

    assert ["Late asset: customers", "Recovery: customers is fresh again"] == project.titles
    assert "it may be 6:00:00 old" in project.hook.texts[0]
    assert "last built at 20" in project.hook.texts[0]


@in_memory
def test_canceled(project: Project) -> None:
    """A run that somebody cancels has no message, nor has one that Dagster is about to repeat."""
    for tag in ({}, {"dagster/will_retry": "true"}):
        job = DEFINITIONS.resolve_job_def("everything")
        run = project.instance.create_run_for_job(job, tags=tag, status=dg.DagsterRunStatus.STARTED)
        (project.instance.report_run_failed if tag else project.instance.report_run_canceled)(run)
    project.tick()

    assert [] == project.titles


@in_memory
def test_launch(project: Project) -> None:
    """A run that fails before its first step has a message with the reason."""
    job = DEFINITIONS.resolve_job_def("everything")
    run = project.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
    project.instance.report_run_failed(run, "The pod could not be started.")
    project.tick()

    assert ["Failed run: everything"] == project.titles
    assert "The pod could not be started." in project.hook.texts[0]


@in_memory
@pytest.mark.parametrize(("location", "count"), [("shop", 1), ("other", 0), (None, 1)])
def test_other_location(project: Project, location: str | None, count: int) -> None:
    """Runs and assets of other code locations are left to these; a run of `dg launch` names none."""
    Flags.is_broken = True
    project.run(invoices)
    project.freshness(FreshnessState.FAIL, dg.AssetsDefinition(specs=[dg.AssetSpec("foreign")]))
    with pytest.MonkeyPatch.context() as patch:
        origin = SimpleNamespace(location_name=location) if location else None
        patch.setattr(dg.DagsterRun, "remote_job_origin", property(lambda _: origin))
        project.tick(lambda run: is_of(run, "shop"))

    assert count == len(project.titles)


@in_memory
def test_other_partition(project: Project) -> None:
    """The success of another partition, or of a part, repairs nothing."""
    Flags.is_broken = True
    project.run(invoices, customers, tags={"dagster/partition": "2026-01-01"})
    Flags.is_broken = False
    project.run(invoices, customers, tags={"dagster/partition": "2026-01-02"})
    project.run(customers, tags={"dagster/partition": "2026-01-01"})
    project.tick()
    assert ["Failed run: pipeline.assets, in step invoices"] == project.titles

    project.run(invoices, customers, orphan, tags={"dagster/partition": "2026-01-01"})
    project.tick()
    assert ["Recovery: pipeline.assets succeeds again"] == project.titles[1:]


@in_memory
def test_links(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message links to the run, its trace and its lineage, if the variables say where these are."""
    Flags.is_broken = True
    run_id = project.everything().run_id
    project.tick()
    assert "|" not in project.hook.texts[0]

    monkeypatch.setenv("FLOE_DAGSTER_URL", "https://dagster.example.com/")
    monkeypatch.setenv("FLOE_TRACE_URL", "https://grafana.example.com/explore?trace={trace_id}")
    monkeypatch.setenv("FLOE_LINEAGE_URL", "https://marquez.example.com/lineage/job/{namespace}/{job}")
    run_id = project.everything().run_id
    project.tick()
    assert (
        f"<https://dagster.example.com/runs/{run_id}|Run>"
        f" · <https://grafana.example.com/explore?trace={run_id.replace('-', '')}|Trace>"
        f" · <https://marquez.example.com/lineage/job/{settings.namespace}/everything|Lineage>"
    ) in project.hook.texts[1]
    assert f"Run: https://dagster.example.com/runs/{run_id}" in project.mails.messages[1].get_content()


@in_memory
def test_owners(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner with a webhook of their own gets messages there; without an owner, the project's default is named."""
    with hook() as finance:
        monkeypatch.setenv("FINANCE_WEBHOOK", finance.url)
        project.settings = replace(settings, alert_webhooks={"team:finance": "FINANCE_WEBHOOK"})
        Flags.is_broken = True
        project.run(invoices)
        project.tick()
        assert ["Failed run: pipeline.assets, in step invoices"] == [title(text) for text in finance.texts]
    assert [] == project.titles

    evaluated = dg.AssetCheckEvaluation(asset_key=orphan.key, check_name="outside", passed=False)
    project.instance.report_runless_asset_event(evaluated)
    project.tick()
    assert f"Owner: {settings.owner}" in project.hook.texts[0]


@in_memory
@pytest.mark.parametrize("fault", ["status", "hangs"])
def test_outage(project: Project, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """While the webhook fails, mails arrive, and the webhook's messages wait; later it gets each once."""
    monkeypatch.setattr(channels, "TIMEOUT_SECONDS", 0.5)
    setattr(project.hook, fault, 500 if fault == "status" else True)
    Flags.is_broken = True
    for _ in range(3):
        project.run(invoices)
        began = time.monotonic()
        assert "FLOE_ALERT_WEBHOOK fails" in project.tick()
        assert time.monotonic() - began < 5
    assert ([], 3) == (project.titles, len(project.mails.messages))

    project.hook.status, project.hook.hangs = 200, False
    assert "3 sent" in project.tick()
    assert "nothing to report" == project.tick()
    assert (3, 3) == (len(project.titles), len(project.mails.messages))


@in_memory
def test_mail_outage(project: Project) -> None:
    """While the mail server is busy, the webhook gets its messages, and mails wait; later each arrives once."""
    project.mails.status = "451 later"
    Flags.is_broken = True
    project.run(invoices)
    assert "mail fails: OSError: it answered 451 later" in project.tick()
    assert (1, 0) == (len(project.titles), len(project.mails.messages))

    project.mails.status = "250 OK"
    project.tick()
    project.tick()
    assert (1, 1) == (len(project.titles), len(project.mails.messages))


@in_memory
def test_rest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that fails rests, twice as long each time."""
    monkeypatch.setattr(evaluation, "REST_SECONDS", 100.0)
    now = time.time()
    monkeypatch.setattr(evaluation.time, "time", lambda: now)
    monkeypatch.setattr(events.time, "time", lambda: now)
    project.hook.status = 503
    Flags.is_broken = True
    project.run(invoices)
    tries = []
    for seconds in (0, 99, 2, 198, 3):
        now += seconds
        project.tick()
        tries.append(project.hook.requests)

    assert [1, 1, 2, 2, 3] == tries


@in_memory
def test_refused(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """A message that the receiver refuses holds up no other, and is dropped after five refusals."""
    project.hook.refuses = "invoices"
    Flags.is_broken, Flags.passes = True, False
    project.run(invoices)
    project.run(customers, complete)
    for _ in range(8):
        project.tick()

    assert ["Failed check: complete of customers (error)"] == project.titles
    assert 5 + 1 == project.hook.requests
    assert 2 == len(project.mails.messages)
    assert "Alert dropped" in caplog.text


@in_memory
def test_poison(project: Project) -> None:
    """A message that the receiver cannot handle comes after the others when it has failed three times."""
    project.hook.breaks_at = "invoices"
    Flags.is_broken, Flags.passes = True, False
    project.run(invoices)
    project.run(customers, complete)
    requests = []
    for _ in range(5):
        project.tick()
        requests.append((len(project.titles), project.hook.requests))

    assert [(0, 1), (0, 2), (0, 3), (1, 5), (1, 6)] == requests


@in_memory
def test_wrong_address(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails to an address that the server does not take are refused, and the webhook gets its messages."""
    monkeypatch.setenv("FLOE_ALERT_EMAIL_TO", "jörg@example.com")
    Flags.is_broken = True
    project.run(invoices)
    for _ in range(6):
        summary = project.tick()

    assert "nothing to report" == summary
    assert (1, 0) == (len(project.titles), len(project.mails.messages))


@in_memory
def test_rate(project: Project) -> None:
    """A webhook that asks for pauses gets each message once."""
    project.hook.rate = 3
    Flags.is_broken = True
    for _ in range(5):
        project.run(invoices)
    project.tick()

    assert 5 == len(project.titles)


@in_memory
def test_burst(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many failures at once, the last are named in one message."""
    monkeypatch.setattr(evaluation, "MOST_MESSAGES", 3)
    Flags.is_broken = True
    for _ in range(8):
        project.run(invoices)
    project.tick()
    project.tick()

    assert 4 == len(project.titles) == len(project.mails.messages)
    assert "Summary: 5 more at once: failed run 5" == project.titles[-1]


@in_memory
def test_pages(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events there are, each is read once, and in order."""
    monkeypatch.setattr(events, "PAGE", 2)
    for number in range(5):
        Flags.is_broken = number % 2 == 0
        project.run(invoices)
        project.freshness(FreshnessState.FAIL if number % 2 == 0 else FreshnessState.PASS)
    project.tick()

    of_runs = [text for text in project.titles if "customers" not in text]
    failed, recovered = "Failed run: pipeline.assets, in step invoices", "Recovery: pipeline.assets succeeds again"
    assert [failed, recovered, failed, recovered, failed] == of_runs
    assert 5 == len(project.titles) - len(of_runs)


@in_memory
def test_settling(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of this moment waits: one with a smaller id may still be on its way into the database."""
    monkeypatch.setattr(events, "SETTLING_SECONDS", 100.0)
    Flags.is_broken = True
    project.run(invoices)
    project.freshness(FreshnessState.FAIL)
    project.tick()
    assert [] == project.titles

    monkeypatch.setattr(events, "SETTLING_SECONDS", 0.0)
    project.tick()
    assert 2 == len(project.titles)


@in_memory
def test_killed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed before it notes what it has read repeats nothing, at whatever point that is."""
    Flags.is_broken, Flags.passes = True, False
    write, number = evaluation.write_history, 0

    class KilledError(BaseException):
        """Stands for SIGKILL."""

    for point in range(3):
        project.run(invoices)
        project.run(customers, complete)
        number = 0

        def killed(*args: Any, point: int = point) -> None:
            nonlocal number
            if number == point:
                raise KilledError
            number += 1
            write(*args)

        with monkeypatch.context() as patch:
            patch.setattr(evaluation, "write_history", killed)
            try:
                project.tick()
            except KilledError:
                project.cursor = None
        project.tick()

    assert ["Failed check: complete of customers (error)"] == [text for text in project.titles if "check" in text]
    assert 4 == len(project.titles) == len(project.mails.messages)
    assert 4 == len({mail["Message-ID"] for mail in project.mails.messages})


@in_memory
@pytest.mark.parametrize("call", [1, 2])
def test_killed_while_storing(project: Project, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """A process that is killed before it has written all messages loses none, and repeats none."""

    class KilledError(BaseException):
        """Stands for SIGKILL."""

    calls, write = 0, store.write_file

    def killed(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        write(*args)

    Flags.is_broken = True
    for _ in range(2):
        project.run(invoices)
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_file", killed)
        with pytest.raises(KilledError):
            project.tick()
    project.tick()

    assert 2 == len(project.titles) == len(project.mails.messages)


@in_memory
def test_bounds(project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """While nothing can be sent, only so many messages wait, and only for so long."""
    project.hook.status, project.mails.status = 500, "451 later"
    monkeypatch.setattr(store, "MOST_WAITING", 2)
    Flags.is_broken = True
    for _ in range(3):
        project.run(invoices)
        summary = project.tick()
    assert "2 waiting, 1 dropped" in summary

    monkeypatch.setattr(store, "KEPT_WAITING_SECONDS", 0.0)
    assert "2 dropped" in project.tick()
    assert 3 == caplog.text.count("Alert dropped")
    monkeypatch.setattr(store, "KEPT_MARK_SECONDS", 0.0)
    project.tick()
    assert [] == list(alert_folder(settings).iterdir())


@in_memory
def test_old(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed long ago, while the sensor was off, has no message, but its recovery has."""
    Flags.is_broken = True
    project.run(invoices)
    with monkeypatch.context() as patch:
        patch.setattr(events, "OLDEST_SECONDS", 0.0)
        project.tick()
    assert [] == project.titles

    Flags.is_broken = False
    project.run(invoices)
    project.tick()
    assert ["Recovery: pipeline.assets succeeds again"] == project.titles


@in_memory
def test_other_database(project: Project) -> None:
    """With another database, such as after a reset, nothing of its past has a message, and what follows has."""
    Flags.is_broken = True
    for _ in range(3):
        project.run(invoices)
    project.tick()
    with dg.DagsterInstance.ephemeral() as other:
        project.instance = other
        project.run(customers)
        project.tick()
        project.run(invoices)
        project.tick()

    assert 4 == len(project.titles)


@in_memory
def test_secret(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No secret is in a message, on disk or in the sensor's summary, not even the webhook's path."""
    monkeypatch.setenv("SHOP_PASSWORD", "planted: no invoices")
    project.hook.status = 500
    Flags.is_broken = True
    project.run(invoices)
    summary = project.tick()
    texts = [file.read_text() for file in (tmp_path / "state" / "alerts").rglob("*.json")]

    assert [] == [text for text in [*texts, summary] if "no invoices" in text or "T0001" in text]
    assert "no invoices" not in project.mails.messages[0].get_content()
    assert "T0001" not in redact(f"Max retries exceeded with url: /{project.hook.url.split('/', 3)[3]}")


@in_memory
def test_signed_in(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a user, the password goes through TLS only."""
    certificate = write_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("SMTP_USER", "ann")
    monkeypatch.setenv("SMTP_PASSWORD", "correct horse")
    monkeypatch.setenv("FLOE_ALERT_EMAIL_TO", "team@example.com")
    Flags.is_broken = True
    project.run(invoices)
    assert "offers no TLS" in project.tick()

    with mailbox(certificate, "correct horse") as mails:
        monkeypatch.setenv("SMTP_PORT", str(mails.port))
        project.tick()
    assert (["ann"], [["team@example.com"]]) == (mails.users, mails.recipients)


def test_url_in_settings() -> None:
    """A URL in place of a variable's name is not shown."""
    wrong = replace(settings, alert_webhooks={"team:finance": "https://hooks.example.com/T0001"})
    [problem] = read_config(wrong).problems

    assert "[alert_webhooks]" in problem
    assert "T0001" not in problem


WRONG = {
    "FLOE_ALERT_EMAIL_FROM": {"FLOE_ALERT_EMAIL_TO": ""},
    "SMTP_HOST": {"SMTP_HOST": ""},
    "FLOE_ALERT_EMAIL_TO": {"FLOE_ALERT_EMAIL_TO": "team"},
    "SMTP_PORT": {"SMTP_PORT": "smtp"},
    "SMTP_PASSWORD": {"SMTP_USER": "ann"},
    "SMTP_USER": {"SMTP_PASSWORD": "x"},
    "FLOE_ALERT_WEBHOOK": {"FLOE_ALERT_WEBHOOK": "hooks.slack.com/services"},
    "FLOE_TRACE_URL": {"FLOE_TRACE_URL": "https://host/{trace}"},
    "FLOE_LINEAGE_URL": {"FLOE_LINEAGE_URL": "host"},
}


@in_memory
@pytest.mark.parametrize("name", WRONG)
def test_half_a_setting(project: Project, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A wrong or missing variable is named, and keeps no other channel from working."""
    for variable, value in WRONG[name].items():
        monkeypatch.setenv(variable, value)
    [problem] = read_config(settings).problems
    Flags.is_broken = True
    project.run(invoices)
    summary = project.tick()

    assert name in problem
    assert problem in summary
    assert 1 <= len(project.titles) + len(project.mails.messages)


@in_memory
def test_sensor(project: Project) -> None:
    """The sensor evaluates; an error fails neither the evaluation nor the daemon."""
    Flags.is_broken = True
    project.run(invoices)
    context = dg.build_sensor_context(
        project.instance, repository_def=DEFINITIONS.get_repository_def(), cursor=project.cursor
    )
    result = sensor.alert_sensor.evaluate_tick(context)
    assert "1 new, 2 sent" == result.skip_message
    assert json.loads(str(result.cursor))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate", None)
        result = sensor.alert_sensor.evaluate_tick(dg.build_sensor_context(project.instance))
    assert "Failed; the log has the reason" in str(result.skip_message)


@in_memory
def test_off(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """Without variables the sensor is off, and does nothing if it is switched on."""
    result = sensor.alert_sensor.evaluate_tick(dg.build_sensor_context(instance))

    assert dg.DefaultSensorStatus.STOPPED is sensor.alert_sensor.default_status
    assert "Alerts are off: set FLOE_ALERT_WEBHOOK." == result.skip_message
    assert not (tmp_path / "state").exists()


def findings(variable: str = "") -> dict[str, list[str]]:
    """Return what the doctor says of alerts: state -> messages, those that contain `variable`."""
    thread_findings = list(doctor.alerts(settings, time.monotonic() + 8))
    said: dict[str, list[str]] = {}
    for finding in thread_findings:
        if variable in finding.message:
            said.setdefault(finding.state, []).append(finding.message)
    return said


@in_memory
def test_doctor(project: Project) -> None:
    """The doctor connects to both channels, and sends no message."""
    said = findings()

    assert {"ok"} == said.keys()
    assert ["FLOE_ALERT_WEBHOOK in the environment", "SMTP_HOST in the environment"] == [
        message.partition("(")[2].partition(")")[0] for message in said["ok"]
    ]
    assert "T0001" not in str(said)
    assert ([], []) == (project.hook.texts, project.mails.messages)


@in_memory
def test_doctor_of_dead(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor names a channel that nobody serves, and what waits for it."""
    project.hook.status = 500
    Flags.is_broken = True
    project.run(invoices)
    project.tick()
    monkeypatch.setenv("FLOE_ALERT_WEBHOOK", f"http://127.0.0.1:{free_port()}/hook")
    monkeypatch.setenv("SMTP_PORT", str(free_port()))
    said = findings()

    assert ["nothing is listening there: start the receiver, or correct the port"] * 2 == [
        message.partition("): ")[2] for message in said["fail"]
    ]
    assert ["1 messages are waiting; the sensor floe_alerts sends them"] == said["warn"]


@in_memory
@pytest.mark.usefixtures("project")
def test_doctor_of_wrong_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The doctor signs in to the mail server."""
    certificate = write_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("SMTP_USER", "ann")
    monkeypatch.setenv("SMTP_PASSWORD", "wrong horse")
    with mailbox(certificate, "correct horse") as mails:
        monkeypatch.setenv("SMTP_PORT", str(mails.port))
        said = findings("SMTP_")

    assert "it does not accept SMTP_USER and SMTP_PASSWORD (535)" in said["fail"][0]


@in_memory
@pytest.mark.usefixtures("project")
def test_doctor_without_sensor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The doctor notices that a project from an earlier version has no sensor."""
    monkeypatch.setattr(doctor, "DEFINITIONS", tmp_path)

    assert "alert_sensor" in findings("sensor")["fail"][0]


def test_doctor_of_half_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts are off by default, which is no mistake; half a setting is one."""
    assert {"off"} == findings().keys()

    monkeypatch.setenv("FLOE_ALERT_EMAIL_FROM", "floe@example.com")
    assert {
        "fail": ["FLOE_ALERT_EMAIL_FROM is set, but FLOE_ALERT_EMAIL_TO is not: set it to the recipients"]
    } == findings()


@in_memory
def test_command(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`floe alert` sends a test message through each channel, and says which does not work."""
    monkeypatch.setenv("FLOE_ALERT_EMAIL_TO", "team@example.com")
    monkeypatch.setattr("sys.argv", ["floe", "alert"])
    assert 0 == main.main()
    assert ["Test message: nothing has failed"] == project.titles
    assert 1 == len(project.mails.messages)

    project.hook.status = 404
    assert 1 == main.main()
    assert "FLOE_ALERT_WEBHOOK: OSError: it answered 404" in capsys.readouterr().out


def test_lazy() -> None:
    """Loading the code location imports nothing of the messages, nor a mail client for them."""
    code = "import sys; import pipeline.floe.run; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ) | {"PYTHONPATH": str(Path(sensor.__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert "pipeline.floe.daemon.sensor" in loaded
    assert [] == [name for name in loaded if name.startswith("pipeline.floe.alerts")]
