"""Finding a project and opening its store: where every use case begins, and is judged.

Each public method of the classes that stand on ``Opening`` is a use case with a line in
``core.rights``; it is judged by its caller before it begins. What one use case asks of another
is not judged again.
"""

from __future__ import annotations

import copy
import os
import pwd
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from orchestrion.core import config as settings
from orchestrion.core import private
from orchestrion.core.config import Config
from orchestrion.core.errors import Conflict, GitProblem, InvalidInput, NotFound, OrchestrionError
from orchestrion.core.masking import Masker, masked_address
from orchestrion.core.project import (
    SHARED_FOLDER,
    VARIABLE,
    Project,
    clone_id,
    find_project,
    make_store_dir,
    project_at,
)
from orchestrion.core.rights import RIGHTS, RUN, RUN_VARIABLE, SESSION_VARIABLE, Caller, Voice, refuse_runs, run_of
from orchestrion.core.values import name, number, number_named
from orchestrion.orchestrator import register
from orchestrion.orchestrator.judging import fence, judge, judged
from orchestrion.store import Origin, ProjectKey, Store, Transaction, Upgrade, file_of, open_store, prepare_store

if TYPE_CHECKING:
    from orchestrion.core.host import Host
    from orchestrion.runs.given import Ledger

#: Follows one request through every process that it starts.
CORRELATION = "ORCHESTRION_CORRELATION"
#: All comments: as long as nobody sets anything, no call has to read YAML.
_CONFIG = """\
# Settings of this project, shared with the team: commit this file. `orchestrion config show`
# lists all settings with their values and where they come from.
#
# project:
#   name: {name}       # set it when several machines share one PostgreSQL database
# work:
#   slots: 4
# workspace:
#   setup: make deps
# checks:
#   test: make test
"""
#: What lies beside a store of ours, and goes where it goes.
_BESIDE = ("runs", "id", "given", "given.lock", "stores", "key", "worker.log", "server")
#: What a repository needs in which no run can begin.
FIRST_COMMIT = "make a first one: agents work on copies of what is committed"


class Opening:
    """A project with its settings and its open store."""

    def __init_subclass__(cls) -> None:
        """Has every use case judged. Raises LookupError for one without a line in the table of rights."""
        super().__init_subclass__()
        for action, member in list(vars(cls).items()):
            if isinstance(member, FunctionType) and not action.startswith("_"):
                if action not in RIGHTS:
                    raise LookupError(f"{cls.__name__}.{action} has no line in core/rights.py")
                setattr(cls, action, judged(member))

    def __init__(
        self, project: Project, config: Config, store: Store, environ: Mapping[str, str], caller: Caller
    ) -> None:
        self.project = project
        self.config = config
        self.store = store
        self.environ = environ
        #: Who calls; decides what may be done.
        self.caller = caller

    @cached_property
    def host(self) -> Host:
        """Where this process is."""
        from orchestrion.core.host import here  # few commands ask

        return here(self.environ)

    @property
    def ledger(self) -> Ledger:
        """Where it is written down which numbers were given."""
        from orchestrion.core.host import state_folder
        from orchestrion.runs.given import Ledger

        return Ledger(self.project.store_dir, state_folder(self.environ), self.store.file)

    def has_left(self, run: Mapping[str, Any]) -> bool:
        """Whether what a run left (its workspace, its log) is on this host and of this clone."""
        return run["clone"] in (None, self.store.clone) and self.host.keeps(run)

    @classmethod
    def open(
        cls,
        folder: Path | str | None = None,
        *,
        db: str | None = None,
        environ: Mapping[str, str] | None = None,
        create: bool = True,
        anew: bool = False,
        actor: str | None = None,
    ) -> Self:
        """Opens the project of ``folder`` (default: the current one) with its store.

        A git repository or a folder with ``.orchestrion/`` is a project; its store is made
        on first use unless ``create`` is false. One that this clone had and that is gone is made again
        only ``anew``, and from inside a run none is made, nor a project in one that is there. ``db`` names
        another database.
        Raises NotFound, InvalidInput, Conflict (``begun_outside_git``), StoreProblem (``store_missing``, ...),
        EnvironmentProblem (``extra_missing``).
        """
        environ = os.environ if environ is None else environ
        project, config = _configured(folder, db, environ)
        url = _address(project, config)
        prepare_store(url)  # before anything is written, even an id
        if old := _left_outside(project, url):
            raise _begun_outside(project, old)
        in_run = run_of(environ) is not None
        if in_run:
            register.refuse_new(project, url)
        store = _opened(project, config, url, create=create and not in_run, anew=anew, in_run=in_run)
        register.note(project, url, store.clone)
        try:
            caller = _caller(environ, store.uuid, actor)
        except InvalidInput:
            store.close()
            raise
        if caller.run and store.read(lambda tx: tx.one("run", id=number(str(caller.run), "R"))) is None:
            caller = _of_elsewhere(caller)  # another project's
        if caller.session is not None:
            caller = caller._replace(**voice_in(store, caller.session)._asdict())
        store.origin, store.fence = _origin(caller), fence(caller)
        if caller.run:
            store.masker = Masker(environ)
        _tighten(project)
        if store.upgrade is not None:
            _note_upgrade(store, store.upgrade)
            _find_plans(project, store)
        if store.is_copy:
            _leave_runs_to_the_original(store)
        return cls(project, config, store, environ, caller)

    @classmethod
    def settings_in_force(
        cls, folder: Path | str | None = None, *, db: str | None = None, environ: Mapping[str, str] | None = None
    ) -> list[settings.Row]:
        """Every setting in force and where it was set; opens no store. Raises what ``open`` raises before."""
        environ = os.environ if environ is None else environ
        project, config = _configured(folder, db, environ)
        own = "" if config["db"] else _address(project, config)
        return [row._replace(instead=own) if row.name == "db" else row for row in config.rows()]

    @classmethod
    def rebuild(
        cls, folder: Path | str | None = None, *, db: str | None = None, environ: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Puts a file made anew from the rows of a SQLite store in its place; ``kept`` is where the old one is,
        ``made`` what was gone or another than it should be, ``left_out`` what is none of the store's.

        Opens no store: this one may be damaged. Raises NotFound, InvalidInput (``not_sqlite``, ``not_for_runs``), and
        what ``store.rebuild`` does.
        """
        environ = os.environ if environ is None else environ
        refuse_runs(environ, "rebuild")
        url = _address(*_configured(folder, db, environ))
        file = file_of(url)
        if file is None:
            raise InvalidInput(
                f"{masked_address(url)} is no SQLite file, and only that can be made anew",
                hint="on PostgreSQL `reindex schema public` makes the indexes anew, in psql",
                code="not_sqlite",
            )
        from orchestrion.store.rebuild import rebuild  # which hardly anybody ever needs

        done = rebuild(file)
        return {"db": str(file), "kept": str(done.kept), "made": done.made, "left_out": done.left_out}

    @classmethod
    def init(
        cls, folder: Path | str | None = None, *, db: str | None = None, environ: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Makes a folder a project: its store and ``.orchestrion/config.yaml``. Doing it again changes nothing.

        The store of a project that is in git only since then moves into the git directory. Raises what
        ``open`` raises, what ``relocate`` does, and InvalidInput (``not_for_runs``).
        """
        environ = os.environ if environ is None else environ
        refuse_runs(environ, "init")
        project = project_at(_here(folder), Path(folder) if folder is not None else None, environ)
        url = _address(project, settings.load(project.root, environ, {} if db is None else {"db": db}))
        prepare_store(url)
        moved = _take_along(project, url)
        shared = project.root / SHARED_FOLDER
        shared.mkdir(exist_ok=True)
        file = shared / "config.yaml"
        was_there = file.exists() and ("://" in url or Path(url).exists())
        if not file.exists():
            file.write_text(_CONFIG.format(name=_slug(project.root.name)), encoding="utf-8")
        with cls.open(project.root, db=db, environ=environ, anew=True) as opened:
            return {
                "project": str(project.root),
                "renamed": {"from": opened.store.former_name, "to": opened.store.project_name}
                if opened.store.former_name
                else None,
                "db": masked_address(opened.store.url),
                "agents": _installed(environ),
                "created": not was_there or opened.store.is_new_project,
                "moved": [{"from": str(source), "to": str(target)} for source, target in moved],
                "notes": [*_aside(moved), *_notes(opened)],
            }

    def judge(self, action: str) -> None:
        """Raises InvalidInput (``forbidden``, ``key_needed``, ``not_for_runs``) if the caller may not do ``action``."""
        judge(self, action, {})

    def as_(self, caller: Caller) -> Self:
        """The same project for another caller, by whose name changes are signed. Shares connections with this one."""
        one = copy.copy(self)
        one.caller = caller
        one.store = copy.copy(self.store)
        one.store.origin, one.store.fence = _origin(caller), fence(caller)
        return one

    def on_behalf_of(self, actor: str, session: str | None = None, correlation: str | None = None) -> Self:
        """The same project with the same rights, under another name."""
        return self.as_(self.caller._replace(actor=actor, session=session, correlation=correlation))

    def schema(self) -> dict[str, Any]:
        """The store's address and the number of its schema, which opening brought up to date."""
        row = self.store.read(lambda tx: tx.the("schema"))
        return {"db": masked_address(self.store.url), "schema": row["version"], "name": row["name"]}

    def close(self) -> None:
        """Gives the store's connections back."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tighten(project: Project) -> None:
    """What an earlier version made for everybody to read; in the tree, a team reads the rest of the folder."""
    if project.git_common_dir is not None:
        private.tighten(project.store_dir)
    private.tighten(project.store_dir / "runs")


def _note_upgrade(store: Store, upgrade: Upgrade) -> None:
    """In the journal, and on stderr whatever door it is, unless that one keeps a log of its own."""
    import logging  # needed once, and few commands load it

    logging.getLogger("orchestrion.upgrade").warning("%s", upgrade)
    data = {"before": upgrade.before, "now": upgrade.now, "copy": str(upgrade.copy) if upgrade.copy else None}
    store.write(lambda tx: tx.event("store.upgraded", data=data))


def _find_plans(project: Project, store: Store) -> None:
    """Which plans of before are this clone's, before anybody asks for their tasks; a worker looks again."""
    if project.git_root is None:
        return
    from orchestrion.core import host
    from orchestrion.runs import plan_clone
    from orchestrion.runs.git import Git

    with suppress(GitProblem):
        plan_clone.find(store, Git(project.git_root), host.name())


def _leave_runs_to_the_original(store: Store) -> None:
    """A copy has the tasks of the project it was copied from, and none of its agents and workspaces."""
    from orchestrion.scheduler import finish

    def leave(tx: Transaction) -> None:
        for run in tx.all("active_runs"):
            finish.release(tx, run["id"], "this repository is a copy; the run is one of the original's")
        tx.run("runs_are_elsewhere")
        tx.event("store.copied", data={"uuid": store.uuid})

    store.write(leave)


def _installed(environ: Mapping[str, str]) -> list[str]:
    from orchestrion.runs.agents.known import installed

    return installed(environ)


def _notes(opened: Opening) -> list[str]:
    """What is to be done before agents can work here, or work in the user's name."""
    from orchestrion.core.git_head import head_of
    from orchestrion.orchestrator.repository import anonymity_of

    project = opened.project
    if project.git_dir is None or project.git_common_dir is None:
        return ["this folder is no git repository: agents will work in the folder itself"]
    head = head_of(project.git_dir, project.git_common_dir)
    notes = [f"the repository has no commit yet; {FIRST_COMMIT}"] if head and head.commit is None else []
    with suppress(OrchestrionError):  # `orchestrion doctor` says what is wrong with the repository
        notes += [said] if (said := anonymity_of(opened)) else []
    return notes


def _left_outside(project: Project, url: str) -> Path | None:
    """The store that the project had before it was in git, as long as it has none in its git directory."""
    if project.git_root is None or url != _own_file(project.store_dir) or Path(url).exists():
        return None
    old = Path(_own_file(project.root / SHARED_FOLDER))
    return old if old.is_file() else None


def _begun_outside(project: Project, old: Path) -> Conflict:
    return Conflict(
        f"the project {project.root} was begun outside git: its tasks are in {old}",
        hint="`orchestrion init` moves them into the git directory",
        code="begun_outside_git",
        store=str(old),
    )


def _take_along(project: Project, url: str) -> list[tuple[Path, Path]]:
    """Moves the store of before git into the git directory; what went where, nothing if there is none."""
    old = _left_outside(project, url)
    if old is None:
        return []
    from orchestrion.store.relocation import relocate

    copies = sorted(file.name for file in old.parent.glob(f"{old.name}.schema-*"))
    return relocate(old, Path(url), (*_BESIDE, *copies))


def _aside(moved: list[tuple[Path, Path]]) -> list[str]:
    """Where the database of before git is as it was."""
    if not moved:
        return []
    from orchestrion.store.relocation import ASIDE

    return [f"the database as it was is kept as {moved[0][1]}{ASIDE}"]


def _configured(folder: Path | str | None, db: str | None, environ: Mapping[str, str]) -> tuple[Project, Config]:
    """The project that is meant, and its settings. A run's database is that of its own project, and of no other."""
    project = find_project(_here(folder), Path(folder) if folder is not None else None, environ)
    if run_of(environ) and Path(environ.get(VARIABLE) or project.root).resolve() != project.root:
        environ = {key: value for key, value in environ.items() if key != "ORCHESTRION_DB"}
    return project, settings.load(project.root, environ, {} if db is None else {"db": db})


def _own_file(store_dir: Path) -> str:
    return str(store_dir / "orchestrion.db")


def _address(project: Project, config: Config) -> str:
    """The database's address; a path is made absolute, for supervisors are started in other folders."""
    url = config["db"]
    if not url:
        return _own_file(project.store_dir)
    if "://" in url:
        return str(url)
    base = project.root if config.origin("db").startswith(("project", "user")) else Path.cwd()
    return str(base / url)


def _here(folder: Path | str | None) -> Path:
    """Where the caller stands; who names a whole path may stand in a folder that is gone."""
    return Path("/") if folder is not None and Path(folder).is_absolute() else Path.cwd()


def _opened(project: Project, config: Config, url: str, *, create: bool, anew: bool, in_run: bool) -> Store:
    was_there = register.had(project, url)
    create = create and (anew or not was_there)
    try:
        if "://" not in url:
            _provide_folder(project, Path(url), create)
        key = _project_key(project, config, url, in_run=in_run)
        # In a shared database a name set by mistake would begin an empty project, or take the other clones' away.
        had = register.had_a_project(project, url, key.uid)
        key = key._replace(begins=not in_run and (anew or key.own_store or not had))
        return open_store(url, project=key, create=create)
    except NotFound as missing:
        if was_there and missing.code == "no_store":
            raise register.gone(url) from missing
        raise


def _provide_folder(project: Project, file: Path, create: bool) -> None:
    if not create and not file.exists():
        raise NotFound(f"there is no store at {file}", hint="run `orchestrion init` first", code="no_store")
    if create and file.parent == project.store_dir:
        make_store_dir(project)
    elif create and file.parent.parent.exists():
        file.parent.mkdir(exist_ok=True)


def _project_key(project: Project, config: Config, url: str, *, in_run: bool) -> ProjectKey:
    is_set = config["project.name"] is not None
    own_store = "://" not in url and Path(url).parent == project.store_dir
    name = str(config["project.name"] or project.root.name or "default")
    return ProjectKey(name, clone_id(project, create=not in_run), is_set, own_store)


def _slug(text: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text).strip("-._")
    return kept[:64] or "project"


def _caller(environ: Mapping[str, str], store: str, actor: str | None) -> Caller:
    """Whoever has this environment: its user, or from inside a run that run, which only reads in other stores.

    Raises InvalidInput (``not_for_runs``) for what names this store and no run.
    """
    inside = _run_inside(environ.get(RUN_VARIABLE, ""), store)
    elsewhere = None if inside else run_of(environ)
    return Caller(
        actor or (f"{RUN}{inside}" if inside else user_of(environ)),
        environ.get(SESSION_VARIABLE),
        environ.get(CORRELATION) or None,
        inside,
        role="read" if elsewhere else "admin",
        may_run_commands=inside is None and elsewhere is None,
        elsewhere=elsewhere,
    )


def voice_in(store: Store, handle: str) -> Voice:
    """For which session a caller speaks; one that this store has not is none: the variable is of another project."""
    from orchestrion.memory import successors  # which a call without a session does without

    return store.read(lambda tx: successors.voice(tx, handle))


def _of_elsewhere(caller: Caller) -> Caller:
    return caller._replace(run=None, elsewhere=caller.run, role="read")


def _run_inside(mark: str, store: str) -> str | None:
    """The run of this store that a mark names, however the store is written. Raises InvalidInput (``not_for_runs``)."""
    # Its dashes may be left out; those of the run's name are none of it.
    ours = re.search("-?".join(store.replace("-", "")), mark, re.IGNORECASE)
    if ours is None:
        return None
    run = number_named(mark[ours.end() :].strip("/ \t\r\n"), "R")
    if run is None:
        raise InvalidInput(
            f"{RUN_VARIABLE} is {mark[:80]!r}, which names this store and none of its runs",
            hint=f"leave it as the worker set it: {RUN_VARIABLE}={store}/R31",
            code="not_for_runs",
        )
    return name("R", run)


def user_of(environ: Mapping[str, str]) -> str:
    """The user of this machine, as the journal names them."""
    try:
        return f"user:{environ.get('LOGNAME') or environ.get('USER') or pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"user:{os.getuid()}"


def _origin(caller: Caller) -> Origin:
    return Origin(caller.actor, caller.session, caller.correlation)
