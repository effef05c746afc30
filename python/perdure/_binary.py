"""Finds the perdure command."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Union

NAME = "perdure.exe" if sys.platform == "win32" else "perdure"


@functools.lru_cache(maxsize=None)
def binary() -> str:
    """Returns the path of the perdure command: the one that this package was installed with, or else the one in the
    scripts directory of this Python, or else the first one in PATH. Raises FileNotFoundError if there is no such file."""
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            return str(path.resolve())
    raise FileNotFoundError(f"{NAME} is neither beside this package, nor in {sysconfig.get_path('scripts')}, nor in PATH")


def arguments(command: Sequence[Union[str, "os.PathLike[str]"]]) -> list[str]:
    """Returns a command to run as a list of str. A str is refused, since its letters would be the arguments."""
    if isinstance(command, (str, bytes, os.PathLike)):
        raise TypeError(f'a command is a list, such as ["sh", "-c", "..."], not {type(command).__name__}')
    found = [os.fspath(each) for each in command]
    if not found:
        raise TypeError("a command is a list that begins with a program: it is empty")
    return found


def version() -> str:
    """Returns the version of the installed package, or "" if it runs from a directory that pip does not know."""
    found = _distribution()
    return found.version if found else ""


def _distribution() -> metadata.Distribution | None:
    """Returns the distribution that this module belongs to."""
    try:
        found = metadata.distribution("perdure")
    except metadata.PackageNotFoundError:
        return None
    here = Path(__file__).resolve()
    own = any(file.name == here.name and Path(str(file.locate())).resolve() == here for file in found.files or ())
    return found if own else None


def _candidates() -> Iterator[Path]:
    found = _distribution()
    for file in (found.files if found else None) or ():
        if file.name == NAME and file.parent.name in ("bin", "Scripts"):
            yield Path(str(file.locate()))
    yield Path(sysconfig.get_path("scripts")) / NAME
    in_path = shutil.which(NAME)
    if in_path:
        yield Path(in_path)
