"""Where a plan is: one ref, read and moved here alone.

The truth about a plan's accepted work is ``refs/orchestrion/plans/<plan>`` in the project's
repository. It is created once, and moves only by compare-and-swap to a commit that contains
the old one. The branch ``orchestrion/<plan>`` is for people, and follows as far as it can.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrion.core.errors import NotFound
from orchestrion.core.model import check_plan_name
from orchestrion.runs.git import Git
from orchestrion.runs.workspace import publish

_REF = "refs/orchestrion/plans/{plan}"
_BRANCH = "refs/heads/orchestrion/{plan}"


def tips(git: Git) -> dict[str, str]:
    """Plan -> the commit that its ref is at."""
    prefix = _REF.format(plan="")
    lines = git.run("for-each-ref", f"--format=%(refname:strip={prefix.count('/')}) %(objectname)", prefix).stdout
    return dict(line.split(" ") for line in lines.splitlines())


@dataclass(frozen=True)
class PlanTip:
    """The tip of one plan in one repository."""

    git: Git
    plan: str

    def __post_init__(self) -> None:
        # The name becomes part of a ref.
        check_plan_name(self.plan)

    @property
    def ref(self) -> str:
        """Its full name."""
        return _REF.format(plan=self.plan)

    @property
    def branch(self) -> str:
        """The full name of the branch that follows it."""
        return _BRANCH.format(plan=self.plan)

    def read(self) -> str | None:
        """The commit that the plan is at; None: it has none yet."""
        return self.git.tip(self.ref)

    def get(self) -> str:
        """The commit that the plan is at. Raises NotFound."""
        tip = self.read()
        if tip is None:
            raise NotFound(
                f"plan {self.plan} has no work yet",
                hint="`orchestrion status` shows the plans",
                code="no_plan",
                plan=self.plan,
            )
        return tip

    def create(self, commit: str) -> str:
        """Lets a plan without a commit begin at this one. Returns where it is: another may have been first."""
        if self.git.swap_ref(self.ref, commit, None):
            self.follow()
            return commit
        return self.get()

    def move(self, new: str, old: str) -> bool:
        """Moves the plan from ``old`` to ``new``, which contains it; False: it is not at ``old`` any more."""
        return self.git.swap_ref(self.ref, new, old)

    def contains(self, commit: str) -> bool:
        """Whether the plan has this commit."""
        tip = self.read()
        return tip is not None and self.git.is_ancestor(commit, tip)

    def follow(self) -> bool:
        """Lets the branch for people be where the plan is; whether it is there now.

        It stays while somebody has it checked out, and when it has commits of its own.
        """
        tip, found = self.read(), self.git.tip(self.branch)
        if tip is None or (found and found != tip and not self.git.is_ancestor(found, tip)):
            return False
        return publish.follow(self.git, self.branch, tip)
