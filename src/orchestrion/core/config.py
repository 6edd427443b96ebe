"""What is set, and where it was set.

A value comes from, best first: a flag, the environment (``ORCHESTRION_RUN_TIMEOUT_S`` for
``run.timeout_s``), the project's ``.orchestrion/config.yaml``, the user's
``~/.config/orchestrion/config.yaml``, the default. Settings that hold named things
(``slots.agents``, ``checks``) are joined name by name, so that a project adds to what a
user has. What may be set at all is in ``settings.py``.

The command line is called at every tool call of an agent: YAML is imported only if there
is a file with anything but comments in it. Reading files is why this module, with
``documents.py`` and ``project.py``, is the exception to the core's rule of no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orchestrion.core.documents import Document, read_yaml
from orchestrion.core.errors import InvalidInput
from orchestrion.core.masking import masked_address
from orchestrion.core.settings import BY_NAME, SETTINGS, Setting, WrongValue, described, valid

__all__ = ["SETTINGS", "Config", "Row", "Setting", "load", "nearest", "project_file", "user_file"]

#: Code of every error here.
CODE = "invalid_config"
#: Beginnings of dotted names: ``run`` of ``run.timeout_s``.
_SECTIONS = {name.partition(".")[0] for name in BY_NAME if "." in name}


#: What tells that the user's and the project's file are as they were: change in ns, bytes, inode; None: no file.
Stamps = tuple[tuple[int, int, int] | None, ...]


class Row(NamedTuple):
    """One setting as ``config show`` shows it."""

    #: Dotted name.
    name: str
    #: The value in force; a password in it is masked.
    value: Any
    #: Where it was set.
    origin: str
    #: Unit of a number, else empty.
    unit: str
    #: One sentence.
    meaning: str
    #: Environment variable, if it has one.
    variable: str | None
    #: What holds where the value is none; empty: nothing.
    instead: str = ""


class Config:
    """The settings in force. ``config["run.timeout_s"]`` is valid: nothing else gets in."""

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, str], stamps: Stamps) -> None:
        self._values = values
        self._origins = origins
        #: Of the files that were read.
        self.stamps = stamps

    def __getitem__(self, name: str) -> Any:
        return self._values[_setting(name).name]

    def get(self, name: str) -> Any:
        """The same as ``config[name]``; None means that the setting is none."""
        return self[name]

    def origin(self, name: str) -> str:
        """Where the value comes from, as ``project (.orchestrion/config.yaml:3)`` or ``default``.

        For settings that hold named things: of one of them (``slots.agents.claude``), or of all.
        """
        if name in self._origins:
            return self._origins[name]
        entries = self[name] if _setting(name).named else ()
        return (
            ", ".join(dict.fromkeys(self._origins.get(f"{name}.{entry}", "default") for entry in entries)) or "default"
        )

    def rows(self) -> list[Row]:
        """Every setting in the order of the table, for ``config show``; passwords are masked."""
        return [self._row(setting) for setting in SETTINGS]

    def _row(self, setting: Setting) -> Row:
        value = self[setting.name]
        shown = masked_address(value) if isinstance(value, str) else value
        return Row(setting.name, shown, self.origin(setting.name), setting.unit, setting.meaning, setting.variable)


class _Found(NamedTuple):
    """A value as it was found, with where it was found."""

    #: Name of its setting.
    setting: str
    value: Any
    #: Words for ``Config.origin`` and for errors.
    origin: str
    #: Whether the value is text that stands for another kind.
    as_text: bool = False
    #: File and line, for the details of an error.
    file: str | None = None
    line: int | None = None


class _File(NamedTuple):
    """A settings file that was read."""

    #: ``project`` or ``user``.
    layer: str
    #: Its name for people.
    shown: str
    content: Document


def load(project: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """The settings in force in ``project`` (its root); a flag that is None was not given.

    Raises InvalidInput (``invalid_config``) naming the setting, where it was set, what was
    found and what is allowed.
    """
    stamps = _stamps(project, environ)
    values: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS}
    origins: dict[str, str] = {}
    for layer in (_from_user(environ), _from_project(project), _from_environment(environ), _from_flags(flags)):
        for found in layer:
            _put(values, origins, found)
    return Config(values, origins, stamps)


def named_checks(config: Config, project: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Name -> command of the checks, as the files have them now: they say what done means, so a program that has run
    for weeks judges by them too. Files that are as ``config`` read them are not read again. Raises InvalidInput as
    ``load`` does.
    """
    now = config if config.stamps == _stamps(project, environ) else load(project, environ, {})
    found: Mapping[str, str] = now["checks"]
    return found


def user_file(environ: Mapping[str, str]) -> Path | None:
    """Where the user's settings are looked for; None without a home."""
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    if base.startswith("/"):
        return Path(base, "orchestrion", "config.yaml")
    home = environ.get("HOME", "")
    return Path(home, ".config", "orchestrion", "config.yaml") if home else None


def project_file(project: Path) -> Path:
    """Where a project's settings are looked for."""
    return project / ".orchestrion" / "config.yaml"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was probably meant to be."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def _stamps(project: Path | None, environ: Mapping[str, str]) -> Stamps:
    return tuple(_stamp(path) for path in (user_file(environ), project and project_file(project)) if path)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:  # reading it says why
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _from_user(environ: Mapping[str, str]) -> list[_Found]:
    path = user_file(environ)
    return _from_file(path, "user", _with_tilde(path, environ)) if path else []


def _with_tilde(path: Path, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "").rstrip("/") + "/"
    return "~/" + str(path).removeprefix(home) if str(path).startswith(home) else str(path)


def _from_project(project: Path | None) -> list[_Found]:
    if project is None:
        return []
    path = project_file(project)
    return _from_file(path, "project", str(path.relative_to(project)))


def _from_file(path: Path, layer: str, shown: str) -> list[_Found]:
    content = read_yaml(path, shown, CODE)
    if content is None or content.value is None:
        return []
    if not isinstance(content.value, dict):
        raise _refused(f"{shown} must hold settings, as in `run: {{timeout_s: 600}}`; found {described(content.value)}")
    return _each_once(_section(_File(layer, shown, content), content.value, ()))


def _section(file: _File, section: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[_Found]:
    """The settings of a section and of those in it; ``run.timeout_s: 600`` is understood as well."""
    for key, value in section.items():
        path = (*above, key)
        name = ".".join(path)
        if name in BY_NAME:
            yield from _entries(file, name, value, path)
        elif name in _SECTIONS and isinstance(value, dict):
            yield from _section(file, value, path)
        elif name not in _SECTIONS:
            raise _unknown(name, file.shown, file.content.lines.get(path))
        elif value is not None:
            raise _not_a_section(name, value, file.shown, file.content.lines.get(path))


def _each_once(settings: Iterable[_Found]) -> list[_Found]:
    """The settings of a file; refuses one that is written both nested and with its dot."""
    found = list(settings)
    first: dict[str, _Found] = {}
    for one in found:
        other = first.setdefault(one.setting, one)
        if other is not one and not BY_NAME[one.setting].named:
            raise _refused(
                f"{_place(one.file, one.line)}: {one.setting} is set twice, first in line {other.line}",
                setting=one.setting,
                file=one.file,
                line=one.line,
            )
    return found


def _entries(file: _File, name: str, value: Any, path: tuple[str, ...]) -> Iterator[_Found]:
    """A value with its line; of named things each with its own."""
    if not (BY_NAME[name].named and isinstance(value, dict)):
        yield _in_file(file, name, value, path)
        return
    for entry, content in value.items():
        yield _in_file(file, name, {entry: content}, (*path, entry))


def _in_file(file: _File, name: str, value: Any, path: tuple[str, ...]) -> _Found:
    line = file.content.lines.get(path)
    place = _place(file.shown, line)
    return _Found(name, value, f"{file.layer} ({place})", file=file.shown, line=line)


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Found]:
    for setting in SETTINGS:
        text = environ.get(setting.variable, "") if setting.variable else ""
        if text:
            yield _Found(setting.name, text, f"environment {setting.variable}", as_text=True)


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Found]:
    for name, value in flags.items():
        if value is not None:
            yield _Found(_setting(name).name, value, "flag", as_text=isinstance(value, str))


def _put(values: dict[str, Any], origins: dict[str, str], found: _Found) -> None:
    """Let a value take the place of those from weaker layers."""
    value = _valid(found)
    if not BY_NAME[found.setting].named:
        values[found.setting], origins[found.setting] = value, found.origin
        return
    values[found.setting] = {**values[found.setting], **value}
    origins.update({f"{found.setting}.{entry}": found.origin for entry in value})


def _valid(found: _Found) -> Any:
    setting = BY_NAME[found.setting]
    try:
        return valid(setting, found.value, found.as_text)
    except WrongValue as wrong:
        raise _refused(
            f"{found.origin}: {wrong.name} must be {wrong.allowed}; found {described(wrong.found)}",
            hint=f"{setting.name} is: {setting.meaning}",
            setting=setting.name,
            found=described(wrong.found),
            allowed=wrong.allowed,
            file=found.file,
            line=found.line,
        ) from None


def _setting(name: str) -> Setting:
    if name in BY_NAME:
        return BY_NAME[name]
    raise _unknown(name, None, None)


def _unknown(name: str, file: str | None, line: int | None) -> InvalidInput:
    near = nearest(name, BY_NAME)
    return _refused(
        f"{_place(file, line)}: there is no setting {name!r}".removeprefix(": "),
        hint=f"did you mean {near}?" if near else "`orchestrion config show` lists the settings",
        setting=name,
        allowed=sorted(BY_NAME),
        file=file,
        line=line,
    )


def _not_a_section(name: str, value: Any, file: str, line: int | None) -> InvalidInput:
    inside = [known for known in BY_NAME if known.startswith(f"{name}.")]
    return _refused(
        f"{_place(file, line)}: {name} must hold settings of its own; found {described(value)}",
        hint=f"they are {', '.join(inside)}",
        setting=name,
        found=described(value),
        allowed=inside,
        file=file,
        line=line,
    )


def _place(file: str | None, line: int | None) -> str:
    return (file or "") if line is None else f"{file}:{line}"


def _refused(message: str, *, hint: str = "correct the file or remove it", **details: Any) -> InvalidInput:
    return InvalidInput(message, hint=hint, code=CODE, **details)
