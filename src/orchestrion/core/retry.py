"""Every way a run can end badly, and whether trying again by itself makes sense.

One table is the failure taxonomy: a stable code, whether it is transient, what it means
and what a person can do. *Transient* means that the cause lies outside the task (the
machine, the network, a service, a process that vanished) and may be gone later: only
such a failure is retried, after a delay that doubles each time. Everything else, the
agent's own verdict and every limit that somebody set included, would most likely end
the same way again and waits for a decision.

A code that is not in the table is refused, from every door alike: a misspelt code that
quietly meant "permanent" would cost a task its retries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from orchestrion.core.errors import InvalidInput

#: So often a task waits for a service at no cost; then it costs retries like any other failure.
MOST_DELAYS = 50
#: Beyond this many doublings every delay is over any cap; a float still holds the number.
_MOST_DOUBLINGS = 900


class Failure(NamedTuple):
    """One way a run can end, as the taxonomy knows it."""

    #: Stable name; programs may rely on it.
    code: str
    #: Whether the task is tried again by itself while it has retries left.
    transient: bool
    #: What happened, in one sentence.
    meaning: str
    #: What a person can do about it, in words.
    remedy: str
    #: Whether it only means "later": the attempt costs no retry, up to ``MOST_DELAYS`` of a task.
    delay: bool = False


_TAXONOMY = (
    # What the agent program did.
    Failure(
        "agent_failed",
        False,
        "the agent ended with an exit code that means failure",
        "read its last words with `orchestrion log RUN`, correct the task, then `orchestrion retry TASK`",
    ),
    Failure(
        "agent_tempfail",
        True,
        "the agent ended with exit code 75: it asks to be tried again later",
        "nothing to do; it is retried by itself while retries are left",
    ),
    Failure(
        "agent_crashed",
        True,
        "the agent was ended by a signal that did not come from us",
        "nothing to do unless it repeats; then look for the signal's cause in `orchestrion log RUN` and the system log",
    ),
    Failure(
        "agent_missing",
        False,
        "the agent's program is not installed or not on PATH",
        "install it or correct the command, then `orchestrion retry TASK`",
    ),
    Failure(
        "agent_not_started",
        False,
        "the agent's program exists but could not be started",
        "check that it is executable and made for this machine, then `orchestrion retry TASK`",
    ),
    Failure(
        "invalid_output",
        False,
        "the agent ended, but what it wrote cannot be read as a result",
        "read `orchestrion log RUN`, and check the version of the agent",
    ),
    Failure(
        "permission_denied",
        False,
        "the agent needed a tool, file or command that it is not allowed to use",
        "widen `allowed_tools` of its role or change the task, then `orchestrion retry TASK`",
    ),
    Failure(
        "session_lost",
        False,
        "the agent does not know the session any more that it was to go on with",
        "start afresh: `orchestrion retry TASK`",
    ),
    # What the service behind the agent said.
    Failure(
        "auth_failed",
        False,
        "the agent is not signed in, or its key was refused",
        "sign in with the agent's own program or set its key, then `orchestrion retry TASK`",
    ),
    Failure(
        "rate_limited",
        True,
        "the service behind the agent asked to slow down",
        "nothing to do: it is tried again when the service allows; `orchestrion slots agent:NAME=N` asks it for less",
        delay=True,
    ),
    Failure(
        "network",
        True,
        "a connection that the agent needed failed",
        "nothing to do unless it repeats; then check the network and any proxy settings",
    ),
    # What became of the work.
    Failure(
        "check_failed",
        False,
        "a check still failed after the agent's further goes",
        "read the evidence with `orchestrion show RUN`, correct the check or the task, then `orchestrion retry TASK`",
    ),
    Failure(
        "merge_conflict",
        False,
        "the work and the plan's branch changed the same lines",
        "resolve it on the run's branch and `orchestrion approve TASK`, or `orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "other_clone",
        False,
        "the plan belongs to another clone of the repository, where its work is; which one may not be known yet",
        "let a worker of that clone do it: `orchestrion why TASK` says where it is; then `orchestrion retry TASK`",
    ),
    Failure(
        "open_merge",
        False,
        "the agent left a merge, a rebase or the like open",
        "`orchestrion show TASK` says how to resolve it; or `orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "conflict_markers",
        False,
        "the work has conflict markers in files that had none",
        "`orchestrion diff RUN` shows them; `orchestrion approve TASK` if they belong there, "
        "else `orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "nested_left_out",
        False,
        "a repository inside the workspace was left out of the work, and has work of its own or is all there is",
        "look into the workspace named by `orchestrion show RUN`; then `orchestrion approve TASK` or "
        "`orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "submodule_changed",
        False,
        "the agent's work in a submodule exists in the workspace alone",
        "push it from the workspace named by `orchestrion show RUN`; then `orchestrion approve TASK` or "
        "`orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "large_file_missing",
        False,
        "the work points to large files (git-lfs) whose content is not here",
        "`orchestrion diff RUN` shows them; then `orchestrion approve TASK` or `orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "filter_unknown",
        False,
        "the agent stored files through a filter that is not set up in your repository",
        "set it up, or not, then `orchestrion approve TASK` or `orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "work_elsewhere",
        False,
        "the run's own branch has nothing new, but the agent left work on another branch, in a stash or a worktree",
        "`orchestrion show RUN` names the refs that keep it; then `orchestrion approve TASK` or "
        "`orchestrion reject TASK --reason TEXT`",
    ),
    Failure(
        "merge_recheck_failed",
        False,
        "the work passed its checks alone, but not merged with the work of others",
        "read the evidence with `orchestrion show RUN`, then `orchestrion retry TASK` to redo it from the new tip",
    ),
    Failure(
        "verification_failed",
        False,
        "files are not as the run said they are",
        "look at the files, then `orchestrion approve TASK` or `orchestrion reject TASK --reason TEXT`",
    ),
    # What its limits said.
    Failure(
        "timed_out",
        False,
        "the run reached its total time limit",
        "raise the limit (`run.timeout_s`, the role's or the task's) or split the task, then `orchestrion retry TASK`",
    ),
    Failure(
        "stalled",
        False,
        "the agent was silent for longer than the stall limit",
        "see in `orchestrion log RUN` what it waited for; raise `run.stall_s` if it works in silence",
    ),
    Failure(
        "max_turns",
        False,
        "the agent used all of its turns",
        "raise `max_turns` of the role or split the task, then `orchestrion retry TASK`",
    ),
    Failure(
        "budget_exhausted",
        False,
        "a budget of the run, the plan or the day is spent",
        "raise the budget or wait for the next day, then `orchestrion retry TASK`",
    ),
    # What the machine did.
    Failure(
        "out_of_memory",
        True,
        "the run was ended because memory ran out",
        "lower `slots.host` or give the machine more memory if it repeats",
    ),
    Failure(
        "disk_full",
        True,
        "the disk has no room left",
        "free some space; it is retried by itself while retries are left, then `orchestrion retry TASK`",
    ),
    Failure(
        "host_exhausted",
        True,
        "the machine had no process, thread or file handle left",
        "lower `slots.host` or raise the system's limits (`ulimit -n`, `ulimit -u`)",
    ),
    Failure(
        "workspace_failed",
        True,
        "the run's workspace could not be made",
        "nothing to do unless it repeats; then look at git's words in `orchestrion log RUN`",
    ),
    Failure(
        "no_commit",
        False,
        "the repository has no commit yet, so there is nothing for an agent to work on",
        "make a first commit, then `orchestrion retry TASK`",
    ),
    Failure(
        "plan_lost",
        False,
        "neither the plan's ref nor the commit that the plan is at is in this repository",
        "fetch it from another clone or a backup (`git fetch PLACE REF:REF`), then `orchestrion retry TASK`",
    ),
    Failure(
        "plan_diverged",
        False,
        "the plan's ref has other work than was accepted: neither has the other",
        "`orchestrion land PLAN` says how to keep both; then `orchestrion retry TASK`",
    ),
    Failure(
        "workspace_broken",
        False,
        "the repository in the workspace is not as it was made, so nothing of it is believed",
        "look into it (`orchestrion show RUN` has its path, and what could be saved), then `orchestrion retry TASK`",
    ),
    Failure(
        "run_folder_bent",
        False,
        "a file or folder of the run's own is a pipe, a link or the like: somebody put it there",
        "look at what its agent did (`orchestrion show RUN`), then `orchestrion retry TASK`",
    ),
    Failure(
        "left_uncommitted",
        False,
        "git could not take every file that the agent made",
        "the others are on the run's branch; look at the files named in the workspace, then `orchestrion retry TASK`",
    ),
    Failure(
        "objects_refused",
        False,
        "what the agent's commits are made of is not sound, so nothing of it came into the project",
        "the workspace is kept: `git fsck` in it says more; then `orchestrion retry TASK`",
    ),
    Failure(
        "not_trusted",
        False,
        "git does not trust the repository, because its folder belongs to another user",
        "`git status` in the project says how to trust it; then `orchestrion retry TASK`",
    ),
    Failure(
        "not_permitted",
        False,
        "the repository or the folder of the workspaces may not be written by this user",
        "correct owner or permissions, then `orchestrion retry TASK`",
    ),
    Failure(
        "not_a_repository",
        False,
        "the project's git directory is gone or broken",
        "`git status` in the project says more; mend it, then `orchestrion retry TASK`",
    ),
    Failure(
        "filter_missing",
        False,
        "files of the repository go through a filter or merge driver whose program is not found here",
        "install the program named, or put it on the PATH of `orchestrion work`, then `orchestrion retry TASK`",
    ),
    Failure(
        "filter_failed",
        False,
        "a filter of the repository failed on one of its files",
        "`git checkout .` in a fresh clone shows it as well; mend the filter, then `orchestrion retry TASK`",
    ),
    Failure(
        "submodule_missing",
        False,
        "a submodule is to be at a commit that your checkout does not have",
        "`git submodule update --init` in your checkout, then `orchestrion retry TASK`",
    ),
    Failure(
        "signing_failed",
        False,
        "a commit could not be signed, though the settings ask for it",
        "`git commit -S --allow-empty -m test` shows why; or set `git.sign: false`; then `orchestrion retry TASK`",
    ),
    Failure(
        "setup_failed",
        False,
        "the set-up command of the workspace failed",
        "correct `workspace.setup` (its output is in `orchestrion log RUN`), then `orchestrion retry TASK`",
    ),
    Failure(
        "lost",
        True,
        "the run's supervisor died or its lease ran out, so nobody knows how the work ended",
        "nothing to do; it is retried by itself, and what was committed is kept on the run's branch",
    ),
    Failure(
        "lost_repeatedly",
        False,
        "the task's runs were lost so often that its retries are used up",
        "find out what ends them (memory, machine, the task itself), then `orchestrion retry TASK`",
    ),
    Failure(
        "interrupted",
        True,
        "the run's supervisor was asked to stop, as when the machine shuts down",
        "nothing to do; it is retried by itself",
    ),
    Failure(
        "internal",
        True,
        "orchestrion itself failed in a way it did not foresee",
        "please report it with the end of `orchestrion log RUN`; the work is kept on the run's branch",
    ),
    # What people and programs decided.
    Failure(
        "killed",
        False,
        "a person or a program ended the run",
        "`orchestrion retry TASK` when it may go on",
    ),
    Failure(
        "cancelled",
        False,
        "the task was cancelled while the run worked on it",
        "nothing to do; make a new task if it is wanted after all",
    ),
    Failure(
        "released",
        True,
        "the run gave its task back unfinished; this costs no retry",
        "nothing to do; the task can be claimed again",
    ),
    Failure(
        "client_failed",
        False,
        "the client that held the task says that it cannot be done",
        "read its error with `orchestrion show TASK`, correct the task, then `orchestrion retry TASK`",
    ),
    Failure(
        "client_tempfail",
        True,
        "the client that held the task says that it may work later",
        "nothing to do; it is retried by itself while retries are left",
    ),
)

#: The failure taxonomy: code -> what it means. The only such table.
FAILURES: dict[str, Failure] = {failure.code: failure for failure in _TAXONOMY}


def failure(code: str) -> Failure:
    """What the taxonomy says about ``code``; refuses a code that it does not know, naming the known ones."""
    if code in FAILURES:
        return FAILURES[code]
    raise InvalidInput(
        f"there is no failure code {code!r}; the known ones are {', '.join(sorted(FAILURES))}",
        hint="use one of the codes named; client_failed gives up, client_tempfail asks for a retry",
        code="unknown_failure_code",
        found=code,
        allowed=sorted(FAILURES),
    )


def remedy(code: str | None, task: str, run: str | None) -> str | None:
    """What a person can do about a failure of ``task`` (T12) in ``run`` (R31); None: the taxonomy has no such code."""
    if code not in FAILURES:
        return None
    ids = {"TASK": task, "RUN": run or "RUN"}
    return re.sub(r"\b(TASK|RUN)\b", lambda word: ids[word[0]], FAILURES[code].remedy)


def is_transient(code: str) -> bool:
    """Whether a run that ended with ``code`` is retried by itself; refuses an unknown code."""
    return failure(code).transient


def is_delay(code: str) -> bool:
    """Whether ``code`` only means that a service wants to be asked later; refuses an unknown code."""
    return failure(code).delay


def delay(
    retries: int,
    base_s: float = 60.0,
    cap_s: float = 3600.0,
    jitter: float = 0.0,
    random: Callable[[], float] | None = None,
) -> float:
    """Seconds to wait before the next attempt, after ``retries`` earlier ones: base, 2 base, 4 base, ... up to the cap.

    ``jitter`` is the largest share (0 to 1) that ``random`` (uniform in [0, 1)) may add on
    top, so that many tasks do not come back in one moment; no attempt comes early.
    """
    if retries < 0 or base_s < 0 or cap_s < 0 or not 0 <= jitter <= 1:
        raise InvalidInput(
            f"no delay follows from retries={retries}, base={base_s} s, cap={cap_s} s, jitter={jitter}",
            hint="none of them may be negative, and jitter is a share from 0 to 1",
        )
    grown = min(cap_s, base_s * 2.0 ** min(retries, _MOST_DOUBLINGS))
    if jitter and random:
        return grown * (1 + jitter * random())
    return grown
