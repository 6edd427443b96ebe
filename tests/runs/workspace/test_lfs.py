"""Large files come into the user's store whole, and what a kill left half-copied goes with the next copy."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

from user_git import UserGit

from orchestrion.runs.git import Git
from orchestrion.runs.workspace import lfs


def test_half_copies_of_the_dead_go_and_those_of_the_living_stay(project: Path, tmp_path: Path, user: UserGit) -> None:
    content = b"large" * 1000
    oid = hashlib.sha256(content).hexdigest()
    (project / "pointer").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 5000\n")
    blob = user("hash-object", "-w", "pointer")
    (tmp_path / oid).write_bytes(content)
    store = tmp_path / "lfs"
    place = store / oid[:2] / oid[2:4]
    place.mkdir(parents=True)
    dead, living = place / f"{oid}.1", place / f"{oid}.2"
    dead.write_bytes(b"half")
    with living.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert lfs.hand_over(Git(project), [blob], [tmp_path / oid], store) == []
        assert sorted(place.iterdir()) == [place / oid, living]
    assert (place / oid).read_bytes() == content
