"""What a text that cannot be edited says about itself."""

from __future__ import annotations


class Broken(Exception):
    """A text is not what its program reads. Whoever knows the file's name makes a refusal of it."""

    def __init__(self, problem: str, text: str, at: int) -> None:
        super().__init__(problem)
        self.problem = problem
        #: Counted from 1.
        self.line = text.count("\n", 0, at) + 1
        #: Counted from 1, in characters.
        self.column = at - text.rfind("\n", 0, at)
