"""Submodules: an agent finds them filled, and what it does in them is not lost."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem, MergeConflict

pytestmark = pytest.mark.long

ALLOWED = "git -c protocol.file.allow=always"


def run(folder: Path, command: str) -> str:
    done = subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def library(folder: Path, file: str = "lib.c") -> Path:
    """A repository of somebody else's."""
    folder.mkdir(parents=True)
    (folder / file).write_text("int lib;\n")
    run(folder, "git init -q; git add .; git commit -qm lib")
    return folder


@pytest.fixture
def upstream(tmp_path: Path, project: Path) -> Path:
    return library(tmp_path / "upstream" / "lib")


@pytest.fixture
def base(project: Path, upstream: Path) -> str:
    """The project with a submodule; its commit."""
    run(project, f"{ALLOWED} submodule --quiet add '{upstream}' vendor/lib; git commit -qm sub")
    return run(project, "git rev-parse HEAD")


@pytest.mark.parametrize("isolation", ["clone", "worktree"])
def test_an_agent_finds_it_as_the_user_has_it(
    seam: RunSeam, project: Path, upstream: Path, base: str, isolation: str
) -> None:
    upstream.rename(upstream.with_name("gone"))  # nothing is fetched
    workspace = seam.prepare("R1", base, isolation)
    assert (workspace.path / "vendor/lib/lib.c").read_text() == "int lib;\n"
    assert run(workspace.path, "git submodule status").startswith(run(project, "git rev-parse :vendor/lib"))
    assert run(workspace.path, "git status --porcelain") == ""
    collected = seam.hand_over(workspace)
    assert (collected.head, collected.remarks) == (base, ())


def test_the_user_s_own_repository_of_it_is_not_touched_by_the_agent(seam: RunSeam, project: Path, base: str) -> None:
    workspace = seam.prepare("R1", base)
    before = run(project, "git -C vendor/lib show-ref; cat .git/modules/vendor/lib/config")
    run(
        workspace.path / "vendor/lib",
        "echo x >> lib.c; git commit -qam x; git branch more; git config a.b c; git gc -q",
    )
    assert run(project, "git -C vendor/lib show-ref; cat .git/modules/vendor/lib/config") == before


def committed(folder: Path) -> None:
    run(folder, "cd vendor/lib && echo fix >> lib.c && git commit -qam fix")


def committed_and_added(folder: Path) -> None:
    committed(folder)
    run(folder, "git add vendor/lib && git commit -qm bump")


def edited(folder: Path) -> None:
    run(folder, "echo fix >> vendor/lib/lib.c")


def committed_and_edited(folder: Path) -> None:
    committed(folder)
    run(folder, "echo more > vendor/lib/new.c")


def on_a_branch(folder: Path) -> None:
    run(folder, "cd vendor/lib && git switch -qc mine && echo fix >> lib.c && git commit -qam fix")


@pytest.mark.parametrize("isolation", ["clone", "worktree"])
@pytest.mark.parametrize("make", [committed, committed_and_added, edited, committed_and_edited, on_a_branch])
def test_work_in_it_comes_home(
    seam: RunSeam, project: Path, user: UserGit, base: str, isolation: str, make: Callable[[Path], None]
) -> None:
    seam.tip("p").create(base)
    workspace = seam.prepare("R1", base, isolation)
    make(workspace.path)
    collected = seam.hand_over(workspace)
    assert [remark.code for remark in collected.remarks] == ["submodule_moved"]
    seam.merge("p", "R1", collected.head, "work", None)
    seam.land("p", None)
    pointer = run(project, "git rev-parse HEAD:vendor/lib")
    assert run(project / "vendor/lib", f"git cat-file -t {pointer}") == "commit"
    run(project, "git submodule update")
    assert "fix" in (project / "vendor/lib/lib.c").read_text()
    # A second look says the same, and makes nothing new.
    assert seam.collect(workspace, keeps=False).asks is None


def test_a_collection_twice_is_the_same(seam: RunSeam, base: str) -> None:
    workspace = seam.prepare("R1", base)
    edited(workspace.path)
    first = seam.hand_over(workspace)
    assert seam.project.git.run("rev-parse", f"{first.head}:vendor/lib").stdout
    again = seam.hand_over(workspace)
    trees = [seam.project.git.run("rev-parse", f"{one.head}^{{tree}}").stdout for one in (first, again)]
    assert len(set(trees)) in (1, 2)
    assert not again.asks


def test_what_the_user_does_not_have_is_empty_and_writing_there_asks(seam: RunSeam, project: Path, base: str) -> None:
    run(project, "git submodule deinit -qf vendor/lib; rm -rf .git/modules/vendor")
    workspace = seam.prepare("R1", base)
    assert list((workspace.path / "vendor/lib").iterdir()) == []
    assert seam.collect(workspace).remarks == ()
    run(workspace.path, "echo x > vendor/lib/lib.c")
    collected = seam.hand_over(workspace)
    assert (collected.asks and collected.asks.code) == "submodule_changed"


def test_one_that_the_agent_fetched_itself_and_pushed_asks_nobody(
    seam: RunSeam, project: Path, upstream: Path, base: str
) -> None:
    run(project, "git submodule deinit -qf vendor/lib; rm -rf .git/modules/vendor")
    run(upstream, "git config receive.denyCurrentBranch ignore")
    workspace = seam.prepare("R1", base)
    run(workspace.path, f"{ALLOWED} submodule update --init -q")
    committed(workspace.path)
    asks = seam.collect(workspace).asks
    assert asks is not None
    assert asks.code == "submodule_changed"
    run(workspace.path / "vendor/lib", "git push -q origin HEAD:refs/heads/agent")
    assert seam.hand_over(workspace).asks is None


def test_a_commit_that_the_checkout_lacks_refuses_the_run(
    seam: RunSeam, project: Path, upstream: Path, base: str
) -> None:
    run(upstream, "echo y >> lib.c; git commit -qam y")
    newer = run(upstream, "git rev-parse HEAD")
    run(project, f"git update-index --cacheinfo 160000,{newer},vendor/lib; git commit -qm bump")
    with pytest.raises(GitProblem) as refused:
        seam.prepare("R1", run(project, "git rev-parse HEAD"))
    assert refused.value.code == "submodule_missing"
    assert "vendor/lib" in refused.value.hint


def test_one_inside_another(seam: RunSeam, project: Path, tmp_path: Path, upstream: Path, base: str) -> None:
    inner = library(tmp_path / "upstream" / "inner", "inner.c")
    run(upstream, f"{ALLOWED} submodule --quiet add '{inner}' deep; git commit -qm deep")
    run(project / "vendor/lib", f"{ALLOWED} pull -q; {ALLOWED} submodule --quiet update --init")
    run(project, "git commit -qam deep")
    base = seam.tip("p").create(run(project, "git rev-parse HEAD"))
    workspace = seam.prepare("R1", base)
    assert (workspace.path / "vendor/lib/deep/inner.c").exists()
    run(workspace.path, "echo fix >> vendor/lib/deep/inner.c")
    collected = seam.hand_over(workspace)
    assert not collected.asks
    seam.merge("p", "R1", collected.head, "work", None)
    seam.land("p", None)
    run(project, "git submodule update --recursive")
    assert "fix" in (project / "vendor/lib/deep/inner.c").read_text()


def test_one_that_the_agent_adds_comes_with_its_remote(
    seam: RunSeam, project: Path, tmp_path: Path, base: str, upstream: Path
) -> None:
    other = library(tmp_path / "upstream" / "other")
    workspace = seam.prepare("R1", base)
    run(workspace.path, f"{ALLOWED} submodule --quiet add '{other}' vendor/other; git commit -qm more")
    collected = seam.hand_over(workspace)
    assert collected.asks is None
    assert run(project, f"git rev-parse {collected.head}:vendor/other") == run(other, "git rev-parse HEAD")


@pytest.mark.parametrize("url", ["x'; touch ran; '", "$(touch ran)", "`touch ran`", "{folder}/trap.git"])
def test_no_push_is_printed_to_an_address_that_the_agent_chose(
    seam: RunSeam, upstream: Path, base: str, tmp_path: Path, url: str
) -> None:
    workspace = seam.prepare("R1", base)
    run(
        workspace.path,
        f"{ALLOWED} submodule --quiet add '{upstream}' dep; cd dep; echo w > w; git add .; git commit -qm w; cd ..; "
        f"git config -f .gitmodules submodule.dep.url {shlex.quote(url.format(folder=tmp_path))}",
    )
    (remark,) = seam.hand_over(workspace).remarks
    assert (remark.code, remark.commands) == ("submodule_changed", ())


def test_what_an_agent_committed_of_it_holds_where_its_folder_lags_behind(
    seam: RunSeam, project: Path, upstream: Path, base: str
) -> None:
    newer = run(upstream, "echo 2 > two; git add .; git commit -qm two; git rev-parse HEAD")
    run(project / "vendor/lib", "git fetch -q")
    workspace = seam.prepare("R1", base)
    run(workspace.path, f"git update-index --cacheinfo 160000,{newer},vendor/lib; git commit -qm bump; echo n > n")
    collected = seam.hand_over(workspace)
    assert run(project, f"git rev-parse {collected.head}:vendor/lib") == newer
    assert [remark.code for remark in collected.remarks] == ["submodule_moved"]


def test_a_commit_id_without_a_folder_is_taken_as_it_was_committed(seam: RunSeam, project: Path, base: str) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path, f"git update-index --add --cacheinfo 160000,{base},ghost; git commit -qm ghost; echo n > n")
    assert run(project, f"git rev-parse {seam.hand_over(workspace).head}:ghost") == base


def test_a_file_in_it_that_git_cannot_take_is_named(seam: RunSeam, base: str) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path / "vendor/lib", "printf '*.u working-tree-encoding=UTF-16\\n' > .gitattributes; echo x > bad.u")
    with pytest.raises(GitProblem) as refused:
        seam.collect(workspace)
    assert (refused.value.code, refused.value.details["files"]) == ("left_uncommitted", ["vendor/lib/bad.u"])


def test_a_repository_that_began_in_it_is_work_and_its_history_is_kept(seam: RunSeam, project: Path, base: str) -> None:
    workspace = seam.prepare("R1", base)
    run(
        workspace.path / "vendor/lib", "mkdir inner; cd inner; git init -q; echo i > i.txt; git add .; git commit -qm i"
    )
    (remark, *_) = seam.hand_over(workspace).remarks
    assert remark.code == "submodule_side_work"
    lib = project / "vendor/lib"
    assert run(lib, "git show refs/orchestrion/run/R1:inner/i.txt") == "i"
    assert run(lib, f"git log --format=%s {remark.refs[0]}") == "i"


def test_what_is_beside_one_that_the_agent_added_is_kept_in_the_project(
    seam: RunSeam, user: UserGit, upstream: Path, base: str
) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path, f"{ALLOWED} submodule --quiet add '{upstream}' ns")
    run(
        workspace.path / "ns",
        "git checkout -qb feat; echo f > f; git add .; git commit -qm f; git checkout -q -; echo s >> lib.c; git stash",
    )
    run(
        workspace.path / "ns",
        "git init -q -b one app; cd app; echo 1 > 1; git add .; git commit -qm app-one; echo 2 > 1",
    )
    told = {remark.code: remark for remark in seam.hand_over(workspace).remarks}
    names = [ref.partition("/beside/ns/")[2] for ref in told["submodule_side_work"].refs]
    assert names == ["heads/feat", "stash/1", "nested/app/heads/one"]
    assert user("show", f"{told['submodule_side_work'].refs[0]}:f") == "f"


@pytest.fixture
def deep(project: Path, upstream: Path, base: str) -> str:
    """The submodule has one of its own; the project's commit."""
    run(project / "vendor/lib", f"{ALLOWED} submodule --quiet add '{upstream}' deep; git commit -qm deep")
    run(project, "git commit -qam deep")
    return run(project, "git rev-parse HEAD")


ADD = "git -c protocol.file.allow=always submodule --quiet add"
OWN = "echo own > own; git add .; git commit -qm own"


@pytest.mark.parametrize(
    ("command", "asks"),
    [
        (f"cd vendor/lib; {ADD} '{{upstream}}' nd; cd nd; {OWN}; cd ..; git commit -qam nd", True),
        (f"{ADD} '{{lib}}' new; cd new; {ALLOWED} submodule --quiet update --init; cd deep; {OWN}; cd ..; "
         "git commit -qam deep", True),
        (f"cd vendor/lib/deep; {OWN}; cd ..; git rm -qf deep; git commit -qm rm", False),
    ],
)  # fmt: skip
def test_work_in_one_that_is_inside_another_is_kept(
    seam: RunSeam, project: Path, upstream: Path, deep: str, command: str, asks: bool
) -> None:
    workspace = seam.prepare("R1", deep)
    run(workspace.path, command.format(upstream=upstream, lib=project / "vendor/lib"))
    remarks = seam.hand_over(workspace).remarks
    assert any(remark.asks for remark in remarks) is asks
    refs = [ref for remark in remarks for ref in remark.refs]
    places = [project, project / "vendor/lib", project / "vendor/lib/deep"]
    listed = [run(place, f"git ls-tree --name-only {ref} 2>/dev/null || true") for ref in refs for place in places]
    assert any("own" in files.split() for files in listed)


def test_changes_in_a_worktree_of_it_are_kept(seam: RunSeam, project: Path, base: str) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path / "vendor/lib", "git worktree add -q -b sw .wt/sw; echo u > .wt/sw/u.txt; echo m > m")
    (told,) = [one for one in seam.hand_over(workspace).remarks if one.code == "submodule_side_work"]
    assert run(project / "vendor/lib", f"git show {told.refs[0]}:u.txt") == "u"


def test_conflict_markers_in_it_ask(seam: RunSeam, base: str) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path / "vendor/lib", "printf '<<<<<<< x\\na\\n=======\\nb\\n>>>>>>> y\\n' >> lib.c")
    told = {remark.code: remark for remark in seam.hand_over(workspace).remarks}
    assert told["conflict_markers"].paths == ("vendor/lib/lib.c",)


@pytest.mark.parametrize("command", ["git revert --no-edit HEAD; true", "git rm -q --cached vendor/lib .gitmodules; "
                                     "rm .gitmodules; git commit -qm untrack"])  # fmt: skip
def test_one_that_git_took_out_and_not_from_the_disk_is_out(
    seam: RunSeam, project: Path, base: str, command: str
) -> None:
    workspace = seam.prepare("R1", base)
    (workspace.path / "vendor/lib/left.o").write_text("product")
    run(workspace.path, command)
    assert "vendor/lib" not in run(project, f"git ls-tree -r --name-only {seam.hand_over(workspace).head}").split()


@pytest.mark.parametrize(
    ("command", "there"),
    [
        ("git rm -qf vendor/lib; rmdir vendor; mkdir vendor; echo f > vendor/lib", "vendor/lib"),
        ("git rm -qf vendor/lib; mkdir -p vendor/lib; echo f > vendor/lib/f", "vendor/lib/f"),
        ("git sparse-checkout set --no-cone /src/; echo y > src/y", "vendor/lib"),
    ],
)
def test_what_is_at_its_place_is_not_taken_for_it(
    seam: RunSeam, project: Path, base: str, command: str, there: str
) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path, f"{command} || true")
    assert there in run(project, f"git ls-tree -r --name-only {seam.hand_over(workspace).head}").split()


def test_what_is_beside_a_nested_one_is_told_where_it_is(
    seam: RunSeam, project: Path, upstream: Path, base: str
) -> None:
    lib = project / "vendor/lib"
    run(lib, f"{ALLOWED} submodule --quiet add '{upstream}' deep; git commit -qm deep")
    run(project, "git commit -qam deep")
    workspace = seam.prepare("R1", run(project, "git rev-parse HEAD"))
    run(
        workspace.path / "vendor/lib/deep", "git checkout -qb side; git commit -q --allow-empty -m s; git checkout -q -"
    )
    (remark,) = [one for one in seam.hand_over(workspace).remarks if one.code == "submodule_side_work"]
    assert remark.paths == ("vendor/lib/deep",)
    assert run(lib / "deep", f"git log -1 --format=%s {remark.refs[0]}") == "s"


@pytest.mark.parametrize(("own", "asks"), [("echo w > w; git add .; git commit -qm w", True), ("true", False)])
def test_a_clone_in_it_is_left_out_and_told(seam: RunSeam, upstream: Path, base: str, own: str, asks: bool) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path / "vendor/lib", f"git clone -q '{upstream}' dep; echo t > t.txt; cd dep; {own}")
    told = {remark.code: remark for remark in seam.hand_over(workspace).remarks}
    assert told["nested_left_out"].paths == ("vendor/lib/dep",)
    assert told["nested_left_out"].asks is asks


SIDE = """cd vendor/lib
git checkout -q -b side; echo w > work.c; git add .; git commit -qm work; git checkout -q -
echo st >> lib.c; git stash -q; {more}"""


@pytest.mark.parametrize(
    ("more", "codes"),
    [("cd ../..; echo own > own", ["submodule_side_work"]), ("", ["submodule_side_work", "work_elsewhere"])],
)
def test_branches_and_stashes_in_it_are_kept_in_the_user_s(
    seam: RunSeam, project: Path, base: str, more: str, codes: list[str]
) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path, SIDE.format(more=more))
    collected = seam.hand_over(workspace)
    assert [remark.code for remark in collected.remarks] == codes
    refs = collected.remarks[0].refs
    assert refs == ("refs/orchestrion/kept/R1/heads/side", "refs/orchestrion/kept/R1/stash/1")
    assert run(project / "vendor/lib", f"git show {refs[0]}:work.c") == "w"
    assert "st" in run(project / "vendor/lib", f"git show {refs[1]}:lib.c")
    assert seam.remove(workspace.path)


def test_a_commit_in_one_that_the_agent_added_can_be_pushed_as_is_said(
    seam: RunSeam, project: Path, upstream: Path, base: str
) -> None:
    run(project, f"git remote add known '{upstream}'")
    workspace = seam.prepare("R1", base)
    run(
        workspace.path,
        f"{ALLOWED} submodule --quiet add '{upstream}' dep; cd dep; echo w > w; git add .; git commit -qm w; cd ..; "
        "git add .; git commit -qm dep",
    )
    collected = seam.hand_over(workspace)
    (remark,) = collected.remarks
    assert (remark.code, remark.asks) == ("submodule_changed", True)
    (command,) = remark.commands
    run(project, command)
    assert run(upstream, "git show orchestrion-R1:w") == "w"
    assert run(project, f"git rev-parse {collected.head}:dep") == run(upstream, "git rev-parse orchestrion-R1")


def test_what_was_done_in_one_before_it_was_removed_is_kept(seam: RunSeam, project: Path, base: str) -> None:
    workspace = seam.prepare("R1", base)
    run(
        workspace.path,
        "cd vendor/lib; echo A > n; git add n; git commit -qm n; cd ../..; git rm -qf vendor/lib; git commit -qm rm",
    )
    (remark,) = seam.hand_over(workspace).remarks
    assert remark.code == "submodule_side_work"
    assert run(project / "vendor/lib", f"git show {remark.refs[0]}:n") == "A"


@pytest.mark.parametrize("new", [False, True])
def test_one_that_was_emptied_stays_with_its_commits(
    seam: RunSeam, project: Path, upstream: Path, base: str, new: bool
) -> None:
    workspace = seam.prepare("R1", base)
    path = "sm" if new else "vendor/lib"
    add = f"{ALLOWED} submodule --quiet add '{upstream}' sm; git commit -qm sm; " if new else ""
    run(
        workspace.path,
        f"{add}(cd {path}; echo in > in.txt; git add .; git commit -qm in); git commit -qam bump; "
        f"git rev-parse HEAD:{path} > ../link; git submodule --quiet deinit -f {path}",
    )
    link = (workspace.path.parent / "link").read_text().strip()
    collected = seam.hand_over(workspace)
    assert run(project, f"git rev-parse {collected.head}:{path}") == link
    place = project if new else project / path
    assert run(place, f"git show {link}:in.txt") == "in"
    assert [remark.code for remark in collected.remarks] == ["submodule_changed" if new else "submodule_moved"]


def test_one_that_the_agent_removes_is_gone(seam: RunSeam, project: Path, base: str) -> None:
    workspace = seam.prepare("R1", base)
    run(workspace.path, "git rm -qf vendor/lib; rm -f .gitmodules")
    head = seam.hand_over(workspace).head
    assert "vendor" not in run(project, f"git ls-tree -r --name-only {head}")


def test_checks_of_every_merge_find_it_filled(seam: RunSeam, base: str) -> None:
    """The workspace of merges is used again; what the checks of one left there harms none after it."""
    seam.tip("p").create(base)
    found: list[str] = []

    def check(folder: Path) -> None:
        found.append((folder / "vendor/lib/lib.c").read_text())
        (folder / "vendor/lib/lib.c").write_text("left by a check\n")

    for number in (1, 2, 3, 4):
        workspace = seam.prepare(f"R{number}", base)
        (workspace.path / f"{number}.txt").write_text("x")
        seam.merge("p", f"R{number}", seam.hand_over(workspace).head, "work", check)
    assert found == ["int lib;\n"] * 3
    workspace = seam.prepare("R5", base)
    (workspace.path / "1.txt").write_text("another")
    with pytest.raises(MergeConflict):
        seam.merge("p", "R5", seam.hand_over(workspace).head, "work", check)
