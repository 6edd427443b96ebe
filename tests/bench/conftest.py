"""``bench`` lies beside ``src`` and is not installed: its tests find it from the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
