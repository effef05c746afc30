"""Runs a program that speaks Dagster Pipes through Perdure, as one step of a Dagster asset: needs perdure[dagster].

Three layers retry: the program, the step's RetryPolicy and the run. They multiply. Here the program decides: its outcome
says whether and when to retry, and run_step translates the outcome for Dagster.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Union

import dagster as dg

from perdure._binary import arguments, binary
from perdure._process import deferred_signals

OUTCOME = "perdure/outcome"
SETTLED = "perdure/settled/"  # plus a step's key: the tag that names the run in which the step failed permanently

Context = Union[dg.AssetExecutionContext, dg.OpExecutionContext]


def run_step(
    context: Context,
    command: Sequence[Union[str, "os.PathLike[str]"]],
    *,
    stdin: bytes | None = None,
    max_retries: int = 3,
    extras: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = 20,
) -> Iterable[Any]:
    """Runs command, with the bytes stdin, and returns its reports; yield them from the asset. It raises

    RetryRequested                if the program's outcome says when to retry; until then the step holds no pool slot
    Failure(allow_retries=False)  after a permanent error, or after max_retries of the retries above; a retry of the
                                  run, for another step, does not run this step again
    Failure                       after any other error: the step's RetryPolicy decides, and then that of the run

    A command that begins with "perdure" is that of this wheel. When the step is cancelled, the command gets SIGINT, and
    is killed after grace seconds. env is added to the environment of this process, extras are those of the session.
    """
    run, extras = context.run, extras or {}
    run_retry, settled = run.tags.get("dagster/retry_number"), SETTLED + context.get_step_execution_context().step.key
    if run_retry and run.tags.get(settled) == run.parent_run_id:
        _give_up(context, settled, description=f"failed permanently in run {run.parent_run_id}, which this run retries")
    extras = {**extras, "perdure": {"run_retry": run_retry, **extras.get("perdure", {})}}
    reader, injector = dg.PipesTempFileMessageReader(), dg.PipesTempFileContextInjector()
    with dg.open_pipes_session(context, injector, reader, extras=extras) as session:
        environ = {**os.environ, **(env or {}), **session.get_bootstrap_env_vars()}
        returncode = _run(command, environ, stdin, grace)
    if returncode == 0:
        return session.get_results()
    outcomes = [m for m in session.get_custom_messages() if isinstance(m, dict) and m.get("kind") == OUTCOME]
    outcome: dict[str, Any] = outcomes[-1] if outcomes else {}
    text = f"exit code {returncode}, {outcome.get('outcome', 'no outcome')}: {outcome.get('last_error')}"
    failure: dict[str, Any] = {"description": text, "metadata": {"outcome": dg.MetadataValue.json(outcome)}}
    after = outcome.get("retry_after_s")
    if outcome.get("retryable", True) and after is None:
        raise dg.Failure(**failure)
    if after is not None and context.retry_number < max_retries:
        raise dg.RetryRequested(max_retries=max_retries, seconds_to_wait=after) from dg.Failure(**failure)
    _give_up(context, settled, **failure)


def _run(command: Sequence[Union[str, "os.PathLike[str]"]], environ: Mapping[str, str], stdin: bytes | None, grace: float) -> int:
    """Runs command to its end and returns its exit code."""
    args = arguments(command)
    if args[0] == "perdure":
        args[0] = binary()
    process: subprocess.Popen[bytes] | None = None
    try:
        with deferred_signals():
            process = subprocess.Popen(args, env=environ, stdin=None if stdin is None else subprocess.PIPE)
        process.communicate(stdin)
    except BaseException:  # the step is cancelled: let the program close its session, then kill it
        if process is None:
            raise
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return process.returncode


def _give_up(context: Context, settled: str, **failure: Any) -> NoReturn:
    """Fails permanently. If no other step could succeed in a retry of the run, the run is not retried either."""
    context.instance.add_run_tags(context.run_id, {settled: context.run_id})
    run = context.instance.get_run_by_id(context.run_id)
    assert run and run.execution_plan_snapshot_id
    plan = context.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    lost = {step.key for step in plan.steps if run.tags.get(SETTLED + step.key) == run.run_id}
    for _ in plan.steps:  # and the steps that depend on them
        lost |= {step.key for step in plan.steps for i in step.inputs if lost & set(i.upstream_step_keys)}
    if lost.issuperset(plan.step_keys_to_execute):
        context.instance.add_run_tags(run.run_id, {"dagster/retry_on_asset_or_op_failure": "false"})
    raise dg.Failure(**failure, allow_retries=False)
