"""Real repositories, made by the real git: what is read here must agree with what git writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrion.core.errors import GitProblem, InvalidInput, NotFound
from orchestrion.core.git_head import head_of
from orchestrion.core.private import NotPlain
from orchestrion.core.project import WORKSPACE_MARK, Project, clone_id, find_project, project_at


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / "src" / "deep").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    return root


def found(start: Path, explicit: Path | None = None, **environ: str) -> Project:
    return find_project(start, explicit, environ)


def project_of(root: Path, git_dir: Path | None = None) -> Project:
    common = git_dir or root / ".git"
    return Project(root, root, common, common / "orchestrion", root, common)


def linked_to(root: Path, checkout: Path, git_dir: Path | None = None) -> Project:
    """The project at ``root``, seen from a linked worktree of it."""
    made = project_of(root, git_dir)
    return made._replace(checkout=checkout, git_dir=made.git_common_dir / "worktrees" / checkout.name)


def plain_project(root: Path) -> Project:
    return Project(root, None, None, root / ".orchestrion", root)


def test_a_folder_of_a_repository_leads_to_its_root(repo):
    assert found(repo) == found(repo / "src" / "deep") == project_of(repo)


def test_inside_the_git_directory_it_is_the_same_project(repo):
    assert found(repo / ".git" / "hooks") == project_of(repo)


def test_the_store_is_where_git_says_the_common_directory_is(repo, tmp_path):
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))
    said = Path(git(tmp_path / "linked", "rev-parse", "--path-format=absolute", "--git-common-dir"))
    assert found(tmp_path / "linked").store_dir == said / "orchestrion"


def test_a_linked_worktree_leads_to_the_main_one(repo, tmp_path):
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))
    (tmp_path / "linked" / "sub").mkdir()
    assert found(tmp_path / "linked" / "sub") == linked_to(repo, tmp_path / "linked")


def test_a_workspace_leads_to_the_project_it_was_made_for(repo, tmp_path):
    clone = tmp_path / "workspaces" / "R31"
    git(tmp_path, "clone", "-q", "--shared", str(repo), str(clone))
    assert found(clone) == project_of(clone)
    (clone / ".git" / WORKSPACE_MARK).write_text(f"{repo}\n")
    assert found(clone) == project_of(repo)


def test_a_workspace_of_a_linked_worktree_leads_to_the_main_one(repo, tmp_path):
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))
    clone = tmp_path / "R1"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    (clone / ".git" / WORKSPACE_MARK).write_text(str(tmp_path / "linked"))
    assert found(clone) == linked_to(repo, tmp_path / "linked")


def test_a_workspace_of_a_project_outside_git_leads_to_it(repo, tmp_path):
    plain = tmp_path / "plain"
    (plain / ".orchestrion").mkdir(parents=True)
    (repo / ".git" / WORKSPACE_MARK).write_text(str(plain))
    assert found(repo) == plain_project(plain)


def test_a_workspace_whose_project_is_gone_says_so(repo, tmp_path):
    (repo / ".git" / WORKSPACE_MARK).write_text(str(tmp_path / "gone"))
    with pytest.raises(NotFound, match="gone"):
        found(repo)


@pytest.mark.parametrize("content", ["relative/path", "", "\0/etc"])
def test_a_broken_mark_of_a_workspace_is_refused(repo, content):
    (repo / ".git" / WORKSPACE_MARK).write_text(content)
    with pytest.raises(InvalidInput):
        found(repo)


def test_a_workspace_that_leads_to_itself_is_refused(repo):
    (repo / ".git" / WORKSPACE_MARK).write_text(str(repo))
    with pytest.raises(InvalidInput, match="circle"):
        found(repo)


def test_a_submodule_is_a_project_of_its_own(repo, tmp_path):
    part = tmp_path / "part"
    git(tmp_path, "clone", "-q", str(repo), str(part))
    git(repo, "submodule", "--quiet", "add", str(part), "lib")
    common = repo / ".git" / "modules" / "lib"
    assert found(repo / "lib") == project_of(repo / "lib", common)
    git(repo / "lib", "worktree", "add", "-q", str(tmp_path / "linked"))
    assert found(tmp_path / "linked") == linked_to(repo / "lib", tmp_path / "linked", common)


def test_a_git_directory_kept_elsewhere_is_followed(tmp_path):
    tree, kept = tmp_path / "tree", tmp_path / "kept.git"
    tree.mkdir()
    git(tree, "init", "-q", f"--separate-git-dir={kept}")
    assert found(tree) == project_of(tree, kept)


def test_a_git_directory_behind_a_link_belongs_to_the_folder_with_the_link(repo, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / ".git").symlink_to(repo / ".git")
    assert found(tree).root == tree


def test_a_bare_repository_is_refused(tmp_path):
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    for place in (tmp_path / "bare.git", tmp_path / "bare.git" / "hooks"):
        with pytest.raises(GitProblem) as caught:
            found(place)
        assert caught.value.code == "bare_repository"


def test_a_worktree_of_a_bare_repository_is_the_project(repo, tmp_path):
    home = tmp_path / "home"
    git(tmp_path, "clone", "-q", "--bare", str(repo), str(home / ".bare"))
    (home / ".git").write_text("gitdir: ./.bare\n")
    git(home, "worktree", "add", "-q", "trunk", "main")
    assert found(home / "trunk") == linked_to(home / "trunk", home / "trunk", home / ".bare")
    with pytest.raises(GitProblem, match="bare"):
        found(home)


@pytest.mark.parametrize(
    "spelling", ["[core]\n\tbare = true", "[CORE] Bare = yes ; so\n", '[core]\nbare="on"', "[core]\nbare"]
)
def test_bare_is_understood_as_git_spells_it(tmp_path, spelling):
    git(tmp_path, "init", "-q", "--bare", "x")
    (tmp_path / "x" / "config").write_text(spelling)
    assert git(tmp_path / "x", "rev-parse", "--is-bare-repository") == "true"
    with pytest.raises(GitProblem, match="bare"):
        found(tmp_path / "x")


@pytest.mark.parametrize("content", ["", "gitdir:", "gitdir: \0", "nonsense", "gitdir: ../nowhere", "gitdir: ."])
def test_a_broken_link_to_a_git_directory_is_refused(tmp_path, content):
    (tmp_path / ".git").write_text(content)
    with pytest.raises(GitProblem) as caught:
        found(tmp_path)
    assert caught.value.code == "broken_repository"
    assert str(tmp_path / ".git") in caught.value.message


def test_an_empty_git_folder_is_no_repository(repo):
    (repo / "src" / ".git").mkdir()
    assert found(repo / "src") == project_of(repo)


def test_outside_git_the_nearest_shared_folder_is_the_project(tmp_path):
    (tmp_path / ".orchestrion").mkdir()
    (tmp_path / "a" / "b" / ".orchestrion").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").mkdir()
    inner = tmp_path / "a" / "b"
    assert found(inner / "c") == plain_project(inner)
    assert found(tmp_path / "a").root == tmp_path


def test_a_repository_comes_before_a_shared_folder(repo):
    (repo / "src" / ".orchestrion").mkdir()
    assert found(repo / "src") == project_of(repo)


def test_nothing_found_asks_for_init_and_makes_nothing(tmp_path):
    with pytest.raises(NotFound) as caught:
        found(tmp_path)
    assert caught.value.code == "no_project"
    assert "orchestrion init" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_init_takes_the_folder_itself_or_its_repository(repo, tmp_path):
    assert project_at(tmp_path, None, {}) == plain_project(tmp_path)
    assert project_at(repo / "src", None, {}) == project_of(repo)
    assert project_at(tmp_path, Path("repo"), {}) == project_of(repo)


def test_the_flag_comes_before_the_environment_and_that_before_the_folder(repo, tmp_path):
    other, third = tmp_path / "other", tmp_path / "third"
    (other / ".orchestrion").mkdir(parents=True)
    (third / ".orchestrion").mkdir(parents=True)
    assert found(repo, ORCHESTRION_PROJECT=str(other)).root == other
    assert found(repo, third, ORCHESTRION_PROJECT=str(other)).root == third
    assert found(repo, ORCHESTRION_PROJECT="").root == repo
    assert found(tmp_path, Path("other")).root == other


def test_a_folder_that_does_not_exist_is_an_error_and_is_not_made(tmp_path):
    for ask in ({"explicit": tmp_path / "no"}, {"ORCHESTRION_PROJECT": str(tmp_path / "no")}):
        with pytest.raises(NotFound) as caught:
            found(tmp_path, **ask)
        assert caught.value.code == "no_such_folder"
    assert not (tmp_path / "no").exists()


def test_paths_that_cannot_be_meant_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("a\0b", "loop", "loop/x", "x" * 5000, "file"):
        with pytest.raises(InvalidInput):
            found(tmp_path, Path(path))
    with pytest.raises(NotFound):
        found(tmp_path, Path("file/x"))


def test_links_are_followed_to_the_real_folder(repo, tmp_path):
    (tmp_path / "link").symlink_to(repo / "src")
    assert found(tmp_path / "link") == project_of(repo)


# -- the id of a clone, and HEAD of a checkout ------------------------------------------------------


def test_a_clone_keeps_its_id_whatever_its_folder_is_called(repo, tmp_path):
    assert clone_id(found(repo), create=False) is None
    made = clone_id(found(repo), create=True)
    assert made is not None
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert clone_id(found(repo), create=True) == made
    repo.rename(tmp_path / "renamed")
    assert clone_id(found(tmp_path / "renamed"), create=True) == made
    git(tmp_path, "clone", "-q", str(tmp_path / "renamed"), "other")
    assert clone_id(found(tmp_path / "other"), create=True) not in (None, made)


def test_a_copy_gets_an_id_of_its_own_and_the_original_keeps_its(repo, tmp_path):
    made = clone_id(found(repo), create=True)
    shutil.copytree(repo, tmp_path / "copy", symlinks=True)
    with ThreadPoolExecutor(4) as pool:
        (own,) = set(pool.map(lambda _: clone_id(found(tmp_path / "copy"), create=True), range(8)))
    assert own not in (None, made)
    assert clone_id(found(tmp_path / "copy"), create=True) == own
    assert clone_id(found(repo), create=True) == made
    shutil.rmtree(repo)
    assert clone_id(found(tmp_path / "copy"), create=True) == own


def test_many_at_once_make_one_id(repo):
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: clone_id(found(repo), create=True), range(40)))
    assert len(ids) == 1
    assert sorted(path.name for path in (repo / ".git" / "orchestrion").iterdir()) == ["id"]


@pytest.mark.parametrize("content", ["", "no id", "\0" * 40, "a" * 31])
def test_a_broken_id_is_named(repo, content):
    """With none, plans of this very clone were said to be of another one."""
    folder = found(repo).store_dir
    folder.mkdir()
    (folder / "id").write_text(content)
    for create in (True, False):
        with pytest.raises(NotPlain, match="holds no id of a clone") as broken:
            clone_id(found(repo), create=create)
        assert broken.value.filename == str(folder / "id")


@pytest.mark.parametrize("state", ["branch", "packed", "detached", "unborn", "linked", "reftable-like"])
def test_head_is_read_as_git_has_it(repo, tmp_path, state):
    place = repo
    if state == "packed":
        git(repo, "pack-refs", "--all")
    elif state == "detached":
        git(repo, "checkout", "-q", "--detach")
    elif state == "unborn":
        git(repo, "checkout", "-q", "--orphan", "fresh")
    elif state == "linked":
        place = tmp_path / "linked"
        git(repo, "worktree", "add", "-q", "-b", "feat/x", str(place))
        git(place, "commit", "-q", "--allow-empty", "-m", "in the worktree")
    elif state == "reftable-like":
        (repo / ".git" / "HEAD").write_text("ref: refs/heads/.invalid\n")
    project = found(place)
    head = head_of(project.git_dir, project.git_common_dir)
    if state == "reftable-like":
        assert head is None
        return
    assert head.branch == (None if state == "detached" else git(place, "symbolic-ref", "--short", "HEAD"))
    assert head.commit == (None if state == "unborn" else git(place, "rev-parse", "HEAD"))


def test_a_repository_that_a_variable_alone_names_is_not_taken_for_a_plain_folder(tmp_path: Path) -> None:
    environ = {"GIT_DIR": str(tmp_path / "dotfiles.git")}
    for find in (find_project, project_at):
        with pytest.raises(GitProblem) as refused:
            find(tmp_path, None, environ)
        assert refused.value.code == "git_dir_set"


@pytest.mark.parametrize("name", ["line\nend", os.fsdecode(b"l\xe9")])
def test_a_folder_whose_path_cannot_be_written_down_is_no_project(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with pytest.raises(InvalidInput):
        project_at(folder, None, {})
    assert list(folder.iterdir()) == []
