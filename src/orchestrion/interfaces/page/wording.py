"""Texts of the use cases in the page's words: where one names a command, what does the same here stands in its place.

A command for which the page has nothing stays: then it is the way.
"""

from __future__ import annotations

import re

#: Command -> what a person at the page has instead: a button, a view, a part of the view.
_HERE = {
    "approve": "Approve",
    "cancel": "Cancel",
    "decisions": "Decisions",
    "diff": "its changes",
    "kill": "Kill",
    "list": "Find",
    "log": "the log",
    "message": "Message",
    "permissions": "the board",
    "ready": "the board",
    "reject": "Reject",
    "reopen": "Reopen",
    "resume": "Resume",
    "retry": "Retry",
    "runs": "Timeline",
    "show": "its view",
    "status": "the board",
    "why": "its view",
}
_COMMAND = re.compile(r"`orchestrion ([a-z]+)[^`]*`")


#: The buttons of a gate stand beside it.
_NEEDLESS = re.compile(r"; `orchestrion gate open [^`]*` decides it")


def here(text: str | None) -> str:
    """A text for somebody who looks at the page."""
    return _COMMAND.sub(lambda found: _HERE.get(found[1], found[0]), _NEEDLESS.sub("", text or ""))
