"""The graph's questions, on small graphs by eye, on random ones by brute force, and on large ones by the clock."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core import graph
from orchestrion.core.errors import CycleRefused
from orchestrion.core.states import TaskState

#: a before b and c, both before d
DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
LARGE = 100_000

edges_of_any_kind = st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4), max_size=10)
#: Only towards smaller numbers: never a cycle.
acyclic_edges = st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), max_size=12).map(
    lambda edges: {node: [other for other in found if other < node] for node, found in edges.items()}
)
#: Other programs on the machine must not decide whether a test is green.


def reachable(edges: Mapping[int, Sequence[int]], start: int) -> set[int]:
    """Everything below a node, found in the dullest way."""
    found: set[int] = set()
    fresh = set(edges.get(start, ()))
    while fresh:
        found |= fresh
        fresh = {other for node in fresh for other in edges.get(node, ())} - found
    return found


class TestFindCycle:
    def test_none_in_a_diamond(self) -> None:
        assert graph.find_cycle(DIAMOND) is None

    def test_none_in_nothing(self) -> None:
        assert graph.find_cycle({}) is None

    def test_names_all_of_it_and_nothing_else(self) -> None:
        edges = {"above": ["a"], "a": ["b"], "b": ["c", "below"], "c": ["a"], "below": []}
        assert graph.find_cycle(edges) == ["a", "b", "c", "a"]

    def test_of_one(self) -> None:
        assert graph.find_cycle({7: [7]}) == [7, 7]

    def test_behind_a_prerequisite_without_an_entry(self) -> None:
        assert graph.find_cycle({1: [9], 2: [1, 3], 3: [2]}) == [2, 3, 2]

    @given(edges_of_any_kind)
    def test_finds_one_exactly_if_there_is_one(self, edges: dict[int, list[int]]) -> None:
        cycle = graph.find_cycle(edges)
        assert (cycle is not None) == any(node in reachable(edges, node) for node in edges)
        if cycle is not None:
            assert cycle[0] == cycle[-1]
            assert len(set(cycle)) == len(cycle) - 1
            assert all(after in edges[node] for node, after in itertools.pairwise(cycle))


class TestOrder:
    def test_prerequisites_first_and_ties_as_mentioned(self) -> None:
        assert graph.order({"d": ["b", "c"], "c": ["a"], "b": ["a"]}) == ["a", "c", "b", "d"]

    def test_keeps_the_order_of_what_is_free(self) -> None:
        assert graph.order({key: [] for key in "zyx"}) == ["z", "y", "x"]

    def test_a_prerequisite_said_twice_is_one(self) -> None:
        assert graph.order({"b": ["a", "a"]}) == ["a", "b"]

    def test_refuses_a_cycle_and_names_it(self) -> None:
        with pytest.raises(CycleRefused) as refused:
            graph.order({1: [2], 2: [3], 3: [2]})
        assert refused.value.details["cycle"] == ["2", "3", "2"]

    @given(acyclic_edges)
    def test_every_node_once_after_its_prerequisites(self, edges: dict[int, list[int]]) -> None:
        order = graph.order(edges)
        nodes = set(edges) | {other for found in edges.values() for other in found}
        assert sorted(order) == sorted(nodes)
        place = {node: at for at, node in enumerate(order)}
        assert all(place[other] < place[node] for node, found in edges.items() for other in found)
        assert order == graph.order(edges)


class TestLevels:
    def test_groups_that_can_go_together(self) -> None:
        assert graph.levels(DIAMOND) == [["a"], ["b", "c"], ["d"]]

    def test_of_nothing(self) -> None:
        assert graph.levels({}) == []

    @given(acyclic_edges)
    def test_each_node_is_just_above_its_deepest_prerequisite(self, edges: dict[int, list[int]]) -> None:
        level = {node: depth for depth, group in enumerate(graph.levels(edges)) for node in group}
        for node, depth in level.items():
            assert depth == max((level[other] + 1 for other in edges.get(node, ())), default=0)


class TestPath:
    def test_takes_the_shortest(self) -> None:
        edges = {"a": ["b", "x"], "b": ["c"], "c": ["d"], "x": ["d"]}
        assert graph.path(edges, "a", "d") == ["a", "x", "d"]

    def test_to_itself(self) -> None:
        assert graph.path({}, "a", "a") == ["a"]

    def test_none_against_the_direction(self) -> None:
        assert graph.path(DIAMOND, "a", "d") is None

    @given(edges_of_any_kind, st.integers(0, 9), st.integers(0, 9))
    def test_exists_exactly_if_reachable(self, edges: dict[int, list[int]], start: int, goal: int) -> None:
        way = graph.path(edges, start, goal)
        assert (way is not None) == (start == goal or goal in reachable(edges, start))
        if way is not None:
            assert (way[0], way[-1]) == (start, goal)
            assert all(after in edges[node] for node, after in itertools.pairwise(way))


class TestEffort:
    def test_the_slowest_chain(self) -> None:
        minutes = {"a": 10, "b": 1, "c": 30, "d": 5}
        assert graph.critical_path(DIAMOND, minutes) == (["a", "c", "d"], 45)

    def test_speed_up_is_the_sum_over_the_chain(self) -> None:
        found = graph.speed_up(DIAMOND, {"a": 10, "b": 30, "c": 30, "d": 10})
        assert (found.sequential, found.parallel, found.factor, found.guessed) == (80, 50, 1.6, 0)

    def test_unknown_efforts_are_the_mean_of_the_others_and_counted(self) -> None:
        found = graph.speed_up(DIAMOND, {"a": 10, "b": 30, "c": None})
        assert (found.sequential, found.parallel, found.guessed) == (80, 60, 2)

    def test_without_any_effort_all_count_the_same(self) -> None:
        assert graph.critical_path(DIAMOND, {}) == (["a", "b", "d"], 3)
        assert graph.speed_up(DIAMOND, {}).factor == pytest.approx(4 / 3)

    def test_nonsense_is_unknown(self) -> None:
        minutes = {"a": math.nan, "b": -3, "c": math.inf, "d": 4}
        assert graph.speed_up(DIAMOND, minutes) == graph.Speedup(16, 12, 4 / 3, 3)

    def test_of_nothing(self) -> None:
        assert graph.critical_path({}, {}) == ([], 0.0)
        assert graph.speed_up({}, {}) == graph.Speedup(0, 0.0, 1.0, 0)

    def test_of_efforts_that_are_all_zero(self) -> None:
        assert graph.speed_up({"a": []}, {"a": 0}).factor == 1.0

    def test_refuses_a_cycle(self) -> None:
        with pytest.raises(CycleRefused):
            graph.critical_path({"a": ["a"]}, {})

    @given(acyclic_edges, st.dictionaries(st.integers(0, 12), st.integers(0, 100)))
    def test_no_chain_is_slower(self, edges: dict[int, list[int]], minutes: dict[int, float | None]) -> None:
        minutes = dict.fromkeys(range(13), 1) | minutes
        way, total = graph.critical_path(edges, minutes)
        assert total == sum(minutes[node] or 0 for node in way)
        assert all(node in edges[after] for node, after in itertools.pairwise(way))
        slowest: dict[int, float] = {}
        for node in graph.order(edges):
            slowest[node] = (minutes[node] or 0) + max((slowest[other] for other in edges.get(node, ())), default=0)
        assert total == max(slowest.values(), default=0)


class TestDeadEnds:
    def test_a_failure_holds_back_all_above_it(self) -> None:
        states = {"a": TaskState.COMPLETED, "b": TaskState.FAILED, "c": TaskState.READY, "d": TaskState.BLOCKED}
        assert graph.dead_ends(DIAMOND, states) == {"d": ("b",)}

    def test_causes_add_up_and_pass_on(self) -> None:
        edges = {"top": ["mid", "x"], "mid": ["y"], "x": [], "y": []}
        assert graph.dead_ends(edges, {"x": "cancelled", "y": "failed"}) == {"mid": ("y",), "top": ("y", "x")}

    def test_a_cycle_holds_back_itself_and_all_above(self) -> None:
        edges = {"above": ["a"], "a": ["b"], "b": ["a"], "free": []}
        assert graph.dead_ends(edges, {}) == {"above": ("a", "b"), "a": ("a", "b"), "b": ("a", "b")}

    def test_a_cycle_that_has_started_holds_back_nobody(self) -> None:
        assert graph.dead_ends({"a": ["b"], "b": ["a"]}, {"a": TaskState.IN_PROGRESS}) == {}

    def test_what_is_done_stays_done(self) -> None:
        states = {"a": TaskState.FAILED, "b": TaskState.COMPLETED, "c": TaskState.REVIEW, "d": TaskState.PENDING}
        assert graph.dead_ends(DIAMOND, states) == {}

    def test_names_at_most_so_many(self) -> None:
        edges = {"top": [f"x{i}" for i in range(50)], "next": ["top"]}
        found = graph.dead_ends(edges, dict.fromkeys(edges["top"], "failed"), limit=3)
        assert found == {"top": ("x0", "x1", "x2"), "next": ("x0", "x1", "x2")}

    @given(edges_of_any_kind, st.dictionaries(st.integers(0, 9), st.sampled_from(list(TaskState))))
    def test_are_those_that_no_sequence_of_completions_starts(
        self, edges: dict[int, list[int]], states: dict[int, TaskState]
    ) -> None:
        dead = graph.dead_ends(edges, states)
        nodes = set(edges) | {other for found in edges.values() for other in found}
        waiting = {n for n in nodes if states.get(n, TaskState.PENDING) in graph._NOT_STARTED}
        done = nodes - waiting - {n for n in nodes if states.get(n) in (TaskState.FAILED, TaskState.CANCELLED)}
        while fresh := {node for node in waiting - done if all(other in done for other in edges.get(node, ()))}:
            done |= fresh
        assert set(dead) == waiting - done
        assert all(dead.values())


class TestProgress:
    CHILDREN: Mapping[str, Sequence[str] | None] = {"p": ["a", "q"], "q": ["b", "c"]}

    def test_by_effort(self) -> None:
        found = graph.progress(self.CHILDREN, {"a": 60, "b": 20, "c": 20}, {"a": 1, "b": True})
        assert found == {"p": 80.0, "q": 50.0, "a": 100.0, "b": 100.0, "c": 0.0}

    def test_equal_without_effort(self) -> None:
        found = graph.progress(self.CHILDREN, {}, {"a": 1, "b": 0.5})
        assert (found["p"], found["q"]) == (50.0, 25.0)

    def test_a_leaf_without_effort_weighs_like_the_mean_of_its_siblings(self) -> None:
        found = graph.progress(self.CHILDREN, {"a": 10, "b": 30, "c": None}, {"c": 1})
        assert found["p"] == pytest.approx(100 / 3)
        assert found["q"] == 50.0

    @pytest.mark.parametrize("nothing", [None, math.nan, "much", 0, -1, math.inf, 10**400])
    def test_nonsense_is_nothing_known(self, nothing: float | None) -> None:
        assert graph.progress({"p": ["a", "b"]}, {"a": nothing, "b": nothing}, {"a": 1, "b": None})["p"] == 50.0

    @pytest.mark.parametrize(
        ("share", "percent"), [(2, 100.0), (-1, 0.0), (math.nan, 0.0), (10**400, 100.0), ("x", 0.0)]
    )
    def test_shares_stay_between_nothing_and_all(self, share: float, percent: float) -> None:
        assert graph.progress({"p": ["a"]}, {}, {"a": share})["p"] == percent

    def test_children_may_be_none(self) -> None:
        assert graph.progress({"p": None, "q": []}, {}, {"q": 1}) == {"p": 0.0, "q": 100.0}

    def test_nothing_is_said_of_those_who_are_their_own_ancestors(self) -> None:
        assert graph.progress({"a": ["b"], "b": ["a"], "c": ["d"]}, {}, {"d": 1}) == {"c": 100.0, "d": 100.0}

    @given(
        st.dictionaries(st.integers(0, 9), st.one_of(st.none(), st.floats()), max_size=10),
        st.dictionaries(st.integers(0, 9), st.one_of(st.none(), st.floats(), st.booleans()), max_size=10),
        edges_of_any_kind,
    )
    def test_never_raises_nor_leaves_its_bounds(
        self,
        weight: dict[int, float | None],
        done: dict[int, float | bool | None],
        children: dict[int, Sequence[int] | None],
    ) -> None:
        assert all(0.0 <= percent <= 100.0 for percent in graph.progress(children, weight, done).values())

    @given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20))
    def test_all_done_is_exactly_all(self, efforts: list[float | None]) -> None:
        leaves = list(range(1, len(efforts) + 1))
        found = graph.progress(
            {0: leaves}, dict(zip(leaves, [None, *efforts[1:]], strict=True)), dict.fromkeys(leaves, 1)
        )
        assert found[0] == 100.0


@cache
def chain() -> dict[int, list[int]]:
    return {0: [], **{node: [node - 1] for node in range(1, LARGE)}}


@cache
def fan_in() -> dict[int, list[int]]:
    return {LARGE: list(range(LARGE))}


@cache
def fan_out() -> dict[int, list[int]]:
    return {node: [LARGE] for node in range(LARGE)}


@cache
def ring() -> dict[int, list[int]]:
    return {node: [(node - 1) % LARGE] for node in range(LARGE)}


@cache
def random_dag() -> dict[int, list[int]]:
    dice = random.Random(20261120)
    return {node: [dice.randrange(node) for _ in range(3)] for node in range(1, LARGE // 5)}


QUESTIONS: dict[str, Callable[[dict[int, list[int]]], object]] = {
    "find_cycle": graph.find_cycle,
    "order": graph.order,
    "levels": graph.levels,
    "critical_path": lambda edges: graph.critical_path(edges, {}),
    "path": lambda edges: graph.path(edges, LARGE - 1, 0),
    "dead_ends": lambda edges: graph.dead_ends(edges, dict.fromkeys(range(0, LARGE, 2), "failed")),
    "progress": lambda edges: graph.progress(edges, {}, {}),
}


@pytest.mark.long
class TestLargeGraphs:
    """Generous bounds: a square of 100,000 takes hours, a recursion ends at 1,000."""

    @pytest.mark.parametrize("question", QUESTIONS)
    @pytest.mark.parametrize("shape", [chain, fan_in, fan_out, random_dag])
    def test_take_about_a_second(self, question: str, shape: Callable[[], dict[int, list[int]]]) -> None:
        edges = shape()
        before = time.process_time()
        QUESTIONS[question](edges)
        assert time.process_time() - before < 30

    def test_a_ring_is_named_whole(self) -> None:
        cycle = graph.find_cycle(ring())
        assert cycle is not None
        assert len(cycle) == LARGE + 1

    def test_a_ring_is_one_dead_end(self) -> None:
        before = time.process_time()
        found = graph.dead_ends(ring(), {})
        assert len(found) == LARGE
        assert len({id(causes) for causes in found.values()}) == 1
        assert time.process_time() - before < 30
