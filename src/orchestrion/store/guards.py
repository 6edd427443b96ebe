"""What the database refuses by itself, whoever writes: triggers, unique indexes and CHECKs of the migrations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from orchestrion.store import migrate
from orchestrion.store.store import Transaction

_MADE = re.compile(r"^(create|drop) (trigger|unique index|index) (\w+)", re.MULTILINE)
_CHECK = re.compile(r"\bcheck \(")


class Guards(NamedTuple):
    """What stands in the way of a row that must not be."""

    #: Name -> ``trigger`` or ``unique index``.
    named: dict[str, str]
    #: How many CHECKs the tables have.
    checks: int


@cache
def made(dialect: str) -> Guards:
    """What the migrations of ``dialect`` make."""
    named: dict[str, str] = {}
    script = "\n".join(migration.script for migration in migrate.scripts(dialect))
    for act, kind, name in _MADE.findall(script):
        if act == "create" and kind != "index":
            named[name] = kind
        else:
            named.pop(name, None)
    return Guards(named, len(_CHECK.findall(script)))


def missing(tx: Transaction) -> Iterator[str]:
    """Guards that are gone or switched off, each in words. What a newer program's schema has is not known here."""
    if tx.the("schema")["version"] != migrate.scripts(tx.dialect)[-1].version:
        return
    wanted = made(tx.dialect)
    found = {row["name"] for row in tx.all("guards")}
    for name, kind in wanted.named.items():
        if name not in found:
            yield f"the {kind} {name}"
    if (lost := wanted.checks - tx.the("checks_of_tables")["total"]) > 0:
        yield f"{lost} of {wanted.checks} CHECKs"
