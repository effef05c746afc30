"""Tests the package as it is installed, with its command, against servers that fail.

Run by tools/test-wheel, with PERDURE_TEST_SERVERS naming the program of examples/servers.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import http.server
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import perdure

FAST = {"max_attempts": 9, "base_delay": 0.01, "jitter": 0, "failure_threshold": 100}
ONCE = {"max_attempts": 1}
servers: subprocess.Popen[str]


def setUpModule() -> None:
    """Starts the servers, and gives their addresses and a fresh state directory to the commands of these tests."""
    global servers
    servers = subprocess.Popen([os.environ["PERDURE_TEST_SERVERS"]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert servers.stdout
    os.environ.update(line.strip().split("=", 1) for line in (servers.stdout.readline() for _ in range(4)))
    state = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(state.cleanup)
    os.environ["PERDURE_STATE"] = state.name


def tearDownModule() -> None:
    servers.send_signal(signal.SIGINT)
    servers.communicate()


class Case(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)

    def file(self, name: str, data: bytes) -> Path:
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


class Binary(Case):
    def test_the_command_of_the_wheel_precedes_that_of_PATH(self) -> None:
        other = self.file("perdure", b"#!/bin/sh\nexit 3\n")
        other.chmod(0o755)
        environ = {**os.environ, "PATH": f"{self.dir}:{os.environ['PATH']}"}
        text = subprocess.check_output([sys.executable, "-c", "import perdure; print(perdure.binary())"], env=environ, text=True)
        self.assertEqual(Path(text.strip()).resolve().parent, (Path(sys.prefix) / "bin").resolve())

    def test_the_module_runs_as_the_command(self) -> None:
        text = subprocess.check_output([sys.executable, "-m", "perdure", "version"], text=True)
        self.assertTrue(text.startswith(f"perdure {perdure.version()} ("), text)
        self.assertEqual(subprocess.run([sys.executable, "-m", "perdure", "x"], stderr=subprocess.DEVNULL).returncode, 64)


class Copy(Case):
    def test_a_file(self) -> None:
        source, to = self.file("a", b"abc"), self.dir / "b"
        result = perdure.copy(source, to)
        self.assertEqual(to.read_bytes(), b"abc")
        self.assertIsInstance(result, perdure.CopyResult)
        self.assertEqual((result.source, result.destination, result.bytes), (str(source), str(to), 3))
        self.assertEqual((result.verified, result.attempts, result.retries, result.output), ("size", 0, 0, b""))
        self.assertTrue(result.checksum.startswith("crc32c:"), result)

    def test_a_name_that_looks_like_a_flag(self) -> None:
        self.file("--delete", b"abc")
        with contextlib.chdir(self.dir) if sys.version_info >= (3, 11) else _chdir(self.dir):
            perdure.copy("--delete", "-r")
        self.assertEqual((self.dir / "-r").read_bytes(), b"abc")

    def test_through_servers_that_fail(self) -> None:
        url = os.environ["STATIONS_URL"]
        result = perdure.copy(url, "s3://bike-data-bucket/python/stations.json", **FAST)
        back = perdure.copy(result.destination, "-", **FAST)
        self.assertIn(b'"stations":', back.output)
        self.assertEqual(len(back.output), result.bytes)
        again = perdure.copy("-", "s3://bike-data-bucket/python/again.json", input=back.output, **FAST)
        self.assertEqual((again.bytes, again.checksum), (result.bytes, result.checksum))
        for r in (result, back, again):
            self.assertEqual(len([e for e in r.events if e.name == "retrying"]), r.retries, r)

    def test_a_tree(self) -> None:
        for name in ("a.csv", "b.csv", "deep/c.csv", "d.tmp"):
            self.file(name, name.encode() * 1000)
        to = "s3://bike-data-bucket/python/tree"
        planned = perdure.sync(self.dir, to, dry_run=True, exclude=["*.tmp"], **FAST)
        self.assertEqual((planned.copied, planned.dry_run), (3, True))
        result = perdure.copy(self.dir, to, recursive=True, exclude=["*.tmp", "b.*"], **FAST)
        self.assertEqual((result.copied, result.skipped, result.failed, result.dry_run), (2, 0, 0, False))
        (self.dir / "a.csv").unlink()
        result = perdure.sync(self.dir, to, delete=True, **FAST)
        self.assertEqual((result.copied, result.skipped, result.deleted), (2, 1, 1))
        manifest = perdure.sync(self.dir, to, manifest="-", **FAST).output
        self.assertEqual(manifest.count(b'"action":"skipped"'), 3, manifest)

    def test_several_sources(self) -> None:
        sources = [self.file(name, name.encode()) for name in ("a.csv", "b.csv")]
        to = "s3://bike-data-bucket/python/several/"
        self.assertEqual(perdure.copy(sources, to, **FAST).copied, 2)
        self.assertEqual(perdure.copy(sources[:1], to, **FAST).copied, 1)
        back = self.dir / "back"
        back.mkdir()
        self.assertEqual(perdure.copy([to + "*.csv"], back, **FAST).copied, 2)
        self.assertEqual(sorted(p.name for p in back.iterdir()), ["a.csv", "b.csv"])
        with self.assertRaisesRegex(perdure.UsageError, "pass it in a list"):
            perdure.copy(to + "*.csv", back)
        with self.assertRaises(perdure.Failed):
            perdure.copy(to + r"\*.csv", back, **FAST)
        with self.assertRaises(perdure.UsageError):
            perdure.copy([], back)

    def test_a_list_of_addresses_in_a_file(self) -> None:
        urls = self.file("urls.csv", f"{os.environ['STATIONS_URL']},all.json\n".encode())
        to = "s3://bike-data-bucket/python/listed/"
        result = perdure.copy([], to, from_file=urls, **FAST)
        self.assertEqual((result.copied, result.failed), (1, 0))
        again = perdure.copy([], to, from_file="-", input=urls.read_bytes(), **FAST)
        self.assertEqual((again.copied + again.skipped, again.failed), (1, 0))

    def test_a_tree_with_failures_has_a_result(self) -> None:
        self.file("a", b"a")
        (self.dir / "link").symlink_to("a")
        with self.assertRaises(perdure.Failed) as caught:
            perdure.copy(self.dir, "s3://bike-data-bucket/python/links", recursive=True, **FAST)
        result = caught.exception.result
        assert isinstance(result, perdure.TreeResult)
        self.assertEqual((result.copied, result.failed), (1, 1))
        self.assertEqual([e.fields["path"] for e in caught.exception.events if e.name == "failed"], [str(self.dir / "link")])

    def test_the_failures_of_a_tree_outlast_its_other_events(self) -> None:
        from perdure import _process

        self.file("file", b"")
        (self.dir / "link").symlink_to("file")
        with unittest.mock.patch.object(_process, "MAX_EVENTS", 2), self.assertRaises(perdure.Failed) as caught:
            perdure.copy(self.dir, "s3://bike-data-bucket/python/failures", recursive=True, **FAST)
        result = caught.exception.result
        assert isinstance(result, perdure.TreeResult)
        [failure] = result.failures
        self.assertEqual(failure.fields["path"], str(self.dir / "link"))
        self.assertIn("symbolic link", failure.fields["error"])

    def test_paths_as_bytes(self) -> None:
        source = self.file("a", b"abc")
        self.assertEqual(perdure.copy(os.fsencode(source), os.fsencode(self.dir / "b")).bytes, 3)

    def test_input(self) -> None:
        """What is read is what a read() in this process would return: of a file from where it stands, of an archive unpacked."""
        packed = self.file("packed", gzip.compress(b"0123456789"))
        begun = self.file("plain", b"xx0123456789").open("rb")
        begun.read(2)
        spooled = tempfile.SpooledTemporaryFile()
        named = tempfile.NamedTemporaryFile()
        for each in (spooled, named):
            each.write(b"0123456789")
            each.seek(0)
        with begun, spooled, named, gzip.open(packed) as unpacked:
            for source in (b"0123456789", bytearray(b"0123456789"), io.BytesIO(b"0123456789"), begun, spooled, named, unpacked):
                with self.subTest(source=source):
                    perdure.copy("-", self.dir / "to", input=source)
                    self.assertEqual((self.dir / "to").read_bytes(), b"0123456789")

    def test_input_that_breaks_is_not_complete(self) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if part := super().read(size):
                    return part
                raise ConnectionResetError

        with self.assertRaises(ConnectionResetError):
            perdure.copy("-", self.dir / "to", input=Broken(b"x" * 100_000))
        for wrong in ("text", io.StringIO("text"), self.dir):
            with self.subTest(wrong=wrong), self.assertRaisesRegex(TypeError, "input must be"):
                perdure.copy("-", self.dir / "to", input=wrong)
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_input_that_nothing_reads(self) -> None:
        with self.assertRaisesRegex(perdure.UsageError, "input is given"):
            perdure.copy(self.file("a", b"a"), self.dir / "to", input=b"b")

    def test_input_that_never_ends(self) -> None:
        over = threading.Event()

        class Silent:
            def read(self, size: int, /) -> bytes:
                over.wait()
                return b""

        self.assertEqual(perdure.run(["true"], input=Silent()).returncode, 0)
        over.set()

    def test_more_input_than_is_read_and_a_missing_destination(self) -> None:
        with self.assertRaises(perdure.Failed):
            perdure.copy("-", self.dir / "none" / "x", input=b"x" * (1 << 22))


class Errors(Case):
    def test_each_exit_code_has_a_class(self) -> None:
        missing = self.dir / "missing"
        for kind, code, call in (
            (perdure.Failed, 1, lambda: perdure.copy(missing, self.dir / "to")),
            (perdure.UsageError, 64, lambda: perdure.copy("a", "b", no_such_flag=True)),
            (perdure.UsageError, 64, lambda: perdure.copy("a", "b", log_level="error")),
            (perdure.UsageError, 64, lambda: perdure.sync("a", "b", json=False)),
            (perdure.UsageError, 64, lambda: perdure.run(["true"], help=True)),
            (perdure.UsageError, 64, lambda: perdure.run(["true"], max_attempts=0)),
            (perdure.UsageError, 64, lambda: perdure.status(store="ftp://x")),
            (perdure.GaveUp, 69, lambda: perdure.copy("http://127.0.0.1:1/", self.dir / "to", **ONCE)),
            (perdure.CommandFailed, 7, lambda: perdure.run(["sh", "-c", "exit 7"], **ONCE)),
            (perdure.CommandFailed, 64, lambda: perdure.run(["sh", "-c", "exit 64"], **ONCE)),
            (perdure.CommandFailed, 75, lambda: perdure.run(["sh", "-c", "exit 75"], **ONCE)),
            (perdure.CommandFailed, 137, lambda: perdure.run(["sh", "-c", "kill -9 $$"], **ONCE)),
            (perdure.CommandFailed, 127, lambda: perdure.run([missing])),
            (perdure.CommandFailed, 126, lambda: perdure.run([self.dir])),
            (perdure.Interrupted, 137, lambda: perdure.run(["sh", "-c", "kill -9 $PPID"])),
        ):
            with self.subTest(kind=kind, code=code), self.assertRaises(perdure.PerdureError) as caught:
                call()
            self.assertIs(type(caught.exception), kind, caught.exception)
            self.assertEqual(caught.exception.exit_code, code, caught.exception)
            self.assertTrue(str(caught.exception))
            for again in (pickle.loads(pickle.dumps(caught.exception)), copy.copy(caught.exception)):
                self.assertEqual((repr(again), again.__dict__), (repr(caught.exception), caught.exception.__dict__))

    def test_an_open_breaker_says_when_to_come_back(self) -> None:
        guarded = {"name": "down", "failure_threshold": 1, "recovery_timeout": timedelta(hours=1)}
        with self.assertRaises(perdure.CommandFailed) as failed:
            perdure.run(["false"], **guarded)
        with self.assertRaises(perdure.RetryLater) as later:
            perdure.run(["true"], **guarded)
        [breaker] = [b for b in perdure.status().breakers if b.key == "op:down"]
        self.assertEqual((breaker.state, breaker.trips), ("open", 1))
        for at in (failed.exception.retry_at, later.exception.retry_at, breaker.next_probe):
            assert at and at.tzinfo
            self.assertGreater(at, datetime.now(timezone.utc))
        self.assertEqual(later.exception.retry_at, breaker.next_probe)

    def test_Retry_After_says_when_to_come_back(self) -> None:
        with _server(503, {"Retry-After": "3600"}) as url, self.assertRaises(perdure.RetryLater) as later:
            perdure.copy(url, self.dir / "to")
        at = later.exception.retry_at
        assert at
        self.assertGreater(at, datetime.now(timezone.utc) + timedelta(minutes=30))

    def test_no_argument_of_the_command_is_shown(self) -> None:
        for check in (True, False):
            shown = ""
            try:
                shown = repr(perdure.run(["sh", "-c", "exit 7", "swordfish"], check=check, capture=True, env={"X": "swordfish"}, **ONCE))
            except perdure.PerdureError as e:
                shown = f"{e!r} {e} {e.events} {e.result}"
            self.assertNotIn("swordfish", shown)
        with self.assertRaises(perdure.PerdureError) as caught:
            perdure.copy("http://ada:swordfish@127.0.0.1:1/?token=swordfish", self.dir / "to", **ONCE)
        self.assertNotIn("swordfish", f"{caught.exception} {caught.exception.events}")


class Run(Case):
    def test_a_command_that_succeeds_at_last(self) -> None:
        result = perdure.run(["sh", "-c", "echo $PERDURE_ATTEMPT; test $PERDURE_ATTEMPT = 3"], capture=True, base_delay=0.01, jitter=0)
        self.assertEqual((result.returncode, result.attempts, result.output), (0, 3, b"1\n2\n3\n"))
        self.assertEqual([e.fields["attempt"] for e in result.events if e.name == "retrying"], [1, 2])
        first = next(e for e in result.events if e.name == "retrying")
        assert first.retry_at
        self.assertGreater(first.retry_at, first.time)

    def test_without_check_a_failure_is_a_result(self) -> None:
        result = perdure.run(["sh", "-c", "echo out; exit 7"], check=False, capture=True, buffer=True, max_attempts=2, base_delay=0.01)
        self.assertEqual((result.returncode, result.attempts, result.output), (7, 2, b"out\n"))
        with self.assertRaises(perdure.CommandFailed):
            perdure.run([self.dir / "missing"], check=False)

    def test_input_environment_and_directory(self) -> None:
        result = perdure.run(["sh", "-c", "cat; echo $X; pwd"], capture=True, input=b"in\n", env={"X": "y"}, cwd=self.dir)
        self.assertEqual(result.output.decode().split(), ["in", "y", str(self.dir.resolve())])
        with self.file("in", b"of a file").open("rb") as source:
            self.assertEqual(perdure.run(["cat"], capture=True, input=source).output, b"of a file")

    def test_a_command_is_a_list(self) -> None:
        for wrong in ("echo a", b"echo a", Path("echo"), []):
            with self.subTest(wrong=wrong), self.assertRaisesRegex(TypeError, "a command is a list"):
                perdure.run(wrong)

    def test_the_errors_of_a_perdure_that_the_command_starts(self) -> None:
        inner = [perdure.binary(), "copy", str(self.dir / "missing"), str(self.dir / "to")]
        environ = {"PERDURE_LOG_FORMAT": "json"}
        self.assertEqual(perdure.run(inner, check=False, env=environ, **ONCE).returncode, 1)
        with self.assertRaises(perdure.CommandFailed) as caught:
            perdure.run(inner, env=environ, **ONCE)
        self.assertIn("exit status 1", str(caught.exception))

    def test_what_the_command_writes_is_no_event(self) -> None:
        script = r"""printf 'half a line' >&2; test $PERDURE_ATTEMPT = 2 || exit 1; echo '{"time":"x"}' >&2; echo '{"a":' >&2"""
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown):
            result = perdure.run(["sh", "-c", script], base_delay=0.01, jitter=0)
        self.assertEqual([e.name for e in result.events], ["retrying", "succeeded", "ended"])
        self.assertEqual(shown.getvalue(), 'half a linehalf a line{"time":"x"}\n{"a":\n')

    def test_events_are_logged_and_passed_on(self) -> None:
        seen: list[str] = []
        with self.assertLogs("perdure", logging.INFO) as logs:
            perdure.run(["sh", "-c", "test $PERDURE_ATTEMPT = 2"], base_delay=0.01, jitter=0, on_event=lambda e: seen.append(e.name))
        self.assertEqual(seen, ["retrying", "succeeded", "ended"])
        self.assertEqual([r.levelname for r in logs.records], ["INFO", "INFO"])
        self.assertEqual(logs.records[0].__dict__["perdure"].name, "retrying")

    def test_an_observer_that_raises_stops_the_command(self) -> None:
        def stop(event: perdure.Event) -> None:
            raise ZeroDivisionError(event.name)

        with self.assertRaises(ZeroDivisionError):
            perdure.run(["false"], base_delay=3600, on_event=stop)


class Bounds(Case):
    def test_output(self) -> None:
        big = self.file("big", b"x" * 100_000)
        self.assertEqual(len(perdure.copy(big, "-", max_output=100_000).output), 100_000)
        for call in (
            lambda: perdure.copy(big, "-", max_output=99_999),
            lambda: perdure.copy("/dev/zero", "-", max_output=1 << 20),
            lambda: perdure.run(["cat", "/dev/zero"], capture=True, max_output=1 << 20),
        ):
            with self.assertRaises(perdure.OutputTooLarge):
                call()

    def test_a_line_without_an_end(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as shown:
            result = perdure.run(["sh", "-c", "head -c 5000000 /dev/zero >&2"])
        self.assertEqual(len(shown.getvalue()), 5_000_000)
        self.assertEqual([e.name for e in result.events], ["ended"])

    def test_events(self) -> None:
        from perdure import _process

        with unittest.mock.patch.object(_process, "MAX_EVENTS", 3):
            result = perdure.run(["sh", "-c", "test $PERDURE_ATTEMPT = 9"], max_attempts=9, base_delay=0.001, jitter=0)
        self.assertEqual([e.name for e in result.events], ["retrying", "succeeded", "ended"])


STARTED = """
import sys, perdure
try:
    perdure.run(["sh", "-c", sys.argv[1]], grace=60)
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
"""


class Signals(Case):
    """A signal to this process alone reaches the command once, and the command ends first."""

    def signalled(self, number: int) -> tuple[int, list[str]]:
        script = "trap 'echo INT; exit 3' INT; trap 'echo TERM; exit 3' TERM; echo ready; read line; exit 4"
        with subprocess.Popen([sys.executable, "-c", STARTED, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout and child.stdin
            self.assertEqual(child.stdout.readline(), "ready\n")
            child.send_signal(number)
            rest = child.stdout.read()
        return child.returncode, rest.split("\n")

    def test_interrupt(self) -> None:
        self.assertEqual(self.signalled(signal.SIGINT), (0, ["INT", "KeyboardInterrupt", ""]))

    def test_interrupt_from_a_terminal(self) -> None:
        terminal, side = os.openpty()
        controlled = "import os; os.close(os.open(os.ttyname(0), os.O_RDWR))"  # the terminal of this session from now on
        script = "trap 'echo INT; exit 3' INT; echo ready; read line"
        command = [sys.executable, "-c", controlled + STARTED, script]
        with subprocess.Popen(command, stdin=side, stdout=side, stderr=side, start_new_session=True) as child:
            os.close(side)
            shown = b""
            with contextlib.suppress(OSError):  # the end of a terminal
                for part in iter(lambda: os.read(terminal, 1024), b""):
                    if b"ready" in shown + part and b"ready" not in shown:
                        os.write(terminal, b"\x03")  # ctrl-C
                    shown += part
        os.close(terminal)
        self.assertEqual((child.returncode, shown.count(b"INT"), shown.count(b"KeyboardInterrupt")), (0, 1, 1), shown)

    def test_a_signal_while_the_command_starts(self) -> None:
        """The command was left behind, running, if a signal came before Popen had returned."""
        late = """
import os, subprocess, sys
import perdure

class Late(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        print(self.pid, flush=True)
        os.kill(os.getpid(), int(sys.argv[1]))

subprocess.Popen = Late
perdure.run(["sleep", "60"])
"""
        for number in (signal.SIGINT, signal.SIGTERM):
            command = [sys.executable, "-c", late, str(int(number))]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
                assert child.stdout
                pid = int(child.stdout.readline())
                self.assertNotEqual(child.wait(), 0)
                with self.assertRaises(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def test_terminate(self) -> None:
        self.assertEqual(self.signalled(signal.SIGTERM), (-signal.SIGTERM, ["TERM", ""]))


@contextlib.contextmanager
def _chdir(to: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(to)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _server(status: int, headers: dict[str, str]) -> Iterator[str]:
    """Runs an HTTP server that sends one response to every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


if __name__ == "__main__":
    # A shell starts what is in its background with SIGINT ignored, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unittest.main()
