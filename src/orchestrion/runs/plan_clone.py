"""Which clone has a plan that was begun by an older program, which did not write that down.

It is the one whose repository has all that was accepted of it. Where some of that is missing the
plan is left to a clone that is not known, so that its tasks are out of every claim's sight.
"""

from __future__ import annotations

from orchestrion.runs.git import Git
from orchestrion.runs.plan_start import has_work
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.scheduler import clones
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row


def find(store: Store, git: Git, host: str) -> None:
    """Binds all plans of no known clone that have work here, and leaves those whose work is not."""
    for plan in store.read(lambda tx: tx.all("unbound_plans", unknown=clones.UNKNOWN)):
        _find(store, PlanTip(git, plan["name"]), plan, host)


def _find(store: Store, tip: PlanTip, plan: Row, host: str) -> None:
    accepted = store.read(lambda tx: clones.accepted(tx, plan))
    has_begun = accepted or tip.read() is not None or plan["began_clone"] is not None
    if has_begun:
        is_here = has_work(tip, plan, accepted)
        store.write(lambda tx: settle(tx, plan, host, is_here=is_here))


def settle(tx: Transaction, plan: Row, host: str, *, is_here: bool) -> None:
    """A plan of no known clone (its row) is this one's if its work ``is_here``, else another's."""
    if is_here:
        clones.bind(tx, plan, host)
    else:
        clones.leave(tx, plan)
