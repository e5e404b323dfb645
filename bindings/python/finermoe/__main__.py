"""The command: ``python -m finermoe COMMAND …`` runs the program that comes with the package."""

from __future__ import annotations

import os
import pathlib
import sys


def main() -> None:
    """Becomes the command."""
    program = pathlib.Path(__file__).parent / "bin" / "finermoe"
    if not program.exists():
        sys.exit("finermoe: this build of the package has no command")
    os.execv(program, ["finermoe", *sys.argv[1:]])


if __name__ == "__main__":
    main()
