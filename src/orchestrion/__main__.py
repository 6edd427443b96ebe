"""``orchestrion``, by whatever name it is started.

The command line is called at every tool call of an agent, so the frequent calls are
answered before anything heavy is imported.

Whatever the caller closed or set, the program has three open streams and reads every name
as UTF-8 from here on.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line; ends with its exit code."""
    _open_closed_streams()
    _insist_on_utf8()
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        from orchestrion import __version__

        print(f"orchestrion {__version__}")
        return
    if arguments[:1] == ["supervise"]:
        from orchestrion.interfaces.supervise import main as supervise

        sys.exit(supervise(arguments[1:]))
    if arguments[:1] == ["hook"] and not any(one.startswith("-") for one in arguments):
        from orchestrion.interfaces.hook import run as hook

        hook(arguments[1:])
    from orchestrion.interfaces.cli import main as cli

    cli()


def _open_closed_streams() -> None:
    """Leads streams that the caller closed nowhere: else the database would be opened under the number of one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process


def _insist_on_utf8() -> None:
    """Begins anew where Python was told to take names and arguments for ASCII (``LC_ALL=C`` and ``PYTHONUTF8=0``)."""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
