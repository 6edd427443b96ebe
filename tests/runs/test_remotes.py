"""Where a branch goes to, and what a remote says."""

from __future__ import annotations

from pathlib import Path

import pytest
from user_git import UserGit

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.runs.git import Git
from orchestrion.runs.remotes import Remote, Remotes, what_was_said

FOLLOWS = {"branch.main.remote": "fork", "branch.main.merge": "refs/heads/trunk"}
SAME = {"branch.main.remote": "fork", "branch.main.merge": "refs/heads/main"}


@pytest.mark.parametrize(
    ("settings", "remote", "branch"),
    [
        ({}, "origin", "main"),
        (SAME, "fork", "main"),
        ({**FOLLOWS, "push.default": "upstream"}, "fork", "trunk"),
        ({**FOLLOWS, "push.default": "current"}, "fork", "main"),
        ({**FOLLOWS, "remote.pushDefault": "origin"}, "origin", "main"),
        ({**FOLLOWS, "remote.fork.push": "refs/heads/main:refs/heads/review"}, "fork", "review"),
        ({"remote.origin.push": "refs/heads/*:refs/heads/ada/*"}, "origin", "ada/main"),
        ({"branch.main.remote": "origin", "branch.main.pushRemote": "fork"}, "fork", "main"),
        ({"remote.pushDefault": "fork"}, "fork", "main"),
    ],
)
def test_where_a_branch_is_pushed_to(
    project: Path, user: UserGit, settings: dict[str, str], remote: str, branch: str
) -> None:
    remotes = Remotes(Git(project))
    with pytest.raises(EnvironmentProblem) as none:
        remotes.pushed_to("main")
    assert none.value.code == "no_remote"
    user("remote", "add", "fork", "https://example.org/fork.git")
    user("remote", "add", "origin", "https://example.org/origin.git")
    for key, value in settings.items():
        user("config", key, value)
    found = remotes.pushed_to("main")
    assert (found.name, found.branch) == (remote, branch)


@pytest.mark.parametrize(
    "settings",
    [
        FOLLOWS,
        {**FOLLOWS, "push.default": "nothing"},
        {**SAME, "push.default": "nothing"},
        {**SAME, "push.default": "upstream", "remote.pushDefault": "origin"},
        {"push.default": "upstream"},
        {"branch.main.remote": ".", "branch.main.merge": "refs/heads/other"},
        {"branch.main.pushRemote": "no_push"},
        {"remote.pushDefault": "https://ada:secret@example.org/ada.git"},
        {"remote.origin.push": "HEAD:refs/for/main"},
        {"remote.origin.push": "refs/heads/*:refs/for/*"},
        {"remote.origin.push": "refs/heads/release:refs/heads/release"},
        {"remote.origin.mirror": "yes"},
        {"branch.main.remote": "fork", "branch.main.merge": "refs/for/main", "push.default": "upstream"},
    ],
)
def test_what_git_would_not_push_to_a_branch_is_not_pushed(
    project: Path, user: UserGit, settings: dict[str, str]
) -> None:
    for name in ("fork", "origin"):
        user("remote", "add", name, f"https://example.org/{name}.git")
    for key, value in settings.items():
        user("config", key, value)
    with pytest.raises(EnvironmentProblem) as refused:
        Remotes(Git(project)).pushed_to("main")
    assert refused.value.code == "push_unclear"
    assert "secret" not in refused.value.message


def test_a_branch_that_follows_two_is_not_pushed(project: Path, user: UserGit) -> None:
    user("remote", "add", "fork", "https://example.org/fork.git")
    for key, value in (*SAME.items(), ("branch.main.merge", "refs/heads/other")):
        user("config", "--add", key, value)
    with pytest.raises(EnvironmentProblem, match="refs/heads/main and refs/heads/other"):
        Remotes(Git(project)).pushed_to("main")


def test_what_is_at_a_remote_is_asked_where_pushes_go(project: Path, user: UserGit, tmp_path: Path) -> None:
    for name in ("fetched", "pushed"):
        user("init", "-q", "--bare", tmp_path / name)
        user("push", "-q", tmp_path / name, f"main:refs/heads/{name}")
    user("remote", "add", "origin", tmp_path / "fetched")
    user("config", f"url.{tmp_path / 'pushed'}.pushInsteadOf", tmp_path / "fetched")
    remotes = Remotes(Git(project))
    assert remotes.commit_at(Remote("origin", "pushed"))
    assert remotes.commit_at(Remote("origin", "fetched")) is None
    assert remotes.commit_at(Remote("origin", "fetched", is_fetched=True))


def test_where_a_branch_comes_from_is_not_where_it_is_pushed_to(project: Path, user: UserGit) -> None:
    user("remote", "add", "fork", "https://example.org/fork.git")
    for key, value in FOLLOWS.items():
        user("config", key, value)
    assert Remotes(Git(project)).comes_from("main") == Remote("fork", "trunk", is_fetched=True)


def test_of_several_remotes_none_is_guessed(project: Path, user: UserGit) -> None:
    for name in ("backup", "company"):
        user("remote", "add", name, f"https://example.org/{name}.git")
    with pytest.raises(EnvironmentProblem) as refused:
        Remotes(Git(project)).pushed_to("main")
    assert refused.value.code == "several_remotes"
    user("config", "remote.pushDefault", "company")
    assert Remotes(Git(project)).pushed_to("main").name == "company"


@pytest.mark.parametrize(
    ("url", "owner"),
    [
        ("https://github.com/ada/shop.git", "ada"),
        ("git@github.com:ada/shop.git", "ada"),
        ("ssh://git@example.org:22/ada/shop", "ada"),
    ],
)
def test_whose_a_fork_is(project: Path, user: UserGit, url: str, owner: str) -> None:
    user("remote", "add", "fork", url)
    assert Remotes(Git(project)).owner(Remote("fork", "main")) == owner


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("remote: protected: refs/heads/main        \nTo x\n ! [remote rejected] a -> b (hook declined)\n"
         "error: failed to push some refs to 'x'\n",
         "protected: refs/heads/main; ! [remote rejected] a -> b (hook declined)"),
        ("fatal: '/nowhere' does not appear to be a git repository\nfatal: Could not read from remote repository.\n\n"
         "Please make sure you have the correct access rights\nand the repository exists.\n",
         "fatal: '/nowhere' does not appear to be a git repository; fatal: Could not read from remote repository."),
        ("fatal: https://me:secret@example.org/ refused\n", "fatal: https://example.org/ refused"),
        ("", "it said nothing"),
    ],
)  # fmt: skip
def test_what_a_remote_said_is_told(said: str, told: str) -> None:
    assert what_was_said(said) == told
