"""What belongs to the work of a run, whatever state its agent left git in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.commits import CommitStyle
from orchestrion.runs.git import Git
from orchestrion.runs.workspace import work
from orchestrion.runs.workspace.places import ISOLATIONS, Workspace
from orchestrion.runs.workspace.work import Work

pytestmark = pytest.mark.long

both = pytest.mark.parametrize("isolation", ISOLATIONS)


def changed(user: UserGit, base: str, head: str) -> dict[str, str]:
    """Path -> how it differs; both commits are in the project."""
    lines = user("diff", "--name-status", "--no-renames", base, head).splitlines()
    return {path: kind for kind, path in (line.split("\t") for line in lines)}


def codes(collected: Work) -> list[str]:
    return [remark.code for remark in collected.remarks]


def run(folder: Path, *commands: str) -> None:
    """Shell commands, as an agent gives them."""
    subprocess.run(["sh", "-ec", "\n".join(commands)], cwd=folder, check=True, capture_output=True)


# -- leftovers ------------------------------------------------------------------------------------


@both
def test_leftovers_are_one_commit_of_the_user(seam: RunSeam, user: UserGit, base: str, isolation: str) -> None:
    workspace = seam.prepare("R1", base, isolation)
    path = workspace.path
    strange = os.fsdecode(b"caf\xe9 \xff\n.txt")
    (path / "a.txt").unlink()
    (path / "b.txt").write_text("changed\n")
    (path / "debug.log").write_text("ignored")
    (path / "deep" / "er").mkdir(parents=True)
    (path / "deep" / "er" / strange).write_text("new")
    (path / "crlf.txt").write_bytes(b"one\r\ntwo\n")

    head = seam.hand_over(workspace, "# Title").head

    assert user("log", "-1", "--format=%an %ae %cn%n%B", head) == (
        "User user@example.org User\n# Title\n\nOrchestrion-Run: R1"
    )
    assert user("rev-list", "--parents", "-1", head) == f"{head} {base}"
    names = Git(seam.root).lines("diff", "--name-status", "-z", base, head)
    assert names == ["D", "a.txt", "M", "b.txt", "A", "crlf.txt", "A", f"deep/er/{strange}"]
    assert user("rev-parse", "HEAD", at=path) == base, "the agent's own repository is as it was"
    assert seam.remove(path)
    assert user("rev-parse", "orchestrion/run/R1") == head


@both
def test_nothing_left_is_no_commit(seam: RunSeam, user: UserGit, base: str, isolation: str) -> None:
    workspace = seam.prepare("R1", base, isolation)
    assert seam.collect(workspace) == Work(base)
    run(workspace.path, "echo own > own", "git add own", "git commit -qm own")
    assert seam.collect(workspace) == Work(user("rev-parse", "HEAD", at=workspace.path))


@both
@pytest.mark.parametrize(
    "state",
    [
        "git checkout -q --detach",
        "git checkout -q -b other",
        "touch .git/index.lock .git/HEAD.lock 2>/dev/null || true",
        "git reset -q --soft HEAD",
        "git add -A",
        "git commit -q --allow-empty -m e; git commit -q --amend --allow-empty -m again",
        "git config core.safecrlf true; git config status.showUntrackedFiles no",
    ],
)
def test_leftovers_whatever_state_git_was_left_in(
    seam: RunSeam, user: UserGit, base: str, isolation: str, state: str
) -> None:
    workspace = seam.prepare("R1", base, isolation)
    run(workspace.path, "echo one > one.txt", state, "echo more >> a.txt; rm b.txt")
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"one.txt": "A", "a.txt": "M", "b.txt": "D"}
    assert collected.asks is None


@pytest.mark.parametrize("damage", ["garbage", "cut", "gone", "folder", "pipe"])
def test_a_broken_index_of_the_agent_is_no_loss(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace, damage: str
) -> None:
    run(workspace.path, "echo own > own; git add own; git commit -qm own; echo left > left; rm b.txt")
    index = workspace.path / ".git" / "index"
    content = index.read_bytes()
    index.unlink()
    if damage == "garbage":
        index.write_bytes(os.urandom(5000))
    elif damage == "cut":
        index.write_bytes(content[:-30])
    elif damage == "folder":
        index.mkdir()
    elif damage == "pipe":
        os.mkfifo(index)
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"own": "A", "left": "A", "b.txt": "D"}
    assert "own" in user("log", "--format=%s", collected.head).splitlines()


def test_kinds_of_files_change_into_each_other(seam: RunSeam, user: UserGit, project: Path, tmp_path: Path) -> None:
    for name in ("d/a", "e/b", "f"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(name)
    user("add", "-A")
    user("commit", "-qm", "more")
    base = user("rev-parse", "HEAD")
    workspace = seam.prepare("R1", base)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b").write_text("elsewhere")
    run(
        workspace.path,
        "rm -r d; echo file > d", f"rm -r e; ln -s {tmp_path}/other e", "rm f; mkdir f; echo x > f/x",
        "rm a.txt; ln -s b.txt a.txt", "mkdir empty; mkfifo pipe", "chmod +x b.txt",
    )  # fmt: skip
    head = seam.hand_over(workspace).head
    assert changed(user, base, head) == {
        "a.txt": "T", "b.txt": "M", "d": "A", "d/a": "D", "e": "A", "e/b": "D", "f": "D", "f/x": "A",
    }  # fmt: skip
    assert user("ls-tree", head, "e").startswith("120000")


def test_what_the_agent_added_by_force_counts_and_what_it_untracked_does_not(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "echo 1 > one.log; git add -f one.log; git commit -qm forced",
        "echo 2 > two.log; git add -f two.log",
        "echo 3 > three.log",
        "git rm -q --cached b.txt; echo b.txt >> .gitignore; git commit -qam untracked",
        "git rm -q --cached a.txt",
    )
    head = seam.hand_over(workspace).head
    assert changed(user, base, head) == {".gitignore": "M", "one.log": "A", "two.log": "A", "b.txt": "D"}


def test_what_the_agent_s_tools_hide_is_hidden(seam: RunSeam, user: UserGit, base: str, workspace: Workspace) -> None:
    run(workspace.path, "echo .tool/ >> .git/info/exclude; mkdir .tool; echo x > .tool/x; echo y > y")
    assert changed(user, base, seam.hand_over(workspace).head) == {"y": "A"}


def test_a_file_that_git_refuses_is_named_and_the_rest_is_committed(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    (workspace.path / "good.txt").write_text("good")
    (workspace.path / "git~1").write_text("a name that git refuses")

    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)

    assert refused.value.code == "left_uncommitted"
    assert "git~1" in refused.value.message
    seam.publish(workspace, refused.value.work.head)
    assert changed(user, base, "orchestrion/run/R1") == {"good.txt": "A"}
    assert not seam.remove(workspace.path)


@pytest.mark.skipif(os.getuid() == 0, reason="root can read everything")
def test_a_file_that_cannot_be_read_is_named(seam: RunSeam, workspace: Workspace) -> None:
    (workspace.path / "secret").write_text("x")
    (workspace.path / "secret").chmod(0)
    with pytest.raises(GitProblem, match="secret"):
        seam.collect(workspace)


# -- merges -----------------------------------------------------------------------------------------

_TWO_BRANCHES = (
    "B=$(git branch --show-current); git checkout -q -b x1; echo 1 > README; git add README; git commit -qm 1",
    "git checkout -q -b x2 HEAD~1; echo 2 > README; git add README; git commit -qm 2",
)


@both
@pytest.mark.parametrize(
    "leaves",
    [
        "git merge x1 || true",
        "git merge x1 || true; echo resolved > README",
        "git merge --no-commit -s ours x1",
        "git stash list; echo 3 > README; git stash -q; git checkout -q x1; git stash pop || true",
        "git cherry-pick x1 || true",
        "git rebase x1 || true",
    ],
)
def test_a_merge_that_is_open_is_not_accepted(
    seam: RunSeam, user: UserGit, base: str, isolation: str, leaves: str
) -> None:
    workspace = seam.prepare("R1", base, isolation)
    run(workspace.path, *_TWO_BRANCHES, leaves)
    collected = seam.hand_over(workspace)
    assert collected.asks is not None
    assert collected.asks.code == "open_merge"
    assert collected.is_unfinished
    assert user("cat-file", "-t", collected.head) == "commit"


def test_an_open_merge_keeps_what_it_merged_with(seam: RunSeam, user: UserGit, workspace: Workspace) -> None:
    run(workspace.path, *_TWO_BRANCHES, "git merge x1 || true")
    theirs = user("rev-parse", "x1", at=workspace.path)
    assert user("rev-parse", f"{seam.hand_over(workspace).head}^2") == theirs


@pytest.mark.parametrize("end", ["git merge -s ours -m done x1", "git merge x1 || git merge --abort"])
def test_a_merge_that_was_ended_is_fine(seam: RunSeam, workspace: Workspace, end: str) -> None:
    run(workspace.path, *_TWO_BRANCHES, end)
    assert seam.collect(workspace).asks is None


_MARKERS = "<<<<<<< HEAD\nmine\n=======\ntheirs\n>>>>>>> x1\n"


@pytest.mark.parametrize(
    ("before", "after", "asks"),
    [
        (None, _MARKERS, True),
        ("text\n", f"text\n{_MARKERS}", True),
        (_MARKERS, f"more\n{_MARKERS}", False),
        (None, "Title\n=======\n\ntext\n", False),
        (None, "<<<<<<< a\n", False),
        (None, ">>>>>>> x\n=======\n<<<<<<< y\n", False),
        (None, _MARKERS.replace("=======", "|||||||"), False),
        (None, "a\r\n" + _MARKERS.replace("\n", "\r\n"), True),
    ],
)
def test_whole_new_sets_of_conflict_markers_ask_for_a_person(
    seam: RunSeam, user: UserGit, project: Path, before: str | None, after: str, asks: bool
) -> None:
    name = "some file.md"
    if before is not None:
        (project / name).write_text(before)
        user("add", "-A")
        user("commit", "-qm", "before")
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"))
    (workspace.path / name).write_bytes(after.encode())
    collected = seam.collect(workspace)
    assert codes(collected) == (["conflict_markers"] if asks else [])
    if asks:
        assert collected.asks is not None
        assert collected.asks.paths == (name,)


# -- the ground -------------------------------------------------------------------------------------


@both
def test_what_the_set_up_made_is_not_the_work(seam: RunSeam, user: UserGit, base: str, isolation: str) -> None:
    workspace = seam.prepare("R1", base, isolation)
    path = workspace.path
    run(path, "mkdir .venv; echo x > .venv/cfg; echo {} > lock.json; echo setup >> b.txt; echo gen > generated")
    work.record_ground(seam.project, workspace)
    if isolation == "clone":
        # A file that the set-up changed shows; new ones do not, so that `git add -A` leaves them out.
        assert user("status", "--porcelain", at=path) == "M b.txt"
    assert seam.collect(workspace) == Work(base)
    assert seam.touched(workspace) == []

    run(path, "echo mine > mine; echo 1 > .venv/new; echo '{1}' > lock.json; rm generated; git add -A")
    assert {one.path for one in seam.touched(workspace)} == {"mine", ".venv/new", "lock.json", "generated"}
    run(path, "git commit -qm all")
    head = seam.hand_over(workspace).head
    assert changed(user, base, head) == {"mine": "A", ".venv/new": "A", "lock.json": "A"}
    assert user("show", f"{head}:b.txt") == user("show", f"{base}:b.txt")


def test_the_agent_s_own_change_beside_the_set_up_s_counts(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(workspace.path, "echo setup >> b.txt")
    work.record_ground(seam.project, workspace)
    run(workspace.path, "echo agent >> b.txt")
    head = seam.hand_over(workspace).head
    # git keeps whole files: where both wrote into one, both are in it.
    assert user("show", f"{head}:b.txt").endswith("setup\nagent")


def test_a_repository_that_the_set_up_brought_is_not_told(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace, project: Path
) -> None:
    run(workspace.path, f"git clone -q {project} dep; git init -q own; echo x > own/x")
    work.record_ground(seam.project, workspace)
    (workspace.path / "mine").write_text("x")
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"mine": "A"}
    assert codes(collected) == []


# -- repositories inside ------------------------------------------------------------------------------


@pytest.mark.parametrize("added", ["untracked", "staged", "committed"])
def test_what_begins_inside_is_taken_in_as_files(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace, added: str
) -> None:
    run(
        workspace.path,
        "echo '*.big' >> .gitignore",
        "git init -q inner; cd inner; echo '*.tmp' > .gitignore; echo t > x.tmp; echo b > y.big; echo one > code.py",
        "git init -q deeper; echo deep > deeper/deep.txt",
        "" if added == "untracked" else "git add code.py; git commit -qm inner; cd ..; git add inner 2>/dev/null",
    )
    if added == "committed":
        run(workspace.path, "git commit -qm oops")
    run(workspace.path, "git init -q empty; echo plain > plain.txt")

    collected = seam.hand_over(workspace)

    assert changed(user, base, collected.head) == {
        ".gitignore": "M",
        "inner/.gitignore": "A",
        "inner/code.py": "A",
        "inner/deeper/deep.txt": "A",
        "plain.txt": "A",
    }
    assert collected.asks is None
    if added != "untracked":
        # Its commits are kept as well.
        kept = [ref for ref in user("for-each-ref", "--format=%(refname)").splitlines() if "/kept/R1/nested/" in ref]
        assert user("log", "-1", "--format=%s", kept[0]) == "inner"
    assert seam.remove(workspace.path)


def test_a_large_repository_inside_is_left_out_and_asks(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(workspace.path, "git init -q app; head -c 3000 /dev/zero > app/data; echo x > x")
    collected = seam.collect(workspace, nested_bytes=2000)
    seam.publish(workspace, collected)
    assert changed(user, base, collected.head) == {"x": "A"}
    assert collected.asks is not None
    assert (collected.asks.code, collected.asks.paths) == ("nested_left_out", ("app",))


@pytest.mark.parametrize(
    ("makes", "asks"),
    [
        ("git clone -q {lib} dep", False),
        ("git clone -q --depth 1 file://{lib} dep", False),
        ("git clone -q {lib} dep; git -C dep checkout -q HEAD~1", False),
        ("git clone -q {lib} dep; git -C dep checkout -q -b topic v1", False),
        ("git clone -q {lib} dep; echo x > dep/own", True),
        ("git clone -q {lib} dep; echo x >> dep/l", True),
        ("git clone -q {lib} dep; rm dep/l", True),
        ("git clone -q {lib} dep; echo x >> dep/l; git -C dep add l", True),
        ("git clone -q {lib} dep; cd dep; echo x >> l; git commit -qam own", True),
        (
            "git clone -q {lib} dep; cd dep; git switch -qc t; git commit -q --allow-empty -m own; git switch -q -",
            True,
        ),
        ("git clone -q --depth 1 file://{lib} dep; cd dep; git commit -q --allow-empty -m own", True),
    ],
)
def test_a_clone_is_left_out_and_asks_only_with_work_of_its_own(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace, tmp_path: Path, makes: str, asks: bool
) -> None:
    lib = tmp_path / "lib"
    user("init", "-q", lib)
    run(lib, "echo l > l; git add l; git commit -qm 1; git tag v1; echo m > m; git add m; git commit -qm 2")
    run(workspace.path, f"({makes.format(lib=lib)})", "echo x > x.txt")
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"x.txt": "A"}
    assert codes(collected) == ["nested_left_out"]
    assert (collected.asks is not None) is asks
    assert seam.remove(workspace.path) is not asks


@pytest.mark.parametrize("how", ["untracked", "committed"])
def test_a_clone_that_is_all_there_is_asks(
    seam: RunSeam, base: str, workspace: Workspace, project: Path, how: str
) -> None:
    run(workspace.path, f"git clone -q {project} dep")
    if how == "committed":
        run(workspace.path, "git add dep 2>/dev/null; git commit -qm oops")
    collected = seam.collect(workspace)
    assert collected.asks is not None
    assert collected.asks.code == "nested_left_out"


@pytest.mark.parametrize("place", [".claude/worktrees/x", "../beside"])
def test_worktrees_of_the_agent_s_own_are_kept_beside(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace, place: str
) -> None:
    run(
        workspace.path,
        f"git worktree add -q {place} -b x1; cd {place}",
        "echo c > c; git add c; git commit -qm inside; echo u > u",
    )
    (workspace.path / "g").write_text("2")
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"g": "A"}
    assert codes(collected) == ["side_work_kept"]
    assert collected.asks is None
    refs = collected.remarks[0].refs
    assert refs == ("refs/orchestrion/kept/R1/heads/x1", f"refs/orchestrion/kept/R1/worktrees/{Path(place).name}")
    assert user("log", "-1", "--format=%s", refs[0]) == "inside"
    assert user("show", f"{refs[1]}:u") == "u"
    assert seam.remove(workspace.path)


# -- work elsewhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leaves", "refs"),
    [
        ("git checkout -q -b side; echo s > s; git add s; git commit -qm side; git checkout -q -", ["heads/side"]),
        ("echo s > a.txt; git stash -q", ["stash/1"]),
        ("echo s > a.txt; git stash -q; echo t > a.txt; git stash -q", ["stash/1", "stash/2"]),
        ("echo s > a.txt; git commit -qam x; git tag t; git reset -q --hard HEAD~1", ["tags/t"]),
        ("git checkout -q -b 'w/ü~'1 2>/dev/null || git checkout -q -b 'w/ü'; echo s > s; git add s; git commit -qm x;"
         "git checkout -q orchestrion/run/R1", ["heads/w/-"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("also", [False, True])
def test_work_beside_the_branch_is_kept_and_told(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace, leaves: str, refs: Iterable[str], also: bool
) -> None:
    run(workspace.path, leaves)
    if also:
        (workspace.path / "own.txt").write_text("x")
    collected = seam.hand_over(workspace)
    kept = tuple(f"refs/orchestrion/kept/R1/{ref}" for ref in refs)
    assert collected.remarks[0].code == "side_work_kept"
    assert collected.remarks[0].refs == kept
    assert all(user("diff", "--name-only", base, ref) for ref in kept)
    assert (collected.asks.code if collected.asks else None) == (None if also else "work_elsewhere")
    assert seam.remove(workspace.path)


def test_branches_that_were_there_or_came_from_upstream_are_no_work(
    seam: RunSeam, user: UserGit, project: Path, base: str, tmp_path: Path
) -> None:
    user("clone", "-q", project, tmp_path / "up")
    user("remote", "add", "origin", tmp_path / "up")
    user("branch", "mine")
    user("tag", "v1")
    workspace = seam.prepare("R1", base)
    run(tmp_path / "up", "git commit -q --allow-empty -m newer; git tag v2")
    run(workspace.path, "git fetch -q --tags; git branch local origin/main; git branch old v1")
    assert seam.collect(workspace) == Work(base)


def test_a_history_of_its_own_is_kept_and_its_files_are_taken(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "git checkout -q --orphan fresh; git rm -rqf .; echo new > new; git add new; git commit -qm fresh",
    )
    collected = seam.hand_over(workspace)
    assert user("rev-list", "--parents", "-1", collected.head).split()[1:] == [base]
    assert user("ls-tree", "--name-only", collected.head).splitlines() == ["new"]
    assert codes(collected) == ["history_replaced"]
    assert user("log", "-1", "--format=%s", "refs/orchestrion/kept/R1/history") == "fresh"


AMENDED = "git rm -q second.txt; echo x > x; git add x; git commit -q --amend -m amended"
RESET = "git reset -q --hard HEAD~1; echo x > x"
REBASED = "git reset -q --hard HEAD~1; echo x > x; git add x; git commit -qm instead"


@pytest.mark.parametrize("rewriting", [AMENDED, RESET, REBASED])
def test_what_an_agent_takes_out_of_the_base_stays_out(
    seam: RunSeam, user: UserGit, project: Path, rewriting: str
) -> None:
    """Its commit contains the base: else merging would bring back what it took out."""
    (project / "second.txt").write_text("2")
    user("add", "second.txt")
    user("commit", "-qm", "second")
    base = user("rev-parse", "HEAD")
    seam.tip("p").create(base)
    workspace = seam.prepare("R1", base)
    run(workspace.path, rewriting)
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"second.txt": "D", "x": "A"}
    assert seam.merge("p", "R1", collected.head, "work", None).tip_after == collected.head
    assert [remark for remark in collected.remarks if remark.asks] == []


# -- what is on no branch ---------------------------------------------------------------------------------

LEFT = {
    "detached": "git checkout -q --detach; {commit}; git checkout -q -",
    "reset": "{commit}; git reset -q --hard HEAD~1",
    "amended": "{commit}; git rm -q left.txt; git commit -q --allow-empty --amend -m another",
    "worktree": "git worktree add -q --detach .claude/z; cd .claude/z; {commit}",
    "worktree, gone": "git worktree add -q ../z; cd ../z; {commit}; git checkout -q --detach; git branch -D z",
}


def left_txt_is_kept(seam: RunSeam, user: UserGit, workspace: Workspace, way: str) -> Work:
    """The agent commits left.txt, loses the commit in some way, and does other work."""
    commit = "echo left > left.txt; git add left.txt; git commit -qm left"
    run(workspace.path, f"{way.format(commit=commit)}; echo own > own.txt")
    collected = seam.hand_over(workspace)
    kept = [ref for remark in collected.remarks for ref in remark.refs]
    assert any("left.txt" in user("ls-tree", "-r", "--name-only", ref) for ref in kept)
    return collected


@pytest.mark.parametrize("way", LEFT)
def test_commits_that_no_branch_has_are_kept(seam: RunSeam, user: UserGit, workspace: Workspace, way: str) -> None:
    collected = left_txt_is_kept(seam, user, workspace, f"({LEFT[way]})")
    assert [remark.asks for remark in collected.remarks] == [False]


def test_left_alone_they_ask_a_person(seam: RunSeam, workspace: Workspace) -> None:
    run(workspace.path, "git checkout -q --detach; echo z > z; git add z; git commit -qm z; git checkout -q -")
    assert codes(seam.hand_over(workspace)) == ["side_work_kept", "work_elsewhere"]


def test_of_very_many_the_newest_are_kept(seam: RunSeam, user: UserGit, workspace: Workspace) -> None:
    run(
        workspace.path,
        "git commit -q --allow-empty -m n; for n in $(seq 30); do git commit -q --allow-empty --amend -m n$n; done",
        "echo o > own",
    )
    collected = seam.hand_over(workspace)
    assert [(remark.code, len(remark.refs)) for remark in collected.remarks] == [("side_work_kept", 20)]


def test_an_agent_s_own_rebase_leaves_nothing_worth_telling_but_the_old_commits(
    seam: RunSeam, user: UserGit, workspace: Workspace
) -> None:
    commits = "for n in 1 2 3; do echo $n > $n; git add $n; git commit -qm $n; done"
    run(workspace.path, f"{commits}; GIT_SEQUENCE_EDITOR='sed -i 1d' git rebase -q -i HEAD~3")
    (remark,) = seam.hand_over(workspace).remarks
    assert remark.refs == ("refs/orchestrion/kept/R1/left/1",)


GONE = {
    "removed worktree": "git worktree add -q --detach ../w; (cd ../w; {commit}); git worktree remove --force ../w",
    "dropped stash": "echo left > left.txt; git add left.txt; git stash -q; git stash drop -q",
    "expired log": "git checkout -qb s; {commit}; git checkout -q -; git branch -qD s; "
    "git reflog expire --expire=now --all",
    "packed": "git checkout -qb s; {commit}; git repack -qad; git checkout -q -; git branch -qD s; rm -rf .git/logs",
}


@pytest.mark.parametrize("way", GONE)
def test_commits_that_nothing_names_any_more_are_kept(
    seam: RunSeam, user: UserGit, workspace: Workspace, way: str
) -> None:
    left_txt_is_kept(seam, user, workspace, GONE[way])


LINKED = {
    "branch": "git checkout -qb s; {commit}; git checkout -q -; git branch -qD s",
    "detached": "git checkout -q --detach; {commit}; git checkout -q -",
    "reset": "{commit}; git reset -q --hard HEAD~1",
    "worktree": "git worktree add -q --detach z; (cd z; {commit}); rm -rf z",
    "other branch": "git switch -qc feat; {commit}; git switch -q -",
    "tag": "{commit}; git tag t; git reset -q --hard HEAD~1",
    "stash": "echo left > left.txt; git add left.txt; git stash -q",
    "stash elsewhere": "git switch -qc feat; echo left > left.txt; git add left.txt; git stash -q; git switch -q -",
    "bisect": "{commit}; git bisect start -q HEAD HEAD~1; git checkout -q HEAD~1",
    "rebase": "{commit}; echo z > z; git add z; git commit -qm z; "
    "GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/;' git rebase -q -i HEAD~2; git checkout -q HEAD~1",
    "autostash": "echo left > left.txt; git add left.txt; git checkout -qb o; git stash -q; echo c > a.txt; "
    "git commit -qam c; git checkout -q -; echo d > a.txt; git commit -qam d; git stash pop -q; "
    "git merge -q --autostash o",
}


@pytest.mark.parametrize("way", LINKED)
def test_in_a_linked_worktree_as_well(seam: RunSeam, user: UserGit, base: str, way: str) -> None:
    user("stash", "push", "-qu", "-m", "the user's own")
    left_txt_is_kept(seam, user, seam.prepare("R1", base, "worktree"), f"({LINKED[way]}) || true")


def test_of_a_linked_worktree_what_is_the_user_s_is_not_the_agent_s(
    seam: RunSeam, user: UserGit, project: Path, base: str
) -> None:
    workspace = seam.prepare("R1", base, "worktree")
    run(project, "echo u > u.txt; git add .; git stash -q; git commit -q --allow-empty -m mine; git branch other")
    run(workspace.path, "echo n > n.txt; git add .; git commit -qm n")
    assert seam.hand_over(workspace).remarks == ()


@pytest.mark.parametrize(
    ("begun", "what"),
    [
        ("GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git rebase -q -i HEAD~1", "rebase"),
        ("git bisect start -q; git bisect bad; git bisect good HEAD~1", "bisect"),
    ],
)
def test_what_is_open_without_a_conflict_is_not_accepted_either(
    seam: RunSeam, workspace: Workspace, begun: str, what: str
) -> None:
    run(workspace.path, "echo 1 > 1; git add 1; git commit -qm 1; echo 2 > 2; git add 2; git commit -qm 2", begun)
    collected = seam.hand_over(workspace)
    assert [(remark.code, what in remark.message) for remark in collected.remarks if remark.asks] == [
        ("open_merge", True)
    ]


def test_a_file_that_only_skip_worktree_hides_is_deleted(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(workspace.path, "git update-index --skip-worktree b.txt; rm b.txt; echo x > y")
    assert changed(user, base, seam.hand_over(workspace).head) == {"b.txt": "D", "y": "A"}


def test_what_the_agent_hides_by_itself_is_kept_and_told(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "echo work > p.txt; mkdir d; echo x > d/x; printf 'p.txt\nd/\n' >> .git/info/exclude; echo o > o",
    )
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"o": "A"}
    assert codes(collected) == ["hidden_left_out"]
    (ref,) = collected.remarks[0].refs
    assert changed(user, base, ref) == {"p.txt": "A", "d/x": "A"}


def test_what_may_be_run_may_be_said_to_git_alone(seam: RunSeam, user: UserGit, project: Path) -> None:
    (project / "tool.sh").write_text("#!/bin/sh\n")
    user("add", "tool.sh")
    user("commit", "-qm", "tool")
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"))
    run(
        workspace.path,
        "echo '#!/bin/sh' > new.sh; git add --chmod=+x new.sh; git update-index --chmod=+x tool.sh; git commit -qm x",
        "echo left > left.sh; chmod +x left.sh",
    )
    head = seam.hand_over(workspace).head
    modes = {line.split("\t")[1]: line.split(" ")[0] for line in user("ls-tree", head).splitlines()}
    assert {modes[name] for name in ("new.sh", "tool.sh", "left.sh")} == {"100755"}


PLUMBED = """t=$(git rev-parse HEAD^{tree}); b=$(echo plumbed | git hash-object -w --stdin)
t=$( (git ls-tree $t; printf '100644 blob %s\\tplumb.txt\\n' $b) | git mktree)
git update-ref HEAD $(git commit-tree -p HEAD -m plumbed $t)"""


@pytest.mark.parametrize("more", ["echo own > own.txt", ""])
def test_a_commit_that_never_was_in_the_folder_is_kept_and_told(
    seam: RunSeam, user: UserGit, workspace: Workspace, more: str
) -> None:
    run(workspace.path, PLUMBED, more)
    collected = seam.hand_over(workspace)
    assert codes(collected) == ["commit_undone", *([] if more else ["work_elsewhere"])]
    assert user("show", f"{collected.remarks[0].refs[0]}:plumb.txt") == "plumbed"


def test_tags_of_the_agent_s_are_kept(seam: RunSeam, user: UserGit, workspace: Workspace) -> None:
    blob = "git tag b $(echo x | git hash-object -w --stdin)"
    run(workspace.path, f"git tag -a v1 -m notes; git tag light; {blob}; echo o > o")
    (remark,) = seam.hand_over(workspace).remarks
    assert [ref.rpartition("/")[2] for ref in remark.refs] == ["b", "light", "v1"]
    assert user("cat-file", "-t", remark.refs[2]) == "tag"


def test_changes_in_a_worktree_inside_a_linked_one_are_kept(seam: RunSeam, user: UserGit, base: str) -> None:
    workspace = seam.prepare("R1", base, "worktree")
    run(workspace.path, "git worktree add -q .wt/d -b sub; echo precious > .wt/d/u.txt; echo y > y.txt")
    collected = seam.hand_over(workspace)
    (ref,) = [ref for remark in collected.remarks for ref in remark.refs if "/worktrees/" in ref]
    assert user("show", f"{ref}:u.txt") == "precious"
    assert codes(collected) == ["side_work_kept"]


def test_an_agent_finds_the_work_of_earlier_attempts_by_name(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(workspace.path, "echo a1 > a1.txt")
    seam.hand_over(workspace)
    again = seam.prepare("R2", base, earlier=["R1", "R7"])
    run(again.path, "git merge -q --no-edit orchestrion/run/R1")
    collected = seam.hand_over(again)
    assert changed(user, base, collected.head) == {"a1.txt": "A"}
    assert collected.remarks == ()


@pytest.mark.parametrize(
    "makes", ["git clone -q --separate-git-dir=../elsewhere . k", "git -C ../other worktree add -q $PWD/k -b kk"]
)
def test_a_repository_whose_git_directory_is_elsewhere_asks(seam: RunSeam, workspace: Workspace, makes: str) -> None:
    other = workspace.path.parent / "other"
    run(workspace.path.parent, "git init -q other; git -C other commit -q --allow-empty -m c")
    run(workspace.path, f"echo n > n; {makes}; echo mine > k/mine")
    assert other.exists()
    collected = seam.hand_over(workspace)
    assert [(remark.code, remark.asks) for remark in collected.remarks] == [("nested_left_out", True)]


def test_a_sparse_checkout_deletes_nothing(seam: RunSeam, user: UserGit, base: str, workspace: Workspace) -> None:
    run(workspace.path, "git sparse-checkout set src; echo y > src/y; rm src/main.py")
    collected = seam.hand_over(workspace)
    assert changed(user, base, collected.head) == {"src/y": "A", "src/main.py": "D"}


# -- what git cannot take ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(seam: RunSeam, workspace: Workspace) -> None:
    run(workspace.path, "mkdir no; echo x > no/x; echo n > n.txt; chmod 000 no")
    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)
    (workspace.path / "no").chmod(0o700)
    assert (refused.value.code, refused.value.details["files"]) == ("left_uncommitted", ["no"])


def test_a_file_whose_content_git_refuses_is_named_and_the_others_are_taken(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "printf '*.u working-tree-encoding=UTF-16\\n' > .gitattributes; echo notutf16 > bad.u; echo n > n.txt",
    )
    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)
    assert (refused.value.code, refused.value.details["files"]) == ("left_uncommitted", ["bad.u"])
    seam.publish(workspace, refused.value.work.head)
    assert changed(user, base, refused.value.work.head) == {".gitattributes": "A", "n.txt": "A"}


# -- how our commits look -------------------------------------------------------------------------------


def test_the_settings_say_how_commits_look(project: Path, home: Path, user: UserGit, base: str) -> None:
    style = CommitStyle("Bot", "bot@x.example", signoff=True, message="chore({plan}): {title} [{task}]")
    seam = RunSeam(project, home, style)
    workspace = seam.prepare("R1", base)
    (workspace.path / "x").write_text("x")
    subject = style.subject(title="Write it", task="T3", run="R1", plan="p")
    head = seam.hand_over(workspace, subject).head
    assert user("log", "-1", "--format=%an <%ae>|%cn|%s|%(trailers:only,unfold,separator=%x2C)", head) == (
        "Bot <bot@x.example>|Bot|chore(p): Write it [T3]|Orchestrion-Run: R1,Signed-off-by: Bot <bot@x.example>"
    )


@pytest.mark.parametrize(
    ("settings", "environ", "author", "by"),
    [
        ({}, {}, "User <user@example.org>", "User"),
        ({"author.name": "A", "committer.name": "C"}, {}, "A <user@example.org>", "C"),
        ({}, {"GIT_AUTHOR_NAME": "E", "GIT_AUTHOR_EMAIL": "e@e"}, "E <e@e>", "User"),
        ({"user.name": ""}, {}, "Orchestrion <orchestrion@localhost>", "Orchestrion"),
    ],
)
def test_whose_commits_they_are(
    seam: RunSeam, user: UserGit, base: str, monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str], environ: dict[str, str], author: str, by: str,
) -> None:  # fmt: skip
    for key, value in settings.items():
        user("config", key, value)
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    workspace = seam.prepare("R1", base)
    (workspace.path / "x").write_text("x")
    head = seam.hand_over(workspace).head
    assert user("log", "-1", "--format=%an <%ae> %cn", head) == f"{author} {by}"


@pytest.mark.parametrize("program", ["exit 1", "sleep 60"])
def test_a_signature_that_fails_or_hangs_says_so(
    project: Path, home: Path, user: UserGit, base: str, tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrion.runs.commits.SIGN_S", 1.0)
    fake = tmp_path / "gpg"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    user("config", "gpg.program", fake)
    seam = RunSeam(project, home, CommitStyle(sign=True))
    workspace = seam.prepare("R1", base)
    (workspace.path / "x").write_text("x")
    with pytest.raises(Exception, match="signed") as refused:
        seam.collect(workspace)
    assert getattr(refused.value, "code", None) == "signing_failed"


def test_a_signature_by_an_ssh_key(project: Path, home: Path, user: UserGit, base: str, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    user("config", "gpg.format", "ssh")
    user("config", "user.signingKey", tmp_path / "key")
    seam = RunSeam(project, home, CommitStyle(sign=True))
    workspace = seam.prepare("R1", base, signs=True)
    (workspace.path / "x").write_text("x")
    head = seam.hand_over(workspace).head
    assert "gpgsig -----BEGIN SSH SIGNATURE-----" in user("cat-file", "commit", head)
    run(workspace.path, "git add x; git commit -qm own")
    assert "BEGIN SSH SIGNATURE" in user("cat-file", "commit", "HEAD", at=workspace.path)
