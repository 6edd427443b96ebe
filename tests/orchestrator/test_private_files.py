"""Whatever the umask, a store and what belongs to its runs are one user's; the user's own tree keeps its modes."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from repository import git

from orchestrion import Orchestrator
from orchestrion.core import private
from orchestrion.core.errors import NotFound
from premises import nobody
from stage import Stage


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Everybody may do everything."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """What others than the owner might do, of all that is in a folder and of itself; nothing where they may nothing."""
    every = [folder, *folder.rglob("*")]
    found = {str(one.relative_to(folder.parent)): stat.S_IMODE(one.lstat().st_mode) for one in every}
    return {name: mode for name, mode in found.items() if mode & 0o077}


def drained(project: Path, environ: dict[str, str]) -> dict[str, object]:
    with Orchestrator.open(project, environ=environ) as opened:
        opened.add("print", command="echo said; echo b > b.txt; stat -c %a . b.txt old.txt", checks=("test -f b.txt",))
        opened.work(slots=1, drain=True)
        return opened.run_detail("R1")


def test_everything_of_a_store_in_git_is_the_owners(project: Path, environ: dict[str, str]) -> None:
    run = drained(project, environ)
    assert run["state"] == "succeeded"
    assert modes(project / ".git" / "orchestrion") == {}
    assert (project / ".git" / "orchestrion" / "runs" / "R1" / "evidence").is_dir()
    state = Path(environ["XDG_STATE_HOME"]) / "orchestrion"
    homes = [state, *state.glob("*"), *state.glob("*/workspaces")]
    assert len(homes) >= 3
    assert [home for home in homes if home.stat().st_mode & 0o077] == []


def test_in_a_workspace_files_are_as_git_makes_them(project: Path, environ: dict[str, str]) -> None:
    run = drained(project, environ)
    with Orchestrator.open(project, environ=environ) as opened:
        lines = [line["text"] for line in opened.log(str(run["id"])) if line["stream"] == "out"]
    assert lines == ["said", "777", "666", "666"]


def test_outside_git_the_shared_folder_stays_shared_and_the_store_is_the_owners(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    Orchestrator.init(folder, environ=environ)
    drained(folder, environ)
    shared = folder / ".orchestrion"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o777
    assert modes(shared).keys() == {".orchestrion", ".orchestrion/config.yaml"}


def test_what_was_open_to_all_is_tightened_when_it_is_opened(project: Path, environ: dict[str, str]) -> None:
    drained(project, environ)
    store = project / ".git" / "orchestrion"
    for one in (store, *store.rglob("*")):
        one.chmod(0o777 if one.is_dir() else 0o666)
    with Orchestrator.open(project, environ=environ, create=False):
        still_open = modes(store)
    assert "orchestrion/orchestrator.db" not in still_open
    assert {"orchestrion", "orchestrion/runs", "orchestrion/orchestrion.db"} & still_open.keys() == set()


def test_a_database_that_was_named_is_the_owners_and_its_folder_stays(
    project: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    with Orchestrator.open(project, db=str(place / "my.db"), environ=environ) as opened:
        opened.add("one")
        assert modes(place).keys() == {"elsewhere"}
        assert {file.name for file in place.iterdir()} >= {"my.db", "my.db-wal", "my.db-shm"}


def test_a_group_that_shares_the_repository_does_not_share_the_store(project: Path, environ: dict[str, str]) -> None:
    git(project, "config", "core.sharedRepository", "group")
    os.umask(0o002)
    drained(project, environ)
    assert modes(project / ".git" / "orchestrion") == {}


def test_what_belongs_to_another_is_left_as_it_is_and_read() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, file = Path(place), Path(place) / "anothers"
        file.write_text("readable")
        folder.chmod(0o755)
        file.chmod(0o644)
        with nobody():
            private.tighten(file)
            private.make_file(file)
            assert file.read_text() == "readable"
        assert stat.S_IMODE(file.stat().st_mode) == (0o644 if os.geteuid() == 0 else 0o600)


def test_what_a_link_leads_to_keeps_its_mode(tmp_path: Path) -> None:
    file, folder, pipe = tmp_path / "file", tmp_path / "folder", tmp_path / "pipe"
    file.touch()
    folder.mkdir()
    os.mkfifo(pipe)
    for number, target in enumerate((file, folder, pipe, Path("nowhere"))):
        link = tmp_path / f"link{number}"
        link.symlink_to(target)
        assert not private.tighten(link)
        with suppress(OSError):  # some systems have no modes of links
            private.set_mode(link, 0o600)
    private.make_folder(tmp_path / "link1")
    assert not private.tighten(pipe)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (file, folder, pipe)] == [0o666, 0o777, 0o666]
    assert private.tighten(file)
    assert private.tighten(folder)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (file, folder)] == [0o600, 0o700]


def test_a_file_that_is_tightened_stays_locked(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with file.open("r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        assert private.tighten(file)
        told = f"import fcntl; fcntl.lockf(open({str(file)!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        assert b"BlockingIOError" in subprocess.run([sys.executable, "-c", told], capture_output=True).stderr


@pytest.mark.parametrize("bend", [os.mkfifo, lambda file: file.symlink_to("/dev/zero")], ids=["a pipe", "endless"])
def test_what_has_the_place_of_a_file_of_the_store_holds_nobody_up(
    project: Path, environ: dict[str, str], bend: Callable[[Path], None]
) -> None:
    with Orchestrator.open(project, environ=environ) as opened:
        opened.add("one")
        opened.note_address("http://127.0.0.1:1/")
    store = project / ".git" / "orchestrion"
    for file in (store / "stores", *store.glob("address*")):
        file.unlink()
        bend(file)
    with Orchestrator.open(project, environ=environ) as opened:
        assert opened.list_tasks().total == 1
        with pytest.raises(NotFound, match="no server"):
            opened.page_address()
    (store / "id").unlink()
    bend(store / "id")
    with pytest.raises(private.NotPlain) as refused:
        Orchestrator.open(project, environ=environ)
    assert refused.value.filename == str(store / "id")


@pytest.mark.parametrize("bend", ["mkfifo $S", "ln -s /dev/zero $S", "touch $S"])
def test_what_has_the_place_of_the_key_of_notes_ends_the_run_that_put_it_there(stage: Stage, bend: str) -> None:
    stage.add(f"S=$ORCHESTRION_PROJECT/.git/orchestrion/seal; rm -f $S; {bend}; echo y > y.txt", max_retries=0)
    stage.drain()
    seal = stage.root / ".git" / "orchestrion" / "seal"
    assert stage.run("R1")["state"] == "failed"
    assert str(seal) in stage.run("R1")["reason"]
    stage.add("echo z > z.txt", max_retries=0)
    stage.drain()  # and the next one
    assert stage.run("R2")["state"] == "failed"
    seal.unlink()
    stage.add("echo z > z.txt")
    stage.drain()
    assert stage.task("T3")["state"] == "completed"
