"""How our own commits look: whose they are, what they say, whether they are signed.

They are the user's: author and committer are who git says the user is in this repository.
The settings of ``git.*`` may name somebody else, add a sign-off, ask for a signature and
word the subject; trailers always name the task and the run. A signature that hangs or is
refused is a problem of its own, not a merge that hangs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrion.core.config import Config
from orchestrion.core.errors import EnvironmentProblem, GitProblem
from orchestrion.runs.git import Git

#: Whoever has told git nothing about themselves.
NOBODY = ("Orchestrion", "orchestrion@localhost")
#: So long a signature may take, in seconds: nobody is there to type a passphrase.
SIGN_S = 60.0
TASK_TRAILER, RUN_TRAILER, PLAN_TRAILER = "Orchestrion-Task", "Orchestrion-Run", "Orchestrion-Plan"


@dataclass(frozen=True)
class CommitStyle:
    """What the settings of ``git.*`` say about our commits."""

    #: Name and e-mail of author and committer; None: the user's.
    name: str | None = None
    email: str | None = None
    signoff: bool = False
    sign: bool = False
    #: The subject, with {title}, {task}, {run}, {plan} in it; None: the title.
    message: str | None = None

    def subject(self, *, title: str, task: str, run: str, plan: str) -> str:
        """The first line of a commit of a run."""
        words = {"{title}": title, "{task}": task, "{run}": run, "{plan}": plan}
        said = self.message or "{title}"
        for word, value in words.items():
            said = said.replace(word, value)
        return said


def style_of(config: Config) -> CommitStyle:
    """How our own commits look, as the settings have it."""
    return CommitStyle(
        config["git.name"], config["git.email"], config["git.signoff"], config["git.sign"], config["git.message"]
    )


@dataclass(frozen=True)
class Committer:
    """Makes our commits in one repository, in one style."""

    style: CommitStyle
    #: Variables that tell git who author and committer are.
    environment: Mapping[str, str]

    def commit(self, git: Git, tree: str, parents: list[str], subject: str, trailers: Mapping[str, str]) -> str:
        """A commit of ``tree``. Raises EnvironmentProblem (``signing_failed``), GitProblem."""
        message = self._message(subject, trailers)
        options = [part for parent in parents for part in ("-p", parent)]
        if not self.style.sign:
            return git.run("commit-tree", tree, *options, "-F", "-", input=message, env=self.environment).stdout
        try:
            signed = ("commit-tree", "-S", tree, *options, "-F", "-")
            return git.run(*signed, input=message, env=self.environment, timeout=SIGN_S).stdout
        except GitProblem as problem:
            raise EnvironmentProblem(
                f"the commit could not be signed: {problem.message}",
                hint="`git commit -S --allow-empty -m test` shows why; or set git.sign to false",
                code="signing_failed",
            ) from problem

    def _message(self, subject: str, trailers: Mapping[str, str]) -> str:
        lines = [f"{key}: {value}" for key, value in trailers.items()]
        if self.style.signoff:
            who, mail = self.environment["GIT_COMMITTER_NAME"], self.environment["GIT_COMMITTER_EMAIL"]
            lines.append(f"Signed-off-by: {' '.join(who.split())} <{mail.strip()}>")
        said = subject.replace("\0", "").strip() or "Work of an agent"
        return f"{said}\n\n" + "".join(f"{line}\n" for line in lines)


def committer(style: CommitStyle, settings: Mapping[str, str], environ: Mapping[str, str]) -> Committer:
    """Who commits in a repository with these (effective) settings.

    As git: ``GIT_AUTHOR_*`` of the environment, then ``author.*``, then ``user.*``; the same for the committer.
    """
    found: dict[str, str] = {}
    for person in ("author", "committer"):
        name, mail = _identity(person, style, settings, environ)
        found |= {f"GIT_{person.upper()}_NAME": name, f"GIT_{person.upper()}_EMAIL": mail}
    return Committer(style, found)


def _identity(
    person: str, style: CommitStyle, settings: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[str, str]:
    def told(field: str) -> str | None:
        return (
            environ.get(f"GIT_{person.upper()}_{field.upper()}")
            or settings.get(f"{person}.{field}")
            or settings.get(f"user.{field}")
        )

    name, mail = style.name or told("name"), style.email or told("email")
    # Half an identity is none: git itself would make up the other half from the machine's name.
    return (name, mail) if name and mail else NOBODY
