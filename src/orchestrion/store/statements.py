"""The named statements of ``sql/``, made ready for one dialect.

A statement begins with ``-- name: claim_head`` and a sentence that says what it is for.
Shared statements lie in ``sql/*.sql``; a file of the same folder named for a dialect
overrides them and says why it differs. What the dialects spell differently is written
as a word in braces:

    {now}            the database's clock in milliseconds, or the test's ``:now``
    {ids[]}          the list parameter ``ids`` (numbers) as a set of values, for ``in {ids[]}``
    {states[text]}   the same for a list of texts
    {edge_state}     state of edge ``e`` whose prerequisite is task ``p``, from the table in ``core.states``
    {task_moves}     the legal moves of a task, as ``'pending>ready'``, and {run_moves} those of a run
    {new_run}        the number of the next run, at least ``:least``
    {skip_locked}    passes over rows that others hold, where there can be others
    {effective}      effective priority of the row ``tasks``
    {from list_it}   what another statement has from its ``from`` to its ``order by``: what it lists is counted
    {for_update}, {for_update_of_t}, {as_int}, {greatest}    words that one of the dialects does without

A line that ends with ``--? role`` belongs to the statement only when ``role`` is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrion.core.states import EDGE_RULES, RUN_MOVES, TASK_MOVES

FOLDER = Path(__file__).parent / "sql"

#: A deadline within the hour counts 2, blocking others 1, a retry takes 1 off; never below 1.
EFFECTIVE_PRIORITY = """{greatest}(1, priority
        + case when due_at is not null and due_at <= {now} + 3600000 then 2 else 0 end
        + case when exists (select 1 from edges x where x.prerequisite = tasks.id
                                and x.kind <> 'child' and x.state = 'open') then 1 else 0 end
        - case when retries > 0 then 1 else 0 end)"""

#: What a statement begins with. All are read at every start: no regular expression is as fast.
_HEAD = "\n-- name: "
_OPTION = re.compile(r"\s*--\? (\w+)$")
_LIST = re.compile(r"\{(\w+)\[(text)?\]\}")
_FROM = re.compile(r"\{from (\w+)\}")
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")


class Statements:
    """All statements of one dialect, by name.

    ``spell`` maps the words in braces to the dialect's text; ``spell_list`` gives its text for
    a list parameter of a name and type; ``parameter`` is its form of ``:name``.
    """

    def __init__(
        self, dialect: str, spell: Mapping[str, str], spell_list: Callable[[str, str], str], parameter: str
    ) -> None:
        self.dialect = dialect
        self._spell = {
            "edge_state": edge_state_sql(),
            "task_moves": _moves_sql(TASK_MOVES),
            "run_moves": _moves_sql(RUN_MOVES),
            "effective": EFFECTIVE_PRIORITY,
            **spell,
        }
        self._spell_list = spell_list
        self._parameter = parameter
        self._source = read(FOLDER) | read(FOLDER / dialect / "override")
        self._options: dict[str, tuple[str, ...]] = {}
        self._ready: dict[object, str] = {}

    def knows(self, name: str) -> bool:
        """Whether this dialect has the statement ``name`` at all."""
        return name in self._source

    def text(self, name: str, given: Mapping[str, Any]) -> str:
        """The statement ``name``, without the optional lines whose parameter is not in ``given``."""
        plain = self._ready.get(name)
        if plain is not None:
            return plain
        options = self._options.get(name)
        if options is None:
            options = self._options[name] = _options(self.source(name))
        if not options:
            return self._ready.setdefault(name, self._translate(self.source(name)))
        wanted = tuple(option for option in options if given.get(option) is not None)
        variant = self._ready.get((name, wanted))
        return variant or self._ready.setdefault((name, wanted), self._translate(_keep(self.source(name), wanted)))

    def source(self, name: str) -> str:
        """The statement ``name`` as it is written, with what it takes from another."""
        return _FROM.sub(lambda m: _from(self._source[m[1]]), self._source[name])

    def _translate(self, source: str) -> str:
        text = _LIST.sub(lambda m: self._spell_list(m[1], m[2] or "bigint"), source)
        for word, spelled in self._spell.items():
            text = text.replace("{" + word + "}", spelled)
        return _PARAMETER.sub(self._parameter, text)


def read(folder: Path) -> dict[str, str]:
    """All named statements of the ``.sql`` files of one folder, untranslated."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.sql")):
        for part in f"\n{file.read_text(encoding='utf-8')}".split(_HEAD)[1:]:
            name, _, body = part.partition("\n")
            found[name] = body.strip().rstrip(";")
    return found


def edge_state_sql() -> str:
    """``core.states.edge_state`` as one SQL expression over edge ``e`` and prerequisite ``p``."""
    cases = []
    for kind, (met, dead) in EDGE_RULES.items():
        for states, result in ((met, "met"), (dead, "dead")):
            if states:
                names = ", ".join(f"'{state}'" for state in states)
                cases.append(f"when e.kind = '{kind}' and p.state in ({names}) then '{result}'")
    return "case " + " ".join(cases) + " else 'open' end"


def _moves_sql(moves: Mapping[Any, Iterable[Any]]) -> str:
    return "(" + ", ".join(f"'{found}>{became}'" for found, to in moves.items() for became in to) + ")"


def _from(source: str) -> str:
    """What a statement lists, without which columns and how many."""
    return source[source.index("\nfrom ") + 1 : source.index("\norder by ")]


def _options(source: str) -> tuple[str, ...]:
    return tuple(sorted({m[1] for line in source.splitlines() if (m := _OPTION.search(line))}))


def _keep(source: str, wanted: tuple[str, ...]) -> str:
    kept = []
    for line in source.splitlines():
        option = _OPTION.search(line)
        if option is None:
            kept.append(line)
        elif option[1] in wanted:
            kept.append(line[: option.start()])
    return "\n".join(kept)
