"""Workspaces: a real project, real agents' messes, and nothing lost."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from user_git import UserGit

from orchestrion.core.errors import EnvironmentProblem, GitProblem, InvalidInput
from orchestrion.runs import workspaces
from orchestrion.runs.git import Git
from orchestrion.runs.workspaces import FileChange, Workspace

both = pytest.mark.parametrize("isolation", workspaces.ISOLATIONS)


@pytest.fixture
def base(user: UserGit) -> str:
    return user("rev-parse", "HEAD")


# -- where ------------------------------------------------------------------------------


def test_home_follows_the_state_directory_and_the_real_path(tmp_path: Path) -> None:
    project = tmp_path / "My Ünique_Project!"
    project.mkdir()
    (tmp_path / "link").symlink_to(project)
    digest = hashlib.sha256(os.fsencode(project.resolve())).hexdigest()[:8]

    home = workspaces.workspaces_home(project, {"XDG_STATE_HOME": "/state", "HOME": "/me"})

    assert home == Path(f"/state/orchestrion/my-nique_project-{digest}/workspaces")
    assert workspaces.workspaces_home(tmp_path / "link", {"XDG_STATE_HOME": "/state"}) == home
    default = Path(f"/me/.local/state/orchestrion/{home.parent.name}/workspaces")
    assert workspaces.workspaces_home(project, {"HOME": "/me"}) == default
    assert workspaces.workspaces_home(project, {"HOME": "/me", "XDG_STATE_HOME": "relative"}) == default


def test_port_offsets_are_ranges_of_ten() -> None:
    assert [workspaces.port_offset(n) for n in (1, 2, 199, 200, 201)] == [10, 20, 1990, 0, 10]


# -- prepare ----------------------------------------------------------------------------


@both
def test_a_workspace_is_the_base_on_a_branch_of_its_own(
    project: Path, home: Path, user: UserGit, isolation: str
) -> None:
    user("tag", "v1")
    base = user("rev-parse", "HEAD")
    user("commit", "--allow-empty", "-qm", "later")

    workspace = workspaces.prepare(project, home, "R31", base, isolation)

    assert workspace == Workspace(home / "R31", "orchestrion/run/R31", base, isolation)
    assert user("symbolic-ref", "HEAD", at=workspace.path) == "refs/heads/orchestrion/run/R31"
    assert user("rev-parse", "HEAD", at=workspace.path) == base
    assert user("status", "--porcelain", at=workspace.path) == ""
    assert user("describe", "--tags", at=workspace.path) == "v1"
    assert (workspace.path / "src" / "main.py").read_text() == "print('hello')\n"


def test_a_clone_shares_neither_settings_nor_stash_nor_hooks(project: Path, home: Path, user: UserGit) -> None:
    user("config", "user.name", "Only here")
    (project / ".git" / "hooks" / "post-checkout").write_text("#!/bin/sh\ntouch ran\n")
    (project / ".git" / "hooks" / "post-checkout").chmod(0o755)
    template = project.parent / "template"
    (template / "hooks").mkdir(parents=True)
    (template / "hooks" / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    user("config", "--global", "init.templateDir", template)
    user("config", "--global", "commit.gpgSign", "true")
    user("branch", "feature")
    user("update-ref", "refs/heads/orchestrion/run/R1", "HEAD")
    (project / "a.txt").write_text("stashed")
    user("stash", "-q")

    path = workspaces.prepare(project, home, "R2", user("rev-parse", "HEAD")).path

    assert user("config", "user.name", at=path) == "User"
    assert user("config", "--type=bool", "commit.gpgsign", at=path) == "false"
    assert user("stash", "list", at=path) == ""
    assert not (path / "ran").exists()
    assert not (path / ".git" / "hooks").exists()
    assert "orchestrion/run/R1" not in user("branch", "-a", at=path)
    assert [len(files) for _, _, files in os.walk(path / ".git" / "objects")] == [0, 1, 0]  # Only info/alternates.


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://example.org/x.git", "https://example.org/x.git"),
        ("git@example.org:x.git", "git@example.org:x.git"),
        ("../up.git", "{parent}/up.git"),
        (None, None),
    ],
)
def test_origin_is_the_upstream_and_never_the_project(
    project: Path, home: Path, user: UserGit, base: str, url: str | None, seen: str | None
) -> None:
    if url:
        user("remote", "add", "origin", url)

    path = workspaces.prepare(project, home, "R1", base).path

    remotes = user("remote", at=path)
    assert remotes == ("origin" if seen else "")
    if seen:
        assert user("remote", "get-url", "origin", at=path) == seen.format(parent=project.parent)


def test_another_remote_stands_in_for_origin(project: Path, home: Path, user: UserGit, base: str) -> None:
    user("remote", "add", "fork.mine", "https://example.org/fork.git")
    path = workspaces.prepare(project, home, "R1", base).path
    assert user("remote", "get-url", "origin", at=path) == "https://example.org/fork.git"


@pytest.mark.parametrize("state", ["unborn", "detached", "linked", "shallow", "partial"])
def test_projects_in_odd_states(
    project: Path, home: Path, user: UserGit, base: str, state: str, tmp_path: Path
) -> None:
    folder = project
    if state == "unborn":
        user("checkout", "-q", "--orphan", "fresh")
    elif state == "detached":
        user("checkout", "-q", "--detach")
    elif state == "linked":
        folder = tmp_path / "linked"
        user("worktree", "add", "-q", folder)
    else:
        user("commit", "--allow-empty", "-qm", "second")
        user("config", "uploadpack.allowFilter", "true")
        folder = tmp_path / "copy"
        user(
            "clone", "-q", {"shallow": "--depth=1", "partial": "--filter=blob:none"}[state], f"file://{project}", folder
        )
        base = user("rev-parse", "HEAD", at=folder)
    # The plan is beyond every branch of the user.
    base = user("commit-tree", "-p", base, "-m", "plan", f"{base}^{{tree}}", at=folder)
    user("update-ref", "refs/orchestrion/plans/p", base, at=folder)

    workspace = workspaces.prepare(folder, home, "R1", base)
    (workspace.path / "new.txt").write_text("new\n")
    head = workspaces.commit_leftovers(workspace, "work")
    workspaces.publish(folder, workspace, head)

    assert user("rev-parse", "refs/heads/orchestrion/run/R1", at=folder) == head
    assert user("diff", "--name-only", base, head, at=folder) == "new.txt"
    assert workspaces.remove(folder, workspace.path)


@both
def test_a_second_prepare_makes_it_anew(project: Path, home: Path, base: str, isolation: str) -> None:
    first = workspaces.prepare(project, home, "R1", base, isolation)
    (first.path / "debug.log").write_text("ignored")

    assert workspaces.prepare(project, home, "R1", base, isolation) == first

    assert not (first.path / "debug.log").exists()
    assert sorted(entry.name for entry in home.iterdir()) == ["R1"]


@both
@pytest.mark.parametrize("work", ["change", "deletion", "untracked", "commit", "published"])
def test_work_at_its_place_is_moved_aside(
    project: Path, home: Path, user: UserGit, base: str, isolation: str, work: str
) -> None:
    old = workspaces.prepare(project, home, "R1", base, isolation)
    if work == "deletion":
        (old.path / "a.txt").unlink()
    else:
        (old.path / ("new.txt" if work == "untracked" else "a.txt")).write_text("work\n")
    if work in ("commit", "published"):
        user("commit", "-qam", "work", at=old.path)
    if work == "published":
        workspaces.publish(project, old, user("rev-parse", "HEAD", at=old.path))
    state = user("rev-parse", "HEAD", at=old.path), user("status", "--porcelain", at=old.path)

    new = workspaces.prepare(project, home, "R1", base, isolation)

    assert sorted(entry.name for entry in home.iterdir()) == ["R1", "R1.kept-1"]
    kept = home / "R1.kept-1"
    assert (user("rev-parse", "HEAD", at=kept), user("status", "--porcelain", at=kept)) == state
    assert user("rev-parse", "HEAD", at=new.path) == base
    assert user("status", "--porcelain", at=new.path) == ""
    (new.path / "a.txt").write_text("more work\n")
    workspaces.prepare(project, home, "R1", base, isolation)
    assert (home / "R1.kept-2" / "a.txt").read_text() == "more work\n"


def test_a_clone_cut_short_anywhere_is_made_anew(project: Path, home: Path, base: str) -> None:
    """As after a kill: before and in the middle of the clone, and in the middle of the checkout."""
    (home / "R1").mkdir(parents=True)
    assert workspaces.prepare(project, home, "R1", base).path.is_dir()

    (home / "R2" / ".git" / "objects" / "info").mkdir(parents=True)
    (home / "R2" / ".git" / "HEAD.lock").touch()
    assert workspaces.prepare(project, home, "R2", base).path.is_dir()

    half = workspaces.prepare(project, home, "R3", base).path
    note = half / ".git" / "orchestrion.json"
    note.write_text(note.read_text().replace("true", "false"))
    (half / ".git" / "index").unlink()
    (half / ".git" / "index.lock").touch()
    (half / "b.txt").unlink()
    shutil.rmtree(half / "src")
    assert workspaces.prepare(project, home, "R3", base).path == half
    assert (half / "src" / "main.py").exists()

    assert sorted(entry.name for entry in home.iterdir()) == ["R1", "R2", "R3"]


def test_a_worktree_cut_short_is_made_anew(project: Path, home: Path, base: str) -> None:
    half = workspaces.prepare(project, home, "R1", base, "worktree").path
    admin = project / ".git" / "worktrees" / "R1"
    (admin / "orchestrion.json").unlink()
    (admin / "index").unlink()
    (half / "b.txt").unlink()
    assert workspaces.prepare(project, home, "R1", base, "worktree").path == half

    shutil.rmtree(half)  # Only the entry in the project is left.
    assert workspaces.prepare(project, home, "R1", base, "worktree").path == half

    assert (half / "b.txt").exists()
    assert [entry.name for entry in home.iterdir()] == ["R1"]
    assert [entry.name for entry in admin.parent.iterdir()] == ["R1"]


def test_what_is_no_workspace_is_moved_aside_too(project: Path, home: Path, base: str) -> None:
    (home / "R1").mkdir(parents=True)
    (home / "R1" / "precious.txt").write_text("mine")
    (home / "R2").write_text("a file")
    (home / "R3").symlink_to(project)

    for run in ("R1", "R2", "R3"):
        workspaces.prepare(project, home, run, base)

    assert (home / "R1.kept-1" / "precious.txt").read_text() == "mine"
    assert (home / "R2.kept-1").read_text() == "a file"
    assert (home / "R3.kept-1").is_symlink()
    assert (project / "a.txt").exists()


def test_a_worktree_does_not_take_commits_from_a_branch_of_its_name(
    project: Path, home: Path, user: UserGit, base: str
) -> None:
    old = user("commit-tree", "-p", base, "-m", "old", f"{base}^{{tree}}")
    user("update-ref", "refs/heads/orchestrion/run/R1", old)

    workspaces.prepare(project, home, "R1", base, "worktree")

    assert user("rev-parse", "orchestrion/run/R1.kept-1") == old
    assert user("rev-parse", "orchestrion/run/R1") == base


@pytest.mark.parametrize("run", ["", "..", "../R1", "R1/x", "/R1", "R1\0", "-R1", "merge R1", "R1\n"])
def test_a_run_id_cannot_lead_elsewhere(project: Path, home: Path, base: str, run: str) -> None:
    with pytest.raises(InvalidInput):
        workspaces.prepare(project, home, run, base)
    assert not home.exists()


def test_wrong_isolation_unknown_base_and_a_disk_that_refuses(project: Path, home: Path, base: str) -> None:
    with pytest.raises(InvalidInput) as invalid:
        workspaces.prepare(project, home, "R1", base, "container")
    assert "clone, worktree" in invalid.value.hint
    with pytest.raises(GitProblem):
        workspaces.prepare(project, home, "R1", "1" * 40)
    home.parent.mkdir(exist_ok=True)
    with pytest.raises(EnvironmentProblem) as refused:
        workspaces.prepare(project, project / "a.txt" / "home", "R1", base)
    assert refused.value.code == "workspace_disk"


@both
@pytest.mark.parametrize("files", [5, 150])
def test_a_workspace_with_files_missing_is_none(
    project: Path, home: Path, user: UserGit, isolation: str, files: int
) -> None:
    """Many files are written by several processes of git; when one of those is killed, the others go on."""
    for number in range(files):
        (project / f"file-{number:03}").write_text(f"{number}\n")
    (project / "file-000").write_bytes(os.urandom(200_000))
    user("add", "-A")
    user("commit", "-qm", "many")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(GitProblem):
            workspaces.prepare(project, home, "R1", user("rev-parse", "HEAD"), isolation)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    workspace = workspaces.prepare(project, home, "R1", user("rev-parse", "HEAD"), isolation)
    assert user("status", "--porcelain", at=workspace.path) == ""


# -- .worktreeinclude ---------------------------------------------------------------------


@both
def test_included_files_are_copied_and_never_committed(
    project: Path, home: Path, user: UserGit, base: str, isolation: str
) -> None:
    (project / ".worktreeinclude").write_text(".env\nlocal [1]#.txt\nlocal \\[1\\]#.txt\ntools/\n*.py\n!tools/*.tmp\n")
    (project / ".env").write_text("SECRET=1")  # Ignored by git.
    (project / "local [1]#.txt").write_text("local")  # Not ignored.
    (project / "tools").mkdir()
    (project / "tools" / "run.sh").write_text("#!/bin/sh\n")
    (project / "tools" / "run.sh").chmod(0o755)
    (project / "unlisted.txt").write_text("no")
    (project / "src" / "main.py").write_text("changed by the user")

    workspace = workspaces.prepare(project, home, "R1", base, isolation)
    path = workspace.path

    assert (path / ".env").read_text() == "SECRET=1"
    assert (path / "local [1]#.txt").read_text() == "local"
    assert os.access(path / "tools" / "run.sh", os.X_OK)
    assert not (path / "unlisted.txt").exists()
    assert (path / "src" / "main.py").read_text() == "print('hello')\n"
    if isolation == "clone":
        assert user("status", "--porcelain", at=path) == ""

    (path / ".env").write_text("SECRET=2")
    assert workspaces.commit_leftovers(workspace, "nothing") == base
    (path / "work.txt").write_text("work")
    head = workspaces.commit_leftovers(workspace, "work")
    assert user("diff", "--name-only", base, head, at=path) == "work.txt"
    workspaces.publish(project, workspace, head)
    assert workspaces.remove(project, path)


def test_included_links_do_not_lead_out_of_the_project(
    project: Path, home: Path, user: UserGit, base: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_text("key")
    (project / ".worktreeinclude").write_text("links/\ndata/\n")
    (project / "links").mkdir()
    (project / "links" / "absolute").symlink_to(outside / "key")
    (project / "links" / "relative").symlink_to("../../outside/key")
    (project / "links" / "folder").symlink_to(outside)
    (project / "links" / "inside").symlink_to("../a.txt")
    (project / "links" / "own").symlink_to(project / "a.txt")
    user("init", "-q", project / "links" / "nested")
    # In the base, data is a link out of the repository; here it is a folder.
    (project / "data").symlink_to(outside)
    user("add", "data")
    user("commit", "-qm", "link")
    (project / "data").unlink()
    (project / "data").mkdir()
    (project / "data" / "file").write_text("must not go outside")

    path = workspaces.prepare(project, home, "R1", user("rev-parse", "HEAD")).path

    assert [entry.name for entry in (path / "links").iterdir()] == ["inside"]
    assert str((path / "links" / "inside").readlink()) == "../a.txt"
    assert [entry.name for entry in outside.iterdir()] == ["key"]


# -- leftovers ----------------------------------------------------------------------------


@both
def test_leftovers_are_one_commit_of_ours(project: Path, home: Path, user: UserGit, base: str, isolation: str) -> None:
    workspace = workspaces.prepare(project, home, "R1", base, isolation)
    path = workspace.path
    strange = os.fsdecode(b"caf\xe9 \xff\n.txt")
    (path / "a.txt").unlink()
    (path / "b.txt").write_text("changed\n")
    (path / "debug.log").write_text("ignored")
    (path / "deep" / "er").mkdir(parents=True)
    (path / "deep" / "er" / strange).write_text("new")
    (path / "crlf.txt").write_bytes(b"one\r\ntwo\n")
    user("config", "core.safecrlf", "true", at=path)
    user("config", "core.autocrlf", "input", at=path)
    user("config", "status.showUntrackedFiles", "no", at=path)

    head = workspaces.commit_leftovers(workspace, "Title\n\n# Not a comment\nTask T1")

    assert user("log", "-1", "--format=%an %ce%n%B", head, at=path) == (
        "Orchestrion orchestrion@localhost\nTitle\n\n# Not a comment\nTask T1"
    )
    assert user("rev-list", "--parents", "-1", head, at=path) == f"{head} {base}"
    names = Git(path).lines("diff", "--name-status", "-z", base, head)
    assert names == ["D", "a.txt", "M", "b.txt", "A", "crlf.txt", "A", f"deep/er/{strange}"]
    assert workspaces.commit_leftovers(workspace, "again") == head


@both
def test_leftovers_whatever_state_git_was_left_in(
    project: Path, home: Path, user: UserGit, base: str, isolation: str
) -> None:
    workspace = workspaces.prepare(project, home, "R1", base, isolation)
    path = workspace.path
    git_dir = Path(user("rev-parse", "--absolute-git-dir", at=path))

    def left(name: str) -> str:
        (path / name).write_text(name)
        (git_dir / "index.lock").touch()
        (git_dir / "HEAD.lock").touch()
        head = workspaces.commit_leftovers(workspace, name)
        assert user("status", "--porcelain", at=path) == ""
        assert user("show", f"{head}:{name}", at=path) == name
        assert head == user("rev-parse", "HEAD", at=path)
        return head

    user("checkout", "-q", "--detach", at=path)
    left("detached")
    user("checkout", "-q", "-b", "other", at=path)
    other = left("branch")

    user("checkout", "-q", "orchestrion/run/R1", at=path)
    (path / "a.txt").write_text("mine\n")
    user("commit", "-qam", "mine", at=path)
    user("checkout", "-q", "other", at=path)
    (path / "a.txt").write_text("theirs\n")
    user("commit", "-qam", "theirs", at=path)
    theirs = user("rev-parse", "HEAD", at=path)
    user("checkout", "-q", "orchestrion/run/R1", at=path)
    assert subprocess.run(["git", "merge", "-q", "other"], cwd=path, capture_output=True).returncode == 1
    head = left("merging")
    assert user("rev-parse", f"{head}^2", at=path) == theirs
    assert Git(path).is_ancestor(other, head)

    user("checkout", "-q", "-b", "third", base, at=path)
    (path / "a.txt").write_text("third\n")
    user("commit", "-qam", "third", at=path)
    assert subprocess.run(["git", "rebase", "-q", "other"], cwd=path, capture_output=True).returncode == 1
    left("rebasing")
    subprocess.run(["git", "rebase", "--quit"], cwd=path, check=True)

    assert subprocess.run(["git", "cherry-pick", head, "-m1"], cwd=path, capture_output=True).returncode == 1
    left("picking")
    user("checkout", "-q", "--orphan", "orphan", at=path)
    user("rm", "-rqf", ".", at=path)
    left("orphan")
    shutil.rmtree(path / ".git" / "hooks", ignore_errors=True)
    left("no-hooks")


def test_a_merge_that_was_resolved_without_a_change_is_concluded(
    project: Path, home: Path, user: UserGit, base: str
) -> None:
    workspace = workspaces.prepare(project, home, "R1", base)
    user("checkout", "-q", "-b", "other", at=workspace.path)
    user("commit", "--allow-empty", "-qm", "other", at=workspace.path)
    user("checkout", "-q", "orchestrion/run/R1", at=workspace.path)
    user("merge", "-q", "--no-ff", "--no-commit", "other", at=workspace.path)

    head = workspaces.commit_leftovers(workspace, "merged")

    assert user("rev-parse", f"{head}^2", at=workspace.path) == user("rev-parse", "other", at=workspace.path)


@pytest.mark.parametrize("added", ["untracked", "staged", "committed"])
def test_repositories_inside_the_workspace_are_kept_as_files(
    project: Path, home: Path, user: UserGit, base: str, added: str
) -> None:
    workspace = workspaces.prepare(project, home, "R1", base)
    path = workspace.path
    user("init", "-q", path / "inner")
    (path / "inner" / ".gitignore").write_text("*.tmp\n")
    (path / "inner" / "x.tmp").write_text("ignored")
    (path / "inner" / "code.py").write_text("one")
    user("init", "-q", path / "inner" / "deeper")
    (path / "inner" / "deeper" / "deep.txt").write_text("deep")
    if added != "untracked":
        user("add", "code.py", at=path / "inner")
        user("commit", "-qm", "inner", at=path / "inner")
        user("-c", "advice.addEmbeddedRepo=false", "add", "inner", at=path)
    if added == "committed":
        user("commit", "-qm", "oops", at=path)
    user("init", "-q", path / "empty")
    (path / "plain.txt").write_text("plain")

    head = workspaces.commit_leftovers(workspace, "work")

    files = user("ls-tree", "-r", "--name-only", head, at=path).splitlines()
    assert set(files) - {"a.txt", "b.txt", "src/main.py", ".gitignore"} == {
        "inner/.gitignore",
        "inner/code.py",
        "inner/deeper/deep.txt",
        "plain.txt",
    }
    workspaces.publish(project, workspace, head)
    assert user("show", f"{head}:inner/code.py") == "one"

    (path / "inner" / "more.py").write_text("two")
    again = workspaces.commit_leftovers(workspace, "more")
    assert user("diff", "--name-only", head, again, at=path) == "inner/more.py"
    workspaces.publish(project, workspace, again)
    # Commits that exist only in the inner repository keep the workspace.
    assert workspaces.remove(project, path) == (added == "untracked")


def test_submodules_and_own_worktrees_are_not_taken_for_work(
    project: Path, home: Path, user: UserGit, tmp_path: Path, base: str
) -> None:
    user("clone", "-q", project, tmp_path / "library")
    workspace = workspaces.prepare(project, home, "R1", base)
    path = workspace.path
    user("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", tmp_path / "library", "library", at=path)
    user("worktree", "add", "-q", "-b", "side", path / "side", at=path)

    head = workspaces.commit_leftovers(workspace, "work")

    assert user("diff", "--name-only", base, head, at=path).splitlines() == [".gitmodules", "library"]
    assert user("ls-tree", head, "library", at=path).startswith("160000 commit")
    workspaces.publish(project, workspace, head)
    (path / "side" / "a.txt").write_text("work")
    assert not workspaces.remove(project, path)
    user("checkout", "-q", "a.txt", at=path / "side")
    user("commit", "--allow-empty", "-qm", "in the submodule", at=path / "library")
    user("config", "submodule.library.ignore", "all", at=path)
    user("reset", "-q", "--hard", head, at=path)
    assert not workspaces.remove(project, path)
    user("reset", "-q", "--hard", "origin/main", at=path / "library")
    assert workspaces.remove(project, path)


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_committed(
    project: Path, home: Path, user: UserGit, base: str
) -> None:
    workspace = workspaces.prepare(project, home, "R1", base)
    (workspace.path / "good.txt").write_text("good")
    (workspace.path / "git~1").write_text("a name that git refuses")

    with pytest.raises(GitProblem) as refused:
        workspaces.commit_leftovers(workspace, "work")

    assert refused.value.code == "left_uncommitted"
    assert "git~1" in refused.value.message
    assert user("show", "HEAD:good.txt", at=workspace.path) == "good"
    assert not workspaces.remove(project, workspace.path)


def test_without_its_repository_nothing_further_up_is_touched(
    project: Path, tmp_path: Path, user: UserGit, base: str
) -> None:
    (project / "work").mkdir()
    workspace = workspaces.prepare(project, project / "work", "R1", base)
    shutil.rmtree(workspace.path / ".git")

    with pytest.raises(GitProblem) as refused:
        workspaces.commit_leftovers(workspace, "work")

    assert refused.value.code == "not_a_repository"
    assert user("rev-parse", "HEAD") == base
    assert user("diff", "--cached", "--name-only") == ""
    assert not workspaces.remove(project, workspace.path)


# -- publish and changes ------------------------------------------------------------------


@both
def test_publishing_again_replaces_the_run_branch(
    project: Path, home: Path, user: UserGit, base: str, isolation: str
) -> None:
    workspace = workspaces.prepare(project, home, "R1", base, isolation)
    for go in ("one", "two"):
        user("checkout", "-q", "-B", f"go-{go}", base, at=workspace.path)  # Not the branch it was given.
        (workspace.path / "go.txt").write_text(go)
        head = workspaces.commit_leftovers(workspace, go)
        user("tag", f"tag-{go}", at=workspace.path)
        workspaces.publish(project, workspace, head)
        assert user("show", "orchestrion/run/R1:go.txt") == go
    assert not (project / ".git" / "FETCH_HEAD").exists()
    if isolation == "clone":
        assert user("tag") == ""


def test_a_run_branch_that_is_checked_out_stays(project: Path, home: Path, user: UserGit, base: str) -> None:
    workspace = workspaces.prepare(project, home, "R1", base)
    workspaces.publish(project, workspace, base)
    user("checkout", "-q", "orchestrion/run/R1")
    (workspace.path / "a.txt").write_text("work\n")
    head = workspaces.commit_leftovers(workspace, "work")

    workspaces.publish(project, workspace, head)

    assert user("rev-parse", "HEAD") == base
    assert user("status", "--porcelain") == ""
    assert user("cat-file", "-t", head) == "commit"
    assert not workspaces.remove(project, workspace.path)


def test_a_branch_in_the_way_is_named(project: Path, home: Path, user: UserGit, base: str) -> None:
    user("branch", "orchestrion")
    workspace = workspaces.prepare(project, home, "R1", base)
    with pytest.raises(GitProblem) as refused:
        workspaces.publish(project, workspace, base)
    assert refused.value.code == "name_taken"


def test_changes_are_exact(project: Path, home: Path, user: UserGit, base: str) -> None:
    workspace = workspaces.prepare(project, home, "R1", base)
    path = workspace.path
    strange = os.fsdecode(b"new \xff\n.txt")
    (path / strange).write_text("1\n2\n3\n")
    (path / strange).chmod(0o755)
    (path / "a.txt").write_text("changed\n" + "a\n" * 19)
    shutil.copy(path / "a.txt", path / "copy.txt")
    (path / "b.txt").rename(path / "moved.txt")
    (path / "src" / "main.py").unlink()
    (path / "image.bin").write_bytes(b"\0\1\2")
    (path / "link").symlink_to("a.txt")

    head = workspaces.commit_leftovers(workspace, "work")
    found = {change.path: change for change in workspaces.changes(workspace, base, head)}

    def sha(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    changed = b"changed\n" + b"a\n" * 19
    assert found == {
        strange: FileChange(strange, "created", None, 3, 0, sha(b"1\n2\n3\n"), 6, "100755"),
        "a.txt": FileChange("a.txt", "modified", None, 1, 1, sha(changed), 46, "100644"),
        "copy.txt": FileChange("copy.txt", "copied", "a.txt", 1, 1, sha(changed), 46, "100644"),
        "moved.txt": FileChange("moved.txt", "moved", "b.txt", 0, 0, sha(b"b\n" * 20), 40, "100644"),
        "src/main.py": FileChange("src/main.py", "deleted", None, 0, 1, None, None, None),
        "image.bin": FileChange("image.bin", "created", None, None, None, sha(b"\0\1\2"), 3, "100644"),
        "link": FileChange("link", "created", None, 1, 0, sha(b"a.txt"), 5, "120000"),
    }
    assert workspaces.changes(workspace, head, head) == []


# -- remove and sweep ---------------------------------------------------------------------


@both
def test_only_saved_work_may_go(project: Path, home: Path, user: UserGit, base: str, isolation: str) -> None:
    workspace = workspaces.prepare(project, home, "R1", base, isolation)
    path = workspace.path

    (path / "new.txt").write_text("new")
    assert not workspaces.remove(project, path)
    user("checkout", "-q", "--detach", at=path)
    head = workspaces.commit_leftovers(workspace, "work")
    if isolation == "clone":
        assert not workspaces.remove(project, path)
    workspaces.publish(project, workspace, head)
    (path / "a.txt").unlink()
    assert not workspaces.remove(project, path)
    user("checkout", "-q", "a.txt", at=path)
    (path / "build.log").write_text("ignored files are no work")

    assert workspaces.remove(project, path)

    assert list(home.iterdir()) == []
    assert user("show", "orchestrion/run/R1:new.txt") == "new"
    assert user("worktree", "list", "--porcelain").count("worktree ") == 1
    assert workspaces.remove(project, path)


def test_commits_on_a_side_branch_or_in_the_stash_keep_a_workspace(
    project: Path, home: Path, user: UserGit, base: str
) -> None:
    for run, commands in {
        "R1": (["checkout", "-qb", "side"], ["commit", "-qam", "side"], ["checkout", "-q", base]),
        "R2": (["stash", "-q"],),
        "R3": (["commit", "-qam", "tagged"], ["tag", "t"], ["reset", "-q", "--hard", base]),
        "R4": (["worktree", "add", "-q", "-b", "x", "../elsewhere"], ["checkout", "-q", "a.txt"]),
        "R5": (["checkout", "-q", "a.txt"],),
    }.items():
        path = workspaces.prepare(project, home, run, base).path
        (path / "a.txt").write_text("work")
        for command in commands:
            user(*command, at=path)
        if run == "R4":
            (home / "elsewhere" / "a.txt").write_text("more")
        if run == "R5":
            (path / ".git" / "lfs" / "objects" / "ab").mkdir(parents=True)
        assert user("status", "--porcelain", at=path) == ""
        assert not workspaces.remove(project, path), run


def test_what_came_from_upstream_is_not_work(
    project: Path, home: Path, user: UserGit, base: str, tmp_path: Path
) -> None:
    user("clone", "-q", project, tmp_path / "upstream")
    user("remote", "add", "origin", tmp_path / "upstream")
    user("commit", "--allow-empty", "-qm", "newer", at=tmp_path / "upstream")
    workspace = workspaces.prepare(project, home, "R1", base)
    user("fetch", "-q", at=workspace.path)

    assert workspaces.remove(project, workspace.path)


def test_removing_never_means_the_project(project: Path, user: UserGit, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    for path in (project, project.parent, tmp_path / "link"):
        assert not workspaces.remove(project, path)
    assert (project / ".git").is_dir()


def test_other_stale_worktrees_of_the_user_are_not_pruned(
    project: Path, home: Path, user: UserGit, base: str, tmp_path: Path
) -> None:
    user("worktree", "add", "-q", "-b", "usb", tmp_path / "usb")
    (tmp_path / "usb").rename(tmp_path / "unplugged")
    workspace = workspaces.prepare(project, home, "R1", base, "worktree")

    assert workspaces.remove(project, workspace.path)

    assert [entry.name for entry in (project / ".git" / "worktrees").iterdir()] == ["usb"]


def test_folders_without_permissions_go_too(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "z").touch()
    (tmp_path / "x" / "y").chmod(0o000)
    (tmp_path / "x").chmod(0o500)
    workspaces.delete_tree(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_sweep_takes_the_old_and_then_the_oldest(project: Path, home: Path, user: UserGit, base: str) -> None:
    now = time.time()
    for number in range(1, 7):
        path = workspaces.prepare(project, home, f"R{number}", base).path
        if number == 2:
            (path / "work.txt").write_text("work")
        _age(path, now - 1000 * (10 - number))
    (home / ".removed-R0-1").mkdir()
    (home / "merge-p").mkdir()
    _age(home / "merge-p", now - 9000)
    size = workspaces._size(home / "R1")

    assert workspaces.sweep(project, home, {"R1"}, None, None, now) == []
    assert not (home / ".removed-R0-1").exists()
    # Older than 7,500 s: merge-p, R1 (kept), R2 (holds work).
    assert workspaces.sweep(project, home, {"R1"}, 7_500, None, now) == ["merge-p"]
    assert workspaces.sweep(project, home, set(), 7_500, None, now) == ["R1"]
    # R2 is counted but stays; R3 and R4 make room, R5 and R6 fit.
    assert workspaces.sweep(project, home, set(), 7_500, 3 * size + size // 2, now) == ["R3", "R4"]
    assert sorted(entry.name for entry in home.iterdir()) == ["R2", "R5", "R6", "merge-p.lock"]
    assert workspaces.sweep(project, home / "none", set(), 1, 1, now) == []


def _age(path: Path, moment: float) -> None:
    for folder, names, files in os.walk(path):
        for name in [*names, *files]:
            os.utime(Path(folder, name), (moment, moment))
    os.utime(path, (moment, moment))
