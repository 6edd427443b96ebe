"""The graph of a plan as boxes and arrows for the browser, bounded: nobody reads 10,000 boxes.

Of a larger plan those tasks are drawn that matter now: the ones that move or need somebody, the
critical path, and what lies next to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: A picture has at most so many tasks.
DRAWN = 240
#: A longer title is cut in a box.
_TITLE = 60
#: What is drawn first when not all is.
_WEIGHT = {"in_progress": 0, "review": 1, "blocked": 1, "failed": 1, "retrying": 1, "ready": 2, "pending": 3}
_LEAST = 4


def picture(graph: Mapping[str, Any], runs: Iterable[Mapping[str, Any]], search: str = "") -> dict[str, Any]:
    """Nodes and edges, with what is critical, alive and found; ``left_out`` counts tasks that are not drawn."""
    critical = list(graph["critical_path"])
    live = {run["task"]: run["id"] for run in runs}
    found = _found(graph["tasks"], search)
    chosen = _chosen(graph, {*critical, *live, *found})
    tasks = [task for task in graph["tasks"] if task["id"] in chosen]
    steps = set(zip(critical[1:], critical, strict=False))
    return {
        "nodes": [
            {
                "id": task["id"],
                "label": f"{task['id']}  {_cut(task['title'])}",
                "state": task["state"],
                "critical": task["id"] in critical,
                "run": live.get(task["id"]),
                "found": task["id"] in found,
            }
            for task in tasks
        ],
        "edges": [
            {
                "from": edge["after"],
                "to": edge["task"],
                "kind": edge["kind"],
                "state": edge["state"],
                "critical": (edge["task"], edge["after"]) in steps,
            }
            for edge in graph["edges"]
            if edge["task"] in chosen and edge["after"] in chosen
        ],
        "left_out": len(graph["tasks"]) - len(tasks),
    }


def _found(tasks: Iterable[Mapping[str, Any]], search: str) -> set[str]:
    wanted = search.strip().lower()
    if not wanted:
        return set()
    return {task["id"] for task in tasks if wanted == task["id"].lower() or wanted in task["title"].lower()}


def _chosen(graph: Mapping[str, Any], first: set[str]) -> set[str]:
    """Ids of the tasks to draw."""
    if len(graph["tasks"]) <= DRAWN:
        return {task["id"] for task in graph["tasks"]}
    ordered = sorted(graph["tasks"], key=lambda task: (task["id"] not in first, _WEIGHT.get(task["state"], _LEAST)))
    chosen = {task["id"] for task in ordered[: DRAWN // 2]}
    for edge in graph["edges"]:
        if len(chosen) >= DRAWN:
            break
        if (edge["task"] in chosen) != (edge["after"] in chosen):
            chosen |= {edge["task"], edge["after"]}
    return chosen


def _cut(title: str) -> str:
    line = " ".join(title.split())
    return line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…"
