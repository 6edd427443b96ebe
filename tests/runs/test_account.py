"""What a run used: told once, whatever is said how often, and held against its limits."""

from __future__ import annotations

import pytest

from orchestrion.runs.account import Account, Spent
from orchestrion.runs.agents.agent import Event, Kind, Tally, Usage


def used(turns: int, cost: float | None = None, **tokens: int) -> Event:
    return Event(Kind.USAGE, usage=Usage(turns=turns, cost_usd=cost, **tokens))


def told_by(account: Account) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    account.tell(told.append)
    return told


def test_only_what_is_new_is_told() -> None:
    account, tally = Account(), Tally()
    account.begin(tally)
    assert told_by(account) == []
    tally.add(Event(Kind.SESSION, "a-model", id="s1"))
    tally.add(used(1, 0.5, input=10, output=2))
    tally.add(Event(Kind.TOOL, "ls", id="call1", tool="Bash"))
    [first] = told_by(account)
    assert first["turns"] == 1
    assert first["tokens_input"] == 10
    assert first["cost_usd"] == 0.5
    assert first["tools"] == {"Bash": 1}
    assert (first["session_id"], first["model"], first["source"]) == ("s1", "a-model", "stream")
    assert told_by(account) == []
    tally.add(Event(Kind.TOOL, "ls", id="call1", tool="Bash"))
    tally.add(used(3, 0.75, input=10, output=7))
    [second] = told_by(account)
    assert (second["turns"], second["tokens_input"], second["tokens_output"], second["cost_usd"]) == (2, 0, 5, 0.25)
    assert second["tools"] == {}


def test_what_could_not_be_told_is_told_next_time() -> None:
    account, tally = Account(), Tally()
    account.begin(tally)
    tally.add(used(1, output=5))

    def away(_: object) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        account.tell(away)
    tally.add(used(2, output=9))
    again, more = told_by(account)
    assert (again["turns"], again["tokens_output"]) == (1, 5)
    assert (more["turns"], more["tokens_output"]) == (1, 4)
    assert again["once"] != more["once"]
    assert told_by(account) == []


def test_what_is_told_again_has_the_same_name() -> None:
    account, tally = Account("me"), Tally()
    account.begin(tally)
    tally.add(used(1))
    heard: list[dict[str, object]] = []

    def lost(news: dict[str, object]) -> None:
        heard.append(news)
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            account.tell(lost)
    assert heard[0] == heard[1]
    assert told_by(account) == [heard[0]]


def test_goes_add_up() -> None:
    account = Account()
    for _ in range(3):
        tally = Tally()
        account.begin(tally)
        tally.add(used(2, 0.1, input=4))
        tally.add(Event(Kind.TOOL, tool="Edit", id="a"))
    told = told_by(account)
    assert account.used() == Usage(turns=6, input=12, cost_usd=pytest.approx(0.3))
    assert told[0]["tools"] == {"Edit": 3}


def test_a_last_word_that_is_less_is_a_correction() -> None:
    account, tally = Account(), Tally()
    account.begin(tally)
    tally.add(used(3, input=30))
    told_by(account)
    tally.add(Event(Kind.RESULT, usage=Usage(turns=2, input=31)))
    [news] = told_by(account)
    assert (news["turns"], news["tokens_input"], news["source"]) == (-1, 1, "correction")


def test_limits() -> None:
    account, tally = Account(max_turns=2, budget_usd=1.0), Tally()
    account.begin(tally)
    assert account.left_usd() == 1.0
    tally.add(used(2, 0.25))
    account.refuse_spent()
    assert account.left_usd() == 0.75
    tally.add(used(3, 0.25))
    with pytest.raises(Spent, match="3 turns of 2") as turns:
        account.refuse_spent()
    assert turns.value.code == "max_turns"
    tally.add(used(2, 1.0))
    with pytest.raises(Spent) as money:
        account.refuse_spent()
    assert money.value.code == "budget_exhausted"
    assert account.left_usd() == 0.0
