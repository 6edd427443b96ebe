"""The scripted agents, each by itself in a copy of the repository, without any waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion import demo
from orchestrion.demo import repository
from orchestrion.runs.git import Git

AGENTS = Path(demo.__file__).parent / "agents"


class Workspace:
    """A copy of the repository, and a brief."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "copy"
        self.brief = folder / "brief.md"
        self.brief.write_text("# T1: Do it\n")
        repository.make(self.folder)
        # Who runs the tests may have no name that git knows.
        for key, value in {"user.name": "Tester", "user.email": "tester@example.org"}.items():
            Git(self.folder).run("config", key, value)

    def act(self, script: str, *words: str, **environ: str) -> str:
        """Lets an agent work; what it said."""
        done = self.tried(script, *words, **environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tried(self, script: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        given = {"DEMO_PACE": "0", "ORCHESTRION_BRIEF": str(self.brief), "ORCHESTRION_RUN": "x/R1", **environ}
        return self._run([str(AGENTS / script), *words], given)

    def test(self, *names: str) -> subprocess.CompletedProcess[str]:
        """Runs tests of the repository; all of them if none is named."""
        return self._run(["-m", "unittest", *(names or ("discover", "-s", "tests", "-t", "."))], {})

    def _run(self, words: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_implementers_work_passes_its_tests(workspace: Workspace) -> None:
    for piece in ("waves", "tunes", "wav", "synth", "command"):
        workspace.act("implementer.py", piece)
    tested = workspace.test()
    assert tested.returncode == 0, tested.stderr


def test_the_apprentice_learns_from_the_check_alone(workspace: Workspace) -> None:
    workspace.act("tester.py")
    workspace.act("apprentice.py")
    first = workspace.test("tests.test_scales")
    assert first.returncode == 1
    with workspace.brief.open("a") as brief:
        brief.write(f"\n## Your work was checked (go 1) and not accepted yet\n\n```\n{first.stderr}\n```\n")
    assert "minor is A4 B4 C5 D5 E5 F#5 G5" in workspace.act("apprentice.py")
    assert workspace.test("tests.test_scales").returncode == 0


def test_instruments_of_two_copies_merge(tmp_path: Path) -> None:
    copies = {}
    for name in ("flute", "bell"):
        (tmp_path / name).mkdir()
        copies[name] = copy = Workspace(tmp_path / name)
        copy.act("instrument_maker.py", name)
        git = Git(copy.folder)
        git.run("add", "--all")
        git.run("commit", "--quiet", "-m", name)
    git = Git(copies["flute"].folder)
    git.fetch(copies["bell"].folder, "main:bell")
    git.run("merge", "--quiet", "bell")
    register = (copies["flute"].folder / "src/musicbox/instruments.py").read_text()
    assert '"flute"' in register
    assert '"bell"' in register


def test_an_instrument_without_a_family_is_refused(workspace: Workspace) -> None:
    (workspace.folder / "src/musicbox/instruments.py").write_text("INSTRUMENTS = {}\n")
    done = workspace.tried("instrument_maker.py", "bell")
    assert done.returncode == 1
    assert "no family" in done.stderr


def test_the_arranger_goes_on_where_another_stopped(workspace: Workspace, tmp_path: Path) -> None:
    for script, *words in (("implementer.py", "tunes"), ("tester.py",), ("apprentice.py",)):
        workspace.act(script, *words)
    workspace.act("arranger.py")
    whole = (workspace.folder / "tunes/ode-second.txt").read_text()
    tested = workspace.test("tests.test_second_voice")
    assert tested.returncode == 0, tested.stderr

    kept = "".join(whole.splitlines(keepends=True)[:4])
    (workspace.folder / "tunes/ode-second.txt").write_text(kept)
    git = Git(workspace.folder)
    git.run("checkout", "--quiet", "-b", "orchestrion/run/R9")
    git.run("add", "--all")
    git.run("commit", "--quiet", "-m", "unfinished")
    (workspace.folder / "tunes/ode-second.txt").unlink()
    with workspace.brief.open("a") as brief:
        brief.write("**R9** ended with `lost`. Its work is kept on the branch `orchestrion/run/R9`.\n")
    said = workspace.act("arranger.py", ORCHESTRION_PROJECT=str(workspace.folder))
    assert "bar 3 of 8" not in said
    assert "the first 3 by the agent before" in said
    assert (workspace.folder / "tunes/ode-second.txt").read_text() == whole


def test_the_documenter_needs_a_survey(workspace: Workspace) -> None:
    done = workspace.tried("documenter.py", "api")
    assert done.returncode == 1
    assert "no survey" in done.stderr
    workspace.brief.write_text("```\n- `musicbox.notes.number(note)`: The number of a note.\n```\n")
    workspace.act("documenter.py", "api")
    assert "- `number(note)`: The number of a note.\n" in (workspace.folder / "docs/api.md").read_text()


def test_the_analyst_says_when_it_cannot_report(workspace: Workspace) -> None:
    done = workspace.tried("analyst.py")
    assert done.returncode == 1
    assert "could not report" in done.stderr


def test_the_conductor_says_what_it_cannot_play(workspace: Workspace) -> None:
    done = workspace.tried("conductor.py")
    assert done.returncode == 1
    assert "musicbox" in done.stderr
