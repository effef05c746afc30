"""A bike-sharing pipeline whose steps outlast failures: Go programs, a Python asset, and a script without retries."""

import io
import os
import sys
from pathlib import Path

import dagster as dg
import perdure
import pyarrow.compute as pc
import pyarrow.parquet as pq
from perdure.dagster import run_step

HERE = Path(__file__).parent
STATIONS_URL = os.environ.get("STATIONS_URL", "http://127.0.0.1:8080/stations")
RIDES_CSV = os.environ.get("RIDES_CSV", str(HERE / "../bikes/testdata/hour.csv"))
BUCKET = "s3://bike-data-bucket"


@dg.asset(pool="stations_api", retry_policy=dg.RetryPolicy(max_retries=3))
def stations(context: dg.AssetExecutionContext):
    """All stations of the API, as Parquet, by a Go program."""
    yield from run_step(context, ["bikes", "stations", "-api", STATIONS_URL, "-to", f"{BUCKET}/stations.parquet"])


@dg.asset(pool="stations_api", retry_policy=dg.RetryPolicy(max_retries=3))
def stations_page(context: dg.AssetExecutionContext):
    """The first page of the API, unchanged. It shares the circuit breaker of the program above."""
    yield from run_step(context, ["perdure", "copy", STATIONS_URL, f"{BUCKET}/raw/stations.json"])


@dg.asset(check_specs=[dg.AssetCheckSpec("riders_add_up", asset="rides")])
def rides(context: dg.AssetExecutionContext):
    """The UCI Bike Sharing data set, as Parquet, by a Go program."""
    yield from run_step(context, ["bikes", "rides", "-from", RIDES_CSV, "-to", f"{BUCKET}/rides.parquet"])


@dg.asset(deps=[rides])
def processed_bike_data(context: dg.AssetExecutionContext):
    """Rentals by season. Python makes the bytes, perdure uploads them."""
    raw = perdure.copy(f"{BUCKET}/rides.parquet", "-").output
    table = pq.read_table(io.BytesIO(raw)).group_by("season").aggregate([("total", "sum"), ("temp_celsius", "mean")])
    context.log.info(f"{pc.sum(table['total_sum'])} rentals")
    data = io.BytesIO()
    pq.write_table(table, data)
    key = f"{BUCKET}/processed/{context.run_id}.parquet"
    yield from run_step(context, ["perdure", "copy", "-", key], stdin=data.getvalue())


@dg.asset(deps=[stations])
def station_report(context: dg.AssetExecutionContext):
    """A retried step made of any command."""
    script = [sys.executable, str(HERE / "legacy_report.py"), STATIONS_URL]
    yield from run_step(context, ["perdure", "run", "--name", "station_report", "--", *script])


def open_breakers() -> dict:
    """The circuit breakers of this host that are not closed, by key."""
    return {b.key: dict(b.fields) for b in perdure.status().breakers if b.state != "closed"}


def verdict(found: dict) -> dict:
    return {"passed": not found, "severity": dg.AssetCheckSeverity.WARN, "metadata": {"breakers": found}}


@dg.asset_check(asset=stations)
def servers_reachable() -> dg.AssetCheckResult:
    """No circuit breaker is open."""
    return dg.AssetCheckResult(**verdict(open_breakers()))


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def breaker_sensor(context: dg.SensorEvaluationContext):
    """Reports the check again when a breaker has opened or closed, without a run."""
    found = open_breakers()
    state = ", ".join(sorted(found)) or "none"
    if state == (context.cursor or "none"):
        return dg.SkipReason(f"open circuit breakers: {state}, as before")
    check = dg.AssetCheckEvaluation(asset_key=stations.key, check_name="servers_reachable", **verdict(found))
    return dg.SensorResult(asset_events=[check], cursor=state)


defs = dg.Definitions(
    assets=[stations, stations_page, rides, processed_bike_data, station_report],
    asset_checks=[servers_reachable],
    sensors=[breaker_sensor],
)
