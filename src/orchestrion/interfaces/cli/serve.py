"""The commands ``serve``, ``up`` and ``token``: the server, with or without a worker beside it, and its keys."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from orchestrion.core.rights import refuse_runs
from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, group


def _served(function: Any) -> Any:
    """The options of a command that serves."""
    for option in reversed(
        (
            click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen."),
            click.option(
                "--port", metavar="N", type=click.IntRange(0, 65535), default=7117, show_default=True, help="With it."
            ),
            click.option("--tokens", is_flag=True, help="Ask everybody for a token; on this machine the key does too."),
            click.option(
                "--log",
                type=click.Choice(["quiet", "normal", "all"]),
                default="normal",
                show_default=True,
                help="What is written to stderr, as JSON lines: failures, changes, or every request.",
            ),
        )
    ):
        function = option(function)
    return function


@command("serve", "orchestrion serve", "orchestrion serve --port 8000", "orchestrion serve --host 0.0.0.0")
@_served
def serve(call: Call, host: str, port: int, tokens: bool, log: str) -> int:
    """The page, REST under /api/v1, events, /metrics and /mcp. On this machine everybody may read; to act
    takes the key, a file that only you can read: open the address that is printed, it lets your browser
    in once. At any other address everybody needs a token (`orchestrion token create`), and behind a
    proxy --tokens asks for one. It ends on Ctrl-C or SIGTERM; no run ends with it.
    """
    from orchestrion.interfaces.web import starting

    refuse_runs(os.environ, "serve")
    starting.serve(call.folder, call.db, dict(os.environ), host, port, tokens=tokens, log=log)
    return 0


@command("up", "orchestrion up", "orchestrion up --slots 8 --port 8000")
@click.option("--slots", metavar="N", type=int, help="Runs at the same time; the setting work.slots if not said.")
@click.option("--agent", metavar="NAME", help="Only tasks of this agent.")
@_served
def up(call: Call, slots: int | None, agent: str | None, host: str, port: int, tokens: bool, log: str) -> int:
    """As `serve` and `work` together. SIGTERM or Ctrl-C stops both; runs go on, and the next worker
    takes them over.
    """
    from orchestrion.interfaces.web import starting

    refuse_runs(os.environ, "serve")
    work = starting.Work(slots, agent)
    starting.serve(call.folder, call.db, dict(os.environ), host, port, tokens=tokens, log=log, work=work)
    return 0


token = group("token", "Keys to a server that asks for them.", "orchestrion token list")


@command("create", "orchestrion token create ci --role operate --days 90", group=token, summary="make a key")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["read", "operate", "admin"]),
    default="read",
    show_default=True,
    help="What it opens: read looks, operate acts on tasks and runs, admin does all.",
)
@click.option("--days", metavar="N", type=float, help="After so many days it opens nothing any more.")
def create(call: Call, name: str, role: str, days: float | None) -> None:
    """The token is shown this once; only its hash is kept."""
    with call.open() as orchestrion:
        made = orchestrion.create_token(name, role, days=days)
    call.answer(made, lambda: [made["token"]])


@command("list", "orchestrion token list", group=token, summary="list all keys")
def listing(call: Call) -> None:
    """Those that still open something come first."""
    with call.open() as orchestrion:
        found = orchestrion.tokens()
    call.answer({"tokens": found}, lambda: _tokens(found))


@command("revoke", "orchestrion token revoke ci", group=token, summary="take a key back")
@click.argument("name")
def revoke(call: Call, name: str) -> None:
    """From now on it opens nothing; streams that it opened end within seconds."""
    with call.open() as orchestrion:
        gone = orchestrion.revoke_token(name)
    call.answer(gone, lambda: [f"{gone['name']} opens nothing any more"])


@command("open", "orchestrion open", "orchestrion open --json")
def open_page(call: Call) -> None:
    """Prints an address of the server of this machine that lets a browser in once, within an hour, and opens it
    where there is a desktop. The browser then has a session, until somebody logs out there.
    """
    with call.open() as orchestrion:
        url = orchestrion.make_link(orchestrion.page_address())
    call.answer({"url": url}, lambda: [url])
    has_desktop = sys.platform == "darwin" or any(key in os.environ for key in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not call.json and sys.stdout.isatty() and has_desktop:
        webbrowser.open(url)


COMMANDS = {"serve": serve, "up": up, "open": open_page, "token": token}


def _tokens(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (
            one["name"],
            one["role"],
            one["status"],
            f"until {output.moment(one['expires_at'])}" if one["expires_at"] else "",
            f"used {output.moment(one['used_at'])}" if one["used_at"] else "never used",
        )
        for one in found
    ]
    yield from output.table(rows) if rows else ["there are no tokens; `orchestrion token create NAME`"]
