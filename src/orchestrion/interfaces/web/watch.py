"""What a server does besides answering: it looks for alerts, sends traces, and drops what nobody asks for any more."""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrion.core.errors import EnvironmentProblem, OrchestrionError, StoreProblem
from orchestrion.interfaces.web import heap, logs
from orchestrion.interfaces.web.house import House

#: Old answers and alerts are dropped so often, in seconds.
TIDY_S = 3600.0
#: Whether the project is where it was is looked at so often, in seconds.
STANDS_S = 2.0
#: Memory that lies free is given back so often, in seconds.
GIVE_BACK_S = 60.0
#: What ended is sent so often, in seconds.
SEND_S = 2.0
#: The end of a round is waited for so long, in seconds.
GOES_S = 3.0


class Watch:
    """Everything that is done regularly, from the server's beginning to its end."""

    def __init__(self, house: House) -> None:
        cases = house.cases
        self._rounds = [
            Round(house, "alerts", house.config["alerts.every_s"], lambda: _tell(house)),
            Round(house, "project", STANDS_S, lambda: _end_with_project(house)),
            Round(house, "memory", GIVE_BACK_S, heap.give_back),
            Round(house, "tidy", TIDY_S, lambda: (cases.forget_requests(), cases.forget_alerts())),
        ]
        if cases.collector:
            self._rounds.append(Round(house, "traces", SEND_S, cases.send_traces))

    def start(self) -> None:
        """Begins."""
        for one in self._rounds:
            one.start()

    def stop(self) -> None:
        """Ends; a round that is going on is waited for, but not for long: an address may be slow to answer."""
        for one in self._rounds:
            one.stop()
        for one in self._rounds:
            one.join(GOES_S)


class Round(threading.Thread):
    """Does something regularly, in a thread of its own; a failure is told once, until it works again."""

    def __init__(self, house: House, name: str, every_s: float, act: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._house = house
        self._every_s = every_s
        self._act = act
        self._stopping = threading.Event()
        self._trouble = ""

    def stop(self) -> None:
        """The present round is the last."""
        self._stopping.set()

    def run(self) -> None:
        """Goes on until it is stopped."""
        try:
            while not self._stopping.wait(self._every_s):
                self._do()
        finally:
            self._house.cases.store.close()

    def _do(self) -> None:
        try:
            self._act()
        except OrchestrionError as problem:
            if problem.code != self._trouble:
                logs.log.warning("%s: %s (%s)", self.name, problem.message, problem.hint)
            self._trouble = problem.code
        else:
            self._trouble = ""


def _end_with_project(house: House) -> None:
    try:
        house.standing.refuse_moved()
    except StoreProblem:
        raise  # it is waited for
    except EnvironmentProblem as problem:
        house.end(problem)


def _tell(house: House) -> None:
    for change in house.cases.look_for_alerts():
        logs.log.warning(
            "alert %s: %s %s: %s", change.what, change.rule, change.subject, change.said,
            extra={"facts": change.as_json()},
        )  # fmt: skip
