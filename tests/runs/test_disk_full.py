"""A disk without room, for the state folder and for the store: said as such, nothing spoilt, and on it goes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrion.core.errors import StoreProblem
from orchestrion.core.model import NewTask
from orchestrion.ops import health
from orchestrion.orchestrator.maintaining import UNRECORDED
from orchestrion.runs import quarantine
from orchestrion.scheduler.create import create
from orchestrion.store import open_store
from small_disk import fill, small_disk
from stage import Stage
from waiting import wait_for

MB = 1024 * 1024


@pytest.mark.users_repository_changes
@pytest.mark.parametrize("sizes", [[30_000] * 20, [600_000]], ids=["many files", "a large one"])
def test_a_full_state_folder_is_a_full_disk_and_the_run_is_tried_again(stage: Stage, sizes: list[int]) -> None:
    """git says that it cannot reset its index, and nothing of the disk."""
    with small_disk(stage.folder / "state", sum(sizes) // 2):
        for number, size in enumerate(sizes):
            (stage.root / f"{number}.bin").write_bytes(bytes(range(256)) * (size // 256))
        stage.git("add", ".")
        stage.git("commit", "-qm", "large")
        stage.add("echo done > done.txt", max_retries=1, retry_delay_s=3)
        with stage.worker(drain=False) as worker:
            wait_for(lambda: stage.task()["state"] == "retrying", "it is to be tried again")
            assert (stage.run()["state"], stage.run()["code"]) == ("failed", "disk_full")
            subprocess.run(["mount", "-o", f"remount,size={50 * MB}", stage.folder / "state"], check=True)
            wait_for(lambda: stage.task()["state"] == "completed", "it is done")
            assert worker.poll() is None
    assert stage.on_branch("done.txt", stage.runs()[-1]["id"]) == "done"


def test_a_run_that_goes_wrong_where_nothing_can_be_written_is_told_all_the_same(stage: Stage) -> None:
    """Its own folder has no room, so that not even what went wrong can be written down there."""
    runs, go = stage.root / ".git" / "orchestrion" / "runs", stage.folder / "go"
    with small_disk(runs, MB):
        stage.add(f"echo at work; while ! test -e {go}; do sleep 0.05; done; ln -s / $PWD.git/info/bent", max_retries=0)
        with stage.worker() as worker:
            stage.await_lines()
            fill(runs)
            go.touch()
            worker.wait(60)
        assert (stage.run()["state"], stage.run()["code"]) == ("failed", "workspace_broken")


@pytest.fixture
def on_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A project whose repository and store share a disk of 24 MB; workspaces have room elsewhere."""
    for variable in [key for key in os.environ if key.startswith(("GIT_", "ORCHESTRION_"))]:
        monkeypatch.delenv(variable)
    with small_disk(tmp_path / "disk", 24 * MB):
        stage = Stage(tmp_path / "disk" / "stage", os.environ)
        stage.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
        for variable, value in stage.environ.items():
            monkeypatch.setenv(variable, value)
        stage.open(retry__delay_s=0, run__grace_s=1)
        before = stage.user_sees()
        yield stage
        stage.check(before)
        stage.close()


def _room(stage: Stage) -> int:
    """Bytes that are free on the project's disk."""
    found = os.statvfs(stage.root)
    return found.f_bavail * found.f_frsize


def test_work_that_does_not_fit_takes_no_room_from_others(on_small_disk: Stage) -> None:
    stage, room = on_small_disk, _room(on_small_disk)
    stage.add("head -c 30000000 /dev/urandom > big.bin", max_retries=1)
    stage.add("sleep 2; echo b > b.txt", max_retries=0)
    assert (stage.drain(slots=2).completed, stage.task("T1")["code"]) == (1, "disk_full")
    assert stage.merged("b.txt") == "b\n"
    assert [run["code"] for run in stage.runs("T1")] == ["disk_full"] * 2
    assert room - _room(stage) < MB
    assert (stage.workspace("R1") / "big.bin").stat().st_size == 30_000_000


def _leave_half_written(stage: Stage) -> Path:
    """What a run leaves that was killed while its work arrived: a folder that fills the disk."""
    folder = stage.root / ".git" / "objects" / f"{quarantine.PREFIX}1-1"
    (folder / "pack").mkdir(parents=True)
    (folder / "lock").touch()
    fill(folder / "pack").rename(folder / "pack" / "tmp_pack_1")
    assert _room(stage) == 0
    return folder


def test_maintenance_names_and_removes_what_fills_the_disk(on_small_disk: Stage) -> None:
    """Nothing can be written to the store until it is gone."""
    stage = on_small_disk
    folder, users = _leave_half_written(stage), stage.root / ".git" / "objects" / "pack" / "tmp_pack_users"
    users.parent.mkdir(exist_ok=True)
    users.touch()
    os.utime(users, (0, 0))

    looked = stage.orchestrion.maintain(level="full_audit", dry_run=True)
    found = looked["found"]["half_written"]
    assert (looked["id"], looked["notes"]) == (None, [UNRECORDED])
    assert (found["ours"], found["of_other_gits"]) == (1, 1)
    assert found["our_bytes"] > 20 * MB
    assert found["files"] == [str(folder), str(users)]
    assert looked["would_do"][0] == {"did": "removed_half_written", "total": 1, "bytes": found["our_bytes"]}
    assert any(str(users.parent) in line for line in looked["recommendations"])
    assert folder.exists()

    done = stage.orchestrion.maintain(level="full_audit")
    assert done["done"][0] == {"did": "removed_half_written", "total": 1, "bytes": found["our_bytes"]}
    assert done["id"] is not None
    assert not folder.exists()
    assert users.exists(), "whose that is nobody can tell"


def test_a_worker_removes_what_a_killed_run_left(on_small_disk: Stage) -> None:
    stage = on_small_disk
    stage.add("echo b > b.txt", max_retries=0)
    folder = _leave_half_written(stage)
    assert stage.drain().completed == 1, "it fills the disk no more"
    assert not folder.exists()
    (folder / "pack").mkdir(parents=True)
    (folder / "pack" / "tmp_pack_1").touch()
    stage.drain()
    assert not folder.exists(), "the sweep"


def test_a_store_without_room_is_a_full_disk_until_there_is_some(tmp_path: Path) -> None:
    place = tmp_path / "small"
    with small_disk(place, 2 * MB):
        path = str(place / "a.db")
        with closing(open_store(path)) as store:
            filler = fill(place)
            written: list[int] = []

            def go_on() -> None:
                while len(written) < 500:
                    written.append(store.write(lambda tx: create(tx, NewTask("x", description="x" * 9000))))

            with pytest.raises(StoreProblem) as refused:
                go_on()
            assert refused.value.code == "disk_full"
            assert [row["id"] for row in store.read(lambda tx: tx.all("list_tasks", after=0, limit=500))] == written
            assert health.of_store(store).facts["code"] == "disk_full"
            assert f"by hand first, on the disk of {place}" in health.of_disk({health.THE_STORE: place}).advice
            assert "by hand" not in health.of_disk({"workspaces": place}).advice
            filler.unlink()
            assert store.write(lambda tx: create(tx, NewTask("y"))) > 0
            assert health.of_store(store).status != "unhealthy"
            assert "by hand" not in health.of_disk({health.THE_STORE: place}).advice
        with closing(sqlite3.connect(path)) as look:
            assert look.execute("pragma integrity_check").fetchone()[0] == "ok"


def test_a_store_is_not_taken_for_a_read_only_one_where_its_log_finds_no_room(tmp_path: Path) -> None:
    place = tmp_path / "small"
    with small_disk(place, 2 * MB):
        path = str(place / "a.db")
        open_store(path).close()
        filler = fill(place)
        with pytest.raises(StoreProblem) as refused, closing(open_store(path)) as store:
            store.write(lambda tx: create(tx, NewTask("x")))
        assert refused.value.code == "disk_full"
        with closing(open_store(path)) as store:
            assert store.read(lambda tx: tx.all("list_tasks", after=0, limit=500)) == []
        filler.unlink()
        with closing(open_store(path)) as store:
            assert store.write(lambda tx: create(tx, NewTask("x"))) == 1
