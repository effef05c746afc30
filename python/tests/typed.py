"""What a type checker knows of the results; it is checked, and never run."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import perdure
from perdure.dagster import run_step

if TYPE_CHECKING:
    import dagster as dg
    from typing_extensions import assert_type

    def results(context: dg.AssetExecutionContext, many: bool) -> None:
        assert_type(perdure.copy(Path("a"), "b", max_attempts=7, no_resume=True), perdure.CopyResult)
        assert_type(perdure.copy("a", "b", recursive=True, include=["*.csv"]), perdure.TreeResult)
        assert_type(perdure.copy("a", "b", recursive=many), Union[perdure.CopyResult, perdure.TreeResult])
        assert_type(perdure.copy(["a", Path("b")], "c"), perdure.TreeResult)
        assert_type(perdure.sync("a", "b", delete=True), perdure.TreeResult)
        assert_type(perdure.run(["a", Path("b")], input=b"", on_event=print), perdure.RunResult)
        assert_type(perdure.copy("-", "b", input=io.BytesIO()).bytes, int)
        assert_type(perdure.copy("-", "b", input=gzip.open("a")).bytes, int)
        assert_type(perdure.sync("a", "b").failures, tuple[perdure.Event, ...])
        perdure.copy("-", "b", input="text")  # type: ignore[call-overload]
        perdure.copy("a", "b", no_such_flag=1)  # type: ignore[call-overload]
        perdure.sync("a", "b", dry_run="yes")  # type: ignore[arg-type]
        perdure.run(["a"], half_open_max=2, stop_on_exit=[2, "64-78"], wait=None)
        assert_type(perdure.status().breakers[0].next_probe, Optional[datetime])
        assert_type(perdure.run([]).events[0].fields, Mapping[str, Any])
        assert_type(perdure.binary(), str)
        assert_type(run_step(context, ["perdure", "copy", "a", "b"], stdin=b""), Iterable[Any])

    def errors(e: perdure.PerdureError, i: perdure.Interrupted) -> None:
        assert_type(e.retry_at, Optional[datetime])
        assert_type(e.exit_code, int)
        assert_type(i.signal, int)
