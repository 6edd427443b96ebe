"""What a server freed goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

HOLES = """
import psutil
from orchestrion.interfaces.web import heap

heap.bound()
blocks = [bytes(2000) for _ in range(50_000)]
kept = blocks[::50]
del blocks
before = psutil.Process().memory_info().rss
heap.give_back()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="other C libraries are left alone")
def test_what_lies_free_between_blocks_that_are_in_use_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000
