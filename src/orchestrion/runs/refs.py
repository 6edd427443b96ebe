"""Refs of ours in the user's repository, and when they go.

Each run leaves a branch for people (``orchestrion/run/R31``) and the ref behind it. They go when the
plan has been landed since the task was done, or when the task is archived. Refs for what a run
left beside its work (a side branch, a stash) go with the archive alone: no landing has that.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping

from orchestrion.core.values import name, number_named
from orchestrion.runs.git import Git
from orchestrion.store import Store
from orchestrion.store.store import Row

_RUNS, _BRANCHES, _KEPT = "refs/orchestrion/runs/", "refs/heads/orchestrion/run/", "refs/orchestrion/kept/"
_PREFIXES = (_RUNS, _BRANCHES, _KEPT)
#: Where a merge commit is until it is in a branch; and how long that may take before it was left, in seconds.
MERGING = "refs/orchestrion/merging/"
_MERGE_S = 86_400
#: What is ours but for the truth of plans.
_OURS = (_RUNS, "refs/heads/orchestrion/", _KEPT, MERGING)
#: The store is asked about so many runs at once.
_AT_ONCE = 500


def retire(git: Git, store: Store) -> int:
    """Deletes the refs of runs that are not needed any more; how many refs. Raises GitProblem, StoreProblem.

    There are more with each run, and mostly none to delete: so their names are looked at alone first, and where
    they are only for some runs at a time.
    """
    runs = _runs_with_refs(git)
    count = 0
    for start in range(0, len(runs), _AT_ONCE):
        asked = list(runs[start : start + _AT_ONCE])
        if rows := store.read(lambda tx, asked=asked: tx.all("runs_to_retire", ids=asked)):  # type: ignore[misc]
            refs = _of_runs(git, {row["id"] for row in rows})
            count += _delete(git, _not_needed(git, store, rows, refs))
    return count + _delete(git, _left_by_merges(git))


def _left_by_merges(git: Git) -> Iterator[tuple[str, str]]:
    """Refs of merges that were killed."""
    asked = "--format=%(committerdate:unix) %(objectname) %(refname)%00"
    for line in git.fields("for-each-ref", asked, MERGING):
        made_at, commit, ref = (*line.strip().split(" ", 2), "", "")[:3]
        if ref and time.time() - int(made_at) > _MERGE_S:
            yield ref, commit


def _not_needed(
    git: Git, store: Store, rows: Iterable[Row], refs: Mapping[int, Mapping[str, str]]
) -> Iterator[tuple[str, str]]:
    for row in rows:
        own = refs.get(row["id"], {})
        if _is_of(row, own, store):
            for ref, commit in own.items():
                if (row["archived"] or not ref.startswith(_KEPT)) and not _is_of_others(git, ref, commit, own):
                    yield ref, commit


def _is_of(row: Row, refs: Mapping[str, str], store: Store) -> bool:
    """Whether the refs of a run's name are this store's run's: a repository may be worked on from two stores."""
    ref = f"{_RUNS}{name('R', row['id'])}"
    return row["clone"] in (None, store.clone) and refs.get(ref) in (None, row["head_commit"])


def gone(git: Git, limit: int | None = None) -> dict[str, str]:
    """Refs of runs, and branches that follow plans, whose commits are not there any more -> the commits; of the newest
    ``limit`` refs if that is set.

    git lets nobody past such a ref: it neither fetches nor packs. Raises GitProblem.
    """
    count = [] if limit is None else ["--sort=-version:refname", f"--count={limit}"]
    listed = git.fields("for-each-ref", *count, "--format=%(objectname) %(refname)%00", *_OURS)
    found = dict(line.strip().partition(" ")[::-2] for line in listed if line.strip())
    missing = git.missing(dict.fromkeys(found.values()))
    return {ref: commit for ref, commit in found.items() if commit in missing}


def forget_gone(git: Git) -> list[str]:
    """Deletes refs whose commits are ``gone``; which. Raises GitProblem."""
    found = gone(git)
    return sorted(ref for ref, commit in found.items() if _delete(git, [(ref, commit)]))


def in_the_way(git: Git) -> str | None:
    """Why the branches for people cannot be there, in words; None: they can. Raises GitProblem."""
    if git.tip("refs/heads/orchestrion") is None:
        return None
    return (
        "your branch `orchestrion` is in the way of the branches orchestrion/PLAN and orchestrion/run/R1, which only "
        "show you the work; all goes on without them. `git branch -m orchestrion NEW-NAME` makes room"
    )


def _is_of_others(git: Git, ref: str, commit: str, refs: Mapping[str, str]) -> bool:
    """Whether a branch of a run's name is not where we put it: somebody made it, or went on with it beyond any plan."""
    ours = refs.get(ref.replace(_BRANCHES, _RUNS, 1))
    if not ref.startswith(_BRANCHES) or commit == ours or ours is None:
        return False
    if not git.is_ancestor(ours, commit):
        return True
    return bool(git.run("rev-list", "--max-count=1", commit, "--not", "--glob=refs/orchestrion/plans/*").stdout)


def _runs_with_refs(git: Git) -> array[int]:
    """Numbers of the runs that have refs, in order."""
    names = git.fields("for-each-ref", "--format=%(refname)%00", *_PREFIXES)
    return array("q", sorted({number for name in names if (number := _run_of(name.strip()))}))


def _of_runs(git: Git, runs: Collection[int]) -> dict[int, dict[str, str]]:
    """Number of a run, of those that are meant -> its refs with their commits."""
    found: dict[int, dict[str, str]] = {}
    for line in git.fields("for-each-ref", "--format=%(objectname) %(refname)%00", *_PREFIXES):
        commit, _, ref = line.strip().partition(" ")
        number = _run_of(ref)
        if number in runs:
            found.setdefault(number, {})[ref] = commit
    return found


def _run_of(ref: str) -> int:
    """The number of the run that a ref is called after; 0: of none."""
    run = next((ref.removeprefix(one) for one in _PREFIXES if ref.startswith(one)), "").partition("/")[0]
    number = number_named(run, "R") or 0
    return number if name("R", number) == run else 0


def _delete(git: Git, refs: Iterable[tuple[str, str]]) -> int:
    """Deletes refs that are still where they were seen, and that nobody has checked out."""
    checked_out = git.checked_out_branches()
    wanted = [(ref, commit) for ref, commit in refs if ref not in checked_out]
    lines = "".join(f"delete {ref} {commit}\n" for ref, commit in wanted)
    if lines and git.run("update-ref", "--no-deref", "--stdin", input=lines, check=False).returncode != 0:
        # One of them moved, or is locked: then each by itself, and what cannot go now goes the next time.
        gone = [git.run("update-ref", "--no-deref", "-d", *one, check=False).returncode == 0 for one in wanted]
        return sum(gone)
    return len(wanted)
