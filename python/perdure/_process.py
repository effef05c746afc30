"""Starts the command, reads what it writes, and forwards signals."""

from __future__ import annotations

import collections
import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol, Union

from perdure._binary import binary
from perdure._results import Event, event_of

MAX_OUTPUT = 64 << 20  # bytes of standard output
MAX_EVENTS = 10_000  # events that are kept: the last ones
MAX_LINE = 1 << 20  # bytes of a line of standard error that is read as an event
MAX_TAIL = 20  # lines of standard error, other than events, that an error may quote
CHUNK = 1 << 16

_log = logging.getLogger("perdure")
_log.addHandler(logging.NullHandler())  # without a handler of the application nothing is printed
_LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}
_BEGIN = b'{"time":"'


class Readable(Protocol):
    """A binary file, a response, or what else has bytes to read."""

    def read(self, size: int, /) -> bytes: ...


Input = Union[bytes, Readable, None]


class Terminated(BaseException):
    """Raised in the main thread by SIGTERM or SIGHUP."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Process:
    """A perdure command that has ended, with what it wrote. Used by one thread."""

    def __init__(self, on_event: Callable[[Event], object] | None, max_output: int, relay: bool):
        self.returncode = 0
        self.output = b""
        self.too_large = False
        self.events: collections.deque[Event] = collections.deque(maxlen=MAX_EVENTS)
        self.failures: collections.deque[Event] = collections.deque(maxlen=MAX_EVENTS)  # of single files
        self.tail: collections.deque[str] = collections.deque(maxlen=MAX_TAIL)
        self._on_event, self._max_output, self._relay = on_event, max_output, relay
        self._raised: BaseException | None = None  # by on_event, or by reading the input

    def last(self, *names: str) -> Event | None:
        """Returns the last event of these names."""
        return next((e for e in reversed(self.events) if e.name in names), None)

    def run(
        self,
        args: Sequence[str],
        stdin: Input,
        stdout: int | IO[bytes] | None,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        grace: float,
    ) -> None:
        """Runs perdure with args to its end. If this thread is interrupted, the command gets the signal once, and SIGKILL
        after grace seconds."""
        options: dict[str, Any] = {}
        source = io.BytesIO(stdin) if isinstance(stdin, (bytes, bytearray, memoryview)) else stdin
        piped = source is not None and not _is_file(source)
        inherited: Any = subprocess.PIPE if piped else source
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
        else:
            options["start_new_session"] = True  # a terminal's ctrl-C is forwarded once; a second one would end the command at once
        with _terminating(), contextlib.ExitStack() as stack:
            child: subprocess.Popen[bytes] | None = None
            threads: list[threading.Thread] = []
            try:
                with deferred_signals():
                    child = stack.enter_context(
                        subprocess.Popen(
                            [binary(), *args],
                            stdin=inherited,
                            stdout=stdout,
                            stderr=subprocess.PIPE,
                            env=None if env is None else {**os.environ, **env},
                            cwd=cwd,
                            **options,
                        )
                    )
                    threads.append(_begin(self._read_events, child))
                    if piped:
                        _begin(self._write, child, source)  # it may wait for its input longer than the command runs
                    if stdout == subprocess.PIPE:
                        threads.append(_begin(self._read_output, child))
                self.returncode = child.wait()
                for thread in threads:
                    thread.join()
            except BaseException as e:
                if child:
                    _stop(child, e.number if isinstance(e, Terminated) else signal.SIGINT, grace)
                for thread in threads:  # a process that the command has left behind may keep a pipe open
                    thread.join(timeout=1)
                raise
        if self._raised:
            raise self._raised

    def _read_output(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout
        parts, size, file = [], 0, child.stdout.fileno()
        for part in iter(lambda: os.read(file, CHUNK), b""):
            size += len(part)
            if size > self._max_output:
                self.too_large = True
                _signal(child, signal.SIGTERM)
                break
            parts.append(part)
        while self.too_large and os.read(file, CHUNK):  # so that the command can end
            pass
        self.output = b"".join(parts)

    def _read_events(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stderr
        rest, file = b"", child.stderr.fileno()
        for part in iter(lambda: os.read(file, CHUNK), b""):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                self._read_line(line, b"\n", child)
            if len(rest) > MAX_LINE:
                self._other(rest)
                rest = b""
        if rest:
            self._read_line(rest, b"", child)

    def _read_line(self, line: bytes, end: bytes, child: subprocess.Popen[bytes]) -> None:
        """Handles a line: an event, or text of the command that run started, or such text and an event after it."""
        at = line.rfind(_BEGIN)
        event = event_of(line[at:].decode(errors="replace")) if at >= 0 else None
        if event is None:
            self._other(line + end)
            return
        if at > 0:
            self._other(line[:at])
        self.events.append(event)
        if event.name == "failed":
            self.failures.append(event)
        _log.log(_LEVELS.get(event.level, logging.INFO), "%s", event.message, extra={"perdure": event})
        if self._on_event and not self._raised:
            try:
                self._on_event(event)
            except BaseException as e:
                self._abort(child, e)

    def _write(self, child: subprocess.Popen[bytes], source: Readable) -> None:
        """Writes all of source to the standard input of child."""
        assert child.stdin
        while True:
            try:
                part = source.read(CHUNK)
                if not isinstance(part, (bytes, bytearray, memoryview)):
                    raise TypeError(f"input must be a binary file: its read() returned {type(part).__name__}")
            except BaseException as e:
                self._abort(child, e)  # without the end of the input, which would make it look complete
                return
            if not part:
                break
            try:
                child.stdin.write(part)
                child.stdin.flush()
            except OSError:  # the command has ended without having read all
                break
        child.stdin.close()

    def _abort(self, child: subprocess.Popen[bytes], cause: BaseException) -> None:
        """Stops the command, and has cause raised when it has ended."""
        self._raised = cause
        _signal(child, signal.SIGTERM)

    def _other(self, text: bytes) -> None:
        shown = text.decode(errors="replace")
        self.tail.append(shown[:1000].rstrip("\n"))
        if self._relay and sys.stderr:
            with contextlib.suppress(OSError, ValueError):  # closed
                sys.stderr.write(shown)
                sys.stderr.flush()


def _begin(do: Callable[..., None], *args: Any) -> threading.Thread:
    """Starts a thread that reads or writes a pipe until it is closed."""

    def work() -> None:
        with contextlib.suppress(OSError, ValueError):
            do(*args)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _is_file(source: object) -> bool:
    """Reports whether a command can read source by its descriptor, as a plain file. It then begins where source stands.
    What unpacks or keeps bytes in this process, as gzip.open and io.BytesIO do, must be read here."""
    if isinstance(source, int):
        return True
    file: Any = getattr(source, "buffer", source)  # of a text file, such as sys.stdin
    if not isinstance(getattr(file, "raw", file), io.FileIO):
        if not hasattr(source, "read"):
            raise TypeError(f"input must be bytes or a file, not {type(source).__name__}")
        return False
    if file.seekable():
        os.lseek(file.fileno(), file.tell(), os.SEEK_SET)
    return True


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        if sys.platform == "win32":
            child.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            child.send_signal(number)


def _stop(child: subprocess.Popen[bytes], number: int, grace: float) -> None:
    """Sends a signal to child, waits for its end, and kills it if it has not ended after grace seconds, or if another
    interrupt comes."""
    _signal(child, number)
    try:
        child.wait(timeout=grace)
    except BaseException:
        child.kill()
        child.wait()


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Delays what signals raise until the block has ended: inside of Popen, it would leave a process that nothing stops."""
    held: list[int] = []

    def deliver() -> None:
        for number in held:
            signal.raise_signal(number)

    with contextlib.ExitStack() as stack:
        stack.callback(deliver)  # when the handlers are back
        names = ("SIGINT", "SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
        for s in [getattr(signal, n) for n in names if hasattr(signal, n)]:
            handler = signal.getsignal(s)
            if callable(handler):
                stack.callback(signal.signal, s, handler)
                signal.signal(s, lambda number, _: held.append(number))
        yield


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise Terminated, if this is the main thread and the signal would end the process. When
    the block has ended, the signal ends the process."""

    def handler(number: int, _: object) -> None:
        raise Terminated(number)

    names = [n for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)]
    main = threading.current_thread() is threading.main_thread()
    numbers = [s for s in (getattr(signal, n) for n in names) if main and signal.getsignal(s) is signal.SIG_DFL]
    for s in numbers:
        signal.signal(s, handler)
    try:
        yield
    except Terminated as e:
        signal.signal(e.number, signal.SIG_DFL)
        os.kill(os.getpid(), e.number)
        raise
    finally:
        for s in numbers:
            signal.signal(s, signal.SIG_DFL)
