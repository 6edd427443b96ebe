"""What a client sent for a tool, read with care: every value checked, every refusal naming the parameter.

Clients and models make small mistakes, so a single text is taken where a list of texts is
asked for, and null where nothing need be given. All else that is wrong is refused, all of it
at once, with the values that would have been right.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.interfaces.mcp.catalogue import CALLER, LISTS, Param, Tool

#: A list has at most so many entries.
LIST_LIMIT = 1000
_KINDS = {
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "an object",
    "strings": "a list of texts",
    "objects": "a list of objects",
    "entries": "a list of texts or objects",
}


class _Wrong(Exception):
    """One parameter is not as it must be; says how it must."""


def read(tool: Tool, sent: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of all parameters of ``tool``, defaults included; what was not given is None.

    Raises InvalidInput (``invalid_parameters``) that names every wrong, missing and unknown one.
    """
    sent = sent or {}
    params = {param.name: param for param in (*tool.params, *([] if tool.listed == "part" else [CALLER]))}
    problems = [_unknown(name, params) for name in sent if name not in params]
    values: dict[str, Any] = {}
    for param in params.values():
        try:
            values[param.name] = _value(param, sent.get(param.name))
        except _Wrong as wrong:
            problems.append(
                {"parameter": param.name, "problem": str(wrong)}
                | ({"allowed": list(param.choices)} if param.choices else {})
            )
    if problems:
        raise _refusal(tool, problems)
    return values


def _unknown(name: str, params: Mapping[str, Param]) -> dict[str, Any]:
    shown = [param.name for param in params.values() if param.listed != "hidden"]
    near = difflib.get_close_matches(name, shown, n=1)
    said = f"is not a parameter; did you mean {near[0]}?" if near else "is not a parameter"
    return {"parameter": name[:60], "problem": said, "known": shown}


def _value(param: Param, found: Any) -> Any:
    if found is None:
        if param.required:
            raise _Wrong(f"is required: {_expected(param)}")
        return param.default
    if param.kind in LISTS:
        return _list(param, found)
    return _one(param, found)


def _list(param: Param, found: Any) -> list[Any]:
    items = found if isinstance(found, list) else [found]
    if len(items) > LIST_LIMIT:
        raise _Wrong(f"has {len(items)} entries; at most {LIST_LIMIT} are taken")
    return [_one(param, item) for item in items]


def _one(param: Param, found: Any) -> Any:
    if not _is_kind(param.kind, found):
        raise _Wrong(f"must be {_expected(param)}, not {_described(found)}")
    if param.kind == "integer":
        found = int(found)
        low, high = param.least, param.most
        if (low is not None and found < low) or (high is not None and found > high):
            raise _Wrong(f"must be {_expected(param)}, not {found}")
    if param.choices and not param.open and found not in param.choices:
        raise _Wrong(f"must be one of {', '.join(param.choices)}, not {_described(found)}")
    return found


def _is_kind(kind: str, found: Any) -> bool:
    if kind == "boolean":
        return isinstance(found, bool)
    if kind == "integer":
        whole = isinstance(found, float) and found.is_integer()
        return (isinstance(found, int) or whole) and not isinstance(found, bool)
    is_text, is_object = isinstance(found, str), isinstance(found, dict)
    return is_object if kind in ("object", "objects") else is_text or (kind == "entries" and is_object)


def _expected(param: Param) -> str:
    if param.choices:
        few = "any of" if param.kind == "strings" else "one of"
        return f"{few} {', '.join(param.choices)}"
    said = _KINDS[param.kind]
    if param.least is not None and param.most is not None:
        return f"{said} from {param.least} to {param.most}"
    if param.least is not None:
        return f"{said}, {param.least} or more"
    return said


def _described(found: Any) -> str:
    shown = repr(found)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _refusal(tool: Tool, problems: list[dict[str, Any]]) -> InvalidInput:
    told = "; ".join(f"{one['parameter']} {one['problem']}" for one in problems[:5])
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    required = [param.name for param in tool.params if param.required]
    optional = [param.name for param in tool.params if not param.required and param.listed != "hidden"]
    return InvalidInput(
        f"{tool.full_name}: {told}{more}",
        hint=f"required: {', '.join(required) or 'nothing'}; optional: {', '.join(optional) or 'nothing'}",
        code="invalid_parameters",
        problems=problems[:20],
    )
