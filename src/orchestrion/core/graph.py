"""Questions to a graph of waiting things, answered without recursion.

A graph is a plain mapping ``{node: its prerequisites}``; nodes are ids or keys, and a
prerequisite that has no entry of its own waits for nothing. Every answer costs time in
proportion to nodes and edges (times a logarithm where an order is kept), works on chains
and fans of 100,000, and is the same every time: ties go to the node mentioned first.

Nearly everything follows from one step, ``_unwind``: take away what waits for nothing
until nothing more can be taken away. What is left is held back by a cycle.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrion.core.errors import CycleRefused
from orchestrion.core.states import TaskState

Node = TypeVar("Node", bound=Hashable)

#: States in which a task still waits to be started; only these can be at a dead end.
_NOT_STARTED = (TaskState.PENDING, TaskState.READY, TaskState.BLOCKED, TaskState.RETRYING)
#: States of a prerequisite that will not be completed by itself.
_GIVEN_UP = (TaskState.FAILED, TaskState.CANCELLED)
#: An effort beyond this (in minutes: 19 million centuries) is not an effort; sums stay finite.
_ABSURD = 1e15


@dataclass(frozen=True, slots=True)
class Speedup:
    """How much sooner a graph is done by many at once, in minutes."""

    #: All efforts one after the other.
    sequential: float
    #: The critical path: no number of agents is faster.
    parallel: float
    #: ``sequential / parallel``; 1.0 for a graph without any effort.
    factor: float
    #: How many nodes had no effort of their own and were given the mean of the others (or 1).
    guessed: int


# --- order ------------------------------------------------------------------------------------------------------------


def find_cycle(edges: Mapping[Node, Sequence[Node]]) -> list[Node] | None:
    """One whole cycle, each node followed by a prerequisite of it, the first repeated at the end; or None."""
    _, stuck = _unwind(edges)
    if not stuck:
        return None
    ring = _rings(edges, stuck)[stuck[0]]
    members = set(ring)
    start = ring.index(next(node for node in stuck if node in members))
    return [*ring[start:], *ring[: start + 1]]


def order(edges: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Every node after its prerequisites; of those that could come next, the one mentioned first.

    Raises CycleRefused, naming the whole cycle.
    """
    done, stuck = _unwind(edges)
    if stuck:
        raise CycleRefused([str(node) for node in find_cycle(edges) or stuck])
    return done


def levels(edges: Mapping[Node, Sequence[Node]]) -> list[list[Node]]:
    """Groups that can be worked on at the same time, first group first. Raises CycleRefused."""
    depth: dict[Node, int] = {}
    groups: list[list[Node]] = []
    for node in order(edges):
        depth[node] = level = 1 + max((depth[other] for other in edges.get(node, ())), default=-1)
        if level == len(groups):
            groups.append([])
        groups[level].append(node)
    return groups


def path(edges: Mapping[Node, Sequence[Node]], start: Node, goal: Node) -> list[Node] | None:
    """A shortest way from ``start`` down through prerequisites to ``goal``, both named; None without one.

    An edge "a waits for b" would close a cycle exactly when there is a path from b to a.
    """
    came_from: dict[Node, Node] = {start: start}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if node == goal:
            return _way_back(came_from, goal)
        for other in edges.get(node, ()):
            if other not in came_from:
                came_from[other] = node
                queue.append(other)
    return None


def _way_back(came_from: Mapping[Node, Node], goal: Node) -> list[Node]:
    way = [goal]
    while came_from[way[-1]] != way[-1]:
        way.append(came_from[way[-1]])
    return way[::-1]


def _unwind(edges: Mapping[Node, Sequence[Node]]) -> tuple[list[Node], list[Node]]:
    """All nodes: those that can be done, in that order, and those that a cycle holds back."""
    nodes = _nodes(edges)
    rank = {node: place for place, node in enumerate(nodes)}
    dependants: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node, prerequisites in edges.items():
        for other in prerequisites:
            dependants[other].append(node)
    open_edges = [len(edges.get(node, ())) for node in nodes]
    # Ranks of free nodes, ascending: already a heap.
    free = [place for place, count in enumerate(open_edges) if count == 0]
    done: list[Node] = []
    while free:
        done.append(node := nodes[heapq.heappop(free)])
        for waiting in dependants[node]:
            place = rank[waiting]
            open_edges[place] -= 1
            if open_edges[place] == 0:
                heapq.heappush(free, place)
    return done, [node for place, node in enumerate(nodes) if open_edges[place]]


def _nodes(edges: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Every node once: those with an entry first, then those only waited for."""
    seen = dict.fromkeys(edges)
    for prerequisites in edges.values():
        for other in prerequisites:
            seen.setdefault(other)
    return list(seen)


def _rings(edges: Mapping[Node, Sequence[Node]], stuck: Iterable[Node]) -> dict[Node, tuple[Node, ...]]:
    """For each node that is held back, one cycle that holds it.

    Each such node has a prerequisite that is held back too; following the first of them
    walks into a cycle, and a walk that meets an earlier one ends in the same.
    """
    held = set(stuck)
    rings: dict[Node, tuple[Node, ...]] = {}
    for start in stuck:
        trail: dict[Node, int] = {}
        node = start
        while node not in rings and node not in trail:
            trail[node] = len(trail)
            node = next(other for other in edges[node] if other in held)
        ring = rings[node] if node in rings else tuple(trail)[trail[node] :]
        rings.update(dict.fromkeys(trail, ring))
    return rings


# --- effort -----------------------------------------------------------------------------------------------------------


def critical_path(
    edges: Mapping[Node, Sequence[Node]], minutes: Mapping[Node, float | None]
) -> tuple[list[Node], float]:
    """The chain that takes longest, first task first, and its minutes. Raises CycleRefused.

    A node without a known effort counts as the mean of the known ones, or as 1.
    """
    efforts, _ = _efforts(edges, minutes)
    total: dict[Node, float] = {}
    before: dict[Node, Node] = {}
    for node in order(edges):
        slowest = max(edges.get(node, ()), key=total.__getitem__, default=None)
        total[node] = efforts[node] + (0.0 if slowest is None else total[slowest])
        before[node] = node if slowest is None else slowest
    if not total:
        return [], 0.0
    last = max(total, key=total.__getitem__)
    return _way_back(before, last), total[last]


def speed_up(edges: Mapping[Node, Sequence[Node]], minutes: Mapping[Node, float | None]) -> Speedup:
    """What working in parallel can win at most: the sum of all efforts over the critical path. Raises CycleRefused."""
    efforts, guessed = _efforts(edges, minutes)
    sequential = math.fsum(efforts.values())
    _, parallel = critical_path(edges, minutes)
    return Speedup(sequential, parallel, sequential / parallel if parallel else 1.0, guessed)


def _efforts(
    edges: Mapping[Node, Sequence[Node]], minutes: Mapping[Node, float | None]
) -> tuple[dict[Node, float], int]:
    """The effort of every node, and how many of them had to be guessed."""
    nodes = _nodes(edges)
    known = {node: effort for node in nodes if (effort := _effort(minutes.get(node))) is not None}
    mean = math.fsum(known.values()) / len(known) if known else 1.0
    return {node: known.get(node, mean) for node in nodes}, len(nodes) - len(known)


def _effort(value: object) -> float | None:
    """A usable effort: a finite number that is not negative; None for everything else."""
    if isinstance(value, int | float) and 0 <= value < _ABSURD:
        return float(value)
    return None


# --- dead ends --------------------------------------------------------------------------------------------------------


def dead_ends(
    edges: Mapping[Node, Sequence[Node]], states: Mapping[Node, TaskState | str], *, limit: int = 20
) -> dict[Node, tuple[Node, ...]]:
    """Tasks that will never start by themselves, each with what holds it back.

    ``edges`` are the edges that still count: open or dead ones that are neither soft nor
    waived. The causes of a task are the failed or cancelled tasks below it, or the cycle that it waits
    in; at most ``limit`` failed ones are named per task, nearest first. A task without a
    state counts as pending; one that has started is not at a dead end.
    """
    waiting = {
        node: prerequisites
        for node, prerequisites in edges.items()
        if states.get(node, TaskState.PENDING) in _NOT_STARTED
    }
    done, stuck = _unwind(waiting)
    causes: dict[Node, tuple[Node, ...]] = {}
    for node in done:
        if found := _causes(waiting.get(node, ()), states, causes, limit):
            causes[node] = found
    for node, ring in _rings(waiting, stuck).items():
        causes[node] = ring
    return causes


def _causes(
    prerequisites: Iterable[Node],
    states: Mapping[Node, TaskState | str],
    known: Mapping[Node, tuple[Node, ...]],
    limit: int,
) -> tuple[Node, ...]:
    """What holds back a task with these prerequisites. A chain shares one tuple: it is not copied per task."""
    found: tuple[Node, ...] = ()
    for other in prerequisites:
        more = (other,) if states.get(other) in _GIVEN_UP else known.get(other, ())
        if more and more is not found:
            found = tuple(dict.fromkeys(found + more))[:limit] if found else more
        if len(found) >= limit:
            return found
    return found


# --- progress ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Work:
    """Work below one node, added up from its leaves: with a known effort, and without one."""

    effort: float = 0.0
    effort_done: float = 0.0
    known: int = 0
    unknown: int = 0
    unknown_done: float = 0.0

    def add(self, other: _Work) -> None:
        self.effort += other.effort
        self.effort_done += other.effort_done
        self.known += other.known
        self.unknown += other.unknown
        self.unknown_done += other.unknown_done

    def percent(self) -> float:
        """A leaf without an effort weighs as much as the mean of those with one."""
        mean = self.effort / self.known if self.known else 1.0
        total = self.effort + mean * self.unknown
        # Divided first: what is done is then exactly 100.
        return 100.0 * ((self.effort_done + mean * self.unknown_done) / total) if total else 0.0


def progress(
    children: Mapping[Node, Sequence[Node] | None],
    weight: Mapping[Node, float | None],
    done: Mapping[Node, float | bool | None],
) -> dict[Node, float]:
    """Percent done of every node of a hierarchy, 0 to 100: its done leaves over all its leaves, by effort.

    ``done`` gives the share of each leaf, 0 to 1 (or a truth value); a leaf that it does not
    know is not begun. Efforts that are missing, zero or no numbers weigh like the mean of their
    siblings in the subtree: all equally, if none is known. Never raises; nodes that are
    their own ancestors, or above such, are left out, for nothing true can be said of them.
    """
    below = {node: [child for child in found or () if child is not None] for node, found in children.items()}
    bottom_up, _ = _unwind(below)
    work: dict[Node, _Work] = {}
    for node in bottom_up:
        if not below.get(node):
            work[node] = _leaf(weight.get(node), done.get(node))
            continue
        work[node] = total = _Work()
        for child in below[node]:
            total.add(work[child])
    return {node: total.percent() for node, total in work.items()}


def _leaf(weight: object, done: object) -> _Work:
    share = _share(done)
    effort = _effort(weight)
    if not effort:
        return _Work(unknown=1, unknown_done=share)
    return _Work(effort=effort, effort_done=effort * share, known=1)


def _share(done: object) -> float:
    if not isinstance(done, int | float):
        return 0.0
    # In this order a NaN counts as 0 too.
    return float(min(1, max(0, done)))
