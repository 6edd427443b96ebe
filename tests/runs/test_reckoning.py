"""A log read again says what the run used; what the store had missed of it is added once, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.model import NewTask
from orchestrion.runs import log, reckoning
from orchestrion.runs.agents.agent import Assignment, Event, Kind, Usage
from orchestrion.runs.go import first_line
from orchestrion.runs.log import RunLog
from orchestrion.scheduler import claim, create, finish, meter
from orchestrion.store import Store


class Scripted:
    """An agent that reports what its whole session used, as some do."""

    def __init__(self, line: str) -> None:
        facts = json.loads(line)
        self.spent = Usage(**facts["spent"])
        self.session = facts["session"]

    def hear(self, line: str) -> list[Event]:
        try:
            said = json.loads(line)
        except ValueError:
            return []
        events = [Event(Kind.TOOL, id=call, tool=tool) for call, tool in said.get("tools", {}).items()]
        if "session" in said:
            events.append(Event(Kind.SESSION, text=said.get("model", ""), id=said["session"]))
        if "used" in said:
            events.append(Event(Kind.USAGE, usage=Usage(**said["used"]) - self.spent))
        if said.get("over"):
            events.append(Event(Kind.RESULT, text="done"))
        return events


def begin(line: str) -> Any:
    return Scripted(line)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.fixture
def run(store: Store) -> int:
    store.write(lambda tx: create.create(tx, NewTask("a task")))
    got = store.write(lambda tx: claim.claim(tx, claim.Claimant(60_000, agent="scripted", supervised=True)))
    assert got is not None
    return got.run


NOTHING = Usage()


def go(kept: RunLog, number: int = 1, spent: Usage = NOTHING, session: str | None = None) -> None:
    nowhere = Path("/")
    kept.add("go", first_line(number, "scripted", {}, Assignment("", nowhere, nowhere, session=session, spent=spent)))


def say(kept: RunLog, **said: Any) -> None:
    kept.add("out", json.dumps(said))


def write(file: Path) -> None:
    """Two goes of one session: the second one reports what both used."""
    kept = RunLog(file)
    kept.add("out", json.dumps({"used": {"turns": 99}}))  # before any go: nobody's
    go(kept)
    say(kept, session="s1", model="m1")
    say(kept, tools={"c1": "Bash"}, used={"turns": 1, "input": 10})
    kept.add("err", json.dumps({"used": {"turns": 99}}))
    kept.note(json.dumps({"used": {"turns": 99}}))
    kept.event("tool", json.dumps({"used": {"turns": 99}}))
    say(kept, tools={"c1": "Bash", "c2": "Read"}, used={"turns": 2, "input": 30, "output": 4, "cost_usd": 0.1}, over=1)
    go(kept, 2, spent=Usage(2, 30, 4, cost_usd=0.1), session="s1")
    say(kept, session="s1", model="m1")
    say(kept, tools={"c3": "Bash"}, used={"turns": 3, "input": 31, "output": 9, "cost_usd": 0.4}, over=1)
    kept.close()


def numbers(store: Store, run: int) -> dict[str, Any]:
    row = store.read(lambda tx: tx.the("run", id=run))
    return {field: row[field] for field in (*meter.FIELDS, "tools", "session_id", "model", "state")}


def rows(store: Store, run: int) -> list[dict[str, Any]]:
    return [dict(row) for row in store.read(lambda tx: tx.all("metrics_of_run", run=run))]


def test_goes_are_counted_each_by_itself(file: Path) -> None:
    write(file)
    found = reckoning.reckon(file, begin)
    assert found is not None
    assert found.usage == Usage(3, 31, 9, 0, 0, pytest.approx(0.4))
    assert found.tools == {"Bash": 2, "Read": 1}
    assert (found.session, found.model, found.whole) == ("s1", "m1", True)


def test_a_log_without_a_go_says_nothing(file: Path, store: Store, run: int) -> None:
    assert reckoning.reckon(file, begin) is None
    kept = RunLog(file)
    say(kept, used={"turns": 3})
    kept.close()
    assert reckoning.reckon(file, begin) is None
    assert not reckoning.reconcile(store, run, file, begin)
    assert rows(store, run) == []


def test_lines_in_pieces_are_joined(file: Path) -> None:
    kept = RunLog(file)
    go(kept, session="x" * (log.PIECE + 100))
    kept.add("out", json.dumps({"pad": "y" * (3 * log.PIECE), "used": {"turns": 5}}))
    text = json.dumps({"used": {"turns": 6}, "pad": "z" * 100})
    kept.add("out", text[:20], more=True)
    kept.add("err", "between")
    kept.note("and between")
    kept.add("out", text[20:])
    kept.close()
    found = reckoning.reckon(file, begin)
    assert found is not None
    assert found.usage.turns == 6


def test_a_line_that_was_never_finished_spoils_no_other(file: Path) -> None:
    kept = RunLog(file)
    go(kept)
    say(kept, used={"turns": 1})
    kept.add("out", '{"used": {"tur', more=True)
    go(kept, 2)
    say(kept, used={"turns": 10}, over=1)
    kept.close()
    with file.open("a") as cut:
        cut.write('{"at": 1, "stream": "out", "text": "{\\"used\\": {\\"turns\\": 77}')
    found = reckoning.reckon(file, begin)
    assert found is not None
    assert found.usage.turns == 11
    assert not found.whole


def test_what_was_too_long_to_be_heard_is_not_heard_now(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reckoning, "MOST_HEARD", 1000)
    kept = RunLog(file)
    go(kept)
    say(kept, used={"turns": 1})
    say(kept, pad="x" * 2000, used={"turns": 2})
    kept.close()
    found = reckoning.reckon(file, begin)
    assert found is not None
    assert found.usage.turns == 1


# --- reconciliation ---------------------------------------------------------------------------------------------------


def test_what_the_store_missed_is_added_once(file: Path, store: Store, run: int) -> None:
    write(file)
    store.write(lambda tx: meter.add(tx, run, turns=1, tokens_input=10, tools={"Bash": 1}, session_id="s1"))
    assert reckoning.reconcile(store, run, file, begin)
    found = numbers(store, run)
    assert (found["turns"], found["tokens_input"], found["tokens_output"], found["cost_usd"]) == (3, 31, 9, 0.4)
    assert json.loads(found["tools"]) == {"Bash": 2, "Read": 1}
    assert (found["session_id"], found["model"], found["state"]) == ("s1", "m1", "starting")
    assert [row["source"] for row in rows(store, run)] == ["stream", "log"]
    assert not reckoning.reconcile(store, run, file, begin)
    assert len(rows(store, run)) == 2


def test_a_run_that_is_over_is_reconciled_too_and_stays_over(file: Path, store: Store, run: int) -> None:
    write(file)
    store.write(lambda tx: finish.lose(tx, run, "its supervisor died"))
    assert reckoning.reconcile(store, run, file, begin)
    assert (numbers(store, run)["turns"], numbers(store, run)["state"]) == (3, "lost")


def test_a_store_that_knows_all_is_left_alone(file: Path, store: Store, run: int) -> None:
    write(file)
    told = {"turns": 3, "tokens_input": 31, "tokens_output": 9, "cost_usd": 0.4, "tools": {"Bash": 2, "Read": 1}}
    store.write(lambda tx: meter.add(tx, run, **told))  # type: ignore[arg-type]
    assert not reckoning.reconcile(store, run, file, begin)


def test_the_agents_last_word_counts_even_if_it_is_less(file: Path, store: Store, run: int) -> None:
    write(file)
    told = {"turns": 5, "tokens_input": 40, "cost_usd": 0.5, "tools": {"Bash": 3, "Edit": 1}}
    store.write(lambda tx: meter.add(tx, run, **told))  # type: ignore[arg-type]
    assert reckoning.reconcile(store, run, file, begin)
    found = numbers(store, run)
    assert (found["turns"], found["tokens_input"], found["cost_usd"]) == (3, 31, 0.4)
    assert json.loads(found["tools"]) == {"Bash": 2, "Read": 1}


def test_a_log_without_the_last_word_takes_nothing_back(file: Path, store: Store, run: int) -> None:
    kept = RunLog(file)
    go(kept)
    say(kept, tools={"c1": "Bash"}, used={"turns": 2, "input": 50, "cost_usd": 0.1})
    kept.close()
    told = {"turns": 5, "tokens_input": 40, "cost_usd": 0.5, "tools": {"Read": 3}}
    store.write(lambda tx: meter.add(tx, run, **told))  # type: ignore[arg-type]
    assert reckoning.reconcile(store, run, file, begin)
    found = numbers(store, run)
    assert (found["turns"], found["tokens_input"], found["cost_usd"]) == (5, 50, 0.5)
    assert json.loads(found["tools"]) == {"Bash": 1, "Read": 3}
    assert not reckoning.reconcile(store, run, file, begin)


def test_what_a_person_corrected_stays_corrected(file: Path, store: Store, run: int) -> None:
    write(file)
    reckoning.reconcile(store, run, file, begin)
    store.write(lambda tx: meter.correct(tx, run, field="turns", new=7, reason="counted by hand"))
    assert not reckoning.reconcile(store, run, file, begin)
    assert numbers(store, run)["turns"] == 7


def test_an_agent_that_says_nothing_of_what_it_used_leaves_it_unknown(file: Path, store: Store, run: int) -> None:
    kept = RunLog(file)
    nowhere = Path("/")
    kept.add("go", first_line(1, "command", {}, Assignment("", nowhere, nowhere)))
    kept.add("out", "hello")
    kept.close()
    assert not reckoning.reconcile(store, run, file, reckoning.begin_again)
    assert numbers(store, run)["turns"] is None


def test_a_session_of_two_runs_is_counted_in_each_for_itself(file: Path, store: Store, run: int) -> None:
    write(file)
    reckoning.reconcile(store, run, file, begin)
    spent = store.read(lambda tx: meter.of_session(tx, "s1", "scripted"))
    assert spent["turns"] == 3
    later = file.with_name("later.jsonl")
    kept = RunLog(later)
    go(kept, spent=Usage(**spent), session="s1")
    say(kept, session="s1", used={"turns": 8, "input": 40, "output": 9, "cost_usd": 0.5}, over=1)
    kept.close()
    found = reckoning.reckon(later, begin)
    assert found is not None
    assert (found.usage.turns, found.usage.input, found.usage.output) == (5, 9, 0)
    assert found.usage.cost_usd == pytest.approx(0.1)
