"""A scripted agent that writes a second voice for the ode, a third below, bar by bar.

It is the slowest of them, and may be killed half-way. An agent that takes over learns
from its brief on which branch the work of the one before it is kept, and goes on there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

#: Seconds that it thinks about each bar.
PACE = float(os.environ.get("DEMO_PACE", "0.7")) / 2

MELODY = Path("tunes/ode.txt")
SECOND = Path("tunes/ode-second.txt")
TEST = Path("tests/test_second_voice.py")

HEADING = "# The second voice of the ode\n"

TESTS = """\
import unittest
from pathlib import Path

from musicbox import notes, tunes

TUNES = Path(__file__).parents[1] / "tunes"


class SecondVoiceTest(unittest.TestCase):
    def setUp(self):
        self.first, self.second = (
            [tone for bar in tunes.parse((TUNES / name).read_text()) for tone in bar]
            for name in ("ode.txt", "ode-second.txt")
        )

    def test_has_the_rhythm_of_the_first(self):
        self.assertEqual([tone.beats for tone in self.second], [tone.beats for tone in self.first])

    def test_stays_a_third_below(self):
        for above, below in zip(self.first, self.second):
            self.assertIn(notes.number(above.note) - notes.number(below.note), (3, 4))
"""

_KEPT = re.compile(r"Its work is kept on the branch `([^`]+)`")


def main() -> None:
    """Writes what is missing of the second voice."""
    TEST.write_text(TESTS, encoding="utf-8")
    bars = _melody()
    done = _work_of_the_one_before()
    text = [HEADING, *done]
    for place in range(len(done), len(bars)):
        time.sleep(PACE)
        text.append(_third_below(bars[place]))
        SECOND.write_text("".join(text), encoding="utf-8")
        print(f"bar {place + 1} of {len(bars)} written", flush=True)
    began = f", the first {len(done)} by the agent before" if done else ""
    print(f"wrote a second voice of {len(bars)} bars{began}")


def _work_of_the_one_before() -> list[str]:
    """The bars that an earlier attempt had written."""
    branch = _KEPT.search(Path(os.environ["ORCHESTRION_BRIEF"]).read_text(encoding="utf-8"))
    if branch is None:
        return []
    found = subprocess.run(
        ["git", "-C", os.environ["ORCHESTRION_PROJECT"], "show", f"{branch[1]}:{SECOND}"],
        capture_output=True,
        text=True,
        check=False,
    )
    bars = [f"{line}\n" for line in found.stdout.splitlines() if not line.startswith("#")]
    print(f"{branch[1]} has {len(bars)} bars: going on from there", flush=True)
    return bars


def _melody() -> list[str]:
    sys.path.insert(0, "src")
    from musicbox import tunes  # type: ignore[import-not-found,unused-ignore]

    return [tunes.written([bar]) for bar in tunes.parse(MELODY.read_text(encoding="utf-8"))]


def _third_below(bar: str) -> str:
    from musicbox.scales import below  # type: ignore[import-not-found,unused-ignore]
    from musicbox.tunes import Tone, parse, written  # type: ignore[import-not-found,unused-ignore]

    [tones] = parse(bar)
    lower = written([[Tone(below(tone.note, 2), tone.beats) for tone in tones]])
    return f"{lower.rstrip()} |\n"


if __name__ == "__main__":
    main()
