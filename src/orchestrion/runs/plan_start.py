"""Where the runs of a plan start from: where it began, until it has work of its own.

A plan begins at the branch on which its first task was given. Its first run starts from where
that branch is then; later ones from the plan's tip. A plan of which everything was landed
begins anew with its next task: from where its branch is then, since what the user did
meanwhile belongs to what agents build on. A plan whose ref somebody deleted or moved back is put
back to where the store knows it: accepted work is never begun anew, and never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from orchestrion.core.errors import Conflict, NotFound
from orchestrion.runs.git import Git
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace import publish
from orchestrion.store import Transaction

_ASIDES = "refs/orchestrion/kept/plans"
_ASIDE = f"{_ASIDES}/{{plan}}"

#: Reads a plan's row anew.
Again = Callable[[], Mapping[str, Any]]


class Start(NamedTuple):
    """A commit from which a run starts."""

    commit: str
    #: Whether the plan began with it just now.
    is_new: bool
    #: The commit up to which the plan was found to be on its branch; None: it is not, or that was known.
    landed: str | None = None
    #: The ref that keeps what a plan of its name had, which is not this plan's; None: there was nothing.
    aside: str | None = None


def start_of(tip: PlanTip, plan: Mapping[str, Any], again: Again, has_begun: Callable[[], bool]) -> Start:
    """The commit from which a run of ``plan`` (its row) starts; ``has_begun`` looks whether any run of it had one
    in this store. Raises NotFound (``no_commit``, ``plan_lost``), Conflict (``plan_diverged``).
    """
    found, begins = restored(tip, plan, again), begins_at(tip.git, plan)
    if found is None:
        return Start(tip.create(begins or _refuse_nothing(plan)), is_new=True)
    if begins is None or begins == found:
        return Start(found, is_new=False)
    # Landed by hand, or by a pull request: whoever builds on it builds on what the user did meanwhile.
    is_contained = tip.git.is_ancestor(found, begins)
    is_landed = plan["landed_commit"] == found
    # The row may be older than the ref. Who asks after having read the ref knows that no run has moved it there.
    if not (is_contained or is_landed) and never_began(plan, has_begun):
        # Of a store that was lost: this plan has no work yet, whatever one of its name had.
        aside = _keep_aside(tip, found, begins)
        return Start(begins if aside else tip.get(), is_new=aside is not None, aside=aside)
    if not (is_contained or is_landed) or not tip.move(begins, found):
        return Start(tip.get(), is_new=False)
    tip.follow()
    is_news = is_contained and not is_landed and found != plan["began_commit"]
    return Start(begins, is_new=True, landed=found if is_news else None)


def record(tx: Transaction, plan: Mapping[str, Any], start: Start) -> None:
    """Writes down that a plan (its row) began anew, and what was found on the way."""
    if start.landed:
        tx.run("plan_is_landed", plan=plan["id"], branch=plan["began_branch"], commit=start.landed)
        tx.event("plan.landed", data={"plan": plan["name"], "branch": plan["began_branch"], "commit": start.landed})
    if start.aside:
        tx.event("plan.set_aside", data={"plan": plan["name"], "ref": start.aside})
    tx.run("plan_starts", plan=plan["id"], tip=start.commit, before=plan["tip"])


def set_aside(tip: PlanTip, plan: Mapping[str, Any], has_begun: Callable[[], bool]) -> bool:
    """Whether no run of a plan (its row) began in this store. What a ref of its name has that is not on the plan's
    branch is kept aside then, as at the plan's start: it is of a lost store, or of the project that this repository
    was copied from.
    """
    found, begins = tip.read(), begins_at(tip.git, plan)
    if not never_began(plan, has_begun):
        return False
    if found is not None and begins is not None and not tip.git.is_ancestor(found, begins):
        _keep_aside(tip, found, begins)
    return True


def never_began(plan: Mapping[str, Any], has_begun: Callable[[], bool]) -> bool:
    """Whether no run of a plan (its row) began in this store, so that its ref is not its own.

    Version 0.1.0 wrote down neither where a plan began nor where it is.
    """
    return plan["tip"] is None and plan["began_commit"] is not None and not has_begun()


def start_elsewhere(git: Git, plan: Mapping[str, Any]) -> Start:
    """The commit from which a run starts whose work goes into no plan, where another clone has the plan: its tip if
    that was fetched, else where its branch is here. Raises NotFound (``no_commit``).
    """
    known = git.tip(plan["tip"]) if plan["tip"] else None
    return Start(known or begins_at(git, plan) or _refuse_nothing(plan), is_new=False)


def restored(tip: PlanTip, plan: Mapping[str, Any], again: Again) -> str | None:
    """Where a plan is, its ref put back if somebody deleted it or moved it back; None: it has no work yet.

    Raises NotFound (``plan_lost``), Conflict (``plan_diverged``).
    """
    found, place = _places(tip, plan, again)
    if place is None or place == found:
        return place
    if found is None:
        return tip.create(place)
    if tip.move(place, found):
        tip.follow()
    return tip.get()


def regained(tip: PlanTip, plan: Mapping[str, Any], accepted: Sequence[str]) -> str | None:
    """Where a plan is that this repository takes over from another, and its ref here from now on; None: it has no
    work yet. ``accepted`` are the commits of its completed tasks. Raises NotFound (``plan_lost``), Conflict
    (``plan_diverged``).
    """
    if plan["tip"] is None:
        return _gathered(tip, plan, accepted)
    found, known = tip.read(), _known(tip, plan)
    if found is None:
        return tip.create(known)
    if tip.git.is_ancestor(known, found):
        return found
    if tip.git.is_ancestor(found, known) and tip.move(known, found):
        tip.follow()
        return known
    raise _diverged(tip, known, found)


def _gathered(tip: PlanTip, plan: Mapping[str, Any], accepted: Sequence[str]) -> str | None:
    """The same for a plan of version 0.1.0, of which only the commits of its tasks are known: all must be in one."""
    found = tip.read()
    if has_work(tip, plan, accepted):
        return found
    if absent := sorted(tip.git.missing(accepted)):
        _refuse_missing(tip, f"plan {plan['name']} has accepted work ({absent[0][:12]})", is_all=False)
    heads = _heads(tip.git, [*([found] if found else []), *accepted])
    if len(heads) > 1:
        raise _split(tip, heads)
    if found is None:
        return tip.create(heads[0])
    if tip.move(heads[0], found):
        tip.follow()
    return tip.get()


def is_split(tip: PlanTip, plan: Mapping[str, Any], accepted: Sequence[str]) -> bool:
    """Whether all that was accepted of a plan of no known clone (its row) is here, and not in one place."""
    return not tip.git.missing(accepted) and not has_work(tip, plan, accepted)


def lacks(git: Git, found: Iterable[str], accepted: Iterable[str]) -> bool:
    """Whether some of the accepted commits that are here are in none of those that were ``found``."""
    wanted = set(accepted)
    wanted -= git.missing(wanted)
    if not wanted:
        return False
    asked = "".join(f"{commit}\n" for commit in (*wanted, *(f"^{tip}" for tip in found)))
    return bool(git.run("rev-list", "--max-count=1", "--stdin", input=asked).stdout)


def refuse_lacking(tip: PlanTip, found: str, accepted: Sequence[str]) -> None:
    """Raises Conflict (``plan_diverged``) where a plan's ref, which is at ``found``, lacks accepted work that is here.

    Somebody moved it back, and what the store knew of it, too.
    """
    if not lacks(tip.git, [found], accepted):
        return
    absent = tip.git.missing(accepted)
    heads = _heads(tip.git, [found, *(commit for commit in accepted if commit not in absent)])
    if len(heads) > 1:
        raise _split(tip, heads)
    raise Conflict(
        f"plan {tip.plan} has accepted work up to {heads[0][:12]}, and {tip.ref} is at {found[:12]}, before it",
        hint=f"put it back: `git update-ref {tip.ref} {heads[0][:12]}`, and call this again",
        code="plan_diverged",
        plan=tip.plan,
    )


def _heads(git: Git, commits: Sequence[str]) -> list[str]:
    """Those of some commits that no other of them has, in the order they are given."""
    known = list(dict.fromkeys(commits))
    alone = set(git.run("merge-base", "--independent", *known).stdout.split())
    return [one for one in known if one in alone]


def place_of(tip: PlanTip, plan: Mapping[str, Any], again: Again) -> str | None:
    """Where a plan is: by its ref, unless its row knows of more; None: it has no work yet.

    Raises NotFound (``plan_lost``) when this repository has not got that commit, Conflict (``plan_diverged``) when
    neither has the other.
    """
    return _places(tip, plan, again)[1]


def _places(tip: PlanTip, plan: Mapping[str, Any], again: Again) -> tuple[str | None, str | None]:
    """Where a plan's ref is, and where the plan is."""
    found = tip.read()
    while not _has_all(tip.git, found, plan):
        # The row may be older than the ref, or the ref than the row: what is asked is the row while the ref stood.
        plan, stood = again(), found
        found = tip.read()
        if found == stood and not _has_all(tip.git, found, plan):
            known = _known(tip, plan)
            if found is not None and not tip.git.is_ancestor(found, known):
                raise _diverged(tip, known, found)
            return found, known
    return found, found


def _has_all(git: Git, found: str | None, plan: Mapping[str, Any]) -> bool:
    """Whether a plan's ref has what the row knows of. A plan that was landed whole may have begun anew."""
    known = plan["tip"]
    if known is None or found == known or (found is not None and known == plan["landed_commit"]):
        return True
    return found is not None and git.tip(known) is not None and git.is_ancestor(known, found)


def has_work(tip: PlanTip, plan: Mapping[str, Any], accepted: Sequence[str]) -> bool:
    """Whether a run here would start with all that was ``accepted`` of a plan (commits)."""
    wanted = {*accepted, *([plan["tip"]] if plan["tip"] is not None else [])}
    if not wanted or tip.git.missing(wanted):
        return not wanted
    start = tip.read() or plan["tip"] or begins_at(tip.git, plan)
    return start is not None and all(tip.git.is_ancestor(commit, start) for commit in wanted)


def _known(tip: PlanTip, plan: Mapping[str, Any]) -> str:
    known = str(plan["tip"])
    if tip.git.tip(known) is None:
        _refuse_missing(tip, f"plan {plan['name']} is at {known[:12]}", is_all=True)
    return known


def _refuse_missing(tip: PlanTip, said: str, *, is_all: bool) -> NoReturn:
    """A plan of which something is ``said`` that is not here: all that was accepted of it, or a part of that."""
    found = tip.read()
    if found is None:
        raise NotFound(
            f"{said}, which is not in what is here: there is no {tip.ref}",
            hint=f"fetch it from where it is (another clone, a backup): `git fetch PLACE {tip.ref}:{tip.ref}`",
            code="plan_lost",
            plan=tip.plan,
        )
    over = (
        f"keep what is here as a branch, `git branch NAME {found[:12]}`; then fetch it from where it is "
        f"(another clone, a backup), `git fetch PLACE +{tip.ref}:{tip.ref}`, and call this again"
    )
    beside = (
        "fetch it beside what is here from where it is (another clone, a backup), "
        f"`git fetch PLACE +{tip.ref}:refs/orchestrion/fetched/plans/{tip.plan}`, and call this again"
    )
    raise Conflict(
        f"{said}, which is not in what is here: {tip.ref} is at {found[:12]}",
        hint=over if is_all else beside,
        code="plan_diverged",
        plan=tip.plan,
    )


def _split(tip: PlanTip, heads: Sequence[str]) -> Conflict:
    first, *others = (head[:12] for head in heads)
    merges = "".join(f"`git -C DIR merge --no-edit {head}`, " for head in others)
    return Conflict(
        f"the accepted work of plan {tip.plan} is here in {len(heads)} parts, none of which has another: "
        f"{', '.join((first, *others))}",
        hint=f"merge them in a folder DIR that is not there yet: `git worktree add --detach DIR {first}`, {merges}"
        f"`git update-ref {tip.ref} $(git -C DIR rev-parse HEAD)`, `git worktree remove DIR`; then call this again",
        code="plan_diverged",
        plan=tip.plan,
    )


def _diverged(tip: PlanTip, known: str, found: str) -> Conflict:
    return Conflict(
        f"plan {tip.plan} is at {known[:12]}, and {tip.ref} is at {found[:12]} here: neither has the other",
        hint=f"keep what is here as a branch, `git branch NAME {found[:12]}`, then `git update-ref -d {tip.ref}`, "
        "and call this again",
        code="plan_diverged",
        plan=tip.plan,
    )


def kept_aside(git: Git, plan: str | None = None) -> list[str]:
    """Refs that keep what plans had in stores that are gone: of one plan, or of all. Raises GitProblem."""
    return git.run("for-each-ref", "--format=%(refname)", _ASIDE.format(plan=plan) if plan else _ASIDES).stdout.split()


def _keep_aside(tip: PlanTip, found: str, begins: str) -> str | None:
    """Lets a plan begin anew, what its ref has kept under another name, which is returned; None: others were first."""
    aside = f"{_ASIDE.format(plan=tip.plan)}/{found[:12]}"
    tip.git.swap_ref(aside, found, None)
    if not tip.move(begins, found):
        return None
    if tip.git.tip(tip.branch) == found:
        publish.follow(tip.git, tip.branch, begins)
    tip.follow()
    return aside


def begins_at(git: Git, plan: Mapping[str, Any]) -> str | None:
    """Where the plan's branch is now, or as near to it as can be told; None: there is no commit at all."""
    branch, commit, checkout = plan["began_branch"], plan["began_commit"], plan["began_checkout"]
    found = git.tip(f"refs/heads/{branch}") if branch else None
    found = found or (git.tip(commit) if commit else None)
    if found is None and checkout and Path(checkout).is_dir():
        found = Git(Path(checkout)).tip("HEAD")
    return found or git.tip("HEAD")


def _refuse_nothing(plan: Mapping[str, Any]) -> NoReturn:
    raise NotFound(
        f"there is no commit for plan {plan['name']} to begin at",
        hint="a repository needs a first commit before agents can work on it",
        code="no_commit",
    )
