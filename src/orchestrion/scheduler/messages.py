"""What people say to a running agent, kept until it hears it.

A message waits in the store. The run's supervisor takes it to the agent at once where the
agent can hear while it works, and else tells it at the agent's next turn; which of the two
it was is recorded, so that nobody is told "delivered" of something that was not. A run
that ends drops what it did not hear.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrion.core.errors import Conflict, InvalidInput, NotFound
from orchestrion.core.model import TEXT_LIMIT, name
from orchestrion.core.states import ACTIVE_RUN, TaskState
from orchestrion.core.values import is_blank
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: How a message came to the agent.
WHILE_RUNNING, NEXT_TURN = "while_running", "next_turn"


def send(tx: Transaction, run: int, text: str) -> int:
    """Leaves a message for the agent of a run; its number. Raises NotFound, Conflict (it cannot hear), InvalidInput."""
    checked = _checked(text)
    row = tx.one("run", id=run)
    if row is None:
        raise NotFound(f"there is no run {name('R', run)}", hint="`orchestrion runs` shows the runs", code="no_run")
    _refuse_deaf(tx, run, row)
    message = tx.the("add_message", run=run, text=checked, actor=tx.origin.actor)
    tx.event("run.message", task=row["task"], run=run, data={"message": message["id"]})
    return int(message["id"])


def waiting(tx: Transaction, run: int) -> list[Row]:
    """The messages that the agent of a run has not heard yet, oldest first: ``id``, ``text``."""
    return tx.all("waiting_messages", run=run)


def given(tx: Transaction, ids: Sequence[int], how: str) -> None:
    """The agent heard these messages: ``while_running`` or at its ``next_turn``."""
    for row in tx.all("give_messages", ids=list(ids), how=how):
        tx.event("run.message_given", task=row["task"], run=row["run"], data={"message": row["id"], "how": how})


def of_run(tx: Transaction, run: int) -> list[Row]:
    """All messages to the agent of a run, oldest first."""
    return tx.all("messages_of_run", run=run)


#: How the next run of a task is told something, by the task's state.
_NEXT = {
    TaskState.COMPLETED: "`orchestrion reopen {task} --reason TEXT`",
    TaskState.REVIEW: "`orchestrion reject {task} --reason TEXT`",
    TaskState.FAILED: "`orchestrion update {task} --description TEXT`, then `orchestrion retry {task}`",
}


def _refuse_deaf(tx: Transaction, run: int, row: Row) -> None:
    if row["state"] not in ACTIVE_RUN:
        state = tx.the("task", id=row["task"])["state"]
        ways = _NEXT.get(state, "`orchestrion update {task} --description TEXT`")
        hint = "its task's description is kept; nobody works on it any more"
        if state != TaskState.CANCELLED:
            hint = f"tell the next run of its task: {ways.format(task=name('T', row['task']))}"
        raise Conflict(f"{name('R', run)} is {row['state']}: there is nobody to hear", hint=hint, code="run_over")
    if not row["supervised"]:
        raise Conflict(
            f"{name('R', run)} is held by a client, which has no ear for messages",
            hint="tell it where it works",
            code="run_unsupervised",
        )


def _checked(text: str) -> str:
    if is_blank(text):
        raise InvalidInput("a message needs words", hint="say in a sentence what the agent should know")
    if len(text) > TEXT_LIMIT:
        raise InvalidInput(
            f"the message has {len(text):,} characters; {TEXT_LIMIT:,} are allowed",
            hint="put the rest in a file and name it",
        )
    if "\0" in text:
        raise InvalidInput("a message cannot contain NUL characters", hint="is it a binary file?")
    return text
