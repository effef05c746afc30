"""What the real Dagster makes of perdure run and perdure copy.

Run by the Go test TestRealDagster, with PERDURE naming the command.
"""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import dagster as dg
import pytest
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.utils import PipesTempFileMessageReader

PERDURE = os.environ["PERDURE"]
FAST = {"PERDURE_BASE_DELAY": "0.001", "PERDURE_JITTER": "0"}

# A program that speaks Pipes, and fails until the attempt that it is given.
CHILD = textwrap.dedent("""
    import os, sys
    from dagster_pipes import open_dagster_pipes
    attempt = int(os.environ.get("PERDURE_ATTEMPT", 1))
    with open_dagster_pipes() as pipes:
        pipes.log.info(f"attempt {attempt} é😀")
        pipes.report_asset_materialization(data_version="v", metadata={
            "attempt": attempt, "nan": float("nan"), "list": [1, {"a": None}], "md": {"type": "md", "raw_value": "# m"},
            "float": {"type": "float", "raw_value": 100.0}, "table": {"type": "table", "raw_value": {
                "records": [{"a": 1}], "schema": [{"name": "a", "type": "int", "constraints": {"nullable": False, "unique": True, "other": []}}]}},
            "lineage": {"type": "table_column_lineage", "raw_value": {"deps_by_column": {"a": [{"asset_key": ["x", "y"], "column_name": "b"}]}}},
        })
        pipes.report_asset_check("my_check", passed=False, severity="WARN", metadata={"n": attempt})
        pipes.report_custom_message({"attempt": attempt})
        if attempt < int(sys.argv[1]):
            raise ValueError(f"no luck in attempt {attempt}")
""")


class Step:
    """One asset that is materialized by the command, and all that is known of it."""

    def __init__(self, *args, policy=None, checks=(), extras=None, env=None, **client):
        self.results, self.custom, self.retry_numbers = [], [], []

        @dg.asset(name="my_asset", retry_policy=policy, check_specs=[dg.AssetCheckSpec(name, asset="my_asset") for name in checks])
        def my_asset(context: dg.AssetExecutionContext):
            self.retry_numbers.append(context.retry_number)
            command = [PERDURE, *map(str, args)]
            done = dg.PipesSubprocessClient(**client).run(context=context, command=command, extras=extras, env={**FAST, **(env or {})})
            self.custom = list(done.get_custom_messages())
            self.results = list(done.get_results())
            yield from self.results

        with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
            self.result = dg.materialize([my_asset], instance=instance, raise_on_error=False)
            self.records = instance.all_logs(self.result.run_id)
        for text in map(str, self.records):
            assert "framework exception" not in text, text
            assert "did not receive" not in text, text
            assert "after closed" not in text, text

    def logged(self, level):
        lines = [r.user_message for r in self.records if r.level == level and not r.is_dagster_event]
        return [line for line in lines if not line.startswith("[pipes]")]

    def exception(self):
        (record,) = [r for r in self.records if "closed with exception" in str(r.user_message)]
        return record.dagster_event.event_specific_data.error

    def made(self):
        (made,) = [r for r in self.results if isinstance(r, dg.MaterializeResult)]
        return made


def test_run():
    step = Step("run", "--", "sh", "-c", "! env | grep DAGSTER_PIPES && test $PERDURE_ATTEMPT = 3")
    assert step.result.success
    assert step.logged(20) == [
        "Retrying sh in 0.0010 seconds (attempt 1/5): exit status 1",
        "Retrying sh in 0.0020 seconds (attempt 2/5): exit status 1",
        "sh succeeded on attempt 3",
    ]
    (outcome,) = step.custom
    assert (outcome["outcome"], outcome["attempts"], outcome["exit_code"]) == ("success", 3, 0)


def test_failing_run():
    step = Step("run", "--max-attempts", 2, "--", "sh", "-c", "exit 7")
    assert not step.result.success
    assert "failed with code 7" in str(step.result.failure_data_for_node("my_asset").error)
    assert step.exception().message.strip() == "sh: attempts exhausted after 2 attempts: exit status 7"


def test_copy(tmp_path):
    (tmp_path / "from").write_text("123456789")
    step = Step("copy", tmp_path / "from", tmp_path / "to")
    assert step.result.success
    values = {label: v.value for label, v in step.made().metadata.items()}
    assert values.pop("duration") < 60
    assert values == {
        "source": str(tmp_path / "from"), "destination": str(tmp_path / "to"), "bytes": 9, "verified": "size", "attempts": 0, "retries": 0,
        "checksum": "crc32c:4waSgw==",
    }  # fmt: skip


def test_standard_streams(capfd):
    reader = PipesTempFileMessageReader(include_stdio_in_messages=True)
    assert Step("run", "--", "sh", "-c", "echo out é; echo err >&2", message_reader=reader).result.success
    got = capfd.readouterr()
    assert (got.out.count("out é\n"), got.err.count("err\n")) == (2, 2), "once from the child and once by a message"


def test_relay():
    step = Step("run", "--dagster", "relay", "--", sys.executable, "-c", CHILD, 3, checks=["my_check"])
    assert step.result.success
    made = step.made()
    assert made.data_version.value == "v"
    assert {label: type(v).__name__.removesuffix("MetadataValue") for label, v in made.metadata.items()} == {
        "attempt": "Int", "nan": "Text", "list": "Json", "md": "Markdown", "float": "Float", "table": "Table", "lineage": "TableColumnLineage",
    }  # fmt: skip
    assert made.metadata["attempt"].value == 3
    assert made.metadata["lineage"].value.deps_by_column["a"][0].asset_key == dg.AssetKey(["x", "y"])
    (evaluation,) = step.result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity.value) == (False, "WARN")
    assert [m for m in step.custom if "kind" not in m] == [{"attempt": 3}]
    for n in 1, 2, 3:
        assert f"attempt {n} é😀" in step.logged(20)
    assert step.logged(30) == [
        "dropped, because the attempt failed: 1 materialization, 1 check, 1 custom message",
        "attempt 1: the command's exception: ValueError: no luck in attempt 1",
        "dropped, because the attempt failed: 1 materialization, 1 check, 1 custom message",
        "attempt 2: the command's exception: ValueError: no luck in attempt 2",
    ]


def test_failing_relay():
    step = Step("run", "--dagster", "relay", "--max-attempts", 2, "--", sys.executable, "-c", CHILD, 9)
    assert not step.result.success
    error = step.exception()
    while error.cause:
        error = error.cause
    assert (error.message.strip(), error.cls_name) == ("ValueError: no luck in attempt 2", "ValueError")
    assert any("raise ValueError" in line or "<string>" in line for line in error.stack)


def test_passthrough():
    step = Step("run", "--dagster", "passthrough", "--", sys.executable, "-c", CHILD, 1, checks=["my_check"])
    assert step.result.success
    assert step.made().metadata["attempt"].value == 1
    assert step.custom == [{"attempt": 1}]


def test_retried_step_tries_less(tmp_path):
    step = Step("run", "--", "sh", "-c", f"echo x >>{tmp_path}/attempts; exit 1", policy=dg.RetryPolicy(max_retries=3))
    assert not step.result.success
    attempts = len((tmp_path / "attempts").read_text().split())
    if issubclass(DagsterPipesExecutionError, dg.DagsterError):  # releases before mid-2025 do not try such a step again
        assert (step.retry_numbers, attempts) == ([0], 5)
    else:
        assert (step.retry_numbers, attempts) == ([0, 1, 2, 3], 5 + 2 + 1 + 1)


def test_extras():
    step = Step("run", "--", "false", extras={"perdure": {"max_attempts": 2, "run_retry": None}})
    assert "(attempt 1/2)" in step.logged(20)[0]
    step = Step("run", "--", "true", extras={"perdure": {"max_attempts": 0}})
    assert not step.result.success
    assert "extras.perdure.max_attempts" in step.exception().message


# Dagster ends the command only if it is interrupted while it waits for it: an interrupt just before that leaves the command running.
CANCELLED = """
import subprocess, sys
import dagster as dg

class Announced(subprocess.Popen):
    def wait(self, timeout=None):
        open("waits", "w").close()
        return super().wait(timeout)

dg._core.pipes.subprocess.Popen = Announced

@dg.asset
def my_asset(context: dg.AssetExecutionContext):
    yield from dg.PipesSubprocessClient().run(context=context, command=sys.argv[1:]).get_results()

dg.materialize([my_asset], instance=dg.DagsterInstance.ephemeral())
"""

STUBBORN = "trap '' INT; sleep 60 & echo $$ $! >pids; wait; sleep 60"


@pytest.mark.parametrize("mode", ["strip", "relay"])
def test_cancelled_step_leaves_no_orphan(mode, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CANCELLED, PERDURE, "run", "--kill-after", "1", "--dagster", mode, "--", "sh", "-c", STUBBORN],
        cwd=tmp_path, text=True, stderr=subprocess.PIPE, start_new_session=True,
    ) as step:  # fmt: skip
        while not (tmp_path / "waits").exists() or not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text().strip():
            assert step.poll() is None
            os.sched_yield()
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        step.send_signal(signal.SIGINT)  # to Dagster only, as a cancelled run does
        _, log = step.communicate(timeout=60)
    assert step.returncode != 0
    assert "stopped by signal: interrupt" in log, log
    limit = time.monotonic() + 30  # the orphans sleep for longer
    for pid in pids:
        while lives(pid):  # what is killed ends soon, but not at once
            assert time.monotonic() < limit, pid
            os.sched_yield()


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
