"""Every exception has a code of the taxonomy, and words that any database can hold."""

from __future__ import annotations

import errno

import pytest

from orchestrion.core.errors import (
    AgentProblem,
    EnvironmentProblem,
    GitProblem,
    InvalidInput,
    NotFound,
    OrchestrionError,
    StoreProblem,
)
from orchestrion.core.retry import FAILURES
from orchestrion.runs.failures import code_of, is_hopeless, words_of


def caused(problem: Exception, cause: Exception) -> Exception:
    problem.__cause__ = cause
    return problem


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (OSError(errno.ENOSPC, "full"), "disk_full"),
        (OSError(errno.EDQUOT, "quota"), "disk_full"),
        (OSError(errno.EFBIG, "file too large"), "disk_full"),
        (OSError(errno.EAGAIN, "no process"), "host_exhausted"),
        (MemoryError(), "out_of_memory"),
        (caused(RuntimeError("x"), caused(ValueError("y"), MemoryError())), "out_of_memory"),
        (OSError(errno.EMFILE, "no handle"), "host_exhausted"),
        (OSError(errno.EACCES, "no"), "not_permitted"),
        (OSError("without a number"), "internal"),
        (caused(EnvironmentProblem("x", code="workspace_disk"), OSError(errno.ENOSPC, "full")), "disk_full"),
        (caused(AgentProblem("x", code="agent_not_started"), OSError(errno.ENOENT, "gone")), "agent_not_started"),
        (GitProblem("x", code="disk_full"), "disk_full"),
        (GitProblem("x"), "workspace_failed"),
        (NotFound("x", code="no_commit"), "no_commit"),
        (StoreProblem("x"), "internal"),
        (OrchestrionError("x"), "internal"),
        (KeyError("x"), "internal"),
    ],
)
def test_codes(problem: Exception, code: str) -> None:
    assert code_of(problem) == code
    assert code in FAILURES


def test_only_a_wrong_request_is_hopeless() -> None:
    assert is_hopeless(NotFound("x"))
    assert is_hopeless(InvalidInput("x"))
    assert not is_hopeless(GitProblem("x"))
    assert not is_hopeless(OSError("x"))


def test_words() -> None:
    assert words_of(GitProblem("git is gone", hint="install it")) == "git is gone (install it)"
    assert words_of(KeyError("x")) == "KeyError: 'x'"
    assert words_of(GitProblem("caf\udce9 \0")) == "caf\\udce9 \ufffd"
