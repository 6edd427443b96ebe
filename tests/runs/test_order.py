"""What a supervisor is told survives being written and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrion.core.errors import NotFound
from orchestrion.runs import order
from orchestrion.runs.order import Order

ORDER = Order(
    run=31,
    task=12,
    attempt=2,
    title="Écrire “tout”\nà neuf",
    plan="default",
    agent="command",
    command="echo 'a b' \"$HOME\" \\\n && true",
    checks=[("unit", "pytest -q"), ("true", "true")],
    setup=None,
    merge=True,
    project="/home/me/pro ject",
    project_name="pro ject",
    workspaces=None,
    isolation="clone",
    store="0d3f",
    timeout_s=1800,
    stall_s=None,
    feedback=2,
    grace_s=5.0,
    retry_cap_s=3600,
    retry_jitter=0.0,
)


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = order.write(ORDER, "the brief\n", tmp_path)
    assert place == tmp_path / "runs" / "R31" == order.folder(tmp_path, 31)
    assert (place / "brief.md").read_text() == "the brief\n"
    assert order.read(tmp_path, 31) == ORDER
    assert sorted(path.name for path in place.iterdir()) == ["brief.md", "order.json"]


def test_writing_it_again_replaces_it(tmp_path: Path) -> None:
    order.write(ORDER, "one", tmp_path)
    place = order.write(ORDER, "two", tmp_path)
    assert (place / "brief.md").read_text() == "two"


def test_there_is_no_such_order(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as refused:
        order.read(tmp_path, 7)
    assert refused.value.code == "no_order"
    assert "R7" in refused.value.message


def test_the_marker_names_the_store_and_the_run() -> None:
    assert ORDER.marker == "0d3f/R31"
