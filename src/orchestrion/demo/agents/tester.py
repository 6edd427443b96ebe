"""A scripted agent that writes the tests of the scales, before there are any scales."""

from __future__ import annotations

import os
import time
from pathlib import Path

#: Seconds that it thinks about each file.
PACE = float(os.environ.get("DEMO_PACE", "0.7"))

FILE = Path("tests/test_scales.py")

TESTS = """\
import unittest

from musicbox.scales import below, scale


class ScalesTest(unittest.TestCase):
    def test_major(self):
        self.assertEqual(" ".join(scale("C4", "major")), "C4 D4 E4 F4 G4 A4 B4")

    def test_minor(self):
        self.assertEqual(" ".join(scale("A4", "minor")), "A4 B4 C5 D5 E5 F5 G5")

    def test_a_third_below(self):
        self.assertEqual([below(note, 2) for note in ("E4", "C4", "G4")], ["C4", "A3", "E4"])

    def test_a_note_outside_of_the_scale_is_refused(self):
        with self.assertRaisesRegex(ValueError, "F#4"):
            below("F#4", 2)
"""


def main() -> None:
    """Writes the tests; what they test comes later."""
    print(f"writing {FILE}", flush=True)
    time.sleep(2 * PACE)
    FILE.write_text(TESTS, encoding="utf-8")
    print(f"wrote {FILE}: what the scales must be, before they are")


if __name__ == "__main__":
    main()
