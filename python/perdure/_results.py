"""What the command reports, as dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

_Data = bytes  # the field bytes hides the type


@dataclasses.dataclass(frozen=True)
class Event:
    """A line of --json: a retry, a transition of a circuit breaker, a copied file, the error that ended the command."""

    name: str  #: such as "retrying", "succeeded", "stopped", "transition", "copied", "failed", "error"; "" if it has none
    time: datetime
    level: str  #: "DEBUG", "INFO", "WARN" or "ERROR"
    message: str
    fields: Mapping[str, Any]  #: all other keys, such as "attempt", "delay", "error", "retry_at"

    @property
    def retry_at(self) -> datetime | None:
        """The instant at which the next attempt may begin, in UTC; None if the event has none."""
        return instant(self.fields.get("retry_at"))


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What run did."""

    returncode: int  #: of the last attempt; 0 unless check=False
    attempts: int
    elapsed: float  #: seconds, with all waits
    output: _Data = dataclasses.field(repr=False)  #: standard output of the command; b"" unless capture=True
    events: tuple[Event, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class CopyResult:
    """A copied file or object, complete and verified."""

    source: str
    destination: str
    bytes: int
    checksum: str  #: of all bytes, such as "crc32c:G9ywgw=="; "" if verified only says "etag"
    verified: str  #: the algorithm that was compared, or "etag" or "size"
    attempts: int  #: requests that were sent
    retries: int
    duration: float  #: seconds
    output: _Data = dataclasses.field(repr=False)  #: the data if the destination is "-", else b""
    events: tuple[Event, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class TreeResult:
    """The outcome for all files of sync, or of copy of many. With dry_run, what would have been done."""

    source: str  #: or how many there are, such as "2 sources"
    destination: str
    copied: int
    skipped: int
    failed: int
    deleted: int
    links: int  #: symbolic links that were skipped
    bytes: int
    requests: int
    retries: int
    duration: float  #: seconds
    dry_run: bool
    output: _Data = dataclasses.field(repr=False)  #: the manifest if it is "-", else b""
    events: tuple[Event, ...] = dataclasses.field(repr=False)
    failures: tuple[Event, ...] = dataclasses.field(repr=False)  #: an event "failed" of each, with the fields "path" and "error"


@dataclasses.dataclass(frozen=True)
class Breaker:
    """The circuit breaker of a key, as perdure status shows it."""

    key: str
    state: str  #: "closed", "open", "half-open" or "isolated"
    since: datetime | None  #: the last transition; None before the first one
    reason: str
    failures: int
    next_probe: datetime | None
    not_before: datetime | None
    budget: float | None
    trips: int
    rejected: int
    probes: int
    fields: Mapping[str, Any] = dataclasses.field(repr=False)  #: the whole object, also with the keys above


@dataclasses.dataclass(frozen=True)
class Status:
    """A snapshot of the circuit breakers that commands share."""

    time: datetime
    store: str
    path: str  #: the state file; "" if the store has none
    exists: bool
    breakers: tuple[Breaker, ...]


def instant(text: object) -> datetime | None:
    """Returns the instant of RFC 3339 that text is, in UTC, or None. Digits below a microsecond are dropped."""
    if not isinstance(text, str):
        return None
    head, dot, tail = text.partition(".")
    if dot:
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        text = f"{head}.{digits[:6].ljust(6, '0')}{tail[len(digits):]}"
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)


def event_of(line: str) -> Event | None:
    """Returns the event that line is, or None if it is something else."""
    if not line.startswith('{"time":'):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    time, level, message = instant(found.pop("time", None)), found.pop("level", None), found.pop("message", None)
    if time is None or not isinstance(level, str) or not isinstance(message, str):
        return None
    return Event(str(found.pop("event", "")), time, level, message, found)


def copy_result(event: Event, output: bytes, events: tuple[Event, ...]) -> CopyResult:
    """Returns the result that an event "copied" of one file reports."""
    f = event.fields
    return CopyResult(
        source=str(f.get("src", "")),
        destination=str(f.get("dst", "")),
        bytes=int(f.get("bytes", 0)),
        checksum=str(f.get("checksum", "")),
        verified=str(f.get("verified", "")),
        attempts=int(f.get("attempts", 0)),
        retries=int(f.get("retries", 0)),
        duration=float(f.get("duration", 0)),
        output=output,
        events=events,
    )


def tree_result(event: Event, output: bytes, events: tuple[Event, ...], failures: tuple[Event, ...]) -> TreeResult:
    """Returns the result that an event "summary" reports."""
    f = event.fields
    return TreeResult(
        source=str(f.get("src", "")),
        destination=str(f.get("dst", "")),
        copied=int(f.get("copied", 0)),
        skipped=int(f.get("skipped", 0)),
        failed=int(f.get("failed", 0)),
        deleted=int(f.get("deleted", 0)),
        links=int(f.get("links", 0)),
        bytes=int(f.get("bytes", 0)),
        requests=int(f.get("requests", 0)),
        retries=int(f.get("retries", 0)),
        duration=float(f.get("duration", 0)),
        dry_run=bool(f.get("dry_run", False)),
        output=output,
        events=events,
        failures=failures,
    )


def tree_of(r: CopyResult) -> TreeResult:
    """Returns the result of a list with one source."""
    return TreeResult(r.source, r.destination, 1, 0, 0, 0, 0, r.bytes, r.attempts, r.retries, r.duration, False, r.output, r.events, ())


def status_of(found: Mapping[str, Any]) -> Status:
    """Returns the snapshot that an object of status --json is."""
    return Status(
        time=instant(found.get("time")) or datetime.fromtimestamp(0, timezone.utc),
        store=str(found.get("store", "")),
        path=str(found.get("path", "")),
        exists=bool(found.get("exists", False)),
        breakers=tuple(_breaker(key) for key in found.get("keys", ())),
    )


def _breaker(f: Mapping[str, Any]) -> Breaker:
    budget = f.get("budget")
    return Breaker(
        key=str(f.get("key", "")),
        state=str(f.get("state", "")),
        since=instant(f.get("since")),
        reason=str(f.get("reason", "")),
        failures=int(f.get("failures", 0)),
        next_probe=instant(f.get("next_probe")),
        not_before=instant(f.get("not_before")),
        budget=None if budget is None else float(budget),
        trips=int(f.get("trips", 0)),
        rejected=int(f.get("rejected", 0)),
        probes=int(f.get("probes", 0)),
        fields=f,
    )
