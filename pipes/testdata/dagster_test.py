"""Tests what Dagster records of the reports of a Go program.

Run by the Go test TestDagster, with CONTRACT naming the program to start.
"""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading

import dagster as dg
import pytest
from dagster import PipesContextInjector, PipesEnvContextInjector, PipesTempFileContextInjector, PipesTempFileMessageReader
from dagster._core.errors import DagsterPipesExecutionError  # there is no public name for it
from dagster._core.pipes.utils import PipesBlobStoreMessageReader, PipesFileMessageReader
from perdure.dagster import run_step

PROGRAM = os.environ["CONTRACT"]


class Launch:
    """A materialization of one asset by the program, with everything that Dagster recorded."""

    def __init__(self, *args, program=(PROGRAM,), step=None, extras=None, policy=None, checks=(), **client):
        self.results, self.custom = [], []

        @dg.asset(name="my_asset", retry_policy=policy, check_specs=[dg.AssetCheckSpec(name, asset="my_asset") for name in checks])
        def my_asset(context: dg.AssetExecutionContext):
            command = [*program, "--job-name", context.run.job_name, *map(str, args)]
            if step:
                yield from step(context, command)
                return
            done = dg.PipesSubprocessClient(**client).run(context=context, command=command, extras=extras)
            self.custom = list(done.get_custom_messages())
            self.results = list(done.get_results())
            yield from self.results

        # An instance with files: in memory all threads share a connection, and sometimes one finds the table locked by another.
        with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
            self.result = dg.materialize([my_asset], instance=instance, raise_on_error=False)
            self.records = instance.all_logs(self.result.run_id)
            self.tags = instance.get_run_by_id(self.result.run_id).tags
        self.messages = [(r.level, r.user_message) for r in self.records]
        for record in self.records:
            text = str(record)
            assert "framework exception" not in text, text
            assert "did not receive" not in text, text
            assert "after closed" not in text, text

    def attempts(self):
        return sum(r.is_dagster_event and r.dagster_event_type.value in ("STEP_START", "STEP_RESTARTED") for r in self.records)

    def logged(self, level):
        return [text for number, text in self.messages if number == level]


def materialization(launch):
    (found,) = [r for r in launch.results if isinstance(r, dg.MaterializeResult)]
    return found


def write(path, value):
    path.write_text(json.dumps(value))
    return path


# How dagster-pipes-tests, the suite that Pipes libraries share, starts a program. Its later releases name the test, the earlier
# ones had a flag for each test.
FORMS = {
    "named": lambda name, flags: ["--test-name", name, *flags],
    "flags": lambda name, flags: [
        "--env", "--full", *{"test_error_reporting": ["--throw-error"], "test_message_log": ["--logging"]}.get(name, []),
        *("--custom-payload-path" if flag == "--custom-payload" else flag for flag in flags),
    ],
}  # fmt: skip
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@forms
@pytest.mark.parametrize("injector", [PipesEnvContextInjector, PipesTempFileContextInjector])
@pytest.mark.parametrize("extras", [{}, {"a": 1, "b": [1.5, None, {"c": "é😀"}], "d": True, "e": None}])
def test_extras(tmp_path, form, injector, extras):
    flags = [f"--extras={write(tmp_path / 'extras', extras)}"]
    launch = Launch(*form("test_extras", flags), extras=extras, context_injector=injector())
    assert launch.result.success
    materialization(launch)


def test_context_that_is_not_as_expected(tmp_path):
    """The program compares the context: the test above can fail."""
    assert not Launch("--test-name=test_extras", "--extras", write(tmp_path / "extras", {"a": 1}), extras={"a": 2}).result.success
    assert not Launch(program=[PROGRAM, "--job-name=other"], step=lambda context, command: run_step(context, command[:2])).result.success


class DirectoryInjector(PipesContextInjector):
    """Writes the context as a blob of a store that is a directory."""

    def __init__(self, root):
        self.root = root

    @contextlib.contextmanager
    def inject_context(self, context):
        (self.root / "bucket").mkdir(exist_ok=True)
        write(self.root / "bucket" / "context.json", context)
        yield {"bucket": "bucket", "key": "context.json"}

    def no_messages_debug_text(self):
        return str(self.root)


class DirectoryReader(PipesBlobStoreMessageReader):
    """Reads chunks of messages from a store that is a directory."""

    def __init__(self, root):
        super().__init__(interval=0.05)
        self.root = root

    @contextlib.contextmanager
    def get_params(self):
        yield {"bucket": "bucket", "key_prefix": "messages"}

    def messages_are_readable(self, params):
        return True

    def download_messages_chunk(self, index, params):
        chunk = self.root / params["bucket"] / params["key_prefix"] / f"{index}.json"
        return chunk.read_text() if chunk.exists() else None

    def no_messages_debug_text(self):
        return str(self.root)


@pytest.mark.parametrize("injector", [PipesEnvContextInjector, PipesTempFileContextInjector, DirectoryInjector])
@pytest.mark.parametrize("reader", [PipesTempFileMessageReader, PipesFileMessageReader, DirectoryReader])
def test_components(tmp_path, injector, reader):
    blobs = {DirectoryInjector: ["--context-loader", "s3"], DirectoryReader: ["--message-writer", "s3"]}
    places = {DirectoryInjector: [tmp_path], DirectoryReader: [tmp_path], PipesFileMessageReader: [str(tmp_path / "messages")]}
    launch = Launch(
        "--test-name=test_components", *blobs.get(injector, []), *blobs.get(reader, []), env={"PERDURE_BLOBS": str(tmp_path)},
        context_injector=injector(*places.get(injector, [])), message_reader=reader(*places.get(reader, [])),
    )  # fmt: skip
    assert launch.result.success
    assert launch.custom == ["Hello from external process!"]
    materialization(launch)


def test_components_by_flags():
    assert Launch("--env", "--full").custom == ["Hello from external process!"]


@pytest.mark.parametrize("form", [*FORMS.values(), lambda name, _: [f"--test-name={name}[with-parameters]"]])
def test_message_log(form):
    launch = Launch(*form("test_message_log", []))
    assert launch.result.success
    for level, name in [(10, "Debug"), (20, "Info"), (30, "Warning"), (40, "Error"), (50, "Critical")]:
        assert f"{name} message" in launch.logged(level), (name, launch.messages)


@forms
@pytest.mark.parametrize("payload", [{"a": None, "b": [1, {"c": 2.5}]}, 1, 1.0, "foo", [1, 2, 3], None, True, "\x00\u2028😀"])
def test_message_report_custom_message(tmp_path, form, payload):
    flags = ["--custom-payload", write(tmp_path / "payload", {"payload": payload})]
    launch = Launch(*form("test_message_report_custom_message", flags))
    assert launch.result.success
    assert launch.custom[-1] == payload
    assert type(launch.custom[-1]) is type(payload)
    materialization(launch)


METADATA = {
    "text": {"type": "text", "raw_value": "t"},
    "float": {"type": "float", "raw_value": 100.0},
    "int": {"type": "int", "raw_value": 2**70},
    "bool": {"type": "bool", "raw_value": True},
    "json": {"type": "json", "raw_value": {"quux": {"a": 1, "b": 2}}},
    "infer": {"type": "__infer__", "raw_value": "bar"},
    "null": {"type": "null", "raw_value": None},
}


@forms
@pytest.mark.parametrize("version", [None, "alpha"])
@pytest.mark.parametrize("key", [None, "my_asset"])
def test_message_report_asset_materialization(tmp_path, form, version, key):
    fields = {"dataVersion": version, "assetKey": key}
    flags = [
        "--report-asset-materialization", write(tmp_path / "fields", {k: v for k, v in fields.items() if v is not None}),
        "--metadata", write(tmp_path / "metadata", METADATA),
    ]  # fmt: skip
    launch = Launch(*form("test_message_report_asset_materialization", flags))
    assert launch.result.success
    made = materialization(launch)
    assert (made.data_version.value if made.data_version else None) == version
    assert {k: v.value for k, v in made.metadata.items()} == {k: v["raw_value"] for k, v in METADATA.items()}


@forms
@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("severity", ["WARN", "ERROR"])
@pytest.mark.parametrize("key", [None, "my_asset"])
def test_message_report_asset_check(tmp_path, form, passed, severity, key):
    fields = {"checkName": "my_check", "passed": passed, "severity": severity}
    if key:
        fields["assetKey"] = key
    flags = ["--report-asset-check", write(tmp_path / "fields", fields), "--metadata", write(tmp_path / "metadata", METADATA)]
    launch = Launch(*form("test_message_report_asset_check", flags), checks=["my_check"])
    assert launch.result.success
    found = launch.results[0]
    assert isinstance(found, dg.AssetCheckResult)
    assert (found.passed, found.severity.value, found.check_name) == (passed, severity, "my_check")
    assert found.metadata["float"].value == 100.0


@forms
def test_error_reporting(tmp_path, form):
    messages = tmp_path / "messages"
    launch = Launch(*form("test_error_reporting", []), message_reader=PipesFileMessageReader(str(messages), cleanup_file=False))
    assert not launch.result.success
    closed = json.loads(messages.read_text().splitlines()[-1])
    assert closed["method"] == "closed"
    exception = closed["params"]["exception"]
    assert exception["message"] == "Very bad error has happened!"
    assert exception["name"] is not None and exception["stack"] is not None
    (record,) = [r for r in launch.records if "closed with exception" in str(r.user_message)]
    error = record.dagster_event.event_specific_data.error
    assert error.message.strip() == "Very bad error has happened!"
    assert error.cls_name


def test_everything_there_is_to_report():
    launch = Launch("--test-name=everything", checks=["my_check"])
    assert launch.result.success
    values = materialization(launch).metadata
    kinds = {label: type(v).__name__.removesuffix("MetadataValue") for label, v in values.items()}
    examples = {label.removeprefix("example "): kinds.pop(label) for label in list(kinds) if label.startswith("example ")}
    assert set(examples.values()) >= set(kinds.values())  # Dagster reads an example of each kind in the table
    assert kinds == {
        "text": "Text", "md": "Markdown", "url": "Url", "path": "Path", "notebook": "Notebook", "bool": "Bool", "int": "Int",
        "float": "Float", "large": "Float", "seconds": "Float", "timestamp": "Timestamp", "null": "Null", "run": "DagsterRun",
        "asset": "DagsterAsset", "json": "Json", "infer": "Float", "list": "Json", "table": "Table", "schema": "TableSchema",
        "lineage": "TableColumnLineage", "": "Int",
    }  # fmt: skip
    assert values["text"].value == "é ☃ 😀"
    assert values["float"].value == 100.0 and isinstance(values["float"].value, float)
    assert values["large"].value == 1e21
    assert values["url"].value == "https://REDACTED@h/?sig=REDACTED"
    assert values["asset"].asset_key == dg.AssetKey(["a", "b"])
    assert [r.data for r in values["table"].records] == [{"a": 1, "b": None}, {"a": 2.5, "b": "x"}]
    assert not values["schema"].schema.columns[0].constraints.nullable
    (dep,) = values["lineage"].value.deps_by_column["a"]
    assert (dep.asset_key, dep.column_name) == (dg.AssetKey(["raw", "x"]), "k")
    # The metadata was stored, too.
    (event,) = launch.result.asset_materializations_for_node("my_asset")
    assert set(values) <= set(event.metadata)
    (evaluation,) = launch.result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert launch.custom[0]["text"] == "\x00\ufffd😀"


def test_standard_streams(capfd):
    reader = PipesTempFileMessageReader(include_stdio_in_messages=True)
    assert Launch("--test-name=stdio", message_reader=reader).result.success
    got = capfd.readouterr()
    assert got.out.count("to stdout é\n") == 2, "once from the program and once by a message"
    assert got.err.count("to stderr é\n") == 2


class Server:
    """Responds with the given statuses, and then with 200."""

    def __init__(self, *statuses, forever=None, after=None):
        self.requests, left = 0, list(statuses)
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                self.send_response(left.pop(0) if left else forever or 200)
                self.send_header("Content-Length", "0")
                if after:
                    self.send_header("Retry-After", after)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args):
        self.http.shutdown()


def test_retries_are_lines_of_the_log():
    with Server(503, 503) as server:
        launch = Launch("--test-name=retries", "--url", server.url)
    assert launch.result.success
    assert server.requests == 3
    lines = [text for text in launch.logged(20) if "fetch" in text]
    assert lines == [
        "Retrying fetch in 0.0010 seconds (attempt 1/3): status 503",
        "Retrying fetch in 0.0020 seconds (attempt 2/3): status 503",
        "fetch succeeded on attempt 3",
    ]
    (outcome,) = launch.custom
    assert (outcome["outcome"], outcome["attempts"], outcome["last_error"]) == ("success", 3, "status 503")
    assert outcome["breaker"] == {"name": "server", "state": "closed"}


def test_an_opening_breaker_is_one_short_line():
    with Server(forever=503) as server:
        launch = Launch("--test-name=retries", "--url", server.url, "--threshold", 2)
    assert not launch.result.success
    assert server.requests == 2
    (line,) = [text for text in launch.logged(30) if "Circuit breaker" in text]
    said, at = line.split(" retry_at=")
    assert said == "Circuit breaker 'server' transitioned from closed to open (2 consecutive failures)"
    assert " " not in at


def test_permanent_failure_is_one_request():
    with Server(forever=404) as server:
        launch = Launch("--test-name=retries", "--url", server.url)
    assert not launch.result.success
    assert server.requests == 1
    (record,) = [r for r in launch.records if "closed with exception" in str(r.user_message)]
    assert record.dagster_event.event_specific_data.error.message.strip() == "status 404"


def test_step_retries_multiply_ours():
    """Why run_step is needed: a step's own policy repeats all attempts of the program.

    Releases before mid-2025 did not apply it to such a process: the error was Dagster's own there.
    """
    with Server(forever=503) as server:
        launch = Launch("--test-name=retries", "--url", server.url, policy=dg.RetryPolicy(max_retries=2))
    assert not launch.result.success
    assert launch.attempts() == (1 if issubclass(DagsterPipesExecutionError, dg.DagsterError) else 3)
    assert server.requests == 3 * launch.attempts()


@pytest.mark.parametrize("line", ['{"type": "float", "raw_value": 100}', '{"type": "job", "raw_value": "j"}', "1"])
def test_a_dead_reader_is_noticed(line):
    """The tests fail when a message ends the reader, although the step succeeds."""
    message = (
        '{"__dagster_pipes_version":"0.1","method":"report_asset_materialization","params":'
        '{"asset_key":"my_asset","data_version":null,"metadata":{"m":%s}}}' % line
    )
    code = f"import os, dagster_pipes\nwith dagster_pipes.open_dagster_pipes() as p: p._message_channel._path and open(p._message_channel._path, 'a').write({message!r} + chr(10))"
    with pytest.raises(AssertionError, match="framework exception"):
        Launch(program=[sys.executable, "-c", code])


def test_run_step_ends_at_a_permanent_failure():
    with Server(forever=404) as server:
        launch = Launch("--test-name=retries", "--url", server.url, step=run_step, policy=dg.RetryPolicy(max_retries=3))
    assert not launch.result.success
    assert (server.requests, launch.attempts()) == (1, 1)
    failure = launch.result.failure_data_for_node("my_asset")
    assert failure.user_failure_data.metadata["outcome"].value["outcome"] == "permanent"
    assert launch.tags["dagster/retry_on_asset_or_op_failure"] == "false"


def test_run_step_retries_at_the_time_of_the_outcome():
    with Server(503, after="1") as server:
        launch = Launch("--test-name=retries", "--url", server.url, step=run_step)
    assert launch.result.success
    assert (server.requests, launch.attempts()) == (2, 2)


def test_run_step_ends_after_its_last_retry():
    with Server(forever=503, after="1") as server:
        launch = Launch("--test-name=retries", "--url", server.url, step=run_step)
    assert not launch.result.success
    assert (server.requests, launch.attempts()) == (4, 4)
    assert launch.tags["dagster/retry_on_asset_or_op_failure"] == "false"


def test_run_step_leaves_other_errors_to_the_policy():
    with Server(forever=503) as server:
        launch = Launch("--test-name=retries", "--url", server.url, step=run_step, policy=dg.RetryPolicy(max_retries=1))
    assert not launch.result.success
    assert (server.requests, launch.attempts()) == (6, 2)
    assert "dagster/retry_on_asset_or_op_failure" not in launch.tags


CANCELLED = """
import sys
import dagster as dg
from perdure.dagster import run_step

@dg.asset
def my_asset(context: dg.AssetExecutionContext):
    yield from run_step(context, [sys.argv[1], "--test-name=wait"])

dg.materialize([my_asset], instance=dg.DagsterInstance.ephemeral())
"""


def test_cancelled_step_leaves_no_orphan():
    with subprocess.Popen(
        [sys.executable, "-c", CANCELLED, PROGRAM], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as step:  # fmt: skip
        pid = int(step.stdout.readline().split()[1])
        step.send_signal(signal.SIGINT)  # to Dagster only, as a cancelled run does
        _, log = step.communicate(timeout=60)
    assert step.returncode != 0
    assert "external process pipes closed with exception" in log, log
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
