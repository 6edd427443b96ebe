"""What arrives in the user's repository is there as a whole, or nothing of it: on a full disk, and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs import points, quarantine, refs
from orchestrion.runs.git import Git
from small_disk import small_disk

MB = 1024 * 1024
REF = "refs/orchestrion/runs/R1"


@pytest.fixture
def source(tmp_path: Path, project: Path, user: UserGit) -> Path:
    """A repository with one commit that the project lacks, as large as ``work`` says; its git directory."""
    folder = tmp_path / "source"
    user("clone", "-q", "--no-local", project, folder)
    (folder / "work.bin").write_bytes(os.urandom(3 * MB))
    user("add", ".", at=folder)
    user("commit", "-qm", "work", at=folder)
    return folder / ".git"


def everything_in(project: Path) -> set[str]:
    objects = project / ".git" / "objects"
    return {str(file.relative_to(objects)) for file in objects.rglob("*") if file.is_file()}


def fetch_and_die(project: Path, source: Path, point: str) -> None:
    """Another process is killed at a point of a fetch."""
    code = (
        "import sys; from pathlib import Path; from orchestrion.runs import quarantine; "
        "from orchestrion.runs.git import Git; "
        f"quarantine.fetch(Git(Path(sys.argv[1])), Path(sys.argv[2]), '+HEAD:{REF}', checked=True)"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, project, source], env={**os.environ, points.VARIABLE: point}, check=False
    )
    assert died.returncode == -signal.SIGKILL


@pytest.mark.parametrize("checked", [True, False], ids=["as a pack", "as single files"])
def test_it_arrives_with_its_ref(project: Path, source: Path, user: UserGit, checked: bool) -> None:
    git = Git(project)
    quarantine.fetch(git, source, f"+HEAD:{REF}", checked=checked)
    assert user("rev-parse", REF) == user("rev-parse", "HEAD", at=source.parent)
    user("fsck", "--strict")
    assert quarantine.left_in(project / ".git") == {}
    assert not [name for name in everything_in(project) if "tmp_" in name or ".keep" in name]
    assert not (project / ".git" / "FETCH_HEAD").exists()


@pytest.mark.users_repository_changes
def test_on_a_disk_that_is_too_small_nothing_stays(tmp_path: Path, project: Path, source: Path, user: UserGit) -> None:
    with small_disk(tmp_path / "disk", 2 * MB):
        small = tmp_path / "disk" / "small"
        user("clone", "-q", "--no-local", project, small)
        others = small / ".git" / "objects" / "pack" / "tmp_pack_users"
        others.write_text("another git may be at work here")
        before, free = everything_in(small), os.statvfs(small).f_bavail
        for _ in range(3):
            with pytest.raises(GitProblem) as refused:
                quarantine.fetch(Git(small), source, f"+HEAD:{REF}", checked=True)
            assert refused.value.code == "disk_full"
        assert everything_in(small) == before
        assert os.statvfs(small).f_bavail >= free - 2
        assert Git(small).tip(REF) is None


@pytest.mark.parametrize("point", ["quarantine.arrived", "quarantine.whole"])
def test_what_a_kill_leaves_is_named_and_goes(project: Path, source: Path, user: UserGit, point: str) -> None:
    before = everything_in(project)
    fetch_and_die(project, source, point)
    left = quarantine.left_in(project / ".git")
    assert [size > 3 * MB for size in left.values()] == [True]
    assert quarantine.clear(project / ".git") == list(left)
    assert quarantine.left_in(project / ".git") == {}
    # What was whole may have begun to take its place.
    assert (everything_in(project) == before) is (point == "quarantine.arrived")
    assert Git(project).tip(REF) is None
    user("fsck", "--strict")


def test_the_next_one_sees_to_what_a_kill_left(project: Path, source: Path, user: UserGit) -> None:
    fetch_and_die(project, source, "quarantine.arrived")
    quarantine.fetch(Git(project), source, f"+HEAD:{REF}", checked=True)
    assert quarantine.left_in(project / ".git") == {}
    assert not list((project / ".git" / "objects").glob(f"{quarantine.PREFIX}*"))
    assert user("rev-parse", REF) == user("rev-parse", "HEAD", at=source.parent)


def test_a_pack_that_was_killed_before_its_index_had_its_place_gets_it(
    project: Path, source: Path, user: UserGit
) -> None:
    fetch_and_die(project, source, "quarantine.whole")
    (folder,) = quarantine.left_in(project / ".git")
    (pack,) = (folder / "pack").glob("*.pack")
    place = project / ".git" / "objects" / "pack"
    place.mkdir(exist_ok=True)
    pack.rename(place / pack.name)
    quarantine.clear(project / ".git")
    assert {file.suffix for file in place.iterdir()} >= {".pack", ".idx"}
    user("cat-file", "-e", user("rev-parse", "HEAD", at=source.parent))


def test_nobody_touches_what_somebody_is_at(project: Path, source: Path) -> None:
    git = Git(project)
    with quarantine.arriving(git) as mine:
        assert quarantine.clear(project / ".git") == []
        assert quarantine.left_in(project / ".git") == {}
        quarantine.fetch(git, source, f"+HEAD:{REF}", checked=True)
        assert mine.folder.is_dir()
    assert not mine.folder.exists()


def test_what_is_not_accepted_is_gone(project: Path, source: Path) -> None:
    before, git = everything_in(project), Git(project)
    with quarantine.arriving(git) as arrival:
        git.fetch(source, "HEAD", env=arrival.environment)
        assert len(everything_in(project)) > len(before)
    assert everything_in(project) == before


def test_a_repository_that_borrows_by_a_relative_path(project: Path, source: Path, user: UserGit) -> None:
    borrower = project.parent / "borrower"
    user("clone", "-q", "--shared", project, borrower)
    alternates = borrower / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(f"{os.path.relpath(project / '.git' / 'objects', alternates.parents[1])}\n")
    quarantine.fetch(Git(borrower), source, f"+HEAD:{REF}", checked=True)
    user("fsck", "--strict", at=borrower)


def test_a_shared_repository_stays_shared(project: Path, source: Path, user: UserGit) -> None:
    """The permissions are those that git gives there."""
    user("config", "core.sharedRepository", "0660")
    objects = project / ".git" / "objects"
    objects.chmod(0o2770)
    before = {folder.name for folder in objects.iterdir()}
    quarantine.fetch(Git(project), source, f"+HEAD:{REF}")
    (project / "new.txt").write_text("by git itself")
    made = user("hash-object", "-w", "new.txt")
    of_git = objects / made[:2]
    ours = [folder for folder in objects.iterdir() if folder.name not in {*before, of_git.name}]
    assert {oct(folder.stat().st_mode) for folder in ours} == {oct(of_git.stat().st_mode)}
    files = [file for folder in ours for file in folder.iterdir()]
    assert {oct(file.stat().st_mode) for file in files} == {oct((of_git / made[2:]).stat().st_mode)}


def test_half_written_files_of_others_are_named_when_they_are_old(project: Path) -> None:
    file = project / ".git" / "objects" / "pack" / "tmp_pack_x"
    file.parent.mkdir(exist_ok=True)
    file.write_text("begun")
    written = file.stat().st_mtime
    assert quarantine.foreign_in(project / ".git", written) == {}
    assert quarantine.foreign_in(project / ".git", written + 1) == {file: 5}
    assert quarantine.clear(project / ".git") == []
    assert file.exists()


@pytest.mark.users_repository_changes
def test_work_for_which_there_is_no_room_is_refused_before_it_takes_any(
    tmp_path: Path, home: Path, project: Path, user: UserGit
) -> None:
    with small_disk(tmp_path / "disk", 6 * MB):
        small = tmp_path / "disk" / "small"
        user("clone", "-q", "--no-local", project, small)
        seam = RunSeam(small, home)
        base = user("rev-parse", "HEAD", at=small)
        large, little = seam.prepare("R1", base), seam.prepare("R2", base)
        (large.path / "large.bin").write_bytes(os.urandom(4 * MB))
        (little.path / "little.bin").write_bytes(os.urandom(MB))
        before = everything_in(small)
        with pytest.raises(GitProblem, match=r"the work takes 4\.2 MB and") as refused:
            seam.hand_over(large)
        assert refused.value.code == "disk_full"
        assert everything_in(small) == before
        seam.hand_over(little)
        assert user("cat-file", "-s", "refs/orchestrion/runs/R2:little.bin", at=small) == str(MB)


def test_in_a_directory_of_our_own_a_git_that_finds_no_room_leaves_nothing(
    tmp_path: Path, project: Path, user: UserGit, base: str
) -> None:
    with small_disk(tmp_path / "disk", 4 * MB):
        seam = RunSeam(project, tmp_path / "disk" / "workspaces")
        workspace = seam.prepare("R1", base)
        (workspace.path / "large.bin").write_bytes(os.urandom(int(2.5 * MB)))
        for _ in range(2):
            with pytest.raises(GitProblem) as refused:
                seam.hand_over(workspace)
            assert refused.value.code == "disk_full"
            ours = workspace.path.with_name("R1.git") / "objects"
            assert [file for file in ours.rglob("tmp_*") if file.is_file()] == []


def test_what_arrived_stays_until_its_ref_names_it(project: Path, source: Path, user: UserGit) -> None:
    """Somebody packs anew, and throws away what nothing names, between the arrival and the ref."""
    git, work = Git(project), user("rev-parse", "HEAD", at=source.parent)
    with quarantine.arriving(git) as arrival:
        git.fetch(source, "HEAD", checked=True, env=arrival.environment)
        arrival.accept()
        user("repack", "-adq")
        user("gc", "-q", "--prune=now")
        user("update-ref", REF, work)
    user("fsck", "--strict")
    assert not [name for name in everything_in(project) if ".keep" in name]
    user("repack", "-adq")
    assert len(list((project / ".git" / "objects" / "pack").glob("*.pack"))) == 1


def test_a_mark_of_one_who_was_killed_goes_and_that_of_a_user_stays(project: Path, source: Path) -> None:
    packs = project / ".git" / "objects" / "pack"
    packs.mkdir(exist_ok=True)
    users = packs / f"pack-{'a' * 40}.keep"
    users.write_text("mine")
    fetch_and_die(project, source, "quarantine.moved")
    assert len(list(packs.glob("*.keep"))) == 2
    quarantine.clear(project / ".git")
    assert list(packs.glob("*.keep")) == [users]


def test_a_ref_of_a_run_whose_commit_is_gone_is_in_nobodys_way(project: Path, source: Path, user: UserGit) -> None:
    names = ("refs/orchestrion/runs/R9", "refs/heads/orchestrion/p", "refs/heads/orchestrion/run/R9")
    for name in names:
        lost = project / ".git" / name
        lost.parent.mkdir(parents=True, exist_ok=True)
        lost.write_text(f"{'1' * 40}\n")
    assert refs.gone(Git(project), 10) == dict.fromkeys(names, "1" * 40)
    quarantine.fetch(Git(project), source, f"+HEAD:{REF}", checked=True)
    assert not [name for name in names if (project / ".git" / name).exists()]
    user("fsck", "--strict")


def test_a_folder_of_somebody_else_gives_away_nothing(project: Path, tmp_path: Path, user: UserGit) -> None:
    """Links in it lead elsewhere, and its files are called as nothing of git's is."""
    precious = tmp_path / "precious"
    (precious / "pack").mkdir(parents=True)
    (precious / "file").write_text("p")
    (precious / "pack" / f"pack-{'1' * 40}.pack").write_text("q")
    objects = project / ".git" / "objects"
    linked, named = (objects / f"{quarantine.PREFIX}99999{number}-1" for number in (8, 7))
    for folder in (linked, named):
        folder.mkdir()
        (folder / "lock").touch()
    (linked / "whole").symlink_to(precious / "file")
    (linked / "pack").symlink_to(precious / "pack")
    (linked / "aa").symlink_to(precious)
    (named / "whole").touch()
    (named / "pack").mkdir()
    for name in ("pack-x.pack", "../x.pack".replace("/", "-"), f"pack-{'1' * 40}.sh", f"pack-{'1' * 40}.idx"):
        (named / "pack" / name).write_text("junk")
    (named / "keeps").write_text("../../config\npack-x\n")
    before = everything_in(project)
    quarantine.clear(project / ".git")
    assert {name for name in everything_in(project) if quarantine.PREFIX not in name} == {
        name for name in before if quarantine.PREFIX not in name
    }
    assert sorted(file.name for file in precious.rglob("*")) == ["file", "pack", f"pack-{'1' * 40}.pack"]
    assert not list(objects.glob(f"{quarantine.PREFIX}*"))
    user("fsck", "--strict")


def test_an_index_whose_pack_another_git_took_away_goes(project: Path, source: Path) -> None:
    fetch_and_die(project, source, "quarantine.whole")
    (folder,) = quarantine.left_in(project / ".git")
    (pack,) = (folder / "pack").glob("*.pack")
    pack.unlink()  # it had its place already, and was packed away
    quarantine.clear(project / ".git")
    assert not list((project / ".git" / "objects" / "pack").glob("*.idx"))


def test_what_is_taken_away_each_time_is_no_success(
    project: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody prunes behind every fetch: nobody is told that the work is there."""
    git, fetch = Git(project), Git.fetch

    def and_prune(*given: object, **options: object) -> object:
        answer = fetch(*given, **options)  # type: ignore[arg-type]
        if Git(project).tip(REF):
            Git(project).run("update-ref", "-d", REF)
        return answer

    monkeypatch.setattr(Git, "fetch", and_prune)
    with pytest.raises(GitProblem, match="taken away 3 times"):
        quarantine.fetch(git, source, f"+HEAD:{REF}", checked=True, check=False)
