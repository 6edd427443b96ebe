"""What an agent writes into its own repository makes our git do nothing, and harms nobody."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.workspace import live, work
from orchestrion.runs.workspace.places import Workspace

pytestmark = pytest.mark.long


def run(folder: Path, *commands: str) -> None:
    subprocess.run(["sh", "-ec", "\n".join(commands)], cwd=folder, check=True, capture_output=True)


def everything(project: Path) -> dict[str, bytes]:
    """What the user has: files, and the git directory without ours."""
    found = {}
    for folder, names, files in os.walk(project):
        names[:] = [name for name in names if name != "objects" or Path(folder).name != ".git"]
        for name in files:
            path = Path(folder, name)
            inner = str(path.relative_to(project))
            if "orchestrion" not in inner:
                found[inner] = path.read_bytes()
    return found


#: Settings that make git run something, each writes its name down.
_CONFIG = {
    "core.fsmonitor": "{evil} fsmonitor",
    "core.hooksPath": "{hooks}",
    "filter.evil.clean": "{evil} clean; cat",
    "filter.evil.smudge": "{evil} smudge; cat",
    "filter.evil.process": "{evil} process",
    "filter.lfs.clean": "{evil} lfs; cat",
    "diff.external": "{evil} external",
    "diff.evil.textconv": "{evil} textconv",
    "diff.evil.command": "{evil} command",
    "merge.evil.driver": "{evil} driver",
    "core.alternateRefsCommand": "{evil} alternaterefs",
    "core.sshCommand": "{evil} ssh",
    "core.pager": "{evil} pager",
    "core.editor": "{evil} editor",
    "core.askPass": "{evil} askpass",
    "credential.helper": "!{evil} credential",
    "gpg.program": "{evil} gpg",
    "uploadpack.packObjectsHook": "{evil} pack",
    "remote.origin.url": "ext::{evil} ext",
    "remote.origin.promisor": "true",
    "extensions.partialClone": "origin",
    "protocol.ext.allow": "always",
    "core.worktree": "/",
    "core.bare": "true",
    "include.path": "{hooks}/more",
}


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A program that writes down that it was run; and hooks that call it."""
    program = tmp_path / "evil"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/ran\n')
    program.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("pre-commit", "post-commit", "post-index-change", "reference-transaction", "post-checkout", "update"):
        (hooks / hook).write_text(f"#!/bin/sh\n{program} hook-{hook}\n")
        (hooks / hook).chmod(0o755)
    (hooks / "more").write_text(f'[filter "more"]\n clean = {program} included\n')
    return program


def arm(folder: Path, evil: Path) -> None:
    """The agent sets every trap in the repository of a folder."""
    hooks = evil.parent / "hooks"
    lines = []
    for key, value in _CONFIG.items():
        section, _, rest = key.partition(".")
        sub, _, name = rest.rpartition(".")
        heading = f'[{section} "{sub}"]' if sub else f"[{section}]"
        lines.append(f'{heading}\n\t{name} = "{value.format(evil=evil, hooks=hooks)}"\n')
    git_dir = folder / ".git"
    if git_dir.is_file():
        git_dir = folder / git_dir.read_text().removeprefix("gitdir: ").strip()
    with (git_dir / "config").open("a") as config:
        config.write("".join(lines))
    (git_dir / "hooks").mkdir(exist_ok=True)
    for hook in hooks.iterdir():
        (git_dir / "hooks" / hook.name).write_bytes(hook.read_bytes())
        (git_dir / "hooks" / hook.name).chmod(0o755)
    (folder / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n*.more filter=more\n*.bin filter=lfs\n")


def test_no_setting_of_the_agent_makes_us_run_anything(
    seam: RunSeam, user: UserGit, project: Path, base: str, workspace: Workspace, evil: Path
) -> None:
    before = everything(project)
    path = workspace.path
    run(path, "echo own > own; git add own; git commit -qm own; echo left > left; echo m > x.more; echo b > b.bin")
    run(path, "echo changed >> a.txt; git init -q inner; echo i > inner/i; git worktree add -q wt -b wt; echo w > wt/w")
    for folder in (path, path / "inner"):
        arm(folder, evil)

    with suppress(GitProblem):
        seam.touched(workspace)
    collected = seam.hand_over(workspace)
    seam.remove(path)
    seam.sweep(set(), 0, 0, 2**40)

    assert not (evil.parent / "ran").exists(), (evil.parent / "ran").read_text()
    names = user("diff", "--name-only", base, collected.head).splitlines()
    assert names == [".gitattributes", "a.txt", "b.bin", "inner/.gitattributes", "inner/i", "left", "own", "x.more"]
    assert everything(project) == before


def test_nor_does_one_in_a_submodule_or_a_clone(
    seam: RunSeam, user: UserGit, project: Path, tmp_path: Path, evil: Path
) -> None:
    user("init", "-q", tmp_path / "lib")
    run(tmp_path / "lib", "echo l > l; git add l; git commit -qm l")
    user("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", tmp_path / "lib", "sub")
    user("commit", "-qm", "sub")
    base = user("rev-parse", "HEAD")
    workspace = seam.prepare("R1", base)
    path = workspace.path
    assert (path / "sub" / "l").read_text() == "l\n"
    run(path, f"git clone -q {tmp_path}/lib dep; echo x >> dep/l; echo y >> sub/l; echo z > sub/new")
    arm(path / "sub", evil)
    arm(path / "dep", evil)

    with suppress(GitProblem):
        seam.touched(workspace)
    seam.hand_over(workspace)
    seam.remove(path)

    assert not (evil.parent / "ran").exists(), (evil.parent / "ran").read_text()


@pytest.mark.parametrize(
    "bends",
    [
        "mv .git ../dot; ln -s {project}/.git .git",
        "mv .git ../dot; ln -s ../dot .git",
        "rm -rf .git; echo 'gitdir: {project}/.git' > .git",
        "rm -rf .git",
        "rm -rf .git; git init -q",
        "rm -rf .git; git clone -q {project} ../copy; mv ../copy/.git .git",
        "echo /etc >> .git/objects/info/alternates",
        "rm .git/objects/info/alternates",
        "mv .git/objects ../o; ln -s {project}/.git/objects .git/objects",
        "mv .git/refs ../r; ln -s ../../r .git/refs",
        "echo {project}/.git > .git/commondir",
        "echo garbage > .git/HEAD",
        "rm .git/HEAD; mkfifo .git/HEAD",
        "rm .git/HEAD; ln -s {project}/.git/HEAD .git/HEAD",
        "echo 'ref: ../../../../project/.git/refs/heads/main' > .git/HEAD; echo 0123 > .git/HEAD",
        "echo 0123456789012345678901234567890123456789 > .git/HEAD",
    ],
)
def test_a_repository_that_was_bent_is_not_believed_and_its_files_are_saved(
    seam: RunSeam, user: UserGit, project: Path, base: str, workspace: Workspace, bends: str
) -> None:
    (project / "staged.txt").write_text("staged by the user")
    user("add", "staged.txt")
    before = everything(project)
    run(workspace.path, "echo work > work.txt; echo more >> a.txt; git init -q app; echo i > app/i")
    run(workspace.path, bends.format(project=project))

    with suppress(GitProblem):
        seam.touched(workspace)
    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)
    assert refused.value.code == "workspace_broken"

    saved = work.salvage(seam.project, workspace, seam.authorship())
    seam.publish(workspace, saved)
    assert everything(project) == before
    names = user("diff", "--name-only", base, "refs/orchestrion/runs/R1").splitlines()
    assert names == ["a.txt", "app/i", "work.txt"]
    assert not seam.remove(workspace.path)


def test_git_init_again_changes_nothing(seam: RunSeam, user: UserGit, base: str, workspace: Workspace) -> None:
    run(workspace.path, "git init -q; echo x > x")
    assert user("diff", "--name-only", base, seam.hand_over(workspace).head) == "x"


def test_a_linked_worktree_that_leads_elsewhere_is_not_believed(
    seam: RunSeam, user: UserGit, project: Path, base: str
) -> None:
    workspace = seam.prepare("R1", base, "worktree")
    before = everything(project)
    run(workspace.path, f"echo x > x; echo 'gitdir: {project}/.git' > .git")
    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)
    assert refused.value.code == "workspace_broken"
    after = everything(project)
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == set()
    assert not seam.remove(workspace.path)


def test_without_its_repository_nothing_further_up_is_touched(project: Path, user: UserGit, base: str) -> None:
    (project / "work").mkdir()
    seam = RunSeam(project, project / "work")
    workspace = seam.prepare("R1", base)
    run(workspace.path, "rm -rf .git; echo x > x")

    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)

    assert refused.value.code == "workspace_broken"
    assert user("rev-parse", "HEAD") == base
    assert user("diff", "--cached", "--name-only") == ""
    assert not seam.remove(workspace.path)


def test_objects_that_are_not_sound_do_not_come_in(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "tree=$(printf '100644 .git\\0' | cat - /dev/null; true)",
        "blob=$(echo evil | git hash-object -w --stdin)",
        "printf '100644 .GIT\\0' > ../t; echo $blob | xxd -r -p >> ../t",
        "t=$(git hash-object -t tree -w --literally ../t)",
        "c=$(git commit-tree -p HEAD -m evil $t); git update-ref HEAD $c; echo x > x",
    )
    collected = seam.collect(workspace)
    with pytest.raises(GitProblem) as refused:
        seam.publish(workspace, collected)
    assert refused.value.code == "objects_refused"
    assert user("for-each-ref", "refs/orchestrion") == ""


def test_careless_commits_of_old_programs_do_come_in(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "echo x > x; git add x; t=$(git write-tree); p=$(git rev-parse HEAD)",
        "printf 'tree %s\\nparent %s\\nauthor A <> 0 +0000\\ncommitter A<a@b> 0 +0000\\n\\nold\\n' $t $p"
        " | git hash-object -t commit -w --literally --stdin > ../c",
        "git update-ref HEAD $(cat ../c)",
    )
    assert user("log", "-1", "--format=%s", seam.hand_over(workspace).head) == "old"


def test_looking_at_a_pipe_or_a_folder_in_place_of_a_file_waits_for_nothing(
    seam: RunSeam, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "mkfifo p; git init -q d; mkdir -p e/f; git init -q e; ln -s loop loop; rm a.txt; mkfifo a.txt",
        "rm .git/info/exclude; mkfifo .git/info/exclude; mkfifo .git/packed-refs2; mkfifo .git/MERGE_HEAD",
    )
    with pytest.raises(GitProblem):
        seam.touched(workspace)
    (workspace.path / "a.txt").unlink()
    assert {one.path for one in seam.touched(workspace)} == {"a.txt", "loop"}
    assert seam.collect(workspace).asks is None


# -- our own directory beside the workspace -----------------------------------------------------------------

OURS_BENT = [
    'rm -rf "$PWD.git"; ln -s {project}/.git "$PWD.git"',
    'rm -rf "$PWD.git/objects"; ln -s {project}/.git/objects "$PWD.git/objects"',
    'rm -f "$PWD.git/config"; ln -s {project}/.git/config "$PWD.git/config"',
    'rm -f "$PWD.git/info/exclude"; ln -s {project}/.git/info/exclude "$PWD.git/info/exclude"',
    'echo {project}/.git > "$PWD.git/commondir"',
    'rm "$PWD.git/index"; mkfifo "$PWD.git/index"',
    'mkfifo "$PWD.git/packed-refs"',
    'rm "$PWD.git/objects/info/alternates"; mkfifo "$PWD.git/objects/info/alternates"',
    """sed -i 's#"alternates": "[^"]*"#"alternates": [1]#' "$PWD.git/orchestrion.json" """,
    """sed -i 's#"base": "[0-9a-f]*"#"base": "0"#' "$PWD.git/orchestrion.json" """,
    'rm -rf "$PWD.git"; echo "gitdir: {project}/.git" > "$PWD.git"',
    'rm -rf .git "$PWD.git"; ln -s {project}/.git .git; ln -s {project}/.git "$PWD.git"',
]


@pytest.mark.parametrize("bends", OURS_BENT)
def test_our_directory_is_not_believed_either_when_it_is_not_as_we_made_it(
    seam: RunSeam, project: Path, workspace: Workspace, bends: str
) -> None:
    before = everything(project)
    run(workspace.path, "echo n > n.txt", bends.format(project=project))
    for look in (seam.collect, seam.touched):
        with pytest.raises(GitProblem) as refused:
            look(workspace)
        assert refused.value.code == "workspace_broken"
    assert seam.remove(workspace.path) is False
    assert everything(project) == before
    assert (workspace.path / "n.txt").exists()


def test_a_setting_that_was_written_into_our_directory_is_gone_before_it_is_used(
    seam: RunSeam, user: UserGit, workspace: Workspace, evil: Path
) -> None:
    run(
        workspace.path,
        "echo '* filter=evil' > .gitattributes; echo n > n.txt",
        f'git config -f "$PWD.git/config" filter.evil.clean "{evil} ours"',
        f'git config -f "$PWD.git/config" core.fsmonitor "{evil} ours"',
        'mkdir -p "$PWD.git/refs/replace"',
    )
    with suppress(GitProblem):
        seam.touched(workspace)
    collected = seam.hand_over(workspace)
    assert user("show", f"{collected.head}:n.txt") == "n"
    assert not (evil.parent / "ran").exists()


def test_a_folder_of_ours_that_is_gone_is_made_anew(seam: RunSeam, user: UserGit, workspace: Workspace) -> None:
    run(
        workspace.path,
        "echo n > n.txt; git add n.txt; git commit -qm n",
        'rm -rf "$PWD.git/refs" "$PWD.git/objects/pack"',
    )
    assert user("show", f"{seam.hand_over(workspace).head}:n.txt") == "n"


def test_objects_that_are_broken_cost_no_file(
    seam: RunSeam, user: UserGit, project: Path, base: str, workspace: Workspace
) -> None:
    run(
        workspace.path,
        "echo n > n.txt; git add n.txt; git commit -qm n",
        "find .git/objects/?? -type f -exec sh -c 'chmod u+w {}; echo x > {}' ';'",
    )
    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)
    assert refused.value.code == "workspace_broken"
    saved = work.salvage(seam.project, workspace, seam.authorship())
    seam.publish(workspace, saved)
    assert user("show", f"{saved.head}:n.txt") == "n"


PIPES = {
    "attributes": "rm -f .gitattributes; mkfifo .gitattributes",
    "ignored": "rm -f .gitignore; mkfifo .gitignore",
    "below": "mkdir d; mkfifo d/.gitignore",
    "object": "git add n.txt; git commit -qm n; mkdir -p .git/objects/aa; "
    "mkfifo .git/objects/aa/00000000000000000000000000000000000000",
    "worktree": "git worktree add -q sub -b sub; g=$(git -C sub rev-parse --absolute-git-dir); rm $g/commondir; "
    "mkfifo $g/commondir",
    "nested": "git init -q inner; rm inner/.git/HEAD; mkfifo inner/.git/HEAD",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", PIPES)
def test_a_pipe_where_git_reads_holds_nobody_up(seam: RunSeam, user: UserGit, workspace: Workspace, way: str) -> None:
    run(workspace.path, "echo n > n.txt", PIPES[way])
    assert user("show", f"{seam.hand_over(workspace).head}:n.txt") == "n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", ["attributes", "ignored"])
def test_nor_does_it_while_the_agent_works(
    seam: RunSeam, workspace: Workspace, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.5)
    run(workspace.path, "echo n > n.txt", PIPES[way])
    with pytest.raises(GitProblem) as refused:
        seam.touched(workspace)
    assert refused.value.code in ("git_timeout", "git")


@pytest.mark.timeout(60)
def test_a_list_of_places_that_is_a_pipe_is_not_believed(seam: RunSeam, workspace: Workspace) -> None:
    run(workspace.path, "rm .git/objects/info/alternates; mkfifo .git/objects/info/alternates")
    for look in (seam.touched, seam.collect):
        with pytest.raises(GitProblem) as refused:
            look(workspace)
        assert refused.value.code == "workspace_broken"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bends", OURS_BENT)
def test_the_files_are_saved_whatever_became_of_our_directory(
    seam: RunSeam, user: UserGit, project: Path, workspace: Workspace, bends: str
) -> None:
    before = everything(project)
    run(workspace.path, "echo n > n.txt; rm -f .gitignore; mkfifo .gitignore", bends.format(project=project))
    saved = work.salvage(seam.project, workspace, seam.authorship())
    seam.publish(workspace, saved)
    assert user("show", f"{saved.head}:n.txt") == "n"
    assert everything(project) == before


def test_an_index_of_ours_that_was_written_into_is_made_anew(
    seam: RunSeam, user: UserGit, base: str, workspace: Workspace
) -> None:
    run(workspace.path, "echo n > n.txt; rm a.txt", 'echo garbage > "$PWD.git/index"; touch "$PWD.git/index.lock"')
    head = seam.hand_over(workspace).head
    assert user("diff", "--name-status", base, head).split() == ["D", "a.txt", "A", "n.txt"]
