"""The log of a run: whole lines, bounded, readable while it grows."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from orchestrion.core import private
from orchestrion.runs import log
from orchestrion.runs.log import RunLog, read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def texts(file: Path, offset: int = 0) -> list[tuple[str, str]]:
    return [(line["stream"], line["text"]) for _, line in read(file, offset)]


def test_lines_are_kept_as_they_are(file: Path) -> None:
    kept = RunLog(file)
    for text in ("plain", "", "ünï ☃", "a\0b\x1b[0m", '{"json": 1}', "\udcff raw byte"):
        kept.add("out", text)
    kept.close()
    assert [text for _, text in texts(file)] == [
        "plain",
        "",
        "ünï ☃",
        "a\0b\x1b[0m",
        '{"json": 1}',
        "\\udcff raw byte",
    ] or [text for _, text in texts(file)][-1] == "\udcff raw byte"


def test_a_very_long_line_is_kept_in_pieces(file: Path) -> None:
    kept = RunLog(file)
    kept.add("out", "x" * (2 * log.PIECE + 5))
    kept.close()
    assert [len(text) for _, text in texts(file)] == [log.PIECE, log.PIECE, 5]


def test_it_can_be_read_while_it_grows_from_where_one_stopped(file: Path) -> None:
    kept = RunLog(file)
    kept.add("out", "one")
    kept.flush()
    [(offset, first)] = read(file)
    assert first["text"] == "one"
    assert first["at"] > 1_700_000_000_000
    kept.add("err", "two")
    kept.note("three")
    assert texts(file, offset) == [("err", "two"), ("note", "three")]
    kept.close()


def test_a_half_line_waits_until_it_is_whole(file: Path) -> None:
    whole = json.dumps({"at": 1, "stream": "out", "text": "whole"})
    file.write_text(f"{whole}\n{whole[:20]}")
    assert texts(file) == [("out", "whole")]
    file.write_text(f"{whole}\n{whole}\n")
    assert len(texts(file)) == 2


def test_a_line_that_a_kill_cut_short_is_left_out(file: Path) -> None:
    file.write_text('{"at": 1, "stream": "out", "te')
    kept = RunLog(file)
    kept.add("out", "lost with it")
    kept.add("out", "after")
    kept.close()
    assert texts(file) == [("out", "after")]


def test_there_is_no_log_yet(file: Path) -> None:
    assert list(read(file)) == []


def test_last_words_are_of_this_go_and_not_ours(file: Path) -> None:
    kept = RunLog(file)
    kept.add("out", "first go")
    kept.begin_go()
    for number in range(20):
        kept.add("err", f"line {number}")
    kept.add("out", "   ")
    kept.note("ours")
    assert kept.last_words().splitlines() == [f"line {number}" for number in range(8, 20)]
    kept.close()


def test_a_flood_is_counted_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 1000)
    kept = RunLog(file)
    for number in range(1000):
        kept.add("out", f"{number}")
    kept.close()
    lines = texts(file)
    assert file.stat().st_size < 1300
    assert lines[-1] == ("note", f"{1001 - len(lines)} further lines were not kept: the log is full")
    assert kept.last_words().endswith("999")


def test_notes_on_a_full_disk_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "opener", lambda path, flags: os.open("/dev/full", flags))
    kept = RunLog(tmp_path / "log.jsonl")
    kept.note("this cannot be written")
    with pytest.raises(OSError) as refused:
        kept.add("out", "x" * 100_000)
    assert refused.value.errno == errno.ENOSPC
    kept.close()
