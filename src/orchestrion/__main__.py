"""``orchestrion``, by whatever name it is started.

The command line is called at every tool call of an agent, so the frequent calls are
answered before anything heavy is imported.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; ends with its exit code."""
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


if __name__ == "__main__":
    main()
