"""The repository that the demo works on: a small, real one, with a history by several people.

``music-box`` knows the pitch of notes and a tune, and cannot play yet. Everything in it
is given, authors and dates included, so the commits have the same ids everywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrion.runs.git import Git

NAME = "music-box"


@dataclass(frozen=True)
class Author:
    """Somebody who worked on the repository."""

    name: str
    email: str


@dataclass(frozen=True)
class Step:
    """One commit: who wrote which files, when and why."""

    author: Author
    #: ISO 8601, with the offset from UTC.
    date: str
    message: str
    #: path -> content.
    files: dict[str, str]


def make(folder: Path) -> str:
    """Makes the repository at ``folder``, which must not exist. Returns its newest commit. Raises GitProblem."""
    folder.mkdir(parents=True)
    # What people set for their own work must not change the commits.
    git = Git(folder, {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"})
    git.run("init", "--quiet", "--template=", "--object-format=sha1", "--initial-branch=main")
    for step in HISTORY:
        _commit(git, step)
    return git.run("rev-parse", "HEAD").stdout


def _commit(git: Git, step: Step) -> None:
    for name, content in step.files.items():
        file = git.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8", newline="\n")
    git.run("-c", "core.autocrlf=false", "-c", "core.fileMode=false", "add", "--all")
    who = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", step.author.name), ("EMAIL", step.author.email), ("DATE", step.date))
    }
    git.run("commit", "--quiet", "--no-verify", "-m", step.message, env=who)


ADA = Author("Ada Lovelace", "ada@example.org")
CLARA = Author("Clara Schumann", "clara@example.org")
JOSEPH = Author("Joseph Fourier", "joseph@example.org")

_README = """\
# music-box

A small library that plays tunes into WAV files, with nothing but Python's standard library.

It knows the pitch of notes. It cannot play yet: `docs/wanted.md` says what is missing.

Tests: `python -m unittest discover -s tests -t .`
"""

_TESTS_INIT = '''\
"""The tests of music-box; they find the package in src/ without an installation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
'''

_NOTES_FIRST = '''\
"""Notes and their pitch: equal temperament, A4 has 440 Hz."""

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def number(note):
    """The number of a note as MIDI counts: A4 is 69."""
    name, octave = note[:-1], note[-1:]
    return NAMES.index(name) + 12 * (int(octave) + 1)


def frequency(note):
    """The pitch of a note in hertz."""
    return 440.0 * 2 ** ((number(note) - 69) / 12)
'''

_NOTES = '''\
"""Notes and their pitch: equal temperament, A4 has 440 Hz."""

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}


def number(note):
    """The number of a note as MIDI counts: A4 is 69."""
    name, octave = note[:-1], note[-1:]
    name = FLATS.get(name, name)
    if name not in NAMES or not octave.isdigit():
        raise ValueError(f"{note!r} is not a note: write it like C4, F#5 or Bb3")
    return NAMES.index(name) + 12 * (int(octave) + 1)


def name(number):
    """The name of a numbered note, with a sharp where it needs one."""
    return f"{NAMES[number % 12]}{number // 12 - 1}"


def frequency(note):
    """The pitch of a note in hertz."""
    return 440.0 * 2 ** ((number(note) - 69) / 12)
'''

_TEST_NOTES_FIRST = """\
import unittest

from musicbox import notes


class NotesTest(unittest.TestCase):
    def test_concert_pitch(self):
        self.assertAlmostEqual(notes.frequency("A4"), 440.0)

    def test_octave_doubles(self):
        self.assertAlmostEqual(notes.frequency("C5"), 2 * notes.frequency("C4"))
"""

_TEST_NOTES = (
    _TEST_NOTES_FIRST
    + """
    def test_flat_is_the_sharp_below(self):
        self.assertEqual(notes.number("Bb3"), notes.number("A#3"))

    def test_names_come_back(self):
        for number in range(21, 109):
            self.assertEqual(notes.number(notes.name(number)), number)

    def test_nonsense_is_refused(self):
        with self.assertRaisesRegex(ValueError, "not a note"):
            notes.number("H4")
"""
)

_ODE = """\
# Ode to Joy, Ludwig van Beethoven, 1824
E4 E4 F4 G4 | G4 F4 E4 D4 | C4 C4 D4 E4 | E4:1.5 D4:0.5 D4:2 |
E4 E4 F4 G4 | G4 F4 E4 D4 | C4 C4 D4 E4 | D4:1.5 C4:0.5 C4:2
"""

_TUNES = """\
# How tunes are written

A tune is a text file. Notes stand side by side: `C4`, `F#5`, `Bb3`. A bar ends with `|`.
A note lasts one beat, unless a colon says otherwise: `E4:1.5`, `D4:0.5`.
Lines that begin with `#` are comments. `tunes/ode.txt` is an example.
"""

_INSTRUMENTS = '''\
"""The instruments: how a note of each one sounds.

They stand in families, so that two people can add one at the same time.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """How one instrument sounds."""

    wave: str  # the name of its wave form
    partials: tuple  # how loud the note itself and its overtones are
    fade: float  # seconds after which a note is half as loud


INSTRUMENTS = {
    # winds

    # plucked
    "music-box": Instrument("sine", (1.0, 0.0, 0.4), 0.3),

    # struck
}
'''

_WANTED = """\
# What is missing

- scales, major and minor
- wave forms, and more instruments than one
- reading tunes, and a second voice for the ode
- turning notes into sound, and sound into a WAV file
- a command to play it, and documentation
"""

_CHANGELOG = """\
# Changelog

## 0.1

- The pitch of notes, with sharps and flats.
- A way to write tunes, and the first one.
"""

HISTORY = (
    Step(
        ADA,
        "2026-03-02T09:12:00+00:00",
        "Begin with the pitch of a note",
        {
            "README.md": _README.replace("It cannot play yet: `docs/wanted.md` says what is missing.", "No more yet."),
            ".gitignore": "__pycache__/\n*.wav\n",
            "src/musicbox/__init__.py": '"""music-box plays tunes."""\n\n__version__ = "0.1"\n',
            "src/musicbox/notes.py": _NOTES_FIRST,
            "tests/__init__.py": _TESTS_INIT,
            "tests/test_notes.py": _TEST_NOTES_FIRST,
        },
    ),
    Step(
        CLARA,
        "2026-03-05T20:40:00+01:00",
        "Say how tunes are written, with the first one",
        {"docs/tunes.md": _TUNES, "tunes/ode.txt": _ODE},
    ),
    Step(
        ADA,
        "2026-03-09T08:30:00+00:00",
        "Know flats, and refuse what is no note\n\nH4 used to end in an IndexError far away.",
        {"src/musicbox/notes.py": _NOTES, "tests/test_notes.py": _TEST_NOTES},
    ),
    Step(
        JOSEPH,
        "2026-04-14T11:05:00+02:00",
        "Sketch the instruments, in families",
        {"src/musicbox/instruments.py": _INSTRUMENTS},
    ),
    Step(
        CLARA,
        "2026-04-30T17:55:00+02:00",
        "Write down what is missing",
        {"docs/wanted.md": _WANTED, "CHANGELOG.md": _CHANGELOG, "README.md": _README},
    ),
)
