"""Threads in which use cases run, behind an event loop: work goes to the one that was idle last.

Each thread has a connection to the database, which keeps its statements prepared. The standard library's pool feeds its
threads in turn: all of them meet every statement now and then, forget it meanwhile, and prepare it anew. Here one or
two threads do nearly everything, and the others what comes at the same moment. Before a thread ends it gives back what
is its own, which that pool has no place for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

Result = TypeVar("Result")
Given = ParamSpec("Given")


class _Task:
    """A call that somebody waits for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._call = call

    def run(self) -> Callable[[], None]:
        """Makes the call, if nobody has given it up. What it returns tells whoever waits."""
        if not self.future.set_running_or_notify_cancel():
            return _nobody_waits
        try:
            return partial(self.future.set_result, self._call())
        except BaseException as problem:  # noqa: BLE001 - whoever waits gets it
            return partial(self.future.set_exception, problem)


def _nobody_waits() -> None:
    """It was given up."""


class Pool(Executor):
    """So many threads at most, which are made when they are needed."""

    def __init__(self, most: int, name: str, leave: Callable[[], object] = lambda: None) -> None:
        """``leave`` is called in each thread before it ends."""
        self._most = most
        self._name = name
        self._leave = leave
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        #: Where each idle thread takes its next task, the one that was busy last behind the others; None ends it.
        self._idle: list[SimpleQueue[_Task | None]] = []
        self._waiting: deque[_Task] = deque()
        self._is_closed = False

    @property
    def size(self) -> int:
        """Threads that there are."""
        return len(self._threads)

    def submit(self, call: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """Has a thread make a call. Raises RuntimeError after ``shutdown``."""
        task = _Task(lambda: call(*args, **kwargs))
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this pool takes nothing any more")
            if self._idle:
                self._idle.pop().put(task)
            elif len(self._threads) < self._most:
                thread = threading.Thread(
                    target=self._work, args=(task,), name=f"{self._name}_{len(self._threads)}", daemon=True
                )
                thread.start()  # where the system has no room for one, there is none
                self._threads.append(thread)
            else:
                self._waiting.append(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes nothing any more; what waits is still done, or given up."""
        with self._lock:
            self._is_closed = True
            given_up = [*self._waiting] if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
            idle, self._idle = self._idle, []
        for task in given_up:
            task.future.cancel()
        for own in idle:
            own.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self, first: _Task) -> None:
        own: SimpleQueue[_Task | None] = SimpleQueue()
        task: _Task | None = first
        try:
            while task is not None:
                tell = task.run()
                self._take_next(own)  # before anybody is told: what they ask then comes here
                tell()
                del task, tell  # what they hold need not wait for the next one
                task = own.get()
        finally:
            self._leave()

    def _take_next(self, own: SimpleQueue[_Task | None]) -> None:
        with self._lock:
            if self._waiting:
                own.put(self._waiting.popleft())
            elif self._is_closed:
                own.put(None)
            else:
                self._idle.append(own)
