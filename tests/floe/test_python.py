"""Tests of the wrapped functions of ops: they stay what they are, and a fault of ours never reaches them."""

import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from pipeline.floe import step_watch
from pipeline.floe.python import compute
from pipeline.floe.python.compute import COMPUTE_FUNCTION, observe_steps
from pipeline.floe.tracing.spans import DerivedIds, RunTracerProvider


def definitions() -> tuple[dg.Definitions, dict[str, Any]]:
    """Return an asset of each kind of function, wrapped."""

    @dg.asset
    def function(context: dg.AssetExecutionContext) -> int:  # noqa: ARG001
        """Return one."""
        return 1

    @dg.asset
    async def coroutine() -> int:
        return 2

    @dg.multi_asset(outs={"one": dg.AssetOut(), "two": dg.AssetOut()})
    def generator() -> Iterator[dg.Output[int]]:
        try:
            yield dg.Output(1, output_name="one")
            yield dg.Output(2, output_name="two")
        finally:
            closed.append("generator")

    @dg.multi_asset(outs={"three": dg.AssetOut()})
    async def async_generator() -> Any:
        yield dg.Output(3, output_name="three")

    closed: list[str] = []
    assets = {"function": function, "coroutine": coroutine, "generator": generator, "async_generator": async_generator}
    return observe_steps(dg.Definitions(assets=list(assets.values()))), {**assets, "closed": closed}


def function_of(asset: dg.AssetsDefinition) -> Callable[..., Any]:
    """Return the function that Dagster calls."""
    function: Callable[..., Any] = getattr(asset.op, COMPUTE_FUNCTION).decorated_fn
    return function


def test_private_name() -> None:
    """The private name that the wrapper needs is still Dagster's; if this fails, Python steps are not observed."""

    @dg.op
    def op() -> None:
        """Do nothing."""

    assert op.compute_fn is getattr(op, COMPUTE_FUNCTION)
    assert callable(op.compute_fn.decorated_fn)  # type: ignore[union-attr]
    assert "decorated_fn" in op.compute_fn._fields  # type: ignore[union-attr]


def test_kind() -> None:
    """A wrapped function has the kind, the signature and the documentation of the owner's."""
    _, assets = definitions()

    assert inspect.iscoroutinefunction(function_of(assets["coroutine"]))
    assert inspect.isgeneratorfunction(function_of(assets["generator"]))
    assert inspect.isasyncgenfunction(function_of(assets["async_generator"]))
    assert ["context"] == list(inspect.signature(function_of(assets["function"])).parameters)
    assert "Return one." == function_of(assets["function"]).__doc__


def test_wrapped_once() -> None:
    """Definitions that are loaded again, or merged, are wrapped once."""
    defs, assets = definitions()
    before = function_of(assets["function"])
    observe_steps(dg.Definitions.merge(defs))

    assert before is function_of(assets["function"])


def test_direct_invocation() -> None:
    """An owner's test may call an asset directly, without a run."""
    _, assets = definitions()

    assert 1 == assets["function"](dg.build_asset_context())
    assert 2 == asyncio.run(assets["coroutine"]())
    assert [1, 2] == [output.value for output in assets["generator"]()]


def test_materialize(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """All kinds run, also if our watch cannot be opened, which is logged."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of ours")

    _, assets = definitions()
    names = ("function", "coroutine", "generator", "async_generator")
    assert dg.materialize([assets[name] for name in names]).success

    monkeypatch.delenv("FLOE_RAISE", raising=False)
    monkeypatch.setattr(step_watch.StepWatch, "__init__", fail)
    assert dg.materialize([assets[name] for name in names]).success
    assert "a fault of ours" in caplog.text
    assert ["generator", "generator"] == assets["closed"]


class Five:
    """A callable object, whose class has annotations that nobody can evaluate."""

    value: "NoSuchType"  # type: ignore[name-defined] # noqa: F821

    def __call__(self) -> int:
        """Return five."""
        return 5


def test_without_code() -> None:
    """Objects that can be called, and functions with fixed arguments, run as if they were not wrapped."""
    called = dg.asset(name="called")(Five())
    fixed = dg.asset(name="fixed")(partial(Five.__call__, Five()))
    observe_steps(dg.Definitions(assets=[called, fixed]))

    result = dg.materialize([called, fixed])
    assert (5, 5) == (result.output_for_node("called"), result.output_for_node("fixed"))


@pytest.mark.parametrize("kind", ["generator", "async_generator"])
def test_span_over_yield(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that the owner keeps open over a `yield` is current again afterwards, and never outside of the asset."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracer, found = TracerProvider().get_tracer("owner"), []

    @dg.multi_asset(outs={"one": dg.AssetOut(), "two": dg.AssetOut()}, name="generator")
    def generator() -> Iterator[dg.Output[int]]:
        with tracer.start_as_current_span("outer") as outer:
            yield dg.Output(1, output_name="one")
            found.append(trace.get_current_span() is outer)
        yield dg.Output(2, output_name="two")

    @dg.multi_asset(outs={"three": dg.AssetOut()}, name="async_generator")
    async def async_generator() -> Any:
        with tracer.start_as_current_span("outer") as outer:
            yield dg.Output(3, output_name="three")
            found.append(trace.get_current_span() is outer)

    asset = {"generator": generator, "async_generator": async_generator}[kind]
    own = replace(compute.settings, otlp_endpoint="http://127.0.0.1:9", otlp_protocol="http/protobuf")
    monkeypatch.setattr(compute, "settings", own)
    observe_steps(dg.Definitions(assets=[asset]))

    assert dg.materialize([asset]).success
    assert [True] == found
    assert not trace.get_current_span().get_span_context().is_valid


def test_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process does not wait for threads of OpenTelemetry, which a signal would end without a word."""
    provider = RunTracerProvider(Resource({}), DerivedIds("5f8b6a52-6f3a-4c35-9a2e-1f2d3c4b5a69"))
    monkeypatch.setattr(provider, "_update_resource", lambda _: os._exit(7))

    pid = os.fork()
    if pid == 0:
        os._exit(0 if provider.resource else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_fault_of_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while the span is made current does not reach the asset; an error of the asset does."""

    @dg.asset
    def good() -> None:
        """Do nothing."""

    @dg.asset
    def bad() -> None:
        raise ZeroDivisionError("mine")

    def fail(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    observe_steps(dg.Definitions(assets=[good, bad]))
    monkeypatch.delenv("FLOE_RAISE", raising=False)
    monkeypatch.setattr("pipeline.floe.tracing.watcher.TraceWatcher.begin", fail)
    monkeypatch.setattr("pipeline.floe.lineage.watcher.LineageWatcher.begin", fail)

    assert dg.materialize([good]).success
    with pytest.raises(ZeroDivisionError, match="mine"):
        dg.materialize([bad])


def test_other_release(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """If a release of Dagster stores the function elsewhere, the code location still loads, with a warning."""
    monkeypatch.setattr(compute, "COMPUTE_FUNCTION", "_moved")
    with caplog.at_level(logging.WARNING):
        _, assets = definitions()

    assert "could not be observed" in caplog.text
    assert dg.materialize([assets["function"]]).success


def test_ops() -> None:
    """Ops of jobs, of graphs within graphs, of schedules and of sensors are wrapped."""

    @dg.op
    def first() -> int:
        return 1

    @dg.op
    def second(value: int) -> None:
        """Do nothing."""

    @dg.graph
    def inner() -> int:
        return first()  # type: ignore[no-any-return] # what an op returns in a graph

    @dg.job
    def of_schedule() -> None:
        second(inner())

    @dg.op
    def third() -> None:
        """Do nothing."""

    @dg.job
    def of_sensor() -> None:
        third()

    @dg.sensor(job=of_sensor)
    def sensor() -> None:
        """Do nothing."""

    schedule = dg.ScheduleDefinition(job=of_schedule, cron_schedule="@daily")
    observe_steps(dg.Definitions(schedules=[schedule], sensors=[sensor]))

    for op in (first, second, third):
        assert hasattr(op.compute_fn.decorated_fn, compute.WATCHED)  # type: ignore[union-attr]
    assert of_schedule.execute_in_process().success
