"""Roles: who does a task, in words for the agent and in limits for the machine.

The packaged defaults lie beside this module, one file each. A project adds roles or
changes them in ``.orchestrion/roles/*.yaml``: a file that holds the fields of a role
defines the role it is named for; a file that maps names to such fields defines several.
A definition with a ``role_definition`` of its own replaces the packaged role of that
name; one without amends it, say by its agent alone. If two files define one role, the
file named for it counts, else the first by name.

Some names mean something elsewhere: ``coder`` is the implementer, ``generic`` is no role
at all, and the key ``task_orchestrator`` of older files describes the orchestrator itself
and is passed over. A claim needs one role, so ``load_role`` reads only the files that
can hold it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrion.core.config import nearest
from orchestrion.core.documents import Document, read_yaml
from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.core.settings import Setting, WrongValue, described, valid

_PACKAGED = Path(__file__).parent / "roles"
#: Where a project keeps its roles, below its root.
FOLDER = Path(".orchestrion", "roles")
#: Another name -> the role's name.
ALIASES = {"coder": "implementer"}
#: The name that means "no role".
NO_ROLE = "generic"
_PASSED_OVER = "task_orchestrator"
_CODE = "invalid_role"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

#: Every field of a role file; those of kind ``texts`` hold a list.
FIELDS: dict[str, Setting] = {
    field.name: field
    for field in (
        Setting("role_definition", "text", None, "who the agent is, in a few sentences"),
        Setting("expertise", "texts", (), "what it knows"),
        Setting("approach", "texts", (), "how it works"),
        Setting("output_format", "text", None, "what it hands over"),
        Setting("agent", "name", None, "the agent that plays the role"),
        Setting("fallback_agent", "name", None, "the agent that plays it while the first cannot"),
        Setting("model", "text", None, "the model the agent is to use"),
        Setting("allowed_tools", "texts", (), "tools the agent may use without asking"),
        Setting("max_turns", "integer", None, "turns of a run at most", "turns", least=1),
        Setting("timeout_s", "number", None, "time of a run at most", "s", least=0.1),
        Setting("budget_usd", "number", None, "cost of a run at most", "USD"),
        Setting("may_add_tasks", "switch", False, "whether its agent may add tasks, without commands, from its run"),
    )
}
_SPELLINGS = {"timeout": "timeout_s", "budget": "budget_usd"}


@dataclass(frozen=True)
class Role:
    """Who does a task. None, or an empty list, leaves the choice to the settings."""

    #: As tasks name it.
    name: str
    #: Who the agent is, in a few sentences.
    role_definition: str
    #: What it knows.
    expertise: tuple[str, ...] = ()
    #: How it works.
    approach: tuple[str, ...] = ()
    #: What it hands over.
    output_format: str | None = None
    #: The agent that plays the role.
    agent: str | None = None
    #: The agent that plays it while the first cannot.
    fallback_agent: str | None = None
    #: The model the agent is to use.
    model: str | None = None
    #: Tools the agent may use without asking.
    allowed_tools: tuple[str, ...] = ()
    #: Turns of a run at most.
    max_turns: int | None = None
    #: Seconds of a run at most.
    timeout_s: float | None = None
    #: Cost of a run at most, in USD.
    budget_usd: float | None = None
    #: Whether its agent may add tasks, without commands, from inside a run.
    may_add_tasks: bool = False
    #: ``packaged``, or the project's file.
    origin: str = "packaged"


@dataclass(frozen=True)
class _Definition:
    """A role as one file has it."""

    #: Name of the role.
    name: str
    #: Field -> value, not yet checked.
    fields: Mapping[str, Any]
    #: The file, for people.
    shown: str
    #: The file's lines, and the keys that lead to this definition in it.
    lines: Mapping[tuple[str, ...], int]
    above: tuple[str, ...]
    #: Whether the file is named for the role.
    own_file: bool


def load_role(project_root: Path | None, name: str) -> Role | None:
    """The role of that name; None for ``generic``.

    Raises NotFound (``no_role``) for an unknown name and InvalidInput (``invalid_role``)
    for a name or a file that cannot be meant.
    """
    known = canonical(name)
    if known is None:
        return None
    role = _joined(_packaged(known), _own(project_root, known))
    if role:
        return role
    others = [*load_roles(project_root), *ALIASES]
    near = nearest(name, others)
    raise NotFound(
        f"there is no role {name!r}; there are {', '.join(others)}",
        hint=f"did you mean {near}?" if near else f"define it in {FOLDER}/{known}.yaml",
        code="no_role",
        role=name,
        known=others,
    )


def load_roles(project_root: Path | None) -> dict[str, Role]:
    """All roles by name, sorted: the packaged ones as the project changes them, and its own."""
    own: dict[str, _Definition] = {}
    for file in _files(project_root):
        for definition in _definitions(file, _shown(file, project_root)):
            first = own.setdefault(definition.name, definition)
            if definition.own_file and not first.own_file:
                own[definition.name] = definition
    names = {file.stem for file in _PACKAGED.glob("*.yaml")} | own.keys()
    found = ((name, _joined(_packaged(name), own.get(name))) for name in sorted(names))
    return {name: role for name, role in found if role}


def canonical(name: str) -> str | None:
    """The role's own name for any name it goes by; None means no role. Refuses what cannot be a name."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{described(name)} cannot be the name of a role",
            hint="a role's name has at most 64 letters, digits, - and _, and starts with a letter or a digit",
            code=_CODE,
            role=name,
        )
    return None if name == NO_ROLE else ALIASES.get(name, name)


@lru_cache(maxsize=64)
def _packaged(name: str) -> _Definition | None:
    file = _PACKAGED / f"{name}.yaml"
    if not file.is_file():
        return None
    return next(_definitions(file, f"packaged {file.name}"), None)


def _own(project_root: Path | None, name: str) -> _Definition | None:
    """The project's definition of one role; a file that does not mention the role is not parsed."""
    found = [
        definition
        for file in _files(project_root)
        if _names(file, name) or _mentions(file, name)
        for definition in _definitions(file, _shown(file, project_root))
        if definition.name == name
    ]
    return min(found, key=lambda definition: not definition.own_file, default=None)


def _files(project_root: Path | None) -> list[Path]:
    """The project's role files, by name; refuses one that lies outside the project."""
    if project_root is None:
        return []
    try:
        files = sorted(file for file in (project_root / FOLDER).iterdir() if _is_ours(file))
        strays = [file for file in files if not file.resolve().is_relative_to(project_root.resolve())]
    except FileNotFoundError:
        return []
    except (OSError, RuntimeError) as error:
        # Links that lead in a circle are a RuntimeError.
        raise _refused(f"{FOLDER} cannot be read", "check the folder, its links and permissions") from error
    if strays:
        raise _refused(f"{_shown(strays[0], project_root)} leads out of the project", "put the file itself there")
    return files


def _is_ours(file: Path) -> bool:
    return file.suffix in (".yaml", ".yml") and not file.name.startswith(".")


def _shown(file: Path, project_root: Path | None) -> str:
    return str(file.relative_to(project_root)) if project_root else str(file)


def _names(file: Path, name: str) -> bool:
    return ALIASES.get(file.stem, file.stem) == name


def _mentions(file: Path, name: str) -> bool:
    """Whether the file could hold the role under any of its names, judged by its text alone."""
    spellings = (name, *(alias for alias, role in ALIASES.items() if role == name))
    try:
        return not file.is_file() or any(spelling.encode() in file.read_bytes() for spelling in spellings)
    except OSError:
        # Whoever parses it next says in full what is wrong with it.
        return True


def _definitions(file: Path, shown: str) -> Iterator[_Definition]:
    """The roles in a file, be it one role's fields or a mapping from names to fields."""
    document = read_yaml(file, shown, _CODE)
    if document is None or document.value is None:
        return
    if not isinstance(document.value, dict):
        raise _refused(
            f"{shown} must hold the fields of a role, or roles by name; found {described(document.value)}",
            f"the fields are {', '.join(FIELDS)}",
            file=shown,
        )
    if _is_one_role(document.value):
        yield _definition(file, shown, document, file.stem, ())
        return
    for name in document.value:
        if name != _PASSED_OVER:
            yield _definition(file, shown, document, name, (name,))


def _is_one_role(content: Mapping[str, Any]) -> bool:
    """Fields hold no mappings, roles are nothing else: a single field tells."""
    return any(not isinstance(value, dict) for value in content.values())


def _definition(file: Path, shown: str, document: Document, name: str, above: tuple[str, ...]) -> _Definition:
    role = canonical(name)
    if role is None:
        raise _refused(f"{shown}: {NO_ROLE!r} means no role and cannot be defined", "choose another name", file=shown)
    fields = document.value[name] if above else document.value
    return _Definition(role, fields, shown, document.lines, above, _names(file, role))


def _joined(packaged: _Definition | None, own: _Definition | None) -> Role | None:
    """The role that the project's definition makes of the packaged one."""
    if own is None:
        return Role(packaged.name, **_checked(packaged)) if packaged else None
    fields = _checked(own)
    if "role_definition" in fields:
        return Role(own.name, **fields, origin=own.shown)
    if packaged:
        return Role(own.name, **{**_checked(packaged), **fields}, origin=f"{own.shown}, amending the packaged role")
    raise _refused(
        f"{own.shown}: the role {own.name!r} has no role_definition",
        "say in a few sentences who the agent is",
        file=own.shown,
        role=own.name,
    )


def _checked(definition: _Definition) -> dict[str, Any]:
    """The fields in their own types; those that hold nothing are left out."""
    values = {}
    for key, found in definition.fields.items():
        value = _value(definition, key, found)
        if value is not None:
            values[_SPELLINGS.get(key, key)] = value
    return values


def _value(definition: _Definition, key: str, found: Any) -> Any:
    line = definition.lines.get((*definition.above, key))
    field = FIELDS.get(_SPELLINGS.get(key, key))
    if field is None:
        near = nearest(key, FIELDS)
        raise _refused(
            f"{definition.shown}:{line}: a role has no field {key!r}",
            f"did you mean {near}?" if near else f"the fields are {', '.join(FIELDS)}",
            file=definition.shown,
            line=line,
            allowed=list(FIELDS),
        )
    try:
        return _texts(field, found) if field.kind == "texts" else valid(field, found)
    except WrongValue as wrong:
        raise _refused(
            f"{definition.shown}:{line}: {key} must be {wrong.allowed}; found {described(wrong.found)}",
            f"{key} is: {field.meaning}",
            file=definition.shown,
            line=line,
            allowed=wrong.allowed,
        ) from None


def _texts(field: Setting, found: Any) -> tuple[str, ...]:
    """A list of texts; one text is a list of one."""
    items = [] if found is None else [found] if isinstance(found, str) else found
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return tuple(item.strip() for item in items if item.strip())
    raise WrongValue(field.name, found, "a list of texts")


def _refused(message: str, hint: str, **details: Any) -> InvalidInput:
    return InvalidInput(message, hint=hint, code=_CODE, **details)
