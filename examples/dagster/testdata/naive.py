"""The same without the glue: three things retry, and none knows of the others."""

import os

import dagster as dg


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=3))
def naive_page(context: dg.AssetExecutionContext):
    command = ["perdure", "copy", os.environ["STATIONS_URL"], "s3://bike-data-bucket/naive.json", "--store", "memory"]
    yield from dg.PipesSubprocessClient().run(context=context, command=command).get_results()


defs = dg.Definitions(assets=[naive_page])
