"""The work of a run comes into the user's repository: as refs of ours, and as a branch for people.

``refs/orchestrion/runs/R31`` is the truth; the branch ``orchestrion/run/R31`` follows as far as
it can (it stays while somebody has it checked out or made it themselves, and a branch called
``orchestrion`` is in the way of it). Every object is checked before it comes in, all or none of them do, and
only where there is room for them. Large files come first.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

from orchestrion.core.errors import EnvironmentProblem, GitProblem
from orchestrion.runs import quarantine
from orchestrion.runs.git import Git, refusal
from orchestrion.runs.workspace import lfs, trusted
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.remarks import Remark
from orchestrion.runs.workspace.trusted import TrustedRepository
from orchestrion.runs.workspace.work import Work, repository_of

RUN_REF = "refs/orchestrion/runs/{run}"
RUN_BRANCH = "refs/heads/orchestrion/run/{run}"
KEPT_PREFIX = f"{trusted.KEPT_REFS}/{{run}}/"


def publish(project: ProjectRepository, workspace: Workspace, work: Work) -> Work:
    """Brings the work of a run into the project; nothing else there changes. The work, with what was found on the way.

    Refs of this run's name that we did not put there (of a store that was lost, or the user's own) are not
    overwritten: what the ref of ours had is kept beside it, a branch stays where it is.
    Raises GitProblem (``objects_refused``: what the agent's commits are made of is not sound), EnvironmentProblem.
    """
    ours = repository_of(project, workspace)
    run = workspace.run
    ours.git.run("update-ref", trusted.HANDOVER_REF, work.head)
    missing = _hand_over_large_files(project, ours, work)
    truth, branch = RUN_REF.format(run=run), RUN_BRANCH.format(run=run)
    before = project.git.tip(truth)
    # Written down first: whoever is killed half-way is known again by what they had begun.
    ours.remember(published=[*(one for one in ours.note.published if one != work.head), work.head])
    if before and before not in ours.note.published:
        project.git.swap_ref(f"{KEPT_PREFIX.format(run=run)}earlier/{before[:12]}", before, None)
    kept = [f"+{ref}:{KEPT_PREFIX.format(run=run)}{ref.removeprefix(f'{trusted.KEPT_REFS}/')}" for ref in work.kept]
    _complete(project, ours, work)
    known = [ours.note.base, *([before] if before in ours.note.published and before != work.head else [])]
    quarantine.refuse_too_large(project.git, ours.git, [work.head, *work.kept.values()], known)
    handed_over = (f"+{trusted.HANDOVER_REF}:{truth}", *kept)
    answer = quarantine.fetch(project.git, ours.path, *handed_over, checked=True, check=False)
    if answer.returncode != 0:
        raise _unsound(ours, work, answer)
    shown = project.git.tip(branch)
    if shown is None or shown in (*ours.note.published, before) or workspace.isolation == "worktree":
        follow(project.git, branch, work.head)
    return replace(work, remarks=(*work.remarks, _told_missing(missing))) if missing else work


def _complete(project: ProjectRepository, ours: TrustedRepository, work: Work) -> None:
    """Has the user's partial clone get what the new folders name and it was promised: git looks for it all at once,
    and then asks nobody. What its refs reach is not handed over, whether it is there or promised. Raises GitProblem.
    """
    effective = project.handed_on.effective
    if not any(re.fullmatch(r"remote\..*\.promisor", key) and value == "true" for key, value in effective.items()):
        return
    tips = project.git.run("for-each-ref", "--format=^%(objectname)").stdout.splitlines()
    commits = [work.head, *work.kept.values(), f"^{ours.note.base}", *dict.fromkeys(tips)]
    before: list[str] = []
    while (missing := _missing(ours, commits)) and missing != before:
        before = missing  # a folder that came may name others that did not
        _ask_for(project, missing)
    listed = _objects(ours, commits, "allow-any")
    kinds = ours.git.run("cat-file", "--batch-check=%(objectname) %(objecttype)", input=f"{listed}\n").stdout
    trees = [line.removesuffix(" tree") for line in kinds.splitlines() if line.endswith(" tree")]
    entries = (entry.split() for tree in trees for entry in ours.git.lines("ls-tree", "-z", tree))
    # Asking for one has it fetched; what is new is not there yet.
    wanted = {oid for _, kind, oid, *_ in entries if kind != "commit"} - set(listed.split())
    _ask_for(project, sorted(wanted))


def _missing(ours: TrustedRepository, commits: list[str]) -> list[str]:
    """Objects of some commits that are promised, and here in no repository."""
    listed = _objects(ours, commits, "print")
    return sorted(line.removeprefix("?") for line in listed.splitlines() if line.startswith("?"))


def _objects(ours: TrustedRepository, commits: list[str], missing: str) -> str:
    options = ("--objects", "--no-object-names", "--ignore-missing", f"--missing={missing}", "--stdin")
    return ours.git.run("rev-list", *options, input="".join(f"{one}\n" for one in commits)).stdout


def _ask_for(project: ProjectRepository, oids: list[str]) -> None:
    asked = "".join(f"{oid}\n" for oid in oids)
    with quarantine.arriving(project.git) as arrival:
        project.git.run("cat-file", "--batch-check", input=asked, env=arrival.environment)
        arrival.accept()


def _told_missing(oids: list[str]) -> Remark:
    said = f"pointers to {len(oids)} large files (git-lfs) whose content is not here: {', '.join(oids[:3])}"
    return Remark("large_file_missing", said, asks=True)


def _unsound(ours: TrustedRepository, work: Work, answer: subprocess.CompletedProcess[str]) -> GitProblem:
    """What is wrong with the objects, and with which file, if git says so."""
    problem = refusal(answer)
    found = re.search(r"^error: object ([0-9a-f]{40,64}): (.*)$", answer.stderr, re.MULTILINE)
    if problem.code != "objects_refused" or found is None:
        return problem
    files = ours.git.run("ls-tree", "-r", "--full-tree", work.head, check=False).stdout.splitlines()
    where = next((f" ({line.partition(chr(9))[2]})" for line in files if found[1] in line), "")
    return GitProblem(
        f"git refuses what the agent made: {found[2]}{where}",
        hint=f"nothing of it came into the project; all is in {ours.tree}, which is kept",
        code="objects_refused",
    )


def follow(git: Git, branch: str, commit: str) -> bool:
    """Lets a branch for people be at ``commit`` unless somebody has it checked out; whether it is there now."""
    before = git.tip(branch)
    if before == commit:
        return True
    if before and branch in git.checked_out_branches():
        return False
    answer = git.run("update-ref", "--no-deref", branch, commit, before or "0" * len(commit), check=False)
    return answer.returncode == 0


def run_tip(git: Git, run: str) -> str | None:
    """The commit with the work of a run: of its branch, if a person went on with it there, else as handed over."""
    truth, shown = git.tip(RUN_REF.format(run=run)), git.tip(RUN_BRANCH.format(run=run))
    return shown if shown and (truth is None or git.is_ancestor(truth, shown)) else truth


def _hand_over_large_files(project: ProjectRepository, ours: TrustedRepository, work: Work) -> list[str]:
    """Puts LFS objects into the project's store; those that are pointed to and nowhere to be found."""
    if "lfs" not in project.handed_on.filters and not (project.common_dir / "lfs").is_dir():
        return []
    agent = trusted.agent_repository(ours)
    # What the user's partial clone was promised, and never got, no agent made.
    new = (work.head, *work.kept.values(), "--not", ours.note.base)
    listed = ours.git.run("rev-list", "--objects", "--missing=allow-any", *new).stdout
    blobs = [line.split(" ", 1)[0] for line in listed.splitlines() if " " in line]
    found = [*lfs.objects_in(ours.path / "lfs" / "objects"), *agent.lfs_objects()]
    store = lfs.store_of(project.common_dir, project.handed_on.effective.get("lfs.storage"))
    try:
        missing = lfs.hand_over(ours.git, blobs, found, store)
    except OSError as problem:
        raise EnvironmentProblem(
            f"the large files of {ours.tree.name} cannot be put into the project: {problem.strerror or problem}",
            hint="free some space, or see who may write to the project's LFS folder",
            code="workspace_disk",
        ) from problem
    return missing if "lfs" in project.handed_on.filters else []
