"""Replaces this process by the perdure command: python -m perdure copy SRC DST."""

from __future__ import annotations

import os
import subprocess
import sys

from perdure._binary import binary


def main() -> None:
    command = [binary(), *sys.argv[1:]]
    if sys.platform == "win32":
        sys.exit(subprocess.run(command).returncode)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
