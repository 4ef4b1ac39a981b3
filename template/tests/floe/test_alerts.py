"""Messages about failures: each failure and each recovery has one, which arrives even if the webhook was down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from .endpoint import Endpoint, serve
from .package import Alert, Kind, alert_channels, alert_events, evaluation, read_config, settings

CONFIDENTIAL = "n0t-f0r-the-chat"


class Flags:
    """What the asset and the check below do."""

    is_broken = False
    passes = True


@dg.asset(owners=["team:finance"], freshness_policy=dg.FreshnessPolicy.time_window(timedelta(hours=6)))
def invoices() -> None:
    """Fail on demand."""
    if Flags.is_broken:
        raise ValueError(f"no invoices for {CONFIDENTIAL}")


@dg.asset_check(asset=invoices)
def complete() -> dg.AssetCheckResult:
    """Pass on demand."""
    return dg.AssetCheckResult(passed=Flags.passes, severity=dg.AssetCheckSeverity.WARN)


DEFINITIONS = dg.Definitions([invoices], asset_checks=[complete])


@dataclass
class Shop:
    """A project with a webhook."""

    instance: dg.DagsterInstance
    endpoint: Endpoint
    cursor: str | None = None

    def build(self, *, is_broken: bool = False, passes: bool = True) -> None:
        """Run the asset and its check."""
        Flags.is_broken, Flags.passes = is_broken, passes
        dg.materialize([invoices, complete], instance=self.instance, raise_on_error=False)

    def find(self, state: FreshnessState) -> None:
        """Let Dagster find that the asset is late or fresh."""
        change = FreshnessStateChange(
            key=invoices.key,
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=time.time(),
        )
        self.instance.report_runless_asset_event(change)

    def evaluate(self) -> list[str]:
        """Evaluate the sensor once; return the kinds of all messages so far."""
        repository = DEFINITIONS.get_repository_def()
        _, self.cursor = evaluation.evaluate(
            self.instance, settings, read_config(settings), repository, lambda _: True, self.cursor
        )
        return [text.split("*")[1].partition(":")[0] for text in self.endpoint.texts]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Return a project after the first evaluation."""
    monkeypatch.setattr(alert_events, "SETTLING_SECONDS", 0.0)
    monkeypatch.setattr(evaluation, "REST_SECONDS", 0.0)
    monkeypatch.setenv("SHOP_PASSWORD", CONFIDENTIAL)
    with serve() as endpoint, dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("FLOE_ALERT_WEBHOOK", f"{endpoint.url}/hook")
        made = Shop(instance, endpoint)
        made.build(is_broken=True)
        made.evaluate()
        yield made


def test_first_evaluation(shop: Shop) -> None:
    """What failed before the first evaluation has no message."""
    assert shop.evaluate() == []


def test_run(shop: Shop) -> None:
    """A failed run has a message with its cause and owner, and without secrets; the next success has one."""
    shop.build(is_broken=True)
    assert shop.evaluate() == ["Failed run"]
    assert "no invoices for [hidden]" in shop.endpoint.texts[0]
    assert "Owner: team:finance" in shop.endpoint.texts[0]

    for _ in range(2):
        shop.build()
        assert shop.evaluate() == ["Failed run", "Recovery"]


def test_check(shop: Shop) -> None:
    """A failed check has one message until it passes."""
    for passes, kinds in ((False, 1), (False, 1), (True, 2), (True, 2)):
        shop.build(passes=passes)
        assert ["Failed check", "Recovery"][:kinds] == shop.evaluate()


def test_late(shop: Shop) -> None:
    """A late asset has one message until it is fresh."""
    for state, kinds in (("FAIL", 1), ("FAIL", 1), ("PASS", 2), ("PASS", 2)):
        shop.find(FreshnessState(state))
        assert ["Late asset", "Recovery"][:kinds] == shop.evaluate()


def test_outage(shop: Shop) -> None:
    """While the webhook is down, messages wait; then each arrives once, though the sensor's cursor is lost."""
    shop.endpoint.status = 503
    for _ in range(3):
        shop.build(is_broken=True)
        assert shop.evaluate() == []
    shop.endpoint.status, shop.cursor = 200, None

    for _ in range(2):
        assert shop.evaluate() == ["Failed run"] * 3


def test_state_lost(shop: Shop, state_folder: Path) -> None:
    """If the state folder is lost, the sensor goes on from its cursor."""
    shop.build(is_broken=True)
    for file in state_folder.rglob("*.json"):
        file.unlink()

    assert shop.evaluate() == ["Failed run"]


def test_half_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing variable is named."""
    monkeypatch.setenv("FLOE_ALERT_EMAIL_TO", "team@example.com")
    monkeypatch.setenv("FLOE_ALERT_EMAIL_FROM", "shop@example.com")
    [problem] = read_config(settings).problems

    assert "SMTP_HOST" in problem


@pytest.fixture
def mail_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables of e-mail to owners."""
    for name, value in {
        "FLOE_ALERT_EMAIL_TO": "owners",
        "FLOE_ALERT_EMAIL_FROM": "shop@example.com",
        "SMTP_HOST": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("mail_variables")
@pytest.mark.parametrize(
    ("name", "value"), [("FLOE_ALERT_EMAIL_TO", " , "), ("FLOE_ALERT_EMAIL_FROM", "a..b@example.com")]
)
def test_no_address(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A variable without a usable address is named."""
    monkeypatch.setenv(name, value)
    [problem] = read_config(settings).problems

    assert name in problem


@pytest.mark.usefixtures("mail_variables")
def test_invalid_owner() -> None:
    """An owner's address that e-mail does not allow is left out."""
    mail = read_config(settings).mail
    assert mail

    assert mail.recipients_for(("a..b@example.com", "c@example.com")) == ["c@example.com"]


@pytest.mark.parametrize("host", ["x.example:99999", "x.example:abc", "x.example:0", "user:S3cretPassw0rd/x@x.example"])
def test_invalid_port(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """A webhook with an invalid port is named, without its URL."""
    monkeypatch.setenv("FLOE_ALERT_WEBHOOK", f"http://{host}/hook")
    config = read_config(settings)

    assert config.is_off
    assert "FLOE_ALERT_WEBHOOK" in config.problems[0]
    assert host not in config.problems[0]


@pytest.mark.usefixtures("mail_variables")
def test_no_recipient(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that no channel takes is in the summary."""
    monkeypatch.delenv("FLOE_ALERT_WEBHOOK")
    shop.build(is_broken=True)
    repository = DEFINITIONS.get_repository_def()
    summary, _ = evaluation.evaluate(
        shop.instance, settings, read_config(settings), repository, lambda _: True, shop.cursor
    )

    assert "messages without a recipient: 1 (owners: team:finance)" in summary


def test_clock_set_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that ends in the far future does not count."""
    monkeypatch.setattr(evaluation, "REST_SECONDS", 90_000.0)
    monkeypatch.setattr(evaluation, "LONGEST_REST_SECONDS", 90_000.0)
    shop.endpoint.status = 503
    shop.build(is_broken=True)
    assert shop.evaluate() == []

    shop.endpoint.status = 200
    assert shop.evaluate() == ["Failed run"]


def test_newest_run_deleted(shop: Shop) -> None:
    """A failure has its message, though the run before was deleted and its ids are used again."""
    shop.build(is_broken=True)
    assert shop.evaluate() == ["Failed run"]
    [newest] = shop.instance.get_run_ids(limit=1)
    shop.instance.delete_run(newest)
    shop.build(is_broken=True)

    for _ in range(2):
        assert shop.evaluate() == ["Failed run"] * 2


def test_secret_at_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the receiver's answer is redacted before the answer is cut."""
    monkeypatch.setenv("SHOP_PASSWORD", CONFIDENTIAL)
    webhook = alert_channels.Webhook("http://127.0.0.1/hook", settings)
    session = SimpleNamespace(body=("x" * 190 + " " + CONFIDENTIAL).encode())
    session.post = lambda *_, **__: SimpleNamespace(ok=False, status_code=500)
    monkeypatch.setattr(webhook, "_session", session)
    message = Alert(key="k", kind=Kind.TEST, subject="test", at=0.0)
    with pytest.raises(OSError, match="it answered 500") as caught:
        webhook.send(message)

    assert CONFIDENTIAL[:5] not in str(caught.value)


def test_pause_of_no_number() -> None:
    """A pause that is not a number becomes the default one."""
    assert alert_channels._seconds("nan") == alert_channels.DEFAULT_WAIT_SECONDS
