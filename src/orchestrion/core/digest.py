"""Digests that Python itself reckons.

``hashlib`` gives the same, and loads OpenSSL before it is asked for anything: a quarter of what a
supervisor holds, and a good part of the start of a command. Where a Python is built without a
SHA-256 of its own (those of Red Hat's distributions), ``hashlib`` serves.
"""

from __future__ import annotations

from _blake2 import blake2b
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Protocol


class Digest(Protocol):
    """A digest that is being reckoned."""

    def update(self, data: bytes, /) -> None:
        """Takes more of what is digested."""

    def hexdigest(self) -> str:
        """The digest of all that it was given, in hexadecimal digits."""


def sha256(content: bytes = b"") -> Digest:
    """The SHA-256 of ``content`` and of what is added to it."""
    return _sha256(content)


def keyed(key: bytes, content: bytes) -> str:
    """What only one who knows ``key`` can say of ``content``: keyed BLAKE2b (RFC 7693), of the key's first 64 bytes."""
    return blake2b(content, key=key[:64], digest_size=32).hexdigest()


def _sha256_of_python() -> Callable[[bytes], Digest]:
    for module in ("_sha2", "_sha256", "hashlib"):
        with suppress(ImportError):
            found: Callable[[bytes], Digest] = import_module(module).sha256
            return found
    raise ImportError("this Python has no SHA-256")


_sha256 = _sha256_of_python()
