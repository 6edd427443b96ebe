"""A workspace is made: at a commit, on a branch of its own, with what the project hands on."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import EnvironmentProblem, GitProblem, InvalidInput
from orchestrion.runs.workspace import places, ports, prepare
from orchestrion.runs.workspace.places import ISOLATIONS, Workspace

both = pytest.mark.parametrize("isolation", ISOLATIONS)


def workspaces_in(home: Path) -> list[str]:
    """What lies there, without the git directories of ours beside the workspaces: each of those has its workspace."""
    names = sorted(entry.name for entry in home.iterdir())
    assert {name.removesuffix(".git") for name in names if name.endswith(".git")} <= set(names)
    return [name for name in names if not name.endswith(".git")]


@pytest.fixture
def base(user: UserGit) -> str:
    return user("rev-parse", "HEAD")


# -- where ------------------------------------------------------------------------------


def test_home_follows_the_state_directory_and_the_real_path(tmp_path: Path) -> None:
    project = tmp_path / "My Ünique_Project!"
    project.mkdir()
    (tmp_path / "link").symlink_to(project)
    digest = hashlib.sha256(os.fsencode(project.resolve())).hexdigest()[:8]

    home = places.former_home(project, {"XDG_STATE_HOME": "/state", "HOME": "/me"})

    assert home == Path(f"/state/orchestrion/my-nique_project-{digest}/workspaces")
    assert places.former_home(tmp_path / "link", {"XDG_STATE_HOME": "/state"}) == home
    default = Path(f"/me/.local/state/orchestrion/{home.parent.name}/workspaces")
    assert places.former_home(project, {"HOME": "/me"}) == default
    assert places.former_home(project, {"HOME": "/me", "XDG_STATE_HOME": "relative"}) == default


def test_home_follows_the_clone_and_not_its_folder(tmp_path: Path) -> None:
    home = places.workspaces_home("My App", "0123456789abcdef", tmp_path, {"XDG_STATE_HOME": "/state"})
    assert home == Path("/state/orchestrion/my-app-01234567/workspaces")
    assert places.workspaces_home("x", None, tmp_path, {"HOME": "/me"}) == places.former_home(tmp_path, {"HOME": "/me"})


def test_port_ranges_are_never_shared() -> None:
    held = [ports.take(run) for run in (7, 7, 207)]
    offsets = [one.offset for one in held if one]
    assert len(set(offsets)) == 3
    assert all(10 <= offset <= 2000 and offset % 10 == 0 for offset in offsets)
    said = subprocess.run(
        [sys.executable, "-c", "from orchestrion.runs.workspace import ports; print(ports.take(7).offset)"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert int(said.stdout) not in offsets
    for one in held:
        if one:
            one.release()


# -- prepare ----------------------------------------------------------------------------


@both
def test_a_workspace_is_the_base_on_a_branch_of_its_own(
    seam: RunSeam, project: Path, home: Path, user: UserGit, isolation: str
) -> None:
    user("tag", "v1")
    base = user("rev-parse", "HEAD")
    user("commit", "--allow-empty", "-qm", "later")

    workspace = seam.prepare("R31", base, isolation)

    assert workspace == Workspace(home / "R31", "orchestrion/run/R31", base, isolation)
    assert user("symbolic-ref", "HEAD", at=workspace.path) == "refs/heads/orchestrion/run/R31"
    assert user("rev-parse", "HEAD", at=workspace.path) == base
    assert user("status", "--porcelain", at=workspace.path) == ""
    assert user("describe", "--tags", at=workspace.path) == "v1"
    assert (workspace.path / "src" / "main.py").read_text() == "print('hello')\n"


def test_a_clone_has_the_identity_and_shares_neither_stash_nor_hooks(
    seam: RunSeam, project: Path, home: Path, user: UserGit
) -> None:
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

    path = seam.prepare("R2", user("rev-parse", "HEAD")).path

    assert user("config", "user.name", at=path) == "Only here"
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
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, url: str | None, seen: str | None
) -> None:
    if url:
        user("remote", "add", "origin", url)

    path = seam.prepare("R1", base).path

    remotes = user("remote", at=path)
    assert remotes == ("origin" if seen else "")
    if seen:
        assert user("remote", "get-url", "origin", at=path) == seen.format(parent=project.parent)


def test_another_remote_stands_in_for_origin(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str
) -> None:
    user("remote", "add", "fork.mine", "https://example.org/fork.git")
    path = seam.prepare("R1", base).path
    assert user("remote", "get-url", "origin", at=path) == "https://example.org/fork.git"


@pytest.mark.parametrize("state", ["unborn", "detached", "linked", "shallow", "partial"])
def test_projects_in_odd_states(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, state: str, tmp_path: Path
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

    seam = RunSeam(folder, home)
    workspace = seam.prepare("R1", base)
    (workspace.path / "new.txt").write_text("new\n")
    head = seam.hand_over(workspace).head

    assert user("rev-parse", "refs/heads/orchestrion/run/R1", at=folder) == head
    assert user("diff", "--name-only", base, head, at=folder) == "new.txt"
    assert seam.remove(workspace.path)


@both
def test_a_second_prepare_makes_it_anew(seam: RunSeam, project: Path, home: Path, base: str, isolation: str) -> None:
    first = seam.prepare("R1", base, isolation)
    (first.path / "debug.log").write_text("ignored")

    assert seam.prepare("R1", base, isolation) == first

    assert not (first.path / "debug.log").exists()
    assert workspaces_in(home) == ["R1"]


@both
@pytest.mark.parametrize("work", ["change", "deletion", "untracked", "commit", "published"])
def test_work_at_its_place_is_moved_aside(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, isolation: str, work: str
) -> None:
    old = seam.prepare("R1", base, isolation)
    if work == "deletion":
        (old.path / "a.txt").unlink()
    else:
        (old.path / ("new.txt" if work == "untracked" else "a.txt")).write_text("work\n")
    if work in ("commit", "published"):
        user("commit", "-qam", "work", at=old.path)
    if work == "published":
        seam.publish(old, user("rev-parse", "HEAD", at=old.path))
    state = user("rev-parse", "HEAD", at=old.path), user("status", "--porcelain", at=old.path)

    new = seam.prepare("R1", base, isolation)

    assert workspaces_in(home) == ["R1", "R1.kept-1"]
    kept = home / "R1.kept-1"
    assert (user("rev-parse", "HEAD", at=kept), user("status", "--porcelain", at=kept)) == state
    assert user("rev-parse", "HEAD", at=new.path) == base
    assert user("status", "--porcelain", at=new.path) == ""
    (new.path / "a.txt").write_text("more work\n")
    seam.prepare("R1", base, isolation)
    assert (home / "R1.kept-2" / "a.txt").read_text() == "more work\n"


def test_a_clone_cut_short_anywhere_is_made_anew(seam: RunSeam, project: Path, home: Path, base: str) -> None:
    """As after a kill: before and in the middle of the clone, and in the middle of the checkout."""
    (home / "R1").mkdir(parents=True)
    assert seam.prepare("R1", base).path.is_dir()

    (home / "R2" / ".git" / "objects" / "info").mkdir(parents=True)
    (home / "R2" / ".git" / "HEAD.lock").touch()
    assert seam.prepare("R2", base).path.is_dir()

    half = seam.prepare("R3", base).path
    seam.unfinish(half)
    (half / ".git" / "index").unlink()
    (half / ".git" / "index.lock").touch()
    (half / "b.txt").unlink()
    shutil.rmtree(half / "src")
    assert seam.prepare("R3", base).path == half
    assert (half / "src" / "main.py").exists()

    assert workspaces_in(home) == ["R1", "R2", "R3"]


def test_a_worktree_cut_short_is_made_anew(seam: RunSeam, project: Path, home: Path, base: str) -> None:
    half = seam.prepare("R1", base, "worktree").path
    admin = project / ".git" / "worktrees" / "R1"
    seam.unfinish(half)
    (admin / "index").unlink()
    (half / "b.txt").unlink()
    assert seam.prepare("R1", base, "worktree").path == half

    shutil.rmtree(half)  # Only the entry in the project is left.
    assert seam.prepare("R1", base, "worktree").path == half

    assert (half / "b.txt").exists()
    assert workspaces_in(home) == ["R1"]
    assert [entry.name for entry in admin.parent.iterdir()] == ["R1"]


def test_what_is_no_workspace_is_moved_aside_too(seam: RunSeam, project: Path, home: Path, base: str) -> None:
    (home / "R1").mkdir(parents=True)
    (home / "R1" / "precious.txt").write_text("mine")
    (home / "R2").write_text("a file")
    (home / "R3").symlink_to(project)

    for run in ("R1", "R2", "R3"):
        seam.prepare(run, base)

    assert (home / "R1.kept-1" / "precious.txt").read_text() == "mine"
    assert (home / "R2.kept-1").read_text() == "a file"
    assert (home / "R3.kept-1").is_symlink()
    assert (project / "a.txt").exists()


def test_a_worktree_does_not_take_commits_from_a_branch_of_its_name(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str
) -> None:
    old = user("commit-tree", "-p", base, "-m", "old", f"{base}^{{tree}}")
    user("update-ref", "refs/heads/orchestrion/run/R1", old)

    seam.prepare("R1", base, "worktree")

    assert user("rev-parse", "orchestrion/run/R1.kept-1") == old
    assert user("rev-parse", "orchestrion/run/R1") == base


@pytest.mark.parametrize("run", ["", "..", "../R1", "R1/x", "/R1", "R1\0", "-R1", "merge R1", "R1\n"])
def test_a_run_id_cannot_lead_elsewhere(seam: RunSeam, project: Path, home: Path, base: str, run: str) -> None:
    with pytest.raises(InvalidInput):
        seam.prepare(run, base)
    assert not home.exists()


def test_wrong_isolation_unknown_base_and_a_disk_that_refuses(
    seam: RunSeam, project: Path, home: Path, base: str
) -> None:
    with pytest.raises(InvalidInput) as invalid:
        seam.prepare("R1", base, "container")
    assert "clone, worktree" in invalid.value.hint
    with pytest.raises(GitProblem):
        seam.prepare("R1", "1" * 40)
    home.parent.mkdir(exist_ok=True)
    with pytest.raises(EnvironmentProblem) as refused:
        RunSeam(project, project / "a.txt" / "home").prepare("R1", base)
    assert refused.value.code == "workspace_disk"


@both
@pytest.mark.parametrize("files", [5, 150])
def test_a_workspace_with_files_missing_is_none(
    seam: RunSeam, project: Path, home: Path, user: UserGit, isolation: str, files: int
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
            seam.prepare("R1", user("rev-parse", "HEAD"), isolation)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"), isolation)
    assert user("status", "--porcelain", at=workspace.path) == ""


# -- .worktreeinclude ---------------------------------------------------------------------


@both
def test_included_files_are_copied_and_never_committed(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, isolation: str
) -> None:
    (project / ".worktreeinclude").write_text(".env\nlocal [1]#.txt\nlocal \\[1\\]#.txt\ntools/\n*.py\n!tools/*.tmp\n")
    (project / ".env").write_text("SECRET=1")  # Ignored by git.
    (project / "local [1]#.txt").write_text("local")  # Not ignored.
    (project / "tools").mkdir()
    (project / "tools" / "run.sh").write_text("#!/bin/sh\n")
    (project / "tools" / "run.sh").chmod(0o755)
    (project / "unlisted.txt").write_text("no")
    (project / "src" / "main.py").write_text("changed by the user")

    workspace = seam.prepare("R1", base, isolation)
    path = workspace.path

    assert (path / ".env").read_text() == "SECRET=1"
    assert (path / "local [1]#.txt").read_text() == "local"
    assert os.access(path / "tools" / "run.sh", os.X_OK)
    assert not (path / "unlisted.txt").exists()
    assert (path / "src" / "main.py").read_text() == "print('hello')\n"
    if isolation == "clone":
        assert user("status", "--porcelain", at=path) == ""

    (path / ".env").write_text("SECRET=2")
    assert seam.collect(workspace).head == base
    (path / "work.txt").write_text("work")
    head = seam.hand_over(workspace).head
    assert user("diff", "--name-only", base, head) == "work.txt"
    assert seam.remove(path)


def test_included_links_do_not_lead_out_of_the_project(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, tmp_path: Path
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

    path = seam.prepare("R1", user("rev-parse", "HEAD")).path

    assert [entry.name for entry in (path / "links").iterdir()] == ["inside"]
    assert str((path / "links" / "inside").readlink()) == "../a.txt"
    assert [entry.name for entry in outside.iterdir()] == ["key"]


# -- what the project hands on ----------------------------------------------------------------


def test_settings_that_change_content_come_along_and_no_others(
    seam: RunSeam, project: Path, user: UserGit, base: str, tmp_path: Path
) -> None:
    (tmp_path / "more").write_text('[user]\n signingKey = KEY\n[merge "theirs"]\n driver = true\n')
    for key, value in {
        "include.path": str(tmp_path / "more"),
        "user.email": "me@work.example",
        "core.autocrlf": "input",
        "core.hooksPath": "hooks",
        "core.fsmonitor": "watch",
        "alias.x": "!false",
        "diff.tex.xfuncname": "^x",
        "filter.up.clean": "tr a-z A-Z",
        "credential.https://other.example.helper": "secret",
        "http.https://example.org/.extraHeader": "AUTHORIZATION: x",
        "core.sshCommand": "ssh -i key",
        "remote.origin.url": "https://example.org/x.git",
        "branch.main.remote": "origin",
    }.items():
        user("config", key, value)
    user("config", "--global", "core.eol", "lf")

    path = seam.prepare("R1", base).path
    own = user("config", "--local", "--list", at=path).splitlines()

    for line in (
        "user.signingkey=KEY", "user.email=me@work.example", "merge.theirs.driver=true", "core.autocrlf=input",
        "core.eol=lf", "diff.tex.xfuncname=^x", "filter.up.clean=tr a-z A-Z", "core.sshcommand=ssh -i key",
        "http.https://example.org/.extraheader=AUTHORIZATION: x", "commit.gpgsign=false",
    ):  # fmt: skip
        assert line in own
    assert not [
        line for line in own if line.startswith(("core.hookspath", "core.fsmonitor", "alias", "branch", "cred"))
    ]


def test_what_the_user_ignores_beside_the_files_is_ignored(
    seam: RunSeam, project: Path, user: UserGit, base: str, tmp_path: Path
) -> None:
    (tmp_path / "ignored").write_text("*.swp\n")
    user("config", "core.excludesFile", tmp_path / "ignored")
    (project / ".git" / "info" / "exclude").write_text("private\n")
    (project / ".git" / "info" / "attributes").write_text("*.dat -text\n")
    workspace = seam.prepare("R1", base)
    for name in ("x.swp", "private", "work.txt"):
        (workspace.path / name).write_text("x")
    assert user("status", "--porcelain", at=workspace.path) == "?? work.txt"
    assert user("check-attr", "text", "a.dat", at=workspace.path) == "a.dat: text: unset"
    head = seam.hand_over(workspace).head
    assert user("diff", "--name-only", base, head) == "work.txt"


@pytest.mark.parametrize("may_push", [False, True])
def test_a_workspace_pushes_only_where_that_is_allowed(
    seam: RunSeam, project: Path, user: UserGit, base: str, tmp_path: Path, may_push: bool
) -> None:
    user("init", "-q", "--bare", tmp_path / "up.git")
    user("remote", "add", "origin", tmp_path / "up.git")
    user("push", "-q", "origin", "main")
    path = seam.prepare("R1", base, may_push=may_push).path
    user("fetch", "-q", at=path)
    pushed = subprocess.run(["git", "push", "-f", "origin", "HEAD:x"], cwd=path, capture_output=True, text=True)
    assert (pushed.returncode == 0) is may_push
    if not may_push:
        assert "workspace.push" in pushed.stderr
        assert user("branch", "--list", "x", at=tmp_path / "up.git") == ""


def test_a_remote_address_that_is_rewritten_for_the_project_s_own_folder_misleads_nobody(
    seam: RunSeam, project: Path, user: UserGit, base: str
) -> None:
    user("config", "--global", "url.https://nowhere.invalid/.insteadOf", f"{project.parent}/")
    workspace = seam.prepare("R1", base)
    (workspace.path / "new.txt").write_text("x")
    assert seam.hand_over(workspace).head != base
    assert seam.remove(workspace.path)


# -- a linked worktree of the user's ----------------------------------------------------------------------------


@pytest.fixture
def linked(project: Path, user: UserGit, tmp_path: Path) -> Path:
    """A worktree with settings of its own, which turn content round."""
    folder = tmp_path / "linked"
    user("config", "extensions.worktreeConfig", "true")
    user("worktree", "add", "-q", "-b", "side", folder)
    for key, value in {
        "filter.enc.clean": "sed s/^/ENC:/",
        "filter.enc.smudge": "sed s/^ENC://",
        "filter.enc.required": "true",
        "user.name": "Worktree User",
    }.items():
        user("config", "--worktree", key, value, at=folder)
    (folder / ".gitattributes").write_text("*.sec filter=enc\n")
    (folder / "old.sec").write_text("old\n")
    (folder / ".worktreeinclude").write_text(".env\n")
    (folder / ".env").write_text("of the worktree\n")
    user("add", ".", at=folder)
    user("commit", "-qm", "secrets", at=folder)
    return folder


def test_settings_of_the_worktree_in_which_the_work_began_count(
    seam: RunSeam, project: Path, user: UserGit, linked: Path
) -> None:
    seam.checkout = linked
    workspace = seam.prepare("R1", user("rev-parse", "side"))
    assert (workspace.path / "old.sec").read_text() == "old\n"
    assert (workspace.path / ".env").read_text() == "of the worktree\n"
    (workspace.path / "new.sec").write_text("new\n")
    head = seam.hand_over(workspace).head
    assert user("show", f"{head}:new.sec") == "ENC:new"
    assert user("log", "-1", "--format=%an", head) == "Worktree User"


def test_a_submodule_that_only_the_worktree_has_is_filled(
    seam: RunSeam, user: UserGit, linked: Path, tmp_path: Path
) -> None:
    user("init", "-q", tmp_path / "lib")
    (tmp_path / "lib" / "l").write_text("l\n")
    user("add", ".", at=tmp_path / "lib")
    user("commit", "-qm", "l", at=tmp_path / "lib")
    user("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", tmp_path / "lib", "lib", at=linked)
    user("commit", "-qm", "sub", at=linked)
    seam.checkout = linked
    workspace = seam.prepare("R1", user("rev-parse", "side"))
    assert (workspace.path / "lib" / "l").read_text() == "l\n"


def test_no_hook_of_the_user_runs_for_an_agent_in_a_linked_worktree(
    seam: RunSeam, project: Path, user: UserGit
) -> None:
    hook = project / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    user("remote", "add", "up", project)
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"), "worktree")
    environ = {**os.environ, **prepare.settings_of_worktree(seam.project, False, os.environ)}
    commit = ["git", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(commit, cwd=workspace.path, env=environ, check=True)
    push = ["git", "push", "-q", "up", "HEAD:x"]
    assert subprocess.run(push, cwd=workspace.path, env=environ, capture_output=True).returncode != 0
