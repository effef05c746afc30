"""Assets beside those of the example: one without run_step, and two that are materialized in the same run."""

import os

import dagster as dg
from perdure.dagster import run_step

COPY = ["perdure", "copy", os.environ["STATIONS_URL"]]


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=3))
def naive_page(context: dg.AssetExecutionContext):
    """The same without run_step: three layers retry independently."""
    command = [*COPY, "s3://bike-data-bucket/naive.json", "--store", "memory"]
    yield from dg.PipesSubprocessClient().run(context=context, command=command).get_results()


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=3))
def missing(context: dg.AssetExecutionContext):
    """Fails permanently when the API does not have the page."""
    yield from run_step(context, [*COPY, "s3://bike-data-bucket/missing.json"])


@dg.asset
def flaky(context: dg.AssetExecutionContext):
    """Fails in the first run, and succeeds in a retry of the run."""
    if "dagster/retry_number" not in context.run.tags:
        raise ConnectionError("not yet")


defs = dg.Definitions(assets=[naive_page, missing, flaky])
