"""A scripted agent that rehearses: it plays the whole piece with two voices and writes down what it heard."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Seconds that it thinks about each step.
PACE = float(os.environ.get("DEMO_PACE", "0.7"))

VOICES = ("tunes/ode.txt", "tunes/ode-second.txt")
INSTRUMENTS = ("music-box", "flute", "bell")


def main() -> None:
    """Plays the piece on every instrument, and keeps the minutes."""
    with tempfile.TemporaryDirectory() as folder:
        heard = [_play(instrument, Path(folder, "ode.wav")) for instrument in INSTRUMENTS]
    lines = "".join(f"- {line}\n" for line in heard)
    Path("docs/rehearsal.md").write_text(f"# Rehearsal\n\nThe ode, with two voices:\n\n{lines}", encoding="utf-8")
    print(f"played the ode with two voices on {len(heard)} instruments")


def _play(instrument: str, file: Path) -> str:
    time.sleep(PACE / 3)
    command = [sys.executable, "-m", "musicbox", "play", *VOICES, "--instrument", instrument, "--output", str(file)]
    said = subprocess.run(command, env={**os.environ, "PYTHONPATH": "src"}, capture_output=True, text=True, check=False)
    if said.returncode:
        sys.exit(said.stderr)
    facts = said.stdout.strip().rpartition(": ")[2]
    print(f"heard {facts}", flush=True)
    return f"{facts}, {file.stat().st_size:,} bytes"


if __name__ == "__main__":
    main()
