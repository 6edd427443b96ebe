"""The reference page of the REST door, made from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrion.interfaces.web.app import document
from orchestrion.interfaces.web.security import BODY_LIMIT

_MEGABYTES = BODY_LIMIT // (1024 * 1024)
_INTRO = f"""# REST

`orchestrion serve` answers at `http://127.0.0.1:7117`. Every route below begins with `/api/v1`;
`/api/v1/openapi.json` describes them for programs. Besides there are `/metrics` (Prometheus), `/mcp` (agents),
`/livez` (somebody answers), `/readyz` (work can be done) and the page.

**Who may call.** On this machine everybody may read; to act, and with `serve.key: all` for everything, a request
carries `Authorization: Bearer KEY` with the content of the file `key` in the store's folder, else 401 `key_needed`. At
any other address, and everywhere with `--tokens`, it carries `Authorization: Bearer TOKEN`.
`orchestrion token create NAME --role read` makes a token: `read` looks, `operate` acts on tasks and runs, `admin` does
all, as does the key. A request for
another host name, or from a page of another origin, is refused.

**Errors** are problem details (RFC 9457, `application/problem+json`) with a stable `code`, a `hint` that says what to
do, `details` as data, and the `correlation` id under which the journal and the log have the request.

**Sending twice.** A POST with an `Idempotency-Key` is done once: sent again within a day, it gets the same answer, with
`Idempotency-Replayed: true`. The same key with another request is refused (`key_reused`). If the server died after it
did the request, the answer is `already_done`, and names the tasks and runs.

**Reading again.** Every JSON answer has an `ETag`; with `If-None-Match` it is sent only if it changed (304). A PATCH of
a task with `If-Match` is refused (412) if the task was changed meanwhile.

**Lists** are bounded (`limit`, 1000 at most); `next_cursor` of a page is `cursor` of the next one. A parameter that a
route does not have is refused, a body where it takes none (`{{}}` and `null` are none), and a filter by a task, run,
session, plan or role that is not there. The journal alone may be asked for what was deleted.

**Bounds.** A body has at most {_MEGABYTES} MB; each caller may send `serve.rate` requests a second, else 429 with
`Retry-After`. Shell commands in tasks and plans are refused (`commands_refused`) unless `doors.commands` is set; checks
that the configuration names may be used.

**Events.** `GET events` streams the journal as server-sent events: `id` is the line's number, `event` its kind, `data`
a JSON object. `Last-Event-ID` (or `?since=N`) replays what came after a line. Changes of every process arrive.
"""
_HEADINGS = {"tasks": "Tasks", "runs": "Runs", "memory": "Memory", "operate": "Operating"}


def page() -> str:
    """All routes, in the order in which they are defined."""
    described = document()
    groups: dict[str, list[str]] = {}
    for path, one in described["paths"].items():
        for method, route in one.items():
            groups.setdefault(route["tags"][0], []).append("\n".join(_route(described, method, path, route)))
    parts = [_INTRO]
    for tag, routes in groups.items():
        parts += [f"## {_HEADINGS[tag]}\n", *routes]
    return "\n".join(parts)


def _route(described: Mapping[str, Any], method: str, path: str, route: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path.removeprefix('/api/v1')}\n"
    yield route["description"] + "\n"
    rows = [*_parameters(route), *_body(described, route)]
    if rows:
        yield "| given | type | |\n|---|---|---|"
        yield from (f"| `{name}` | {kind} | {said} |" for name, kind, said in rows)
        yield ""
    yield f"Answers: {', '.join(_answers(route))}\n"


def _parameters(route: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for one in route.get("parameters", []):
        if one["in"] == "path" or one["name"] == "Idempotency-Key":
            continue
        said = [one["in"], one.get("description", "")]
        yield one["name"], _type(one["schema"]), ": ".join(word for word in said if word)


def _body(described: Mapping[str, Any], route: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    content = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    reference = next((one["$ref"] for one in [schema, *schema.get("anyOf", [])] if "$ref" in one), None)
    if reference is None:
        return
    shape = described["components"]["schemas"][reference.rpartition("/")[2]]
    required = shape.get("required", [])
    for name, one in shape["properties"].items():
        said = ["required" if name in required else "", one.get("description", "")]
        yield name, _type(one), "; ".join(word for word in said if word)


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    choices = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return " or ".join(_one_type(one) for one in choices)


def _one_type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"] if word)
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("type", "anything"))


def _answers(route: Mapping[str, Any]) -> Iterator[str]:
    """The statuses that are the route's own; those that every route has are left out."""
    every = {"400", "401", "403", "413", "422", "429", "503"}
    for status, one in sorted(route["responses"].items()):
        if status in every:
            continue
        schema = one.get("content", {}).get("application/json", {}).get("schema", {})
        yield f"{status} {_type(schema)}" if schema and status < "300" else status
