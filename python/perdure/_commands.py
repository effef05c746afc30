"""The functions of the package: each one starts the command once."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Union, overload

from perdure._binary import arguments
from perdure._errors import CommandFailed, OutputTooLarge, PerdureError, UsageError, error_of
from perdure._process import MAX_OUTPUT, Input, Process
from perdure._results import CopyResult, Event, RunResult, Status, TreeResult, copy_result, status_of, tree_of, tree_result

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from perdure._flags import CopyFlags, RunFlags, SyncFlags

PathLike = Union[str, "os.PathLike[str]"]
OnEvent = Union[Callable[[Event], object], None]


def run(
    command: Sequence[PathLike],
    *,
    check: bool = True,
    capture: bool = False,
    input: Input = None,
    env: Mapping[str, str] | None = None,
    cwd: PathLike | None = None,
    on_event: OnEvent = None,
    max_output: int = MAX_OUTPUT,
    grace: float = 20,
    **flags: Unpack[RunFlags],
) -> RunResult:
    """Runs command, and runs it again if it fails, as perdure run does.

    flags are those of perdure run --help: max_attempts=3 is --max-attempts 3, buffer=True is --buffer.
    check: raise CommandFailed if the last attempt failed. If perdure itself cannot run it, that is always raised.
    capture: return standard output, at most max_output bytes; else the command writes to that of this process.
    input: standard input, as bytes or a file with read(); None means that of this process.
    env: variables added to those of this process.
    on_event: called with each event, on another thread; what it raises stops the command and is raised here.
    grace: seconds from a signal to this process until the command is killed.
    """
    stdout = subprocess.PIPE if capture else None
    args = ["run", *_arguments(flags), "--", *arguments(command)]
    p = _start(args, input, stdout, env, cwd, on_event, max_output, grace, relay=True)
    ended, last = p.last("ended"), p.last("ended", "error")
    failure = None if last is ended else last  # an error before the end is of a perdure that the command started
    f = ended.fields if ended else {}
    result = RunResult(p.returncode, int(f.get("attempts", 0)), float(f.get("elapsed", 0)), p.output, tuple(p.events))
    if failure or not ended:
        if p.returncode or not ended:
            raise _error(p, failure, result)
    elif p.returncode and check:
        stopped = p.last("stopped")
        text = stopped.message if stopped else f"exit code {p.returncode}"
        raise CommandFailed(text, p.returncode, result.events, result)
    return result


@overload
def copy(
    source: PathLike,
    destination: PathLike,
    *,
    recursive: Literal[True],
    input: Input = ...,
    env: Mapping[str, str] | None = ...,
    on_event: OnEvent = ...,
    max_output: int = ...,
    grace: float = ...,
    **flags: Unpack[CopyFlags],
) -> TreeResult: ...


@overload
def copy(  # type: ignore[overload-overlap]  # a str is a Sequence[str], too
    source: PathLike,
    destination: PathLike,
    *,
    recursive: Literal[False] = ...,
    input: Input = ...,
    env: Mapping[str, str] | None = ...,
    on_event: OnEvent = ...,
    max_output: int = ...,
    grace: float = ...,
    **flags: Unpack[CopyFlags],
) -> CopyResult: ...


@overload
def copy(  # type: ignore[overload-overlap]  # a str is a Sequence[str], too
    source: PathLike,
    destination: PathLike,
    *,
    recursive: bool,
    input: Input = ...,
    env: Mapping[str, str] | None = ...,
    on_event: OnEvent = ...,
    max_output: int = ...,
    grace: float = ...,
    **flags: Unpack[CopyFlags],
) -> CopyResult | TreeResult: ...


@overload
def copy(
    source: Sequence[PathLike],
    destination: PathLike,
    *,
    recursive: bool = ...,
    input: Input = ...,
    env: Mapping[str, str] | None = ...,
    on_event: OnEvent = ...,
    max_output: int = ...,
    grace: float = ...,
    **flags: Unpack[CopyFlags],
) -> TreeResult: ...


def copy(
    source: PathLike | Sequence[PathLike],
    destination: PathLike,
    *,
    recursive: bool = False,
    input: Input = None,
    env: Mapping[str, str] | None = None,
    on_event: OnEvent = None,
    max_output: int = MAX_OUTPUT,
    grace: float = 20,
    **flags: Unpack[CopyFlags],
) -> CopyResult | TreeResult:
    """Copies a file, a URL or an object, or with recursive=True all files below a directory, as perdure copy does.

    A list of sources, with patterns such as ["s3://b/2024/*.csv"] if need be, is copied into the destination.
    flags are those of perdure copy --help: checksum="sha256:...", endpoint_url="http://localhost:9000".
    source "-" copies input, bytes or a file with read(), or if it is None the standard input of this process;
    destination "-" returns the data as output, at most max_output bytes.
    on_event: called with each event, on another thread; what it raises stops the copy and is raised here.
    """
    one = isinstance(source, (str, bytes, os.PathLike))
    sources = [os.fsdecode(each) for each in ([source] if isinstance(source, (str, bytes, os.PathLike)) else source)]
    if one and not recursive and sources[0].startswith("s3://") and _is_pattern(sources[0]):
        raise UsageError(f"{sources[0]} is a pattern, which stands for many objects: pass it in a list", 64)
    args = ["copy", *_arguments({**flags, "recursive": recursive or None}), "--", *sources]
    if input is not None and not any(re.search("(^|=)@?-$", each) for each in args):
        raise UsageError('input is given, but neither the source nor a flag is "-"', 64)
    args.append(os.fsdecode(destination))
    result = _copied(_start(args, input, subprocess.PIPE, env, None, on_event, max_output, grace))
    if one or isinstance(result, TreeResult):
        return result
    return tree_of(result)


def sync(
    source: PathLike,
    destination: PathLike,
    *,
    delete: bool = False,
    env: Mapping[str, str] | None = None,
    on_event: OnEvent = None,
    max_output: int = MAX_OUTPUT,
    grace: float = 20,
    **flags: Unpack[SyncFlags],
) -> TreeResult:
    """Copies what destination lacks, and with delete=True removes what source has not, as perdure sync does.

    flags are those of perdure sync --help: max_delete=10, dry_run=True, exclude=["*.tmp", "cache/"].
    """
    args = ["sync", *_arguments({**flags, "delete": delete or None}), "--", os.fsdecode(source), os.fsdecode(destination)]
    result = _copied(_start(args, None, subprocess.PIPE, env, None, on_event, max_output, grace))
    assert isinstance(result, TreeResult)
    return result


def status(*, store: str | None = None, env: Mapping[str, str] | None = None) -> Status:
    """Returns the circuit breakers that commands of this user share, as perdure status does."""
    p = _start(["status", *_arguments({"store": store})], None, subprocess.PIPE, env, None, None, MAX_OUTPUT, 20)
    if p.returncode:
        raise _error(p, p.last("error"), None)
    return status_of(json.loads(p.output))


def _arguments(flags: Mapping[str, object]) -> list[str]:
    """Returns the flags as arguments. None and an empty list leave a flag out, a list repeats it."""
    args = ["--json", "--log-level=debug"]  # a result may be an event of level debug
    for name, value in flags.items():
        if name in ("json", "log_level", "log_format", "help"):
            raise UsageError(f"{name} is not allowed: the package reads the events, and logs them to the logger perdure", 64)
        flag = "--" + name.replace("_", "-")
        for each in value if isinstance(value, (list, tuple)) else () if value is None else (value,):
            if isinstance(each, bool):
                args.append(f"{flag}={str(each).lower()}")
            elif isinstance(each, timedelta):
                args.append(f"{flag}={each.total_seconds()}")
            else:
                args.append(f"{flag}={os.fspath(each) if isinstance(each, os.PathLike) else each}")
    return args


def _is_pattern(source: str) -> bool:
    """Reports whether source has a star without a backslash before it."""
    return re.search(r"(?<!\\)(?:\\\\)*\*", source) is not None


def _start(
    args: Sequence[str],
    stdin: Input,
    stdout: int | None,
    env: Mapping[str, str] | None,
    cwd: PathLike | None,
    on_event: OnEvent,
    max_output: int,
    grace: float,
    relay: bool = False,
) -> Process:
    p = Process(on_event, max_output, relay)
    p.run(args, stdin, stdout, env, cwd, grace)
    if p.too_large:
        raise OutputTooLarge(f"more than max_output ({max_output}) bytes of standard output", p.returncode, tuple(p.events))
    return p


def _copied(p: Process) -> CopyResult | TreeResult:
    events = tuple(p.events)
    summary, copied = p.last("summary"), p.last("copied")
    result = tree_result(summary, p.output, events, tuple(p.failures)) if summary else None
    if p.returncode:
        raise _error(p, p.last("error"), result)
    if result:
        return result
    if not copied:
        raise PerdureError("perdure reported no result", 0, events)
    return copy_result(copied, p.output, events)


def _error(p: Process, failure: Event | None, result: RunResult | TreeResult | None) -> PerdureError:
    """Returns the exception for a command that ended with an error of perdure itself."""
    code = 128 - p.returncode if p.returncode < 0 else p.returncode  # Popen has -9 for SIGKILL
    text = failure.message if failure else "\n".join(p.tail) or f"perdure ended with exit code {code}"
    return error_of(code, text, tuple(p.events), result)
