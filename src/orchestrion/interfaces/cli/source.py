"""Files that are named on the command line, and ``-`` for what is piped in."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import AnyStr

from orchestrion.core.errors import InvalidInput, NotFound

#: What the system says of a path that cannot be the path of a file.
_NO_PATH = (errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
#: What is piped in or read has at most so many bytes.
MOST_BYTES = 64 * 1024 * 1024


def read_bytes(file: str) -> bytes:
    """The content of ``file``, or of stdin for ``-``. Raises NotFound, InvalidInput, and OSError for the rest."""
    try:
        if file == "-":
            content = _given(sys.stdin.buffer.read(MOST_BYTES + 1))
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no file {file[:200]!r}", hint="check the path", code="no_file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_PATH:
            raise
        raise InvalidInput(
            f"{file[:200]!r} is not a file", hint="name a file, or - for stdin", code="not_a_file"
        ) from error
    if len(content) > MOST_BYTES:
        raise InvalidInput(
            f"{file[:200]!r} is larger than {MOST_BYTES} bytes", hint="keep it as a file", code="too_long"
        )
    return content


def read_text(file: str) -> str:
    """The same as text. Raises InvalidInput for anything but UTF-8."""
    try:
        return read_bytes(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{file[:200]!r} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}",
            hint="save it as UTF-8",
            code="invalid_text",
        ) from error


def piped() -> str:
    """The text that is piped in. Raises InvalidInput if nothing is."""
    return _given(sys.stdin.read())


def _given(content: AnyStr) -> AnyStr:
    if not content:
        raise InvalidInput(
            "nothing was given on standard input", hint="pipe it in, or name what is meant", code="nothing_given"
        )
    return content
