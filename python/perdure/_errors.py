"""An exception for each kind of exit code."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from perdure._results import Event, RunResult, TreeResult


class PerdureError(Exception):
    """The command failed. Its text is that of the command, without secrets and without the command's arguments."""

    def __init__(self, message: str, exit_code: int, events: Sequence[Event] = (), result: RunResult | TreeResult | None = None):
        super().__init__(message)
        self.exit_code = exit_code
        self.events = tuple(events)
        self.result = result  #: what was done nevertheless: of run, and of copies of many files; else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets pickle carry the exception from one process to another, as process pools do."""
        return type(self), (str(self), self.exit_code, self.events, self.result)

    @property
    def retry_at(self) -> datetime | None:
        """The instant, in UTC, from which on it makes sense to call again; None if it is not known."""
        found = [e.retry_at for e in self.events if e.name in ("error", "stopped") and e.retry_at]
        return found[-1] if found else None


class Failed(PerdureError):
    """A permanent failure: retrying will not help (exit code 1)."""


class UsageError(PerdureError):
    """The arguments, the environment or the policy file are invalid (exit code 64)."""


class GaveUp(PerdureError):
    """Attempts, time or budget are used up: calling again later may help (exit code 69)."""


class RetryLater(PerdureError):
    """A circuit breaker is open, a limit is reached or a server sent Retry-After (exit code 75): retry_at says until when."""


class Interrupted(PerdureError):
    """The command was ended by a signal (exit code 128 + signal)."""

    @property
    def signal(self) -> int:
        """The number of the signal."""
        return self.exit_code - 128


class CommandFailed(PerdureError):
    """The command that run started failed in its last attempt, or cannot be executed (126), or does not exist (127)."""


class OutputTooLarge(PerdureError):
    """More than max_output bytes came from standard output; the command was stopped."""


def error_of(exit_code: int, message: str, events: Sequence[Event], result: RunResult | TreeResult | None) -> PerdureError:
    """Returns the exception for an exit code of perdure itself."""
    kind: type[PerdureError] = {1: Failed, 64: UsageError, 69: GaveUp, 75: RetryLater, 126: CommandFailed, 127: CommandFailed}.get(
        exit_code, Interrupted if exit_code > 128 else PerdureError
    )
    return kind(message, exit_code, events, result)
