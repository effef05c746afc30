"""Runs a program that speaks Dagster Pipes through Perdure, as one step of a Dagster asset.

Three things retry: the program, the step's RetryPolicy and the run. Left alone they multiply. Here the program decides: it
tells in one message whether another try makes sense and when, and this turns the message into what Dagster understands.
"""

import os
import signal
import subprocess

import dagster as dg
from dagster._core.pipes.utils import PipesTempFileContextInjector, PipesTempFileMessageReader

OUTCOME = "perdure/outcome"


def run_step(context, command, *, max_retries=3, extras=None, env=None, grace=20):
    """Starts command and returns what it reported; yield that from the asset. It raises

    Failure(allow_retries=False)  when another try would fail in the same way; the run is not repeated either
    RetryRequested                when the program knows when to come back; meanwhile no pool slot is held
    Failure                       else: the step's RetryPolicy decides
    """
    reader, injector = PipesTempFileMessageReader(), PipesTempFileContextInjector()
    with dg.open_pipes_session(context, injector, reader, extras=extras) as session:
        process = subprocess.Popen(command, env={**os.environ, **(env or {}), **session.get_bootstrap_env_vars()})
        try:
            process.wait()
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
    if not outcome.get("retryable", True):
        context.instance.add_run_tags(context.run_id, {"dagster/retry_on_asset_or_op_failure": "false"})
        raise dg.Failure(text, metadata={"outcome": dg.MetadataValue.json(outcome)}, allow_retries=False)
    if outcome.get("retry_after_s") is not None:
        raise dg.RetryRequested(max_retries=max_retries, seconds_to_wait=outcome["retry_after_s"]) from dg.Failure(text)
    raise dg.Failure(text, metadata={"outcome": dg.MetadataValue.json(outcome)})
