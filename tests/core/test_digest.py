"""Digests without OpenSSL are the digests that everybody knows."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from orchestrion.core.digest import keyed, sha256

CONTENTS = [b"", b"a", "Grüße".encode(), bytes(range(256)) * 4096]


@pytest.mark.parametrize("content", CONTENTS)
def test_a_digest_is_sha_256(content: bytes) -> None:
    in_pieces = sha256()
    for start in range(0, len(content), 1000):
        in_pieces.update(content[start : start + 1000])
    assert {sha256(content).hexdigest(), in_pieces.hexdigest()} == {hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_seal_is_keyed_blake2b(content: bytes) -> None:
    key = b"k" * 64
    assert keyed(key, content) == hashlib.blake2b(content, key=key, digest_size=32).hexdigest()
    assert len({keyed(key, content), keyed(b"K" + key[1:], content), keyed(b"", content)}) == 3
    assert keyed(key + b"more than it takes", content) == keyed(key, content)


def test_where_python_has_none_of_its_own_hashlib_serves() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['_sha2', '_sha256']));"
        "from orchestrion.core.digest import sha256; print(sha256(b'a').hexdigest(), 'hashlib' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert told.stdout.split() == [hashlib.sha256(b"a").hexdigest(), "True"], told.stderr
