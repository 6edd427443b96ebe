"""One set-up: which files change and how, shown or done, all of them or none.

Everything is read, judged and edited before anything is written. A file that is replaced is
kept first (``records``); if one cannot be written, those before it come back.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import InvalidInput
from orchestrion.ops.setup import block, files, hooks, jsonc, records, toml
from orchestrion.ops.setup.broken import Broken
from orchestrion.ops.setup.clients import CLIENTS, SCOPES, Client, config_file, hooks_file
from orchestrion.ops.setup.files import Content

#: Permissions of a new file: one of a repository is for everybody, one of a user may come to hold secrets.
_SHARED_MODE, _OWN_MODE = 0o644, 0o600


@dataclass(frozen=True)
class Request:
    """What is to be set up, or undone."""

    client: Client
    #: ``user`` or ``project``.
    scope: str
    #: The project's folder, if there is one.
    project: Path | None
    #: How our program is started on this machine.
    program: tuple[str, ...]
    #: The same for files that a team shares.
    shared_program: tuple[str, ...]
    #: The set of tools that the server offers; None: its own choice.
    tools: str | None
    #: Whether AGENTS.md is looked after.
    instructions: bool
    environ: Mapping[str, str]
    #: As ``sys.platform`` has it.
    platform: str

    def command(self) -> tuple[str, ...]:
        """How the client starts the server. What a team shares names nothing of this machine."""
        if self.scope == "project":
            program, folder = self.shared_program, self.client.here
        else:
            # A client that knows no projects has to be told of this one.
            program, folder = self.program, "" if self.client.project else str(self.project or "")
        named = ("-C", folder) if folder else ()
        return (*program, "mcp", *named, *(("--tools", self.tools) if self.tools else ()))


@dataclass(frozen=True)
class Change:
    """A file and what is to become of it."""

    #: ``server``, ``hooks`` or ``instructions``.
    part: str
    content: Content
    #: The bytes that it is to have; None: no such file.
    after: bytes | None
    #: What has to be made to hold our part.
    made: tuple[tuple[str, ...], ...] = ()
    #: Folders that undoing removes if they are empty.
    folders: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """``unchanged``, ``created``, ``removed`` or ``changed``."""
        if self.after == self.content.raw:
            return "unchanged"
        if self.content.raw is None:
            return "created"
        return "removed" if self.after is None else "changed"

    def diff(self) -> str:
        """The change as a unified diff; empty if there is none."""
        if self.state == "unchanged":
            return ""
        before, after = _lines(self.content.raw), _lines(self.after)
        old = "/dev/null" if self.content.raw is None else str(self.content.path)
        new = "/dev/null" if self.after is None else str(self.content.path)
        return "".join(_whole(line) for line in difflib.unified_diff(before, after, old, new))


def set_up(request: Request) -> list[Change]:
    """What setting up changes; nothing is written yet. Raises InvalidInput, EnvironmentProblem."""
    return [_put_in(part) for part in _parts(request)]


def undo(request: Request) -> list[Change]:
    """What undoing changes; nothing is written yet. Raises as ``set_up``."""
    place = records.folder_of(request.environ)
    return [
        _undone(part, place) for part in _parts(request) if part.name != "instructions" or not _others_need(request)
    ]


def carry_out(changes: Sequence[Change], place: Path, stamp: str, *, undo: bool = False) -> dict[Path, Path]:
    """Writes the changes; file -> its backup. Raises Conflict, OSError after undoing those already made."""
    backups: dict[Path, Path] = {}
    done: list[Change] = []
    try:
        for change in changes:
            if change.state == "unchanged":
                continue
            record = records.keep(
                place, stamp, change.content.target, change.content.raw, change.after or b"", change.made, undo
            )
            if record.existed:
                backups[change.content.path] = record.folder / change.content.target.name
            files.replace(change.content, change.after)
            done.append(change)
    except BaseException:
        for change in reversed(done):
            files.write(change.content, change.content.raw)
        raise
    for change in changes:
        _leave(change.folders)
    return backups


def _put_in(part: _Part) -> Change:
    with _named(part.content):
        return _writable(Change(part.name, part.content, part.content.encoded(part.put()), part.made()))


def _writable(change: Change) -> Change:
    if change.state != "unchanged":
        files.refuse_unwritable(change.content)
    return change


@contextmanager
def _named(content: Content) -> Iterator[None]:
    """Says in which file a text is broken, and where."""
    try:
        yield
    except Broken as error:
        raise InvalidInput(
            f"{content.path}:{error.line}:{error.column}: {error.problem}; nothing was changed",
            hint="correct the file at that place, then try again",
            code="broken_client_config",
            file=str(content.path),
            line=error.line,
            column=error.column,
        ) from error


# -- the parts of a set-up ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """What is ours in one file."""

    name: str
    content: Content
    put: Callable[[], str]
    #: A text without our part; the second is what the file said before there was any.
    take_out: Callable[[str, str], str]
    #: Whether there is anything of ours in a text; the second as for ``take_out``.
    is_in: Callable[[str, str], bool]
    made: Callable[[], tuple[tuple[str, ...], ...]]


def _parts(request: Request) -> Iterator[_Part]:
    client = request.client
    mode = _SHARED_MODE if request.scope == "project" else _OWN_MODE
    yield _server(request, files.read(config_file(client, request.scope, *_where(request)), new_mode=mode))
    if client.hooks:
        yield _hooks(request, files.read(hooks_file(client, request.scope, *_where(request)), new_mode=mode))
    if request.instructions and request.project:
        yield _instructions(files.read(request.project / block.NAME, new_mode=_SHARED_MODE))


def _where(request: Request) -> tuple[Path | None, Mapping[str, str], str]:
    return request.project, request.environ, request.platform


def _server(request: Request, content: Content) -> _Part:
    client, entry = request.client, request.client.entry(request.command())
    path = client.path

    def put() -> str:
        found = _get(client, content.text)
        if isinstance(found, dict) and {**found, **entry} == found:
            return content.text
        if client.format == "toml":
            return toml.put(content.text, path, entry)
        # What a person added to our entry (an environment, permissions) stays.
        merged = {**found, **entry} if isinstance(found, dict) else entry
        return jsonc.put(content.text, path, merged, comments=client.format == "jsonc")

    def made() -> tuple[tuple[str, ...], ...]:
        if client.format == "toml":  # a table needs nothing around it
            return ()
        section = jsonc.get(content.text, path[:1], comments=client.format == "jsonc")
        return ((client.section,),) if section is None else ()

    def take_out(text: str, before: str) -> str:
        return _taken_out(client, text, before) if is_in(text, before) else text

    def is_in(text: str, before: str) -> bool:
        found = _get(client, text)
        return found is not None and found != _get(client, before)

    return _Part("server", content, put, take_out, is_in, made)


def _get(client: Client, text: str) -> object:
    if client.format == "toml":
        return toml.get(text, client.path)
    return jsonc.get(text, client.path, comments=client.format == "jsonc")


def _taken_out(client: Client, text: str, before: str) -> str:
    """Without our entry; one of the same name that stood there before comes back."""
    if client.format == "toml":
        return toml.give_back(text, client.path, before)
    comments, theirs = client.format == "jsonc", _get(client, before)
    if theirs is None:
        return jsonc.take_out(text, client.path, comments=comments)
    return jsonc.put(text, client.path, theirs, comments=comments)


def _hooks(request: Request, content: Content) -> _Part:
    return _Part(
        "hooks",
        content,
        lambda: hooks.put(content.text, request.program),
        lambda text, _: hooks.take_out(text),
        lambda text, _: hooks.has(text),
        lambda: hooks.made(content.text),
    )


def _instructions(content: Content) -> _Part:
    return _Part(
        "instructions",
        content,
        lambda: block.put(content.text),
        lambda text, _: block.take_out(text),
        lambda text, _: block.has(text),
        lambda: (),
    )


# -- undoing --------------------------------------------------------------------------------------


def _undone(part: _Part, place: Path) -> Change:
    """The bytes from before if nobody else changed the file since; else without our part alone."""
    content = part.content
    if content.raw is None:
        return Change(part.name, content, None)
    kept = records.of_file(place, content.target)
    first, before = records.way_back(kept, content.raw), _text(records.before_ours(kept))
    if first is not None and not _has(part, first.before(), before):
        return _writable(Change(part.name, content, first.before(), folders=first.folders))
    with _named(content):
        text = part.take_out(content.text, before)
        made = {path for record in kept for path in record.made}
        left = text if text == content.text else _emptied(text, made)
    return _writable(Change(part.name, content, content.encoded(left)))


def _has(part: _Part, raw: bytes | None, before: str) -> bool:
    """Whether an older content of the file has our part; one that cannot be read is not gone back to."""
    try:
        return part.is_in(_text(raw), before)
    except (Broken, ValueError):
        return True


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8-sig")


def _emptied(text: str, made: set[tuple[str, ...]]) -> str:
    """Without what we made to hold our part, where nothing else has come into it."""
    for path in sorted(made, key=len, reverse=True):
        if jsonc.get(text, path) in ({}, []):
            text = jsonc.take_out(text, path)
    return text


def _others_need(request: Request) -> bool:
    """Whether another client of the same project is still set up: the instructions are for all of them."""
    for client in CLIENTS:
        for scope in SCOPES:
            if (client.name, scope) == (request.client.name, request.scope) or (
                scope == "project" and not (client.project and request.project)
            ):
                continue
            file = config_file(client, scope, *_where(request))
            with suppress(Broken, InvalidInput):
                if _get(client, files.read(file).text) is not None:
                    return True
    return False


def _leave(folders: Sequence[str]) -> None:
    for folder in folders:
        with suppress(OSError):  # somebody else put something there
            Path(folder).rmdir()


def _lines(raw: bytes | None) -> list[str]:
    return (raw or b"").decode("utf-8", "replace").splitlines(keepends=True)


def _whole(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
