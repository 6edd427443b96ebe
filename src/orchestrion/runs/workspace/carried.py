"""What a workspace gets from the project's settings, so that git works there as in the user's checkout.

Filters, merge drivers, line ends, identity and the like may be set for the machine, the user
or this repository alone; what counts is what git makes of all of that in the project. It is
written into the workspace's own configuration, and into the git directory that we keep
beside it. Never taken over: hooks, aliases, anything that only matters to a terminal.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.git import Git, refusal

#: What changes how content is stored, compared and merged, who commits, and where submodules come from.
_CONTENT = re.compile(
    r"(filter|merge|diff)\..+\..+"
    r"|merge\.(conflictstyle|renames|renamelimit|directoryrenames|default)"
    r"|core\.(autocrlf|eol|attributesfile|longpaths|bigfilethreshold)"
    r"|lfs\..+|(user|author|committer|gpg|i18n)\..+"
    r"|submodule\..+\.(url|update|ignore|branch)",
    re.IGNORECASE | re.DOTALL,
)
#: What an agent's git needs besides, to fetch from where the project does.
_REMOTE = re.compile(r"core\.sshcommand|ssh\..+|(url|http|credential)\..+", re.IGNORECASE | re.DOTALL)
#: Files in the git directory that filters of well-known names need.
_FILES_OF_FILTERS = {"git-crypt": "git-crypt"}
#: Never an alternative place for LFS objects: a workspace keeps its own, and borrows the project's.
_LEFT_OUT = frozenset({"lfs.storage"})

Setting = tuple[str, str]


@dataclass(frozen=True)
class Carried:
    """What the project's repository hands on to its workspaces."""

    #: Effective settings that change content, in git's order; a key may occur more than once.
    content: tuple[Setting, ...]
    #: Those that say how the project's remotes are reached.
    remote: tuple[Setting, ...]
    #: All effective settings; of several values the last.
    effective: Mapping[str, str]
    #: ``info/attributes`` of the project; empty: it has none.
    attributes: bytes
    #: What the project ignores beside its ``.gitignore`` files: ``info/exclude`` and ``core.excludesFile``.
    excludes: bytes
    #: Paths within the git directory that are copied, and where each is.
    files: tuple[tuple[str, Path], ...]

    def reaching(self, url: str) -> tuple[Setting, ...]:
        """Those that say how this address is reached: secrets for other places stay where they are."""
        return tuple((key, value) for key, value in self.remote if _is_about(key, url))

    @property
    def filters(self) -> dict[str, list[str]]:
        """The filters that are set -> their commands."""
        return self._drivers("filter", ("clean", "smudge", "process"))

    @property
    def merge_drivers(self) -> dict[str, list[str]]:
        """The merge drivers that are set -> their commands."""
        return self._drivers("merge", ("driver",))

    def _drivers(self, kind: str, fields: tuple[str, ...]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key, value in self.effective.items():
            section, _, rest = key.partition(".")
            name, _, field = rest.rpartition(".")
            if section == kind and name and field in fields and value:
                found.setdefault(name, []).append(value)
        return found


#: Of a repository that hands on nothing.
NOTHING = Carried((), (), {}, b"", b"", ())


def carried_from(
    project: Git, common_dir: Path, more_files: Iterable[str] = (), git_dir: Path | None = None
) -> Carried:
    """What the repository of ``project`` hands on. ``more_files`` are further paths in its git directory.

    ``git_dir`` is that of a linked worktree, which may have settings and files of its own.
    """
    settings = _effective(project)
    effective = dict(settings)
    content = tuple(one for one in settings if _CONTENT.fullmatch(one[0]) and one[0] not in _LEFT_OUT)
    info = common_dir / "info"
    files = [path for name, path in _FILES_OF_FILTERS.items() if f"filter.{name}.clean" in effective]
    return Carried(
        content=content,
        remote=tuple(one for one in settings if _REMOTE.fullmatch(one[0])),
        effective=effective,
        attributes=_content(info / "attributes"),
        excludes=_content(info / "exclude") + _content(_excludes_file(project, effective)),
        files=tuple((name, _place_of(name, git_dir, common_dir)) for name in dict.fromkeys([*files, *more_files])),
    )


def write_info(carried: Carried, git_dir: Path, excludes: bytes) -> None:
    """Writes attributes and ignored patterns of a git directory."""
    info = git_dir / "info"
    info.mkdir(exist_ok=True)
    if carried.attributes:
        (info / "attributes").write_bytes(carried.attributes)
    (info / "exclude").write_bytes(excludes)


def copy_files(carried: Carried, git_dir: Path) -> None:
    """Copies the files that filters need into a git directory."""
    for name, source in carried.files:
        target = git_dir / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def as_config(settings: Iterable[Setting]) -> bytes:
    """The settings as git writes them into a file; each in a section of its own, so that their order is kept."""
    return b"".join(_as_lines(key, value) for key, value in settings)


def _place_of(name: str, git_dir: Path | None, common_dir: Path) -> Path:
    own = git_dir / name if git_dir else None
    return own if own is not None and own.exists() else common_dir / name


def _is_about(key: str, url: str) -> bool:
    section, _, rest = key.partition(".")
    place, _, _ = rest.rpartition(".")
    if not place or section not in ("http", "credential"):
        return True
    return urlsplit(place).hostname == urlsplit(url).hostname


def _as_lines(key: str, value: str) -> bytes:
    section, _, rest = key.partition(".")
    sub, _, name = rest.rpartition(".")
    heading = f'[{section} "{_escaped(sub)}"]' if sub else f"[{section}]"
    said = _escaped(value).replace("\n", "\\n").replace("\t", "\\t").replace("\b", "\\b")
    return os.fsencode(f'{heading}\n\t{name} = "{said}"\n')


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _effective(project: Git) -> list[Setting]:
    """Every setting that counts in the project, in git's order; keys in lower case but for their middle part."""
    answer = project.run("config", "--list", "-z", check=False)
    if answer.returncode != 0:
        raise refusal(answer)
    found = []
    for entry in answer.stdout.split("\0"):
        key, has_value, value = entry.partition("\n")
        if key:
            found.append((key, value if has_value else "true"))
    return found


def _excludes_file(project: Git, effective: Mapping[str, str]) -> Path | None:
    """The user's own file of ignored patterns, where it is set or where git looks for it."""
    if "core.excludesfile" in effective:
        try:
            return Path(project.run("config", "--type=path", "core.excludesFile").stdout)
        except GitProblem:
            return None
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.environ.get("HOME", ""), ".config")  # noqa: PTH118
    return Path(base) / "git" / "ignore"


def _content(file: Path | None) -> bytes:
    """A small file of the user's, ended by a line end; empty when there is none."""
    try:
        content = file.read_bytes() if file else b""
    except OSError:
        return b""
    return content if not content or content.endswith(b"\n") else content + b"\n"
