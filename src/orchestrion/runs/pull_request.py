"""A pull request, opened by the program ``gh`` with the user's own rights."""

from __future__ import annotations

import subprocess
from pathlib import Path

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.runs.remotes import what_was_said


def refuse_signed_out(program: str, folder: Path) -> None:
    """Asks the forge about the repository, which changes nothing. Raises EnvironmentProblem (``gh_failed``)."""
    answer = _asked(program, folder, "repo", "view", "--json", "url")
    if answer.returncode != 0:
        raise EnvironmentProblem(
            f"gh cannot see this repository at its forge; nothing has moved: {what_was_said(answer.stderr)}",
            hint="`gh auth status` says whether you are signed in, `gh repo view` what it sees",
            code="gh_failed",
        )


def open_pull_request(program: str, folder: Path, *, head: str, base: str, title: str, body: str) -> str:
    """Opens a pull request, or finds the one that is open already. Returns its address.

    Raises EnvironmentProblem (``gh_failed``).
    """
    options = ("--head", head, "--base", base, "--title", title, "--body-file", "-")
    answer = _asked(program, folder, "pr", "create", *options, said=body)
    said = f"{answer.stdout}\n{answer.stderr}"
    address = next((word for word in said.split() if word.startswith("https://")), "")
    if address and (answer.returncode == 0 or "already exists" in said):
        return address
    raise EnvironmentProblem(
        f"the branch {head} is pushed, but gh opened no pull request: {what_was_said(answer.stderr or answer.stdout)}",
        hint=f"`gh pr create --head {head} --base {base}` is the same by hand",
        code="gh_failed",
    )


def _asked(program: str, folder: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [program, *arguments]
    return subprocess.run(command, cwd=folder, input=said, capture_output=True, text=True, check=False)
