"""A scripted agent that adds one instrument to its family: ``instrument_maker.py flute``.

The register of instruments is one file. Two of these agents may change it at the same
time, each in its own copy; bringing both changes together is not their concern.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

#: Seconds that it thinks about each step.
PACE = float(os.environ.get("DEMO_PACE", "0.7"))

REGISTER = Path("src/musicbox/instruments.py")

#: name -> its family, and what is written into the register.
INSTRUMENTS = {
    "flute": ("winds", 'Instrument("triangle", (1.0, 0.15), 1.2)'),
    "bell": ("struck", 'Instrument("sine", (1.0, 0.5, 0.0, 0.3), 0.6)'),
}

TEST = """\
import unittest

from musicbox.instruments import INSTRUMENTS
from musicbox.waves import WAVES


class {title}Test(unittest.TestCase):
    def test_is_registered(self):
        self.assertIn("{name}", INSTRUMENTS)

    def test_its_wave_exists(self):
        self.assertIn(INSTRUMENTS["{name}"].wave, WAVES)

    def test_is_loudest_at_its_own_pitch(self):
        partials = INSTRUMENTS["{name}"].partials
        self.assertEqual(max(partials), partials[0])
"""


def main(name: str) -> None:
    """Registers the instrument and writes its test."""
    family, entry = INSTRUMENTS[name]
    print(f"building the {name}", flush=True)
    time.sleep(2 * PACE)
    heading = f"    # {family}\n"
    register = REGISTER.read_text(encoding="utf-8")
    if heading not in register:
        sys.exit(f"{REGISTER} has no family of {family} instruments")
    REGISTER.write_text(register.replace(heading, f'{heading}    "{name}": {entry},\n'), encoding="utf-8")
    Path(f"tests/test_{name}.py").write_text(TEST.format(name=name, title=name.title()), encoding="utf-8")
    print(f"added the {name} to the {family} instruments")


if __name__ == "__main__":
    main(sys.argv[1])
