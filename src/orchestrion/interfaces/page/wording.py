"""Texts of the use cases in the page's words: where one names a command, what does the same here stands in its place.

A command for which the page has nothing stays: then it is the way.
"""

from __future__ import annotations

import re

#: Command -> what a person at the page has instead: a button, a view, a part of a view; ``{}`` is what it is about.
_HERE = {
    "approve": "Approve",
    "cancel": "Cancel",
    "decisions": "Decisions",
    "diff": "the changes of {}",
    "kill": "Kill",
    "list": "Find",
    "log": "the log of {}",
    "message": "Message",
    "permissions": "the board",
    "ready": "the board",
    "reject": "Reject",
    "reopen": "Reopen",
    "resume": "Resume",
    "retry": "Retry",
    "runs": "Timeline",
    "show": "the view of {}",
    "status": "the board",
    "why": "the view of {}",
}
_COMMAND = re.compile(r"`orchestrion ([a-z]+)[^`]*`")
_THING = re.compile(r"\b(?:[A-Z]\d+|RUN)\b")

#: The buttons of a gate stand beside it, and no program reads this.
_NEEDLESS = re.compile(r"; `orchestrion gate open [^`]*` decides it|^browsers: |; programs: .*")


def here(text: str | None) -> str:
    """A text for somebody who looks at the page."""
    return _COMMAND.sub(_instead, _NEEDLESS.sub("", text or ""))


def _instead(found: re.Match[str]) -> str:
    if found[1] not in _HERE:
        return found[0]
    thing = _THING.search(found[0])
    return _HERE[found[1]].format("the task" if thing is None else thing[0].replace("RUN", "the run"))
