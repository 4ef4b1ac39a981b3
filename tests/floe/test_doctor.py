"""Tests that `floe doctor` quickly names the true cause, whatever is wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pipeline.floe.cli import doctor
from pipeline.floe.cli.doctor import endpoints as checks
from pipeline.floe.cli.doctor import examine, project
from pipeline.floe.cli.doctor import finding as finding_module
from pipeline.floe.cli.doctor.finding import Finding, request_leaves
from pipeline.floe.cli.show import last_run, similar_nodes
from pipeline.floe.dbt.profile import read_output
from pipeline.floe.settings import settings as default

from tests.faults.drive import CHANNELS, UNKNOWN_HOST, settings
from tests.faults.server import Fault, FaultyServer, faulty
from tools.engines.certificates import write_certificate

LINEAGE, OTLP_HTTP, OTLP_GRPC = CHANNELS
# What goes wrong with the connection or the answer, and the words that name it and no other fault.
ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "refuses": ({"fault": Fault.REFUSE}, "nothing is listening there"),
    "hangs": ({"fault": Fault.HANG}, "no answer in time"),
    "drops SYN": ({"fault": Fault.DROP_SYN}, "no answer in time"),
    "401": ({"status": 401}, "does not accept the key (401)"),
    "403": ({"status": 403}, "no permission to write there (403)"),
    "404": ({"status": 404}, "no such path (404)"),
    "413": ({"status": 413}, "too large for it (413)"),
    "429": ({"status": 429}, "limits requests (429)"),
    "500": ({"status": 500}, "a server error"),
    "closes": ({"fault": Fault.CLOSE}, "closes the connection without an answer"),
}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep unsent events in a folder of the test's own."""
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path))
    for name in ("OPENLINEAGE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate that nobody trusts, and its key."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


def tried(channel: str, url: str) -> Finding:
    """Return what is found of a channel with this endpoint."""
    check = checks.lineage if channel == LINEAGE else checks.traces
    return next(iter(run_as_doctor(check(settings(channel, url), time.monotonic() + 8))))


def run_as_doctor(findings: Iterator[Finding]) -> list[Finding]:
    """Exhaust a check in a thread that is named as the doctor's: what exporters say in it goes to the finding."""
    import threading

    found: list[Finding] = []
    thread = threading.Thread(target=lambda: found.extend(findings), name="floe-doctor-test")
    thread.start()
    thread.join()
    return found


class TestEndpoints:
    """Each fault of an endpoint."""

    @pytest.mark.parametrize("case", ANSWERS)
    @pytest.mark.parametrize("channel", CHANNELS)
    def test_answer(self, channel: str, case: str) -> None:
        """It is named, with its endpoint and the setting that says so, in one line."""
        wrong, words = ANSWERS[case]
        with faulty(grpc=channel == OTLP_GRPC) as server:
            server.go_wrong(**wrong)
            finding = tried(channel, server.url)

        assert "fail" == finding.state
        assert words in finding.message, finding.detail
        assert str(server.port) in finding.message
        assert "floe/settings.toml" in finding.message
        assert "\n" not in finding.message
        others = {told for _, told in ANSWERS.values()} - {words}
        assert not [told for told in others if told in finding.message]

    def test_own_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An endpoint that a signal's own variable sets is corrected there, not in the general variable."""
        with faulty() as server:
            server.go_wrong(status=404)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{server.url}/v2/traces")
            finding = tried(OTLP_HTTP, "")

        assert "correct OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, which is used as it is" in finding.message

    def test_own_configuration(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An endpoint in openlineage.yml is corrected in that file."""
        with faulty() as server:
            server.go_wrong(status=404)
            file = tmp_path / "own.yml"
            file.write_text(f"transport:\n  type: http\n  url: {server.url}\n")
            monkeypatch.setenv("OPENLINEAGE_CONFIG", str(file))
            finding = tried(LINEAGE, "")

        assert f"correct `url` or `endpoint` in {file}" in finding.message

    @pytest.mark.parametrize(
        ("channel", "variable", "value"),
        [
            (LINEAGE, "OPENLINEAGE_DISABLED", "true"),
            (OTLP_HTTP, "OTEL_SDK_DISABLED", "true"),
            (OTLP_HTTP, "OTEL_TRACES_EXPORTER", "none"),
        ],
    )
    def test_switched_off(self, monkeypatch: pytest.MonkeyPatch, channel: str, variable: str, value: str) -> None:
        """The variable that switches a signal off is named, not the endpoint, which is set."""
        monkeypatch.setenv(variable, value)
        finding = tried(channel, "http://127.0.0.1:1")

        assert ("off", f"{variable}={value} switches it off, so nothing is sent") == (finding.state, finding.message)

    def test_not_sampled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a span to send, the endpoint is not said to have accepted one."""
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        with faulty() as server:
            finding = tried(OTLP_HTTP, server.url)

        assert ("warn", 0) == (finding.state, server.answered)
        assert "OTEL_TRACES_SAMPLER=always_off" in finding.message

    @pytest.mark.parametrize("status", [302, 307])
    @pytest.mark.parametrize("channel", [LINEAGE, OTLP_HTTP])
    def test_redirect(self, channel: str, status: int) -> None:
        """A redirect names the place, which is sent nothing, and the variable to correct."""
        with faulty() as server, faulty() as other:
            location = f"{other.url}/elsewhere"
            server.go_wrong(status=status, location=f"{location}?key=secret")
            finding = tried(channel, server.url)

        variable = "OPENLINEAGE_URL" if channel == LINEAGE else "OTEL_EXPORTER_OTLP_ENDPOINT"
        words = f"it redirects to {location} ({status}), and redirects are not followed: correct {variable}"
        assert ("fail", []) == (finding.state, other.followed)
        assert words in finding.message, finding.detail
        assert "secret" not in finding.message + finding.detail

    @pytest.mark.parametrize("channel", CHANNELS)
    def test_host(self, channel: str) -> None:
        """A host name that nobody knows."""
        assert "host name cannot be resolved" in tried(channel, f"http://{UNKNOWN_HOST}:4321").message

    @pytest.mark.parametrize("channel", CHANNELS)
    def test_certificate(self, channel: str, tls: tuple[Path, Path]) -> None:
        """A certificate that is not trusted, and the variable that would name it."""
        with faulty(grpc=channel == OTLP_GRPC, tls=tls) as server:
            finding = tried(channel, server.url)

        assert "certificate is not trusted" in finding.message, finding.detail
        variable = "REQUESTS_CA_BUNDLE" if channel == LINEAGE else "OTEL_EXPORTER_OTLP_CERTIFICATE"
        assert variable in finding.message

    @pytest.mark.parametrize("channel", CHANNELS)
    def test_no_tls(self, channel: str) -> None:
        """A server that speaks no TLS where https:// was written."""
        with faulty(grpc=channel == OTLP_GRPC) as server:
            finding = tried(channel, server.url.replace("http:", "https:"))

        assert "that port does not use TLS: use http://" in finding.message, finding.detail

    @pytest.mark.parametrize("channel", [LINEAGE, OTLP_HTTP])
    def test_grpc_port(self, channel: str) -> None:
        """A gRPC port where HTTP was chosen."""
        with faulty(grpc=True) as server:
            finding = tried(channel, server.url)

        assert "may be a gRPC port" in finding.message, finding.detail
        assert ("use its HTTP port" if channel == LINEAGE else "PROTOCOL=grpc") in finding.message

    def test_http_port(self) -> None:
        """An HTTP port where gRPC was chosen."""
        with faulty() as server:
            finding = tried(OTLP_GRPC, server.url)

        assert "speaks HTTP, not gRPC" in finding.message, finding.detail
        assert "PROTOCOL=http/protobuf" in finding.message

    @pytest.mark.parametrize("channel", [LINEAGE, OTLP_HTTP])
    def test_no_url(self, channel: str) -> None:
        """An address without http://."""
        assert "is not a URL: write http://host:port" in tried(channel, "localhost:4321").message

    @pytest.mark.parametrize("channel", CHANNELS)
    def test_well(self, channel: str) -> None:
        """A receiver that takes it, and that gets it."""
        with faulty(grpc=channel == OTLP_GRPC) as server:
            finding = tried(channel, server.url)

            assert ("ok", True) == (finding.state, "accepted a test" in finding.message), finding
            assert ["floe.doctor"] == [span.name for span in server.spans] or [
                ("floe.doctor", "START"),
                ("floe.doctor", "COMPLETE"),
            ] == [(event["job"]["name"], event["eventType"]) for event in server.events]

    def test_metrics_path(self) -> None:
        """A collector that takes traces and no metrics."""

        class NoMetrics(FaultyServer):
            def take(self, path: str, headers: dict[str, str], body: bytes) -> bool:
                return path != "/v1/metrics" and super().take(path, headers, body)

        server = NoMetrics()
        try:
            told = settings(OTLP_HTTP, server.url)
            assert "ok" == run_as_doctor(checks.traces(told, time.monotonic() + 8))[0].state
            assert "no such path (404)" in run_as_doctor(checks.metrics(told, 0))[0].message
        finally:
            server.stop()


class TestWaiting:
    """What earlier runs have left."""

    def test_sent(self, state: Path) -> None:
        """It is sent as soon as the receiver takes a test event, and the open run is ended; then nothing waits."""
        from tests.floe.test_journal import dead, event

        dead(state / "lineage", event(1), event(2))
        with faulty() as server:
            server.go_wrong(Fault.REFUSE)
            before = run_as_doctor(checks.lineage(settings(LINEAGE, server.url), time.monotonic() + 8))
            server.go_wrong()
            after = run_as_doctor(checks.lineage(settings(LINEAGE, server.url), time.monotonic() + 8))
            again = run_as_doctor(checks.lineage(settings(LINEAGE, server.url), time.monotonic() + 8))

            states = [event["eventType"] for event in server.events if event["job"]["name"].startswith("job")]
        assert ["START", "START", "ABORT", "ABORT"] == states
        assert [("warn", "2 events are waiting"), ("ok", SENT), ("ok", "no events are waiting")] == [
            (found[1].state, next(word for word in WAITING if word in found[1].message))
            for found in (before, after, again)
        ]

    def test_off(self, state: Path) -> None:
        """With lineage off it still says what waits."""
        from tests.floe.test_journal import dead, event

        dead(state / "lineage", event(1))
        off, waiting = checks.lineage(settings(LINEAGE, ""), time.monotonic() + 8)

        assert ("off", "warn") == (off.state, waiting.state)
        assert "OPENLINEAGE_URL" in off.message


SENT = "4 events of earlier runs have been sent now"
WAITING = ("2 events are waiting", SENT, "no events are waiting")


class TestConfiguration:
    """The owner's configuration of OpenLineage's client."""

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("transport: [", "cannot be read; correct it"),
            ("transport:\n  url: http://127.0.0.1:1\n", "names no transport"),
            ("", "names no transport"),
            ("transport:\n  type: pigeon\n", "is invalid; correct it"),
            ("transport:\n  type: http\n", "is invalid; correct it"),
        ],
    )
    def test_wrong(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
        """A file that is wrong is named, and events do not go to the console instead."""
        file = tmp_path / "openlineage.yml"
        file.write_text(text)
        monkeypatch.setenv("OPENLINEAGE_CONFIG", str(file))
        (finding,) = checks.lineage(default, time.monotonic() + 8)

        assert "fail" == finding.state
        assert str(file) in finding.message
        assert words in finding.message

    def test_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is not there does not mean the next best configuration."""
        monkeypatch.setenv("OPENLINEAGE_CONFIG", "/no/such/openlineage.yml")
        (finding,) = checks.lineage(default, time.monotonic() + 8)

        assert "OPENLINEAGE_CONFIG=/no/such/openlineage.yml is not a file" in finding.message

    def test_owner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is right is named beside the URL that is used, credentials in it hidden."""
        with faulty() as server:
            url = server.url.replace("//", "//me:hunter2@")
            file = tmp_path / "openlineage.yml"
            file.write_text(f"transport:\n  type: async_http\n  url: {url}\n")
            monkeypatch.setenv("OPENLINEAGE_CONFIG", str(file))
            finding = next(iter(checks.lineage(default, time.monotonic() + 8)))

        assert "ok" == finding.state
        assert f"http://[hidden]@127.0.0.1:{server.port}/api/v1/lineage ({file})" in finding.message
        assert 2 == len(server.events)


class TestProject:
    """dbt's side."""

    def test_state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that cannot be written."""
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "file"))
        (finding,) = project.state(default, 0)

        assert ("fail", True) == (finding.state, "FLOE_STATE_DIR" in finding.message)

    def test_full_disk(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk with room for an empty file, but not for an event, is a failure (simulated)."""

        def write(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("pipeline.floe.delivery.journal.os.write", write)
        (finding,) = project.state(default, 0)

        assert ("fail", True) == (finding.state, "No space left on device" in finding.message)
        assert [] == list((state / "lineage").glob("*.ndjson"))

    def test_state_is_left_as_it_was(self, state: Path) -> None:
        """Trying leaves nothing but a folder that git ignores."""
        (finding,) = project.state(default, 0)

        assert "ok" == finding.state
        assert [state / "lineage" / ".gitignore"] == [file for file in state.rglob("*") if file.is_file()]

    @pytest.mark.parametrize(
        ("text", "state", "words"),
        [
            (None, "off", "is missing"),
            ('{"metadata": {"dbt_version": "1.9.0"}}', "warn", "by dbt 1.9.0, but dbt"),
            ("{}", "fail", "is not a dbt manifest"),
        ],
    )
    def test_manifest(self, tmp_path: Path, text: str | None, state: str, words: str) -> None:
        """A manifest that is missing, of another dbt, or none."""
        (tmp_path / "target").mkdir()
        if text is not None:
            (tmp_path / "target" / "manifest.json").write_text(text)
        (finding,) = project.manifest(
            replace(default, dbt_project_dir=tmp_path, dbt_artifacts_dir=tmp_path / "target"), 0
        )

        assert (state, True) == (finding.state, words in finding.message), finding
        assert "floe prepare" in finding.message or "dg" in finding.message

    def test_stale(self, tmp_path: Path) -> None:
        """A manifest older than a model."""
        from importlib.metadata import version

        (tmp_path / "target").mkdir()
        (tmp_path / "models").mkdir()
        manifest, model = tmp_path / "target" / "manifest.json", tmp_path / "models" / "orders.sql"
        manifest.write_text(json.dumps({"metadata": {"dbt_version": version("dbt-core")}}))
        model.write_text("")
        told = replace(default, dbt_project_dir=tmp_path, dbt_artifacts_dir=tmp_path / "target")
        os.utime(manifest, (1, 1))
        (stale,) = project.manifest(told, 0)
        os.utime(model, (0, 0))
        (fresh,) = project.manifest(told, 0)

        assert ("warn", "ok") == (stale.state, fresh.state)
        assert "1 file has changed since, orders.sql" in stale.message

    def test_no_catalog(self, tmp_path: Path) -> None:
        """Without a catalog all is well: what lineage does, and the command that writes a catalog where it is read."""
        (tmp_path / "dbt_project.yml").write_text("name: shop\n")
        (finding,) = project.catalog(replace(default, dbt_project_dir=tmp_path), 0)

        assert "off" == finding.state
        assert (
            "not in use: lineage takes the columns of sources from their documentation. "
            f"`dbt docs generate --target-path {tmp_path / 'target'}` would write the columns of all tables"
        ) == finding.message

    @pytest.mark.parametrize(
        ("configured", "variable", "folder"),
        [
            ("", "", "target"),
            ("target-path: build/dbt", "", "build/dbt"),
            ("target-path: \"{{ env_var('BUILT', 'b') ~ '/x' }}\"", "", "b/x"),
            ("target-path: build", "elsewhere", "elsewhere"),
        ],
    )
    def test_catalog(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: str, variable: str, folder: str
    ) -> None:
        """The catalog lies where dbt writes it; its age is dbt's own time, not the file's."""
        monkeypatch.setenv("DBT_TARGET_PATH", variable)
        monkeypatch.delenv("BUILT", raising=False)
        (tmp_path / "dbt_project.yml").write_text(f"name: shop\n{configured}\n")
        (tmp_path / folder).mkdir(parents=True)
        made = (datetime.now(UTC) - timedelta(days=3, hours=1)).isoformat().replace("+00:00", "Z")
        content = {"metadata": {"generated_at": made}, "nodes": {}, "sources": {"source.shop.a.b": {}}}
        (tmp_path / folder / "catalog.json").write_text(json.dumps(content))
        (finding,) = project.catalog(replace(default, dbt_project_dir=tmp_path), 0)

        assert "ok" == finding.state
        assert str(tmp_path / folder / "catalog.json") in finding.message
        assert "3 days ago: lists the columns of 1 source" in finding.message

    @pytest.mark.parametrize(
        ("configured", "content", "file"),
        [
            ("", "{", "catalog.json"),
            ("", "{}", "catalog.json"),
            ("target-path: \"{{ var('x') }}\"", None, "dbt_project.yml"),
            ("target-path: \"{{ env_var('NOT_SET_ANYWHERE') }}\"", None, "dbt_project.yml"),
        ],
    )
    def test_bad_catalog(self, tmp_path: Path, configured: str, content: str | None, file: str) -> None:
        """A catalog that is not one, or whose folder cannot be worked out, is named with the next step."""
        (tmp_path / "target").mkdir()
        (tmp_path / "dbt_project.yml").write_text(f"name: shop\n{configured}\n")
        if content is not None:
            (tmp_path / "target" / "catalog.json").write_text(content)
        (finding,) = project.catalog(replace(default, dbt_project_dir=tmp_path), 0)

        assert ("warn", True) == (finding.state, str(tmp_path) in finding.message and file in finding.message)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("other: {outputs: {local: {type: x}}}", "names the profile 'pipeline', and {file} has other: write the"),
            ("config: {send_anonymous_usage_stats: false}", "and {file} has none"),
            (
                "pipeline: {outputs: {dev: {type: x}}}",
                "DBT_TARGET=local is not an output of pipeline in {file}; its outputs: dev",
            ),
            ("pipeline: {target: dev}", "DBT_TARGET=local is not an output"),
            ("pipeline: [", "{file} cannot be read; correct it"),
            ("", "{file} is not a mapping"),
        ],
    )
    def test_wrong_profile(self, tmp_path: Path, text: str, words: str) -> None:
        """A profile that is not the one of dbt_project.yml, or has no such output, fails and names both files."""
        (tmp_path / "profiles.yml").write_text(text)
        (finding,) = project.profile(replace(default, dbt_profiles_dir=tmp_path, dbt_target="local"), 0)

        assert "fail" == finding.state
        assert words.format(file=tmp_path / "profiles.yml") in finding.message
        if "names the profile" in words:
            assert str(default.dbt_project_dir / "dbt_project.yml") in finding.message
            assert "set `profile` in floe/settings.toml" in finding.message

    def test_wrong_target(self) -> None:
        """With a DBT_TARGET that the profile lacks, that is the only failure: the other outputs are named."""
        wrong = replace(default, dbt_target="nope")
        profile, debug = (next(check(wrong, time.monotonic() + 60)) for check in (project.profile, project.dbt_debug))

        assert ("fail", "off") == (profile.state, debug.state)
        assert "DBT_TARGET=nope is not an output of pipeline" in profile.message
        assert profile.message.endswith("its outputs: dev, prod, local")
        assert "the profile is wrong" in debug.message

    @pytest.mark.parametrize("name", ["pipeline", "{{ env_var('SHOP_PROFILE') }}"])
    def test_right_profile(self, tmp_path: Path, name: str) -> None:
        """Of several profiles it is the one that dbt_project.yml names; `config:` is none."""
        others = "" if "{{" in name else "another: {outputs: {local: {type: y}}}\n"
        (tmp_path / "profiles.yml").write_text(
            f"config: {{partial_parse: true}}\n{others}pipeline: {{outputs: {{local: {{type: x}}}}}}\n"
        )
        (tmp_path / "dbt_project.yml").write_text(json.dumps({"name": "shop", "profile": name}))
        told = replace(default, dbt_profiles_dir=tmp_path, dbt_project_dir=tmp_path, dbt_target="local")

        assert {"type": "x"} == read_output(told)

    def test_variables(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A missing variable fails, a secret shows nothing but that it is set."""
        (tmp_path / "profiles.yml").write_text(
            "pipeline: {outputs: {dev: {type: x, a: \"{{ env_var('A') }}\", b: \"{{ env_var('B') }}\","
            " c: \"{{ env_var('C', '') }}\", d: \"{{ env_var('D') }}\"}}}"
        )
        monkeypatch.setenv("A", "eu-west-1")
        monkeypatch.setenv("B", "hunter2")
        told = replace(default, dbt_profiles_dir=tmp_path, dbt_target="dev", secret_variables=("B",))
        found = {finding.check: finding for finding in project.profile(told, 0)}

        assert [("ok", "is eu-west-1"), ("ok", "is set"), ("off", "is not set; its default applies")] == [
            (found[name].state, found[name].message) for name in "ABC"
        ]
        assert "fail" == found["D"].state
        assert "DBT_TARGET" in found["profile"].message or "settings.toml" in found["profile"].message

    def test_off_loads_nothing(self, project: Path) -> None:
        """What is switched off is said without loading OpenTelemetry or OpenLineage."""
        code = (
            "import sys; from pipeline.floe.cli import doctor; from pipeline.floe.settings import settings\n"
            "doctor.CHECKS = [check for check in doctor.CHECKS if check[0] == 'endpoints']\n"
            "print([finding.state for finding in doctor.examine(settings)])\n"
            "print([name for name in sys.modules if name.startswith(('opentelemetry', 'openlineage', 'dagster'))])"
        )
        done = run_python(project, code)

        assert ["['off', 'ok', 'off', 'ok', 'off']", "[]"] == done.stdout.splitlines(), done.stdout + done.stderr

    def test_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A check's time begins with its request; one that has not come so far is not said to hang."""

        def slow_to_load(_: Any, __: float) -> Iterator[Finding]:
            time.sleep(1.5)
            request_leaves()
            time.sleep(0.5)
            yield Finding("manifest", "ok", "done")

        def never_loaded(_: Any, __: float) -> Iterator[Finding]:
            time.sleep(30)
            yield from ()

        def hangs(_: Any, __: float) -> Iterator[Finding]:
            request_leaves()
            time.sleep(30)
            yield from ()

        monkeypatch.setattr(
            doctor, "CHECKS", [("project", name) for name in ("manifest", "state", "duplicate_emitters")]
        )
        monkeypatch.setattr(doctor, "PATIENCE_SECONDS", 4.0)
        for module in (doctor, finding_module):
            monkeypatch.setattr(module, "CHECK_SECONDS", 1.0)
        for name, check in (("manifest", slow_to_load), ("state", never_loaded), ("duplicate_emitters", hangs)):
            monkeypatch.setattr(project, name, check)

        assert [("ok", "done"), ("warn", "not tried"), ("fail", "no answer in 1 s: it hangs")] == [
            (finding.state, finding.message[: len(words)])
            for finding, words in zip(
                examine(default), ("done", "not tried", "no answer in 1 s: it hangs"), strict=True
            )
        ]

    def test_one_broken_check(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A check that raises hides no other."""
        monkeypatch.setattr(project, "manifest", lambda *_: 1 / 0)
        monkeypatch.setattr(project, "dbt_debug", lambda *_: iter(()))
        found = {finding.check: finding for finding in examine(replace(default, openlineage_url="", otlp_endpoint=""))}

        assert ("fail", "ZeroDivisionError: division by zero") == (found["manifest"].state, found["manifest"].message)
        assert "ok" == found["profile"].state


def beside(folder: Path, script: str) -> Path:
    """Return a Python of this environment that has another dbt beside it, a script for the shell."""
    here = Path(sys.executable)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(here)
    (folder / "bin" / "dbt").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / "dbt").chmod(0o755)
    for name in ("pyvenv.cfg", "lib"):
        (folder / name).symlink_to(here.parent.parent / name)
    return folder / "bin" / "python"


def floe(
    project: Path, *arguments: str, python: Path | str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    code = "import sys; from pipeline.floe.cli.main import main; sys.exit(main())"
    return run_python(project, code, *arguments, python=python, **environment)


def run_python(
    project: Path, code: str, *arguments: str, python: Path | str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code of the project."""
    return subprocess.run(
        [str(python), "-c", code, *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


class TestCommand:
    """`floe` as a person calls it."""

    def test_messages(self, project: Path) -> None:
        """Neither what a library logs or warns about nor the traceback of an unexpected error shows a secret."""
        code = """
import logging, os, sys, warnings
from pipeline.floe.cli import main

def fail(_):
    logging.getLogger("some.library").warning("logged %s", os.environ["DBT_ENV_SECRET_X"])
    warnings.warn(f"warned {os.environ['DBT_ENV_SECRET_X']}")
    raise RuntimeError(f"raised {os.environ['DBT_ENV_SECRET_X']}")

main._show = fail
sys.exit(main.main())
"""
        done = run_python(project, code, "lineage", "show", DBT_ENV_SECRET_X="f00-bar-17")

        assert 1 == done.returncode
        assert [text for text in ("logged", "warned", "raised") if f"{text} [hidden]" not in done.stderr] == []
        assert "f00-bar-17" not in done.stderr + done.stdout

    @pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
    def test_encoding(self, project: Path, encoding: str) -> None:
        """A terminal without the marks shows the states as words."""
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from pipeline.floe.cli.main import main; sys.exit(main())", "doctor"],
            cwd=project,
            env={**os.environ, "PYTHONPATH": "src", "PYTHONIOENCODING": encoding, "OTEL_SERVICE_NAME": "é→"},
            capture_output=True,
            check=False,
        )
        lines = done.stdout.decode(encoding).splitlines()

        assert not done.stderr
        marks = set("✓·!✗") if encoding == "utf-8" else {"ok", "off", "warn", "fail"}
        assert {line.split()[0] for line in lines} <= marks
        assert len(lines) > 5

    def test_everything_hangs(self, project: Path, tmp_path: Path) -> None:
        """Whatever is dead, it ends within 10 seconds of the time that loading takes, and says of each what hangs."""
        python = beside(tmp_path, "echo 01:02:03  Connection:; exec sleep 60")
        began = time.monotonic()
        run_python(project, "from pipeline.floe.cli.doctor import endpoints, project")
        startup = time.monotonic() - began
        with faulty() as server:
            server.go_wrong(Fault.HANG)
            began = time.monotonic()
            done = floe(
                project,
                "doctor",
                "--json",
                python=python,
                OPENLINEAGE_URL=server.url,
                OTEL_EXPORTER_OTLP_ENDPOINT=server.url,
            )
            took = time.monotonic() - began

        found = {finding["check"]: finding for finding in json.loads(done.stdout)}
        assert 10 > took - startup
        assert 1 == done.returncode
        assert {"fail"} == {found[name]["state"] for name in ("dbt debug", "lineage", "traces", "metrics")}
        assert "OPENLINEAGE_URL in the environment" in found["lineage"]["message"]
        assert "" == done.stderr

    def test_busy(self, project: Path, tmp_path: Path) -> None:
        """On a busy machine, with nothing set, nothing is said to hang, and nothing fails."""
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
        try:
            done = floe(project, "doctor", DUCKDB_PATH=str(tmp_path / "warehouse.duckdb"))
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()

        assert 0 == done.returncode, done.stdout
        assert [] == [word for word in ("hang", "no answer", "not tried") if word in done.stdout], done.stdout
        assert 3 == done.stdout.count("no endpoint is set, so nothing is sent")

    def test_table(self, project: Path, tmp_path: Path) -> None:
        """The table for people has one line a finding, and no secret."""
        python = beside(tmp_path, "exit 0")
        with faulty() as server:
            server.go_wrong(status=401)
            done = floe(
                project,
                "doctor",
                python=python,
                OPENLINEAGE_URL=server.url,
                OPENLINEAGE_API_KEY="hunter2",
            )

        assert 1 == done.returncode
        assert "hunter2" not in done.stdout + done.stderr
        lines = done.stdout.splitlines()
        assert all(line[0] in "✓·!✗" for line in lines)
        assert [line for line in lines if line.startswith("✗ lineage") and "(401)" in line]

    @pytest.mark.usefixtures("state")
    def test_closed_pipe(self, project: Path) -> None:
        """A reader that closes the pipe early, such as `head`, ends the command without a traceback."""
        reader, writer = os.pipe()
        os.close(reader)
        code = "from pipeline.floe.cli.main import main; raise SystemExit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code, "lineage", "show"],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project / "src")},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writer)

        assert (1, "") == (done.returncode, done.stderr)

    def test_replay_and_show(self, project: Path, state: Path) -> None:
        """What waits is shown as not sent, then replayed."""
        from tests.floe.test_journal import dead, event

        nothing = floe(project, "lineage", "show")
        off = floe(project, "lineage", "replay")
        dead(state / "lineage", event(1))
        shown = floe(project, "lineage", "show")
        with faulty() as server:
            server.go_wrong(status=500)
            failed = floe(project, "lineage", "replay", OPENLINEAGE_URL=server.url)
            server.go_wrong()
            done = floe(project, "lineage", "replay", OPENLINEAGE_URL=server.url)
            again = floe(project, "lineage", "show")

            assert ["START", "ABORT"] == [event["eventType"] for event in server.events]
        assert "No run has sent lineage yet" in nothing.stdout
        assert (1, "Lineage is off: set OPENLINEAGE_URL.\n") == (off.returncode, off.stdout)
        assert "START    job1  (not sent)" in shown.stdout
        assert 1 == failed.returncode
        count, reason = failed.stdout.splitlines()
        assert f"0 sent, 0 dropped, 2 waiting in {state / 'lineage'}" == count
        assert reason.startswith(f"{server.url}/api/v1/lineage (OPENLINEAGE_URL in the environment): it answered with")
        assert (0, "2 sent, 0 dropped\n") == (done.returncode, done.stdout)
        assert "2 events, 0 not sent" in again.stdout

    def test_show_message(self, tmp_path: Path) -> None:
        """An error message is shown below its event: its first lines, without colors."""
        from openlineage.client.event_v2 import RunState
        from openlineage.client.facet_v2 import error_message_run

        from tests.floe.test_journal import dead, event

        failed = event(1, RunState.FAIL)
        message = "Database Error in model x\n\n  \x1b[31mno such column\x1b[0m: b\n" + "\n".join("ABCDE")
        failed.run.facets = {"errorMessage": error_message_run.ErrorMessageRunFacet(message, "SQL")}
        dead(tmp_path, failed)

        _, line, *below = last_run(tmp_path)

        assert line.endswith("FAIL     job1  (not sent)")
        shown, rest = below[:-1], below[-1]
        assert ["Database Error in model x", "no such column: b", "A", "B", "C"] == [line.strip() for line in shown]
        assert "    … and 2 more lines in the event's errorMessage" == rest

    def test_show_node(self, tmp_path: Path) -> None:
        """A node's events are shown alone, with each column of its table, what it is made of, and what is unknown."""
        from openlineage.client.event_v2 import OutputDataset, RunState
        from openlineage.client.facet_v2 import column_lineage_dataset, extraction_error_run, schema_dataset

        from tests.floe.test_journal import dead, event

        def origin(field: str, kind: str) -> column_lineage_dataset.InputField:
            step = column_lineage_dataset.Transformation(kind, "IDENTITY")
            return column_lineage_dataset.InputField("duckdb:///w", "w.main.raw_orders", field, [step])

        ended = event(1, RunState.COMPLETE)
        total = column_lineage_dataset.Fields([origin("amount", "DIRECT"), origin("currency", "INDIRECT")])
        facets = {
            "schema": schema_dataset.SchemaDatasetFacet([schema_dataset.SchemaDatasetFacetFields("id", "INTEGER")]),
            "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(
                {"id": column_lineage_dataset.Fields([origin("id", "DIRECT")]), "total": total},
                dataset=[origin("status", "INDIRECT")],
            ),
        }
        ended.outputs = [OutputDataset("duckdb:///w", "w.main.job1", facets=facets)]
        error = extraction_error_run.Error("column lineage: not all columns are known", task="columnLineage")
        ended.run.facets = {"extractionError": extraction_error_run.ExtractionErrorRunFacet(1, 1, [error])}
        dead(tmp_path, ended, event(2))

        _, line, *columns = last_run(tmp_path, "job1")

        assert line.endswith("→ w.main.job1  (not sent)")
        assert [
            "    id     INTEGER ← raw_orders.id",
            "    total ← raw_orders.amount (decided by raw_orders.currency)",
            "    The rows depend on raw_orders.status",
            "    Not known: column lineage: not all columns are known",
        ] == columns
        assert 1 == len([*last_run(tmp_path, "ob1")])
        assert 1 == len([*last_run(tmp_path, "")])
        assert ["job1", "job2"] == sorted(similar_nodes(tmp_path, "Job"))
        assert [] == similar_nodes(tmp_path / "nothing", "job1")


@pytest.mark.parametrize("is_empty", [False, True])
def test_missing_project(tmp_path: Path, *, is_empty: bool) -> None:
    """A dbt project that is not there is named by each check that needs it, and dbt itself is not blamed."""
    folder = tmp_path / "elsewhere"
    if is_empty:
        folder.mkdir()
    own = replace(default, dbt_project_dir=folder, dbt_profile="pipeline")
    missing = f"{folder / 'dbt_project.yml'} is missing: restore it, or check project_dir"
    deadline = time.monotonic() + 30
    profile, debug, catalog = (
        next(iter(check(own, deadline))) for check in (project.profile, project.dbt_debug, project.catalog)
    )

    assert ("fail", True) == (profile.state, profile.message.startswith(missing))
    assert ("off", True) == (debug.state, "see its line" in debug.message)
    assert ("warn", True) == (catalog.state, catalog.message.startswith(missing))


def test_prepare_without_project(project: Path, tmp_path: Path) -> None:
    """Without its dbt project, `floe prepare` says in one line what is missing."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".git", "target"))
    (folder,) = {file.parent for file in copy.rglob("dbt_project.yml")}
    shutil.rmtree(folder)
    code = "import sys; from pipeline.floe.cli.main import main; sys.argv = ['floe', 'prepare']; sys.exit(main())"
    variables = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert f"{folder / 'dbt_project.yml'} is missing" in done.stdout or "profiles.yml is missing" in done.stdout
    assert "Traceback" not in done.stderr
