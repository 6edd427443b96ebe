"""What goes from the user's repository to a remote, because they asked for it: plainly, never by force.

A push of the user's is theirs in every way: their hooks look at it, their settings say where it
goes. What a remote says when it refuses is told, for nobody else knows why.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import Conflict, EnvironmentProblem
from orchestrion.runs import quarantine
from orchestrion.runs.git import Git, refusal
from orchestrion.runs.workspace.submodules import git_dir_at, submodules_of

#: So many lines of what a remote said are told.
_LINES = 4


@dataclass(frozen=True)
class Remote:
    """Where a branch is on another machine."""

    name: str
    #: The short name that the branch has there.
    branch: str
    #: Whether it is fetched from and nothing is pushed there: a remote may have two addresses.
    is_fetched: bool = False

    @property
    def place(self) -> str:
        """Both, as people write them."""
        return f"{self.name}/{self.branch}"


class Remotes:
    """The remotes of one repository, as its settings have them."""

    def __init__(self, git: Git) -> None:
        self.git = git

    def pushed_to(self, branch: str) -> Remote:
        """Where git would push a branch to; one that follows none goes to its own name.

        Raises EnvironmentProblem (``no_remote``, ``several_remotes``, ``push_unclear`` where git would refuse, or send
        it to no branch).
        """
        name, upstream = self.push_remote(branch), self._upstream(branch)
        if self._is_set(f"remote.{name}.mirror"):
            raise _unclear(branch, f"{name} is a mirror, which gets everything or nothing")
        if self._setting(f"remote.{name}.push"):
            return self._ruled(branch, name)
        follows_there = upstream is not None and self._setting(f"branch.{branch}.remote") == name
        match self._setting("push.default") or "simple":
            case "upstream" | "tracking" if upstream and follows_there:
                return Remote(name, upstream)
            case "simple" if not follows_there or upstream == branch:
                return Remote(name, branch)
            case "current":
                return Remote(name, branch)
            case "matching" if self.commit_at(Remote(name, branch)):
                return Remote(name, branch)
            case "simple":
                raise _unclear(branch, f"it follows {name}/{upstream}, which has another name")
            case other:
                raise _unclear(branch, f"push.default is {other}")

    def _ruled(self, branch: str, name: str) -> Remote:
        """As the remote's own rules say; those that name HEAD, or no branch, are not followed."""
        place = self.git.run("for-each-ref", "--format=%(push:remoteref)", f"refs/heads/{branch}").stdout
        if not place.startswith("refs/heads/"):
            raise _unclear(branch, f"remote.{name}.push says {self._setting(f'remote.{name}.push')}")
        return Remote(name, place.removeprefix("refs/heads/"))

    def push_remote(self, branch: str) -> str:
        """The remote that a branch is pushed to.

        Raises EnvironmentProblem (``no_remote``, ``several_remotes``, ``push_unclear`` for what is none of them).
        """
        known = [one for one in self.git.run("remote").stdout.split("\n") if one]
        if not known:
            raise EnvironmentProblem(
                "this repository has no remote to push to; nothing has moved",
                hint="git remote add origin URL; or land without --push and --pr",
                code="no_remote",
            )
        for setting in (f"branch.{branch}.pushRemote", "remote.pushDefault", f"branch.{branch}.remote"):
            if name := self._setting(setting):
                if name not in known:
                    raise _unclear(branch, f"{setting} is {_without_password(name)}, which is none of your remotes")
                return name
        if "origin" not in known and len(known) > 1:
            raise EnvironmentProblem(
                f"there are {len(known)} remotes ({', '.join(known)}), and nothing says which one {branch} goes to",
                hint=f"git config remote.pushDefault {known[0]}   # or another of them",
                code="several_remotes",
                remotes=known,
            )
        return "origin" if "origin" in known else known[0]

    def comes_from(self, branch: str) -> Remote:
        """The remote's branch that this one follows; where it follows none, that of its name where it is pushed to.

        Raises EnvironmentProblem as ``push_remote`` does.
        """
        name = self._setting(f"branch.{branch}.remote")
        known = self.git.run("remote").stdout.split("\n")
        place = name if name in known else self.push_remote(branch)
        return Remote(place, self._upstream(branch) or branch, is_fetched=True)

    def commit_at(self, remote: Remote) -> str | None:
        """The commit that the branch is at there, now; None: there is no such branch.

        Raises EnvironmentProblem (``remote_unreachable``).
        """
        place = f"refs/heads/{remote.branch}"
        answer = self.git.run("ls-remote", "--refs", self._address(remote), place, check=False)
        if answer.returncode != 0:
            raise EnvironmentProblem(
                f"the remote {remote.name} does not answer: {refusal(answer).message}",
                hint=f"nothing has moved; `{self.git.typed('fetch', remote.name)}` says more",
                code="remote_unreachable",
            )
        return answer.stdout.partition("\t")[0] or None

    def refuse_without(self, base: Remote) -> str:
        """The commit of a branch that a pull request is to go to. Raises EnvironmentProblem (``no_remote_branch``)."""
        commit = self.commit_at(base)
        if commit is None:
            raise EnvironmentProblem(
                f"{base.name} has no branch {base.branch} that a pull request could go to; nothing has moved",
                hint=f"`{self.git.typed('push', base.name, base.branch)}` first, or name another with --onto BRANCH",
                code="no_remote_branch",
            )
        return commit

    def refuse_ahead(self, remote: Remote, *mine: str) -> None:
        """Raises Conflict (``remote_moved``) when the remote's branch has what none of ``mine`` has."""
        there = self.commit_at(remote)
        if there is None:
            return
        if self.git.tip(there) is None or not any(self.git.is_ancestor(there, one) for one in mine):
            raise Conflict(
                f"{remote.place} has commits that your branch lacks; nothing has moved",
                hint=f"`{self.pull(remote)}` first, then land again",
                code="remote_moved",
            )

    def others_work(self, remote: Remote, there: str, mine: str, pushed: str) -> str | None:
        """The commit of a branch of ours there if it has what ``mine`` lacks, fetched; None: it has nothing new.

        ``pushed`` is what went there from here. Raises Conflict (``remote_moved``) when somebody took that away.
        """
        self.fetch(remote, there)
        if not self.git.is_ancestor(pushed, there):
            raise Conflict(
                f"somebody rewrote {remote.place}: what was pushed there is not in it any more; nothing has moved",
                hint=f"`{self.git.typed('log', f'{pushed[:12]}...{there[:12]}')}` shows both; to push the plan all the "
                f"same: `{self.git.typed('push', remote.name, '--delete', remote.branch)}`, then land again",
                code="remote_moved",
            )
        return None if self.git.is_ancestor(there, mine) else there

    def has(self, remote: Remote, there: str, commit: str) -> bool:
        """Whether a branch there, which is at ``there``, contains a commit."""
        self.fetch(remote, there)
        return self.git.is_ancestor(commit, there)

    def pull(self, remote: Remote) -> str:
        """The command that brings what a branch there has into the branch that is checked out."""
        return self.git.typed("pull", "--no-rebase", remote.name, remote.branch)

    def fetch(self, remote: Remote, commit: str) -> None:
        """Brings the commit of a branch there into the project, and moves no ref."""
        if self.git.tip(commit) is None:
            place = f"refs/heads/{remote.branch}"
            command = (
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-write-fetch-head",
                "--refmap=",
                self._address(remote),
                place,
            )
            with quarantine.arriving(self.git) as arrival:
                self.git.run(*command, env=arrival.environment)
                arrival.accept()

    def push(self, remote: Remote, commit: str, done: str, hint: str = "") -> None:
        """Pushes a commit to a branch of the remote. ``done`` says in an error what is done already.

        Raises EnvironmentProblem (``push_refused``).
        """
        place = f"{commit}:refs/heads/{remote.branch}"
        command = ("push", "--quiet", "--recurse-submodules=no", remote.name, place)
        answer = self.git.run(*command, check=False, hooks=True)
        if answer.returncode != 0:
            raise EnvironmentProblem(
                f"{done}: {remote.name} did not take {remote.branch}: {what_was_said(answer.stderr)}",
                hint=hint or f"`{self.git.typed('push', remote.name, place)}` is the same by hand",
                code="push_refused",
            )

    def refuse_unpushed_submodules(self, remote: Remote, commit: str, known: str | None, done: str) -> None:
        """Raises EnvironmentProblem (``submodule_not_pushed``) when ``commit`` needs what no remote of a submodule has.

        A submodule that is where ``known``, a commit of the remote, has it is not looked at.
        """
        found = list(_unpushed(self.git, commit, known, self.git.folder))
        if found:
            branch = f"refs/heads/{remote.branch}"
            commands = " && ".join(
                f"git -C {shlex.quote(str(folder))} push origin {inner}:{branch}" for folder, inner in found
            )
            raise EnvironmentProblem(
                f"{done}: commits of {', '.join(os.path.relpath(folder, self.git.folder) for folder, _ in found)} "
                "are not at the remotes of these submodules yet",
                hint=f"push them there first: `{commands}`",
                code="submodule_not_pushed",
            )

    def push_large_files(self, remote: Remote, ref: str, done: str) -> None:
        """Sends the LFS objects of a ref, which git's own push would leave to a hook. Raises EnvironmentProblem."""
        answer = self.git.run("lfs", "push", remote.name, ref, check=False)
        if answer.returncode != 0:
            raise EnvironmentProblem(
                f"{done}: large files could not be pushed: {what_was_said(answer.stderr or answer.stdout)}",
                hint=f"`{self.git.typed('lfs', 'push', remote.name, ref)}` says more",
                code="push_refused",
            )

    def take_back(self, remote: Remote, pushed: str) -> None:
        """Takes a branch of ours away from the remote again, if it is as we pushed it and the remote lets us."""
        place = f"refs/heads/{remote.branch}"
        self.git.run("push", "--quiet", f"--force-with-lease={place}:{pushed}", remote.name, f":{place}", check=False)

    def owner(self, remote: Remote) -> str:
        """Whose the remote is at its forge, as its address says; empty: it does not say."""
        url = self.git.run("remote", "get-url", "--push", remote.name, check=False).stdout
        found = re.search(r"[:/]([^/:]+)/[^/]+?(?:\.git)?/?$", url)
        return found[1] if found and found[1].strip(".") else ""

    def _address(self, remote: Remote) -> str:
        """What git is asked by: the remote's name, or its address where pushes go if that is another one."""
        asked = ("remote", "get-url")
        pushes = self.git.run(*asked, "--push", remote.name).stdout.split("\n")[0]
        return remote.name if remote.is_fetched or pushes == self.git.run(*asked, remote.name).stdout else pushes

    def _upstream(self, branch: str) -> str | None:
        """The branch at the remote that this one follows; None: it follows none. Raises EnvironmentProblem."""
        found = self.git.run("config", "--get-all", f"branch.{branch}.merge", check=False).stdout.split()
        if not found:
            return None
        if len(found) > 1 or not found[0].startswith("refs/heads/"):
            raise _unclear(branch, f"branch.{branch}.merge is {' and '.join(found)}")
        return found[0].removeprefix("refs/heads/")

    def _setting(self, name: str) -> str:
        return self.git.run("config", name, check=False).stdout

    def _is_set(self, name: str) -> bool:
        return self.git.run("config", "--type=bool", name, check=False).stdout == "true"


def _unclear(branch: str, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"it is not clear where {branch} is pushed to: {why}; nothing has moved",
        hint="land without --push and --pr, and push as you are used to; or let settings say it: "
        f"branch.{branch}.pushRemote, push.default",
        code="push_unclear",
    )


def _without_password(address: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://", address)


def _unpushed(git: Git, commit: str, known: str | None, folder: Path) -> Iterator[tuple[Path, str]]:
    """Folder and commit of each submodule, nested ones first, whose commit is at no remote of it."""
    before = {one.path: one.commit for one in submodules_of(git, known)} if known else {}
    for one in submodules_of(git, commit):
        source = git_dir_at(folder / one.path)
        if one.commit == before.get(one.path) or source is None:
            continue
        inner = Git(folder / one.path, git_dir=source)
        if inner.tip(one.commit) is None:
            continue
        yield from _unpushed(inner, one.commit, None, folder / one.path)
        if inner.run("rev-list", "--max-count=1", one.commit, "--not", "--remotes", "--tags").stdout:
            yield folder / one.path, one.commit


def what_was_said(text: str) -> str:
    """Why a push was refused, of all that git, the remote and its hooks said; without passwords in addresses."""
    lines = [_without_password(line.strip()) for line in text.splitlines() if line.strip()]
    kinds: tuple[Callable[[str], bool], ...] = (
        lambda line: line.startswith("remote:") and len(line) > len("remote:"),
        lambda line: line.startswith("!"),
        lambda line: line.startswith(("fatal:", "error:")) and "failed to push some refs" not in line,
    )
    told = [line.removeprefix("remote:").strip() for kind in kinds for line in lines if kind(line)]
    # A hook of the user's says it in its own words.
    other = [line for line in lines if not line.startswith(("To ", "hint:", "error: failed to push", "remote:"))]
    return "; ".join((told or other or lines)[:_LINES])[:500] or "it said nothing"
