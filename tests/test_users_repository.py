"""A whole plan on a real repository, in the middle of somebody's work: theirs stays byte for byte what it was.

Four hundred files, two thousand commits, a dirty tree, a half-staged index, stashes, a
linked worktree, hooks that all fail, signing with a broken gpg, and every setting that
ever led a program astray.
"""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from stage import Stage, wait_for

pytestmark = pytest.mark.long

FILES = 400
COMMITS = 2000
#: Ours, in the user's git directory: everything else is theirs.
OURS = ("objects", "orchestrion", "refs/heads/orchestrion", "refs/orchestrion", "logs/refs/heads/orchestrion")

_HOOKS = """
applypatch-msg commit-msg fsmonitor-watchman post-applypatch post-checkout post-commit post-index-change post-merge
post-receive post-rewrite post-update pre-applypatch pre-auto-gc pre-commit pre-merge-commit pre-push pre-rebase
pre-receive prepare-commit-msg proc-receive push-to-checkout reference-transaction sendemail-validate update
"""

#: What would break a git call of ours that heeded it, or make it leave traces.
SETTINGS = {
    "advice.detachedHead": "true",
    "branch.autoSetupMerge": "always",
    "branch.autoSetupRebase": "always",
    "checkout.defaultRemote": "nowhere",
    "clean.requireForce": "true",
    "clone.defaultRemoteName": "elsewhere",
    "color.ui": "always",
    "commit.cleanup": "scissors",
    "commit.gpgSign": "true",
    "commit.status": "true",
    "commit.template": "/no/such/template",
    "commit.verbose": "true",
    "core.autocrlf": "true",
    "core.editor": "false",
    "core.pager": "false",
    "core.quotePath": "true",
    "core.safecrlf": "true",
    "core.untrackedCache": "true",
    "diff.external": "/bin/false",
    "diff.mnemonicPrefix": "true",
    "diff.noprefix": "true",
    "diff.renames": "copies",
    "fetch.prune": "true",
    "fetch.writeCommitGraph": "true",
    "gc.auto": "1",
    "gc.autoDetach": "false",
    "gpg.program": "/bin/false",
    "index.version": "4",
    "log.showSignature": "true",
    "maintenance.auto": "true",
    "merge.ff": "only",
    "merge.verifySignatures": "true",
    "protocol.file.allow": "never",
    "push.default": "nothing",
    "push.gpgSign": "true",
    "receive.denyCurrentBranch": "refuse",
    "rerere.autoUpdate": "true",
    "rerere.enabled": "true",
    "status.branch": "true",
    "status.short": "true",
    "status.showUntrackedFiles": "no",
    "submodule.recurse": "true",
    "tag.gpgSign": "true",
    "transfer.fsckObjects": "true",
    "user.useConfigOnly": "true",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with all the history, made once."""
    folder = tmp_path_factory.mktemp("history") / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder], check=True)
    subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=folder, input=_history(), check=True)
    return folder


def _history() -> bytes:
    """Each commit changes one or two files; a few are merges; some files are odd."""
    parts: list[bytes] = []
    for number in range(1, COMMITS + 1):
        parts.append(b"commit refs/heads/main\nmark :%d\n" % number)
        parts.append(b"committer A Person <a@example.org> %d +0100\n" % (1_700_000_000 + 600 * number))
        parts.append(_data(b"change %d\n\nbecause of \xc3\xa9verything" % number))
        if number > 1:
            parts.append(b"from :%d\n" % (number - 1))
        if number > 10 and number % 50 == 0:
            parts.append(b"merge :%d\n" % (number - 7))
        for file in {number % FILES, (number * 7) % FILES}:
            text = b"".join(b"line %d of commit %d\n" % (line, number) for line in range(20 + file % 30))
            parts.append(_file(_name(file), text))
        if number == 1:
            parts.append(_file(b"tool.sh", b"#!/bin/sh\n", b"100755"))
            parts.append(_file(b"link", b"tool.sh", b"120000"))
            parts.append(_file(b".gitignore", b"*.log\nbuild/\n.env\n"))
            parts.append(_file(b".gitattributes", b"*.txt text\n*.bin binary -diff\n"))
    parts.append(b"tag v1.0\nfrom :1000\ntagger A Person <a@example.org> 1700000000 +0100\n" + _data(b"one"))
    return b"".join(parts)


def _file(name: bytes, content: bytes, mode: bytes = b"100644") -> bytes:
    return b'M %s inline "%s"\n%s' % (mode, name, _data(content))


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _name(file: int) -> bytes:
    folder = b"src/part%d/" % (file % 20)
    return folder + {0: b"\xc3\xa9t\xc3\xa9 %d.txt", 1: b"file%d.bin"}.get(file % 17, b"file%d.txt") % file


@pytest.fixture
def stage(tmp_path: Path, template: Path) -> Iterator[Stage]:
    """A stage whose project is a clone of all that, in the middle of its user's work."""
    made = Stage(tmp_path / "stage", os.environ, git=False)
    subprocess.run(["rm", "-rf", made.root], check=True)
    made.git("clone", "-q", template, made.root, at=made.folder)
    _settings(made, {"user.name": "A Person", "user.email": "a@example.org"})
    _work_in_progress(made)
    _hostile_settings(made)
    yield made
    made.close()


def _work_in_progress(stage: Stage) -> None:
    root, git = stage.root, stage.git
    tracked = [root / os.fsdecode(_name(file)) for file in range(40)]
    tracked[2].write_text("stashed\n")
    git("stash", "push", "-qm", "one stash")
    tracked[3].write_text("stashed too\n")
    (root / "new-and-stashed.txt").write_text("untracked, stashed\n")
    git("stash", "push", "-qum", "another stash")
    git("switch", "-qc", "feature/thing")
    tracked[4].write_text("committed here\n")
    git("commit", "-qam", "my own commit")
    git("reset", "-q", "--soft", "HEAD~1")  # leaves an ORIG_HEAD
    git("fetch", "-q", "origin", "main")  # leaves a FETCH_HEAD
    tracked[5].write_text("staged\n")
    git("add", tracked[5])
    tracked[5].write_text("staged, then changed again\n")
    tracked[6].write_text("changed, not staged\n")
    tracked[7].unlink()
    git("rm", "-q", "--cached", tracked[8])
    tracked[9].chmod(0o755)
    git("mv", tracked[10], root / "moved.txt")
    (root / "intended.txt").write_text("added with -N\n")
    git("add", "-N", "intended.txt")
    git("update-index", "--assume-unchanged", tracked[11])
    tracked[11].write_text("assumed to be unchanged\n")
    git("update-index", "--skip-worktree", tracked[12])
    (root / "untracked.txt").write_text("mine\n")
    (root / "crlf.txt").write_bytes(b"one\r\ntwo\n")
    (root / "build").mkdir()
    (root / "build" / "out.o").write_bytes(b"\0\1\2")
    (root / ".env").write_text("SECRET=1\n")
    os.mkfifo(root / "a pipe")
    git("notes", "add", "-m", "a note", "HEAD")
    git("worktree", "add", "-q", stage.folder / "my other tree", "-b", "elsewhere", "main")
    (stage.folder / "my other tree" / "dirty.txt").write_text("dirty\n")


def _hostile_settings(stage: Stage) -> None:
    hooks = stage.folder / "hooks"
    hooks.mkdir()
    for folder in (hooks, stage.root / ".git" / "hooks"):
        for hook in _HOOKS.split():
            (folder / hook).write_text(f"#!/bin/sh\necho {hook} >> '{stage.folder}/hooks-called'\nexit 1\n")
            (folder / hook).chmod(0o755)
    template = stage.folder / "home" / "template"
    (template / "hooks").mkdir(parents=True)
    (template / "hooks" / "post-checkout").write_text(f"#!/bin/sh\necho >> '{stage.folder}/hooks-called'\nexit 1\n")
    (template / "hooks" / "post-checkout").chmod(0o755)
    # Once for the user, once for the repository: a workspace inherits the first, a linked worktree both.
    _settings(
        stage, {**SETTINGS, "init.templateDir": template, "core.hooksPath": hooks}, stage.folder / "home" / ".gitconfig"
    )
    fsmonitor = hooks / "fsmonitor-watchman"
    _settings(stage, {**SETTINGS, "core.fsmonitor": fsmonitor, "core.hooksPath": hooks})


def _settings(stage: Stage, settings: Mapping[str, str | Path], file: Path | None = None) -> None:
    sections = [
        f"[{key.rpartition('.')[0]}]\n\t{key.rpartition('.')[2]} = {value}\n" for key, value in settings.items()
    ]
    with (file or stage.root / ".git" / "config").open("a") as lines:
        lines.write("".join(sections))


def _everything(stage: Stage) -> dict[str, tuple[int, int, str]]:
    """Mode, time and content of every file of the user: tree, git directory, other worktree, home."""
    git_dir = stage.root / ".git"
    found: dict[str, tuple[int, int, str]] = {}
    for top in (stage.root, stage.folder / "my other tree", stage.folder / "home"):
        for folder, names, files in os.walk(top):
            inner = Path(folder)
            names[:] = [name for name in names if not _is_ours(inner / name, git_dir)]
            for path in (inner / name for name in [*names, *files]):
                facts = path.lstat()
                # A folder that got a folder of ours, or lost one, is no change of theirs.
                moment = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_mtime_ns
                found[str(path)] = (facts.st_mode, moment, _content(path, facts.st_mode))
    return found


def _is_ours(path: Path, git_dir: Path) -> bool:
    return path.is_relative_to(git_dir) and str(path.relative_to(git_dir)) in OURS


def _content(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""


def _plan(stage: Stage) -> None:
    """Fifteen tasks: most succeed, one conflicts, one fails, one is killed, one loses its supervisor."""
    name = [f'"{os.fsdecode(_name(file))}"' for file in range(FILES)]
    first = stage.add(f"sed -i '1s/.*/a new first line/' {name[20]}", checks=(f"grep -q 'a new' {name[20]}",))
    for file in range(21, 26):
        stage.add(f"echo more >> {name[file]}; echo new > new{file}.txt", after=[first])
    stage.add(f"rm {name[30]}; mv {name[31]} renamed.txt; chmod +x {name[32]}; ln -s tool.sh another", after=[first])
    stage.add("mkdir deep; echo x > deep/x.txt; printf 'a\\r\\nb\\n' > windows.txt", after=[first])
    stage.add("test $ORCHESTRION_GO = 2 && touch repaired.txt; true", checks=("test -f repaired.txt",), title="repair")
    stage.add("echo half > half.txt; exit 1", title="fails")
    wait = f"while [ ! -f {stage.folder}/go ]; do sleep 0.05; done"
    stage.add(f"echo one > contested.txt; {wait}", title="contested 1")
    stage.add(f"echo two > contested.txt; {wait}", title="contested 2")
    stage.add(
        "echo on; test $ORCHESTRION_ATTEMPT = 2 || sleep 300; echo b > survived.txt", title="loses its supervisor"
    )
    stage.add("echo on; sleep 300", title="is killed")
    stage.add("ls > listing.txt", after=["T2", "T3", "T4", "T5", "T6", "T7"], title="last")


@pytest.mark.parametrize("isolation", ["clone", "worktree"])
def test_it_stays_byte_for_byte_what_it_was(stage: Stage, isolation: str) -> None:
    stage.open(run__grace_s=1, retry__delay_s=0, workspace__isolation=isolation)
    _plan(stage)
    before = _everything(stage)
    status = _said(stage, "status", "--porcelain=v2", "--branch", "--untracked-files=all")
    by_title = {task.row["title"]: f"T{task.row['id']}" for task in stage.orchestrion.list_tasks(limit=100).items}
    with stage.worker(slots=4) as worker:
        run = _run_of(stage, by_title["loses its supervisor"])
        stage.await_lines(run=run)
        os.kill(stage.supervisor(run), signal.SIGKILL)
        stage.orchestrion.kill(_run_of(stage, by_title["is killed"]))
        for contested in ("contested 1", "contested 2"):
            wait_for(lambda it=contested: stage.runs(by_title[it])[0]["phase"] == "working", f"{contested} works")
        (stage.folder / "go").touch()
        assert worker.wait(100) == 8
    _compare(stage, before, isolation)
    assert _said(stage, "status", "--porcelain=v2", "--branch", "--untracked-files=all") == status
    states = stage.orchestrion.status()["tasks"]
    assert states == {"completed": 12, "failed": 2, "review": 1}, _unsettled(stage)
    _check_plan(stage)


def _run_of(stage: Stage, task: str) -> str:
    return str(wait_for(lambda: stage.runs(task), f"{task} runs")[0]["id"])


def _compare(stage: Stage, before: dict[str, tuple[int, int, str]], isolation: str) -> None:
    after = _everything(stage)
    if isolation == "worktree":
        # Workspaces that keep unmerged work are linked worktrees of the repository, by the user's choice.
        linked = f"{stage.root}/.git/worktrees/R"
        after = {path: facts for path, facts in after.items() if not path.startswith(linked)}
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not changed, sorted((path, before.get(path), after.get(path)) for path in changed)
    assert not (stage.folder / "hooks-called").exists(), (stage.folder / "hooks-called").read_text()


def _said(stage: Stage, *args: str) -> str:
    """git's answer, without touching the index."""
    quiet = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    environ = {**stage.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(["git", *quiet, *args], cwd=stage.root, env=environ, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode("utf-8", "surrogateescape")


def _unsettled(stage: Stage) -> list[object]:
    rows = [task.row for task in stage.orchestrion.list_tasks(limit=100).items]
    return [(row["title"], row["state"], row["code"], row["error"], row["reason"]) for row in rows]


def _check_plan(stage: Stage) -> None:
    tip = "refs/orchestrion/plans/default"
    files = _said(stage, "ls-tree", "-r", "-z", "--name-only", tip).split("\0")
    assert {"new21.txt", "new25.txt", "renamed.txt", "another", "deep/x.txt", "repaired.txt", "survived.txt"} <= set(
        files
    )
    assert os.fsdecode(_name(30)) not in files
    assert not {"half.txt", "untracked.txt", ".env", "crlf.txt", "moved.txt"} & set(files)
    # What agents did not touch is what it was, line ends included.
    assert _said(stage, "diff", "--no-ext-diff", "--stat", "HEAD", tip, "--", "src/part15").count("|") <= 1
    authors = set(_said(stage, "log", "--no-show-signature", "--format=%an", f"HEAD..{tip}").split("\n")) - {""}
    assert authors == {"A Person"}
