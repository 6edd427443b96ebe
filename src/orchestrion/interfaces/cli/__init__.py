"""The command line: one file per noun, one table of commands, one table of exit codes.

``table.py`` says which commands there are and where each lies; a call imports that one
module and no other, for agents call at every step of their work. ``app.py`` is the
program, ``command.py`` how commands are made, ``call.py`` what each is given, ``errors.py``
and ``output.py`` what comes out. May import ``orchestrator``, and ``core`` for errors and
names. ``rich`` is imported only to draw on a terminal.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line of this process; ends with its exit code."""
    from orchestrion.interfaces.cli.app import run

    sys.exit(run(sys.argv[1:]))


__all__ = ["main"]
