"""Runs commands, copies files and syncs directories through failures, with the perdure command of this wheel.

    import perdure

    perdure.copy("https://example.org/stations.json", "s3://bikes/stations.json", max_attempts=7)
    perdure.run(["./load.sh"], name="load", attempt_timeout=60)

Each function starts the command once, reads its JSON events, and returns a dataclass or raises a PerdureError of the
class that the exit code names. The events are also logged to the logger "perdure". Nothing is retried in Python.
"""

from perdure._binary import binary as binary
from perdure._binary import version as version
from perdure._commands import copy as copy
from perdure._commands import run as run
from perdure._commands import status as status
from perdure._commands import sync as sync
from perdure._errors import CommandFailed as CommandFailed
from perdure._errors import Failed as Failed
from perdure._errors import GaveUp as GaveUp
from perdure._errors import Interrupted as Interrupted
from perdure._errors import OutputTooLarge as OutputTooLarge
from perdure._errors import PerdureError as PerdureError
from perdure._errors import RetryLater as RetryLater
from perdure._errors import UsageError as UsageError
from perdure._results import Breaker as Breaker
from perdure._results import CopyResult as CopyResult
from perdure._results import Event as Event
from perdure._results import RunResult as RunResult
from perdure._results import Status as Status
from perdure._results import TreeResult as TreeResult

__all__ = [
    "Breaker",
    "CommandFailed",
    "CopyResult",
    "Event",
    "Failed",
    "GaveUp",
    "Interrupted",
    "OutputTooLarge",
    "PerdureError",
    "RetryLater",
    "RunResult",
    "Status",
    "TreeResult",
    "UsageError",
    "binary",
    "copy",
    "run",
    "status",
    "sync",
    "version",
]
