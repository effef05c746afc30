"""Runs a program that speaks Dagster Pipes through Perdure, as one step of a Dagster asset.

Three things retry: the program, the step's RetryPolicy and the run. Left alone they multiply. Here the program decides: it
tells in one message whether another try makes sense and when, and this turns the message into what Dagster understands.
"""

import os
import signal
import subprocess

import dagster as dg

OUTCOME = "perdure/outcome"
SETTLED = "perdure/settled/"  # and a step's key: the tag that names the run in which the step has failed for good


def run_step(context, command, *, stdin=None, max_retries=3, extras=None, env=None, grace=20):
    """Starts command, with the bytes stdin, and returns what it reported; yield that from the asset. It raises

    RetryRequested                when the program knows when to come back; meanwhile no pool slot is held
    Failure(allow_retries=False)  when another try would fail in the same way, or there have been max_retries of
                                  those above; if the run is repeated, for another step, this one is not
    Failure                       else: the step's RetryPolicy decides, and then that of the run
    """
    run, extras = context.run, extras or {}
    run_retry, settled = run.tags.get("dagster/retry_number"), SETTLED + context.get_step_execution_context().step.key
    if run_retry and run.tags.get(settled) == run.parent_run_id:
        give_up(context, settled, description=f"it has failed for good in run {run.parent_run_id}, which this one repeats")
    extras = {**extras, "perdure": {"run_retry": run_retry, **extras.get("perdure", {})}}
    reader, injector = dg.PipesTempFileMessageReader(), dg.PipesTempFileContextInjector()
    with dg.open_pipes_session(context, injector, reader, extras=extras) as session:
        environ = {**os.environ, **(env or {}), **session.get_bootstrap_env_vars()}
        process = subprocess.Popen(command, env=environ, stdin=None if stdin is None else subprocess.PIPE)
        try:
            process.communicate(stdin)
        except BaseException:  # the step is cancelled: let the program finish, and leave none behind
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
    if process.returncode == 0:
        return session.get_results()
    told = [m for m in session.get_custom_messages() if isinstance(m, dict) and m.get("kind") == OUTCOME]
    outcome = told[-1] if told else {}
    text = f"exit code {process.returncode}, {outcome.get('outcome', 'no outcome')}: {outcome.get('last_error')}"
    failure = {"description": text, "metadata": {"outcome": dg.MetadataValue.json(outcome)}}
    after = outcome.get("retry_after_s")
    if outcome.get("retryable", True) and after is None:
        raise dg.Failure(**failure)
    if after is not None and context.retry_number < max_retries:
        raise dg.RetryRequested(max_retries=max_retries, seconds_to_wait=after) from dg.Failure(**failure)
    give_up(context, settled, **failure)


def give_up(context, settled, **failure):
    """Fails for good. Where no step of the run is left that could gain by it, the run is not repeated at all."""
    context.instance.add_run_tags(context.run_id, {settled: context.run_id})
    run = context.instance.get_run_by_id(context.run_id)
    plan = context.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    lost = {step.key for step in plan.steps if run.tags.get(SETTLED + step.key) == run.run_id}
    for _ in plan.steps:  # and those that need what is not there
        lost |= {step.key for step in plan.steps for i in step.inputs if lost & set(i.upstream_step_keys)}
    if lost.issuperset(plan.step_keys_to_execute):
        context.instance.add_run_tags(run.run_id, {"dagster/retry_on_asset_or_op_failure": "false"})
    raise dg.Failure(**failure, allow_retries=False)
