"""One measurement, and how many samples become one number."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """A value, the bound measured beside it, and what was promised."""

    #: Row of the table of promises.
    row: int
    #: Stable name, under which its ratio is stored.
    key: str
    #: What was measured, in words.
    what: str
    #: What came out, in ``unit``.
    value: float
    unit: str
    #: The same for the bound, in the same unit.
    bound: float
    #: What the bound is, in words.
    bound_is: str
    #: The most that is allowed; None: shown for information, and nothing is promised.
    target: float | None
    #: Whether ``target`` is for the ratio or for the value itself.
    judged: str = "ratio"
    #: When and on what it was measured; empty: as the page says at its head.
    measured_on: str = ""

    @property
    def ratio(self) -> float:
        """The value as a multiple of the bound."""
        return self.value / self.bound

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where nothing is promised."""
        if self.target is None:
            return None
        return (self.ratio if self.judged == "ratio" else self.value) <= self.target


@dataclass
class Cost:
    """What a piece of work took, added up."""

    #: Seconds on the wall clock.
    wall: float = 0.0
    #: Seconds of this process's CPU time, kernel included.
    cpu: float = 0.0

    def add(self, work: Callable[[], bool]) -> bool:
        """Does ``work`` once and adds what it took; gives what it gives."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        return result

    def include(self, other: Cost) -> None:
        """Adds what something else took."""
        self.wall += other.wall
        self.cpu += other.cpu


def milliseconds_of(work: Callable[[], object]) -> float:
    """Milliseconds on the wall clock that ``work`` takes, once."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def median(samples: Sequence[float]) -> float:
    """The middle of the samples."""
    return statistics.median(samples)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` (0..1) of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(round(share * len(ordered), 6)) - 1)]


def alternate(rounds: int, contenders: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Samples of all contenders, taken in turn (A B A B), so that a slow moment hits all of them."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, sample in contenders.items():
            samples[name].append(sample())
    return samples
