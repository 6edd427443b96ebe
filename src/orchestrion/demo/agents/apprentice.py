"""A scripted agent that writes the scales, from memory: and its memory of the minor scale is wrong.

Nothing tells it so but the check. The check's output comes back in its brief; from that
it works out the right steps and mends its module.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

#: Seconds that it thinks about each step.
PACE = float(os.environ.get("DEMO_PACE", "0.7"))

MODULE = Path("src/musicbox/scales.py")

#: What it remembers. (The minor steps are those of the Dorian mode.)
REMEMBERED = '''\
"""Scales: the seven notes of a key."""

from musicbox.notes import name, number

# The distances between neighbours, in semitones.
STEPS = {
    "major": (2, 2, 1, 2, 2, 2, 1),
    "minor": (2, 1, 2, 2, 2, 1, 2),
}


def scale(tonic, kind="major"):
    """The seven notes of a scale, upwards from its tonic."""
    notes = [number(tonic)]
    for step in STEPS[kind][:-1]:
        notes.append(notes[-1] + step)
    return [name(one) for one in notes]


def below(note, steps, tonic="C4", kind="major"):
    """The note that lies so many steps of the scale below another."""
    members = {number(one) % 12 for one in scale(tonic, kind)}
    lower = number(note)
    if lower % 12 not in members:
        raise ValueError(f"{note} is not in {tonic[:-1]} {kind}")
    while steps:
        lower -= 1
        steps -= lower % 12 in members
    return name(lower)
'''

#: As unittest writes about two texts that should be the same.
_COMPLAINT = re.compile(r"^FAIL: test_(\w+) .*?^AssertionError: '([^']*)' != '([^']*)'", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Writes the module, or mends it if the brief says that it was not accepted."""
    complaint = _COMPLAINT.search(Path(os.environ["ORCHESTRION_BRIEF"]).read_text(encoding="utf-8"))
    if complaint is None:
        print(f"writing {MODULE}", flush=True)
        time.sleep(PACE)
        MODULE.write_text(REMEMBERED, encoding="utf-8")
        print(f"wrote {MODULE}")
        return
    kind, found, wanted = complaint.groups()
    print(f"the check says: {kind} is {found}, but should be {wanted}", flush=True)
    time.sleep(PACE)
    steps = steps_of(wanted.split())
    mend(kind, steps)
    print(f"mended the {kind} scale in {MODULE}: its steps are {steps}")


def steps_of(notes: list[str]) -> tuple[int, ...]:
    """The distances between the notes of a scale, and from the last one to the octave."""
    sys.path.insert(0, "src")
    from musicbox.notes import number  # type: ignore[import-not-found,unused-ignore]

    numbers = [number(note) for note in notes]
    return tuple(high - low for low, high in zip(numbers, [*numbers[1:], numbers[0] + 12], strict=True))


def mend(kind: str, steps: tuple[int, ...]) -> None:
    """Gives one scale of the module other steps."""
    text = MODULE.read_text(encoding="utf-8")
    MODULE.write_text(re.sub(rf'("{kind}": )\(.*\)', rf"\g<1>{steps}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
