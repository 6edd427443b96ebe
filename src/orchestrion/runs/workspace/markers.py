"""Conflict markers that a run left in files: a merge that looks finished and is not."""

from __future__ import annotations

from orchestrion.runs.git import Git

_BEGIN, _MIDDLE, _END = "<<<<<<< ", "=======", ">>>>>>> "


def files_with_new_markers(git: Git, base: str, head: str) -> list[str]:
    """Files to which the commits from ``base`` to ``head`` added a whole set of markers, in order.

    A file that had one before (a test of a merge tool, say) does not count. Raises GitProblem.
    """
    if base == head:
        return []
    changed = git.lines("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=d", base, head)
    # git looks for single markers much faster than we do; only files in which it finds some are read.
    said = git.run(
        "diff", "--check", "--no-renames", "--no-ext-diff", "--ignore-submodules=all", base, head, check=False
    )
    suspects = {
        line.rsplit(":", 2)[0] for line in said.stdout.splitlines() if line.endswith(": leftover conflict marker")
    }
    # Of a name with a line end, git's line has only a part.
    suspects |= {path for path in changed if "\n" in path}
    return sorted(path for path in suspects if _has_set(git, head, path) and not _has_set(git, base, path))


def _has_set(git: Git, commit: str, path: str) -> bool:
    content = git.run("cat-file", "blob", f"{commit}:{path}", check=False)
    if content.returncode != 0:
        return False
    wanted = [_BEGIN, _MIDDLE, _END]
    for line in content.stdout.splitlines():
        marker = wanted[0]
        if line == marker if marker == _MIDDLE else line.startswith(marker):
            wanted.pop(0)
            if not wanted:
                return True
    return False
