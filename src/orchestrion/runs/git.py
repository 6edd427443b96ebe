"""Asking git, in a way that cannot depend on whom it belongs to.

A call runs without hooks (but for a push that the user asked for), signing, background
maintenance, prompts and editors, and without the ``GIT_*`` variables that point elsewhere; what
the user set for their own work therefore neither breaks ours nor is changed by it. Paths may be
any bytes: they travel as ``surrogateescape`` text.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.digest import sha256
from orchestrion.core.errors import GitProblem
from orchestrion.runs import git_process
from orchestrion.store import disk

OLDEST_GIT = (2, 30)
INSTALL_GIT = "install git 2.30 or newer"

_NO_HOOKS = ("core.hooksPath=/dev/null",)
_SETTINGS = (
    "commit.gpgsign=false",
    "tag.gpgsign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "protocol.file.allow=always",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "rerere.enabled=false",
    "clone.rejectShallow=false",
)
#: What old and careless programs write into commits, and harms nobody, is let in.
_HARMLESS = (
    "badDate", "badDateOverflow", "badEmail", "badName", "badTimezone", "missingEmail", "missingNameBeforeEmail",
    "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "multipleAuthors", "zeroPaddedDate", "zeroPaddedFilemode",
)  # fmt: skip
_CHECKED = (
    "-c", "fetch.fsckObjects=true",
    *(part for kind in _HARMLESS for part in ("-c", f"fetch.fsck.{kind}=ignore")),
)  # fmt: skip
_OURS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_DEFAULT_REF_FORMAT": "files",
    # What is stored is what counts: git's own commands differ in whether they look at replacements.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_EDITOR": "true",
    "GIT_MERGE_AUTOEDIT": "no",
    "LC_ALL": "C",
}
#: Moves and copies are looked for: the same wherever the files of a run are told.
DETECTED = ("-M", "-C")
#: Where nothing is asked of the user's index, it is not read: a damaged one then stops nothing.
WITHOUT_INDEX = {"GIT_INDEX_FILE": "/nonexistent"}
#: In a git directory of ours nothing counts but what we wrote into it.
_OURS_ALONE = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
}
#: The inherited ``GIT_*`` variables that say how to reach others, not which repository is meant.
_KEPT = re.compile(r"GIT_(SSH|ASKPASS|SSL|HTTP|PROXY|EXEC_PATH|LFS_|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_|VALUE_))")

#: What the system says of a full disk; git passes it on now and then, and else says one of the words below.
_NO_SPACE = "No space left on device"
_CANNOT_WRITE = re.compile(
    "Could not reset index file"
    "|(?i:unable to|could(?: not|n't)|cannot|failed to) (write|create|append|close|fsync|lock)"
    "|write (error|failure)|file write error|sha1 file"
)
#: With less room than this, what git could not write did not fit, in bytes.
_LITTLE_ROOM_BYTES = 16 * 1024 * 1024
#: Words in git's own message -> our code and what to do.
_KNOWN = (
    ("not a git repository", "not_a_repository", "run git init there, or name another folder"),
    ("dubious ownership", "not_trusted", "git config --global --add safe.directory '{}' says that you trust it"),
    ("smudge filter lfs", "git", ""),
    ("smudge filter", "filter_failed", "git checkout of the same file by hand says more"),
    ("clean filter", "filter_failed", "git add of the same file by hand says more"),
    ("fsck error", "objects_refused", "git fsck in the workspace names them; nothing of them came into the project"),
    ("unable to read tree", "not_a_repository", "git fsck says what is missing"),
    (_NO_SPACE, "disk_full", "free some space and try again"),
    ("Disk quota exceeded", "disk_full", "free some space, or have the quota raised, and try again"),
    ("Permission denied", "not_permitted", "check who may write to the repository"),
    ("unable to create directory", "not_permitted", "check who may write to the repository"),
    ("index file", "broken_index", "git's index there is damaged: move it away, and `git reset` makes it anew"),
    ("exists; cannot create", "name_taken", "a branch or tag is in the way of our names: rename it"),
    (".lock': File exists", "locked", "another git is at work, or was killed; if none is: rm '{}'"),
)
#: File in a git directory -> the command that left it there and can end it.
UNFINISHED = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "sequencer": "cherry-pick",
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
}
#: Where an agent may have put something that git waits for, it is not waited for longer than this.
_OURS_S = 300.0
_LOCK_STALE_S = 10.0
#: Together longer than a lock takes to become stale.
_LOCK_TRIES = 160
_LOCK_PAUSES_S = (0.01, 0.02, 0.1)


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored file content, measured."""

    #: Its object id.
    oid: str
    #: SHA-256 of the content, in hex.
    sha256: str
    #: Its size in bytes.
    size: int


class Fields:
    """NUL-terminated fields, one by one: what git said is held once, and no list is made of it."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def __iter__(self) -> Iterator[str]:
        start = 0
        while start < len(self._said):
            end = self._said.find(b"\0", start)
            end = len(self._said) if end < 0 else end
            yield self._said[start:end].decode("utf-8", "surrogateescape")
            start = end + 1


class Git:
    """git, asked in one folder.

    ``git_dir`` pins the repository where the folder's own ``.git`` must not be searched
    for: if it is gone, git then refuses instead of taking a repository further up. With
    ``ours`` that directory is one of our own, in which no settings of user or system count.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str] | None = None,
        git_dir: Path | None = None,
        *,
        ours: bool = False,
    ) -> None:
        self.folder = folder
        self.git_dir = git_dir
        self._environ = _cleaned(os.environ if environ is None else environ)
        self._longest_s = _OURS_S if ours else None
        self._written_by_us = git_dir if ours else None
        if git_dir:
            self._environ |= {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(folder)}
        if ours:
            self._environ = {k: v for k, v in self._environ.items() if not k.startswith("GIT_CONFIG_")} | _OURS_ALONE

    def within(self, seconds: float) -> Git:
        """The same, but no call takes longer."""
        limited = copy(self)
        limited._longest_s = seconds
        return limited

    def run(
        self,
        *args: str | Path,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - as subprocess.run names it
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        hooks: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``git ARGS``; its output comes without the last line end.

        ``env`` is added to the environment, ``timeout`` is in seconds; with ``hooks`` those of the user
        are run, because it is they who asked for it. Raises GitProblem when git is missing, too old, killed
        or out of time and, with ``check``, when it refuses.
        """
        done = self._done(args, input, env, timeout, hooks=hooks)
        answer = subprocess.CompletedProcess(args, done.returncode, _text(done.stdout), self.explained(done))
        # A git that was killed has not answered.
        if answer.returncode < 0 or (check and answer.returncode != 0):
            raise refusal(answer)
        return answer

    def _done(
        self,
        args: tuple[str | Path, ...],
        said: str | None,
        env: Mapping[str, str] | None,
        timeout: float | None = None,
        *,
        hooks: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        command, environ = self._prepared(args, env, hooks=hooks)
        try:
            given = None if said is None else said.encode("utf-8", "surrogateescape")
            with self._dropped_if_ended():
                return git_process.complete(command, self.folder, environ, given, timeout or self._longest_s)
        except subprocess.TimeoutExpired as problem:
            raise git_process.too_slow(_asked(args), problem.timeout) from problem
        except git_process.NotStarted as problem:
            raise self._cannot_start(args, problem.__cause__) from problem.__cause__

    @contextmanager
    def _dropped_if_ended(self) -> Iterator[None]:
        """Nobody waits any longer for a git that is ended, nor for what it was writing."""
        try:
            yield
        except BaseException:
            self._drop_half_written()
            raise

    def _drop_half_written(self) -> None:
        """In a directory of our own, what a git that was ended or found no room has begun is good for nothing, and
        takes room that others need.
        """
        if self._written_by_us is not None:
            for folder, _, names in os.walk(self._written_by_us / "objects"):
                for name in names:
                    if name.startswith("tmp_"):
                        with suppress(OSError):
                            Path(folder, name).unlink()

    def explained(self, done: subprocess.CompletedProcess[bytes]) -> str:
        """What a git said that failed, with what it does not say: that the disk is full."""
        errors = _text(done.stderr)
        if done.returncode and _CANNOT_WRITE.search(errors) and self._has_no_room():
            errors = f"{errors}\n{_NO_SPACE}"
        if done.returncode < 0 or _NO_SPACE in errors:
            self._drop_half_written()
        return errors

    def _has_no_room(self) -> bool:
        return any(disk.is_full(place, _LITTLE_ROOM_BYTES) for place in (self.folder, self.git_dir) if place)

    def typed(self, *words: str) -> str:
        """``git WORDS`` as a person types it; it works from any folder."""
        return " ".join(["git", "-C", shlex.quote(str(self.folder)), *map(shlex.quote, words)])

    def start(self, *args: str, keeps: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Starts ``git ARGS`` in a session of its own, with pipes, for somebody who looks after it.

        It keeps the descriptors ``keeps`` open, and with them what they lock. Raises GitProblem.
        """
        command, environ = self._prepared(args, None)
        try:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=keeps,
            )
        except (OSError, ValueError) as problem:
            raise self._cannot_start(args, problem) from problem

    def run_bytes(self, *args: str, input: bytes) -> str:  # noqa: A002 - as subprocess.run names it
        """What ``git ARGS`` makes of bytes that it is given; empty when it refuses them. Raises GitProblem."""
        command, environ = self._prepared(args, None)
        done = git_process.complete(command, self.folder, environ, input, _OURS_S)
        if done.returncode < 0:
            raise refusal(subprocess.CompletedProcess(args, done.returncode, "", _text(done.stderr)))
        return _text(done.stdout) if done.returncode == 0 else ""

    def lines(
        self,
        *args: str | Path,
        input: str | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The NUL-terminated fields that ``git ARGS`` prints, without those that are empty."""
        return [field for field in self.fields(*args, input=input, env=env) if field]

    def fields(
        self,
        *args: str | Path,
        input: str | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
    ) -> Fields:
        """All of them, the empty ones too; they may be gone through several times."""
        done = self._done(args, input, env)
        if done.returncode:
            raise refusal(subprocess.CompletedProcess(args, done.returncode, "", self.explained(done)))
        return Fields(done.stdout)

    def toplevel(self) -> Path:
        """The root of the working tree."""
        return Path(self.run("rev-parse", "--show-toplevel").stdout)

    def common_dir(self) -> Path:
        """The directory that all worktrees of the repository share."""
        return Path(os.path.realpath(self.folder / self.run("rev-parse", "--git-common-dir").stdout))

    def tip(self, ref: str) -> str | None:
        """The commit that ``ref`` (any name of a commit) means, or None when there is none."""
        found = self.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", check=False)
        if found.returncode == 0:
            return found.stdout
        # A git that was killed says nothing, and has not said that there is no commit.
        if found.stderr or found.returncode != 1:
            raise refusal(found)
        return None

    def missing(self, commits: Iterable[str]) -> set[str]:
        """Those of some commits (by their whole ids) that the repository has not got; nothing is fetched for it."""
        asked = "".join(f"{commit}\n" for commit in commits)
        if not asked:
            return set()
        said = self.run("cat-file", "--batch-check", input=asked, env={"GIT_NO_LAZY_FETCH": "1"}).stdout
        return {line.removesuffix(" missing") for line in said.splitlines() if line.endswith(" missing")}

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``new`` contains ``old``; a commit contains itself."""
        answer = self.run("merge-base", "--is-ancestor", old, new, check=False)
        if answer.returncode not in (0, 1):
            raise refusal(answer)
        return answer.returncode == 0

    def swap_ref(self, ref: str, new: str, old: str | None) -> bool:
        """Point ``ref`` to ``new`` if it points to ``old`` now; whether it did.

        None, an empty string and the zero id mean that the ref must not exist yet.
        """
        expected = old if old and old.strip("0") else None
        for attempt in range(_LOCK_TRIES):
            answer = self.run("update-ref", "--no-deref", ref, new, expected or "0" * len(new), check=False)
            if answer.returncode == 0:
                return True
            if self.tip(ref) != expected:
                return False
            if ".lock'" not in answer.stderr:
                break
            self._drop_stale_lock(ref)
            time.sleep(_LOCK_PAUSES_S[min(attempt // 10, 2)])
        raise refusal(answer)

    def fetch(
        self,
        folder: Path,
        *refspecs: str,
        checked: bool = False,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Take objects, and refs where ``refspecs`` name places for them, from a repository on this disk.

        Touches nothing else: no FETCH_HEAD, no tags, no pruning, no maintenance. With ``checked`` every
        object is looked at before it comes in. A setting that rewrites addresses does not rewrite this one, and no
        repository that objects are borrowed from is asked for its refs. For the user's repository there is
        ``quarantine.fetch``.
        """
        return self.run(
            "-c", "fetch.writeCommitGraph=false", "-c", "core.alternateRefsCommand=:",
            "-c", f"url.{folder}.insteadOf={folder}",
            *(_CHECKED if checked else ()), "fetch", "--quiet",
            "--no-write-fetch-head", "--no-tags", "--no-prune", "--no-auto-maintenance", "--no-recurse-submodules",
            folder, *refspecs,
            check=check, timeout=_OURS_S, env=env,
        )  # fmt: skip

    def checked_out_branches(self) -> set[str]:
        """The full names of the branches that some worktree of the repository has checked out."""
        return {facts["branch"] for facts in self.worktrees() if "branch" in facts}

    def worktrees(self) -> Iterator[dict[str, str]]:
        """What git lists of each working tree: ``worktree`` (its folder), ``branch``, ``bare``, ..."""
        for entry in self.run("worktree", "list", "--porcelain").stdout.split("\n\n"):
            if entry:
                yield dict(line.partition(" ")[::2] for line in entry.splitlines())

    def is_clean(self) -> bool:
        """Whether nothing tracked differs from HEAD and no merge or rebase is half-way.

        Untracked files do not count, nor at which commit a submodule is: no merge touches its files.
        """
        if self.unfinished() is not None:
            return False
        status = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
        staged = ("diff-index", "--cached", "--quiet", "HEAD", "--")
        return not self.run(*status).stdout and self.run(*staged, check=False).returncode == 0

    def unfinished(self) -> str | None:
        """What was begun in the working tree and not ended: ``merge``, ``rebase``, ...; None: nothing."""
        git_dir = self.folder / self.run("rev-parse", "--git-dir").stdout
        return next((what for file, what in UNFINISHED.items() if (git_dir / file).exists()), None)

    def has_commits(self) -> bool:
        """Whether HEAD is a commit yet."""
        return self.tip("HEAD") is not None

    def blobs(self, oids: Iterable[str]) -> Generator[Blob, None, None]:
        """Measure stored file contents, in the order asked, without holding them in memory."""
        command, environ = self._prepared(("cat-file", "--batch"), None)
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for oid in oids:
                process.stdin.write(f"{oid}\n".encode())
                process.stdin.flush()
                answer = process.stdout.readline().split()
                if len(answer) != 3:
                    raise GitProblem(
                        f"git has no object {oid}", hint="is the repository damaged? try git fsck", oid=oid
                    )
                size = left = int(answer[2])
                digest = sha256()
                while left:
                    piece = process.stdout.read(min(left, 1 << 20))
                    if not piece:
                        raise GitProblem(f"git cat-file ended inside object {oid}", hint="try git fsck", oid=oid)
                    left -= len(piece)
                    digest.update(piece)
                process.stdout.read(1)
                yield Blob(oid, digest.hexdigest(), size)

    def _prepared(
        self, args: tuple[str | Path, ...], env: Mapping[str, str] | None, *, hooks: bool = False
    ) -> tuple[list[bytes], dict[str, str]]:
        program = _program(self._environ.get("PATH", os.defpath))
        chosen = _SETTINGS if hooks else (*_NO_HOOKS, *_SETTINGS)
        settings = [part for setting in chosen for part in ("-c", setting)]
        return [os.fsencode(arg) for arg in (program, *settings, *args)], {**self._environ, **(env or {})}

    def _cannot_start(self, args: tuple[str | Path, ...], problem: object) -> GitProblem:
        if not self.folder.is_dir():
            return GitProblem(
                f"{_asked(args)}: the folder {self.folder} does not exist",
                hint="name a folder that exists",
                code="no_such_folder",
            )
        return GitProblem(f"{_asked(args)} cannot start: {problem}", hint="can this machine run git at all?")

    def _drop_stale_lock(self, ref: str) -> None:
        """Remove the lock that a killed git left on a ref of ours; git itself holds one for milliseconds."""
        if not ref.startswith(("refs/orchestrion/", "refs/heads/orchestrion/")):
            return
        lock = self.common_dir() / f"{ref}.lock"
        try:
            if time.time() - lock.stat().st_mtime > _LOCK_STALE_S:
                lock.unlink()
        except FileNotFoundError:
            return


def refusal(answer: subprocess.CompletedProcess[str]) -> GitProblem:
    """The error that says what git was asked and how it refused."""
    said = [line for line in answer.stderr.splitlines() if line.strip()] or ["(it said nothing)"]
    words = re.sub(r"://[^/@\s]+@", "://", next((line for line in said if "fatal:" in line), said[-1]))
    code, hint = next(((code, hint) for found, code, hint in _KNOWN if found in answer.stderr), ("git", ""))
    place = re.search(r"(?:repository at|Unable to create) '(.*?)'", answer.stderr)
    hint = hint.replace("{}", place[1] if place else "FOLDER")
    return GitProblem(
        f"{_asked(answer.args)} failed with exit code {answer.returncode}: {words}",
        hint=hint or "the same command in the same folder shows all of git's answer",
        code=code,
        exit_code=answer.returncode,
    )


def _asked(args: Iterable[str | Path]) -> str:
    """What git was asked, short enough to read and without passwords in addresses."""
    told = [os.fsencode(arg).decode(errors="replace") for arg in args]
    while told[:1] == ["-c"]:  # settings of ours, which say nothing to anybody
        told = told[2:]
    words = " ".join(told)
    return "git " + re.sub(r"://[^/@\s]+@", "://", words if len(words) <= 200 else words[:197] + "...")


def _cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_") or _KEPT.match(name)}
    return {**kept, **_OURS}


def _text(output: bytes) -> str:
    text = output.decode("utf-8", "surrogateescape")
    return text.removesuffix("\n")


@functools.cache
def _program(path: str) -> str:
    """The git on ``path``, asked for its version once per process."""
    program = shutil.which("git", path=path)
    if program is None:
        raise GitProblem("git is not installed, or not on the PATH", hint=INSTALL_GIT, code="git_missing")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < OLDEST_GIT:
        raise GitProblem(
            f"this git is too old: {said.strip() or 'it does not tell its version'}",
            hint=f"{INSTALL_GIT}, or put one first in the PATH",
            code="git_too_old",
            found=said.strip(),
        )
    return program
