"""Runs a program that speaks Dagster Pipes through Perdure, as one step of a Dagster asset.

Three things retry: the program, the step's RetryPolicy and the run. Left alone they multiply. Here the program decides: it
tells in one message whether another try makes sense and when, and this turns the message into what Dagster understands.
"""

import os
import signal
import subprocess

import dagster as dg

OUTCOME = "perdure/outcome"


def run_step(context, command, *, stdin=None, max_retries=3, extras=None, env=None, grace=20):
    """Starts command, with the bytes stdin, and returns what it reported; yield that from the asset. It raises

    RetryRequested                when the program knows when to come back; meanwhile no pool slot is held
    Failure(allow_retries=False)  when another try would fail in the same way, or there have been max_retries of
                                  those above; the run is not repeated either
    Failure                       else: the step's RetryPolicy decides
    """
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
    context.instance.add_run_tags(context.run_id, {"dagster/retry_on_asset_or_op_failure": "false"})
    raise dg.Failure(**failure, allow_retries=False)
