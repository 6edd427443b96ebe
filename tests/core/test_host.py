"""Hosts are told apart by more than their names; rows of older programs know the name alone."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrion.core.host import Host, here, name

ASKED = "import json, os; from orchestrion.core.host import here; print(json.dumps([os.getpid(), *here(os.environ)]))"
MINE = Host("box", "0123456789abcdef", "0123456789abcdef-b00t-1")


def asked_in(*wrapped: str, state: Path) -> list[str]:
    """Pid, name, folders and id, as a process of its own sees them."""
    command = [*wrapped, sys.executable, "-c", ASKED]
    done = subprocess.run(command, env={**os.environ, "XDG_STATE_HOME": str(state)}, check=True, stdout=subprocess.PIPE)
    return list(json.loads(done.stdout))


def test_it_stays_the_same_and_follows_the_state_folder(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "one")}
    host = here(environ)
    assert host.name == name() == os.uname().nodename
    assert here(environ) == host
    assert asked_in(state=tmp_path / "one")[1:] == list(host)
    other = here({"XDG_STATE_HOME": str(tmp_path / "other")})
    assert (other.name, other.folders == host.folders, other.id == host.id) == (host.name, False, False)


def test_many_at_once_make_one(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: here(environ), range(40)))) == 1
    assert [file.name for file in (tmp_path / "orchestrion").iterdir()] == ["host"]


def test_without_a_state_folder_that_can_be_written_it_is_a_host_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environ = {"XDG_STATE_HOME": str(tmp_path / "file")}
    assert here(environ) == here(environ)
    assert here(environ).id != here({"XDG_STATE_HOME": str(tmp_path)}).id


def test_another_space_of_pids_is_another_host_with_the_same_folders(tmp_path: Path) -> None:
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a namespace of process ids")
    first, second = (asked_in(*unshare, state=tmp_path) for _ in range(2))
    outside = here({"XDG_STATE_HOME": str(tmp_path)})
    assert first[:3] == second[:3], "the same pid, name and folders"
    assert outside.folders == first[2]
    assert outside.id not in (first[3], second[3])


@pytest.mark.parametrize(
    ("host", "host_id", "sees", "keeps"),
    [
        ("box", MINE.id, True, True),
        ("renamed", MINE.id, True, True),
        ("box", "0123456789abcdef-n3xt-1", False, True),
        ("box", "0123456789abcdef-b00t-2", False, True),
        ("box", "fedcba9876543210-b00t-1", False, False),
        ("box", None, True, True),
        ("other", None, False, False),
    ],
)
def test_what_a_row_says_is_about_this_host_or_not(host: str, host_id: str | None, sees: bool, keeps: bool) -> None:
    row = {"host": host, "host_id": host_id}
    assert (MINE.sees(row), MINE.keeps(row)) == (sees, keeps)


def test_a_host_that_cannot_be_read_for_now_is_no_other_host(tmp_path: Path) -> None:
    """A process without a free file handle must not take itself for a process of another host."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    known = here(environ)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            here(environ)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert here(environ) == known
