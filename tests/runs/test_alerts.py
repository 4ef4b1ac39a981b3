"""Messages about failures from a real daemon that is killed again and again: each failure has exactly one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tools import runs
from tools.engines.process import free_port
from tools.inbox import Mailbox, hook, mailbox

JOBS, CHECKS, LATE = 6, 14, 8
MODULE = f"""
import json
from datetime import timedelta
from pathlib import Path

import dagster as dg

FLAGS = Path(__file__).parents[3] / "flags.json"


def flag(name):
    return name in json.loads(FLAGS.read_text())


def made_job(name):
    @dg.op(name=f"op_{{name}}")
    def fail():
        if flag(name):
            raise ValueError(f"planted in {{name}}")

    @dg.job(name=name)
    def made():
        fail()

    return made


def made_check(name):
    @dg.asset_check(name=name, asset=checked)
    def made():
        return dg.AssetCheckResult(passed=not flag(name), severity=dg.AssetCheckSeverity.WARN)

    return made


def made_asset(name):
    policy = dg.FreshnessPolicy.time_window(timedelta(minutes=1))

    @dg.asset(name=name, freshness_policy=policy, owners=["team:late"])
    def made():
        pass

    return made


@dg.asset(owners=["ann@example.com"])
def checked():
    pass


@dg.definitions
def watched():
    lates = [made_asset(f"late_{{number}}") for number in range({LATE})]
    return dg.Definitions(
        assets=[checked, *lates],
        asset_checks=[made_check(f"check_{{number}}") for number in range({CHECKS})],
        jobs=[
            *(made_job(f"job_{{number}}") for number in range({JOBS})),
            dg.define_asset_job("checks", dg.AssetSelection.assets(checked)),
            *(dg.define_asset_job(f"build_{{asset.key.path[0]}}", [asset.key]) for asset in lates),
        ],
    )
"""
# Reads lines `JOB FLAG …` and runs the job while the flags are set.
DRIVER = """
import json
import sys
from pathlib import Path

import dagster as dg
from pipeline.definitions import defs

if __name__ == "__main__":
    definitions = defs()
    with dg.DagsterInstance.get() as instance:
        # Make the databases: processes that do it at the same time spoil them.
        instance.get_runs()
        instance.all_instigator_state()
        instance.get_asset_records()
        print("READY", flush=True)
        for line in sys.stdin:
            job, *flags = line.split()
            Path("flags.json").write_text(json.dumps(flags))
            result = definitions.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)
            print("DONE", result.success, flush=True)
"""
# Shorter times, so that the test takes minutes instead of half an hour.
SHORTER = {
    "daemon/sensor.py": ("INTERVAL_SECONDS = 60", "INTERVAL_SECONDS = 5"),
    "alerts/evaluation.py": (
        "REST_SECONDS, LONGEST_REST_SECONDS = 30.0, 900.0",
        "REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 4.0",
    ),
}
DAEMON = [sys.executable, "-m", "dagster._daemon", "run", "-m", "pipeline.definitions"]


class Daemon:
    """A daemon with its code server, which can be killed and started again."""

    def __init__(self, project: Path, variables: dict[str, str]) -> None:
        self._project = project
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it."""
        self.starts += 1
        with (self._project / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                DAEMON, cwd=self._project, env=self._variables, stdout=log, stderr=log, start_new_session=True
            )

    def end(self, number: int) -> None:
        """Send a signal to it and to its code server, and wait."""
        if self._process:
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(60)
            finally:
                self._process = None

    def wait(self, is_done: Callable[[], object], seconds: float = 120) -> None:
        """Wait until something is done."""
        deadline = time.monotonic() + seconds
        while not is_done():
            assert self._process is None or self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    @property
    def log(self) -> str:
        """Return the end of its output."""
        return (self._project / "daemon.log").read_text()[-6000:]


class Driver:
    """A process that runs jobs of the project while the test says what fails."""

    def __init__(self, project: Path, variables: dict[str, str]) -> None:
        with (project / "driver.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", DRIVER],
                cwd=project,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._answer("READY")

    def run(self, job: str, *flags: str) -> None:
        """Run a job; the flags name the job or the checks that fail."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join((job, *flags)) + "\n")
        self._process.stdin.flush()
        assert str(job not in flags) in self._answer("DONE")

    def _answer(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line
        raise AssertionError("the driver has ended")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def title(text: str) -> str:
    """Return the first line of a message without the project."""
    return text.partition(" (pipeline")[0]


@contextmanager
def project_with(folder: Path, project: Path, variables: dict[str, str]) -> Iterator[tuple[Daemon, Driver]]:
    """Yield a daemon, not started, and a driver."""
    own = runs.copy(project, folder / "project", watched=MODULE)
    (own / "flags.json").write_text("[]")
    for name, (before, after) in SHORTER.items():
        file = own / "src" / "pipeline" / "floe" / name
        assert 1 == file.read_text().count(before)
        file.write_text(file.read_text().replace(before, after))
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "DAGSTER_HOME": str(own / "home"),
        "DAGSTER_IS_DEV_CLI": "1",
        "DAGSTER_CLI_TELEMETRY": "0",
        "FRESHNESS_DAEMON_INTERVAL_SECONDS": "3",
        "PYTHONPATH": "src",
    }
    daemon, driver = Daemon(own, environment | variables), Driver(own, environment)
    try:
        yield daemon, driver
    finally:
        daemon.end(signal.SIGKILL)
        driver.close()


def test_fifty(project: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """50 failures and recoveries over restarts, SIGKILLs and outages: exactly 50 messages, in both channels."""
    port = free_port()
    state = tmp_path / "state"
    history = state / "alerts" / "history.json"
    with hook() as webhook, ExitStack() as down:
        variables = {
            "FLOE_STATE_DIR": str(state),
            "FLOE_ALERT_WEBHOOK": webhook.url,
            "FLOE_ALERT_EMAIL_TO": "team@example.com, owners",
            "FLOE_ALERT_EMAIL_FROM": "floe@example.com",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
        }
        mailboxes: list[Mailbox] = []

        def start_mail() -> None:
            mailboxes.append(down.enter_context(mailbox(port=port)))

        def mails() -> list[Any]:
            return [message for box in mailboxes for message in box.messages]

        with project_with(tmp_path, project, variables) as (daemon, driver):
            start_mail()
            daemon.start()
            daemon.wait(history.exists)
            for number in range(LATE):
                driver.run(f"build_late_{number}")

            # All is well, until the daemon is killed while it waits for the webhook's answer in the middle of many.
            webhook.hangs_after = 3
            for number in range(JOBS):
                driver.run(f"job_{number}", f"job_{number}")
            daemon.wait(lambda: webhook.requests > 3)
            daemon.end(signal.SIGKILL)
            webhook.hangs_after = 0

            # Nobody takes anything, and the daemon is restarted twice.
            webhook.status = 503
            down.close()
            daemon.start()
            driver.run("checks", *(f"check_{number}" for number in range(CHECKS)))
            for number in range(JOBS):
                driver.run(f"job_{number}", f"job_{number}")
            before = webhook.requests
            daemon.wait(lambda: webhook.requests > before + 1)
            daemon.end(signal.SIGKILL)
            daemon.start()
            daemon.wait(lambda: waiting(state) >= 2 * JOBS + CHECKS - 3)
            assert 3 == len(webhook.texts)

            # The webhook works again but limits the rate, the mail server does not; failures while the daemon is down.
            webhook.status, webhook.rate = 200, 7
            daemon.wait(lambda: len(webhook.texts) >= 2 * JOBS + CHECKS)
            daemon.end(signal.SIGTERM)
            for number in range(JOBS):
                driver.run(f"job_{number}", f"job_{number}")
            start_mail()
            daemon.start()
            is_late = 3 * JOBS + CHECKS + LATE
            daemon.wait(lambda: len(webhook.texts) >= is_late and len(mails()) >= is_late, 240)

            # Recoveries: four jobs, four checks, two assets.
            daemon.end(signal.SIGKILL)
            for number in range(4):
                driver.run(f"job_{number}")
            driver.run("checks", *(f"check_{number}" for number in range(4, CHECKS)))
            for number in range(2):
                driver.run(f"build_late_{number}")
            daemon.start()
            daemon.wait(lambda: len(webhook.texts) >= 50 and len(mails()) >= 50)
            # Nothing comes twice after another restart, but two assets are late again a minute later.
            daemon.end(signal.SIGKILL)
            for number in range(2):
                driver.run(f"build_late_{number}")
            daemon.start()
            written = history.stat().st_mtime
            daemon.wait(lambda: history.stat().st_mtime > written)
            evaluated = history.stat().st_mtime
            daemon.wait(lambda: history.stat().st_mtime > evaluated)
            daemon.end(signal.SIGTERM)

            texts = [text.split("*")[1] for text in webhook.texts]
            subjects = [str(mail["Subject"]) for mail in mails()]
            assert Counter(texts) == Counter(subjects), daemon.log
            assert {
                "Failed run": 3 * JOBS,
                "Failed check": CHECKS,
                "Late asset": LATE,
                "Recovery": 10,
            } == Counter(text.partition(":")[0] for text in texts)
            assert 50 == len(texts) == len({mail["Message-ID"] for mail in mails()})
            record_property(
                "summary", f"alerts: 50 failures and recoveries, {daemon.starts} starts of the daemon, 50 + 50"
            )


def waiting(state: Path) -> int:
    """Return the number of messages that wait for the webhook."""
    files = (state / "alerts" / "messages").glob("*.json")
    return sum("FLOE_ALERT_WEBHOOK" in json.loads(file.read_text())["waiting"] for file in files)
