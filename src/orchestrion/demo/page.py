"""What the demo writes on: a terminal, or anything else that takes text."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import TextIO

from rich.console import Console
from rich.text import Text

#: Wide enough for a line of the journal, narrow enough to be read.
WIDEST = 100
#: A row of a table: its cells, each a text with a style.
Row = Sequence[tuple[str, str]]


class Page:
    """A page of text that grows downwards: headings, paragraphs, rows, commands to copy."""

    def __init__(self, out: TextIO) -> None:
        if isinstance(out, io.TextIOWrapper):
            # An old terminal may lack a sign; that is no reason to end with an error.
            out.reconfigure(errors="replace")
        self.console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._width = min(self.console.width, WIDEST) if self.console.is_terminal else WIDEST

    @property
    def is_live(self) -> bool:
        """Whether somebody watches, on something that can be painted over."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def heading(self, text: str) -> None:
        """Begins a part."""
        self.line("")
        self.line(Text(text, style="bold"))

    def paragraph(self, text: str, label: str = "") -> None:
        """Text that may be broken into lines; ``label`` stands out at its beginning."""
        whole = f"{label} {text}".strip()
        for part in whole.splitlines():
            lines = textwrap.wrap(part, self._width - 2, break_long_words=False, break_on_hyphens=False) or [""]
            for place, line in enumerate(lines):
                shown = Text(f"  {line}")
                if label and place == 0 and whole.startswith(part):
                    shown.stylize("bold", 2, 2 + len(label))
                self.line(shown)

    def rows(self, rows: Sequence[Row]) -> None:
        """Rows whose cells stand below each other."""
        columns = zip_longest(*([len(text) for text, _ in row] for row in rows), fillvalue=0)
        widths = [max(lengths) for lengths in columns]
        for row in rows:
            line = Text("  ")
            for (text, style), width in zip(row, widths, strict=False):
                line.append(text, style).append(" " * (width - len(text) + 2))
            line.rstrip()
            self.line(line)

    def line(self, text: str | Text) -> None:
        """One line that stays one, however long it is."""
        self.console.print(text, soft_wrap=True)
