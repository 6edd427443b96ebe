"""A scripted agent that writes one module of music-box and its tests: ``implementer.py waves``.

It stands where a model would: it works in its own copy of the repository and takes its
time. What it leaves there is committed, checked and merged by others.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

#: Seconds that it thinks about each file.
PACE = float(os.environ.get("DEMO_PACE", "0.7"))


def main(piece: str) -> None:
    """Writes the files of one piece of work."""
    for name, content in PIECES[piece].items():
        print(f"writing {name}", flush=True)
        time.sleep(PACE)
        Path(name).write_text(content, encoding="utf-8")
    print(f"wrote {' and '.join(PIECES[piece])}")


WAVES = '''\
"""Wave forms: the shape of one swing, between -1 and 1."""

import math


def sine(phase):
    """The softest one, without overtones."""
    return math.sin(2 * math.pi * phase)


def triangle(phase):
    """Soft, a little like a flute."""
    return 1.0 - 4.0 * abs((phase + 0.25) % 1.0 - 0.5)


def square(phase):
    """Hollow, a little like a clarinet."""
    return 1.0 if phase % 1.0 < 0.5 else -1.0


WAVES = {"sine": sine, "triangle": triangle, "square": square}
'''

TEST_WAVES = """\
import unittest

from musicbox.waves import WAVES


class WavesTest(unittest.TestCase):
    def test_all_swing_between_minus_one_and_one(self):
        for name, wave in WAVES.items():
            values = [wave(step / 100) for step in range(200)]
            self.assertAlmostEqual(max(values), 1.0, places=2, msg=name)
            self.assertAlmostEqual(min(values), -1.0, places=2, msg=name)

    def test_all_repeat(self):
        for name, wave in WAVES.items():
            self.assertAlmostEqual(wave(0.3), wave(7.3), msg=name)

    def test_soft_ones_begin_at_rest(self):
        for name in ("sine", "triangle"):
            self.assertAlmostEqual(WAVES[name](0.0), 0.0, msg=name)
"""

TUNES = '''\
"""Tunes as text: read and written. docs/tunes.md says how they look."""

from dataclasses import dataclass

from musicbox import notes


@dataclass(frozen=True)
class Tone:
    """One note of a tune."""

    note: str
    beats: float = 1.0


def parse(text):
    """The bars of a tune, each a list of tones."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    bars = [[_tone(word) for word in bar.split()] for bar in " ".join(lines).split("|")]
    return [bar for bar in bars if bar]


def written(bars):
    """The text of bars; ``parse`` reads it."""
    return " |\\n".join(" ".join(_word(tone) for tone in bar) for bar in bars) + "\\n"


def beats(bars):
    """How many beats bars last."""
    return sum(tone.beats for bar in bars for tone in bar)


def _tone(word):
    note, _, length = word.partition(":")
    notes.number(note)
    return Tone(note, float(length or 1))


def _word(tone):
    return tone.note if tone.beats == 1 else f"{tone.note}:{tone.beats:g}"
'''

TEST_TUNES = """\
import unittest
from pathlib import Path

from musicbox import tunes

ODE = Path(__file__).parents[1] / "tunes" / "ode.txt"


class TunesTest(unittest.TestCase):
    def test_the_ode_has_eight_bars_of_four(self):
        bars = tunes.parse(ODE.read_text())
        self.assertEqual([tunes.beats([bar]) for bar in bars], [4.0] * 8)

    def test_what_is_written_is_read(self):
        bars = tunes.parse(ODE.read_text())
        self.assertEqual(tunes.parse(tunes.written(bars)), bars)

    def test_nonsense_is_refused(self):
        with self.assertRaises(ValueError):
            tunes.parse("C4 X4")
"""

WAV = '''\
"""WAV files: one channel, 16 bits."""

import array
import sys
import wave


def write(path, samples, rate):
    """Writes samples between -1 and 1 as a file that every player plays."""
    numbers = array.array("h", (round(32767 * max(-1.0, min(1.0, sample))) for sample in samples))
    if sys.byteorder == "big":
        numbers.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(numbers.tobytes())


def seconds(path):
    """How long a file plays."""
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / file.getframerate()
'''

TEST_WAV = """\
import tempfile
import unittest
import wave
from pathlib import Path

from musicbox import wav


class WavTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "test.wav")

    def test_length(self):
        wav.write(self.file, [0.0] * 4000, 8000)
        self.assertEqual(wav.seconds(self.file), 0.5)

    def test_what_is_too_loud_is_limited(self):
        wav.write(self.file, [2.0, -2.0], 8000)
        with wave.open(str(self.file), "rb") as file:
            frames = file.readframes(2)
        self.assertEqual(frames, (32767).to_bytes(2, "little") + (-32767).to_bytes(2, "little", signed=True))
"""

SYNTH = '''\
"""Sound from notes: every tone is a sum of swings that fade."""

from musicbox.instruments import INSTRUMENTS
from musicbox.notes import frequency
from musicbox.waves import WAVES

RATE = 8000
TEMPO = 132


def tone(note, seconds, instrument="music-box", rate=RATE):
    """The samples of one tone."""
    sound = INSTRUMENTS[instrument]
    wave, pitch = WAVES[sound.wave], frequency(note)
    partials = [(order, loud) for order, loud in enumerate(sound.partials, 1) if loud]
    fading = 0.5 ** (1 / (sound.fade * rate))
    samples, level = [], 1.0
    for step in range(round(seconds * rate)):
        samples.append(level * sum(loud * wave(order * pitch * step / rate) for order, loud in partials))
        level *= fading
    return samples


def voice(bars, instrument="music-box", tempo=TEMPO, rate=RATE):
    """The samples of a whole voice; ``tempo`` in beats per minute."""
    tones = [one for bar in bars for one in bar]
    return [sample for one in tones for sample in tone(one.note, one.beats * 60 / tempo, instrument, rate)]


def mix(voices):
    """Voices at the same time, as loud as they can be without distortion."""
    length = max(map(len, voices))
    padded = [one + [0.0] * (length - len(one)) for one in voices]
    mixed = [sum(samples) for samples in zip(*padded)]
    peak = max(map(abs, mixed), default=0.0) or 1.0
    return [0.9 * sample / peak for sample in mixed]
'''

TEST_SYNTH = """\
import unittest

from musicbox import synth
from musicbox.instruments import INSTRUMENTS
from musicbox.tunes import parse


class SynthTest(unittest.TestCase):
    def test_every_instrument_plays(self):
        for name in INSTRUMENTS:
            samples = synth.tone("A4", 0.25, name)
            self.assertEqual(len(samples), 2000, name)
            self.assertGreater(max(samples), 0.5, name)

    def test_tones_fade(self):
        samples = synth.tone("A4", 1.0)
        self.assertGreater(max(samples[:800]), 2 * max(samples[-800:]))

    def test_the_tempo_gives_the_length(self):
        self.assertEqual(len(synth.voice(parse("C4 D4:2"), tempo=60)), 3 * synth.RATE)

    def test_a_mix_is_never_too_loud(self):
        mixed = synth.mix([synth.voice(parse("C4")), synth.voice(parse("E4 G4"))])
        self.assertLessEqual(max(map(abs, mixed)), 0.9001)
"""

COMMAND = '''\
"""The command: ``python -m musicbox play tunes/ode.txt --output ode.wav``."""

import argparse
import sys
from pathlib import Path

from musicbox import synth, tunes, wav
from musicbox.instruments import INSTRUMENTS


def main(arguments=None):
    """Plays tunes at the same time, one voice each, or lists the instruments."""
    asked = _parser().parse_args(arguments)
    if asked.command == "instruments":
        print("\\n".join(sorted(INSTRUMENTS)))
        return 0
    try:
        voices = [synth.voice(tunes.parse(Path(file).read_text()), asked.instrument) for file in asked.tunes]
    except (OSError, ValueError) as problem:
        print(f"musicbox: {problem}", file=sys.stderr)
        return 1
    wav.write(asked.output, synth.mix(voices), synth.RATE)
    print(f"{asked.output}: {wav.seconds(asked.output):.1f} s, {len(voices)} voice(s), {asked.instrument}")
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="musicbox", description="Plays tunes into WAV files.")
    commands = parser.add_subparsers(dest="command", required=True)
    play = commands.add_parser("play", help="play tunes at the same time, one voice each")
    play.add_argument("tunes", nargs="+", metavar="TUNE")
    play.add_argument("--instrument", choices=sorted(INSTRUMENTS), default="music-box")
    play.add_argument("--output", default="tune.wav")
    commands.add_parser("instruments", help="list the instruments")
    return parser


if __name__ == "__main__":
    sys.exit(main())
'''

TEST_COMMAND = """\
import contextlib
import io
import tempfile
import unittest
from pathlib import Path

from musicbox import wav
from musicbox.__main__ import main

ODE = Path(__file__).parents[1] / "tunes" / "ode.txt"


class CommandTest(unittest.TestCase):
    def test_plays_the_ode(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
            file = Path(folder, "ode.wav")
            self.assertEqual(main(["play", str(ODE), "--output", str(file)]), 0)
            self.assertAlmostEqual(wav.seconds(file), 32 * 60 / 132, places=1)
        self.assertIn("1 voice(s)", said.getvalue())

    def test_a_missing_tune_is_said(self):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(main(["play", "nowhere.txt"]), 1)
        self.assertIn("nowhere.txt", said.getvalue())

    def test_lists_the_instruments(self):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            main(["instruments"])
        self.assertIn("music-box", said.getvalue())
"""

PIECES = {
    "waves": {"src/musicbox/waves.py": WAVES, "tests/test_waves.py": TEST_WAVES},
    "tunes": {"src/musicbox/tunes.py": TUNES, "tests/test_tunes.py": TEST_TUNES},
    "wav": {"src/musicbox/wav.py": WAV, "tests/test_wav.py": TEST_WAV},
    "synth": {"src/musicbox/synth.py": SYNTH, "tests/test_synth.py": TEST_SYNTH},
    "command": {"src/musicbox/__main__.py": COMMAND, "tests/test_command.py": TEST_COMMAND},
}

if __name__ == "__main__":
    main(sys.argv[1])
