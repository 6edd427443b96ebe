"""Agents that go wrong: in how they end, in what they write, and in what they leave behind."""

from __future__ import annotations

import shlex

from chaos.ground import SUPERVISOR_MB, Ground
from chaos.scenario import at_length, scenario
from orchestrion.runs.log import MOST_BYTES
from stage import python

#: Says who it is and never ends; SIGTERM means nothing to it. ``FILE`` is filled in.
_DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open({file!r}, 'a') as pids: pids.write(f'{{os.getpid()}}\\n')
time.sleep(600)
"""


def deaf(ground: Ground, task: str) -> str:
    """A command that says who it is, hears no SIGTERM and does not end."""
    return python(_DEAF.format(file=f"{ground.folder}/pids-{task}"))


@scenario
def crash(ground: Ground) -> None:
    """An agent that dies by SIGSEGV or SIGKILL crashed: it is retried, and what it had done is kept."""
    kinds = {"SIGSEGV": 11, "SIGKILL": 9}
    tasks = [
        ground.trouble(f"echo $ORCHESTRION_ATTEMPT > {kind}.txt; test $ORCHESTRION_ATTEMPT = 3 || kill -{number} $$")
        for kind, number in kinds.items()
    ]
    for kind, task in zip(kinds, tasks, strict=True):
        ground.await_end(task, "completed", None)
        assert ground.ends(task) == [("failed", "agent_crashed")] * 2 + [("succeeded", None)]
        assert ground.stage.merged(f"{kind}.txt") == "3\n"
        assert ground.stage.on_branch(f"{kind}.txt", ground.stage.runs(task)[0]["id"]) == "1"


@scenario
def crash_always(ground: Ground) -> None:
    """An agent that crashes every time uses up its retries and is failed, as agent_crashed."""
    task = ground.trouble(f"exec {python('import os; os.abort()')}")
    row = ground.await_end(task, "failed", "agent_crashed", runs=3)
    assert "SIGABRT" in row["error"]


@scenario
def crash_below_a_shell(ground: Ground) -> None:
    """A program that crashes in a command crashed, although the shell above it only says 128 and the signal."""
    crash = python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    task = ground.trouble(f"test $ORCHESTRION_ATTEMPT = 2 || {crash}")
    ground.await_end(task, "completed", None)
    assert ground.ends(task) == [("failed", "agent_crashed"), ("succeeded", None)]


@scenario
def hang(ground: Ground) -> None:
    """An agent that falls silent is ended at the stall limit; one that goes on talking beside it is not."""
    ground.open(run__stall_s=1)
    task = ground.trouble("echo partly > partly.txt; echo thinking; sleep 600")
    ground.await_end(task, "failed", "stalled", runs=1)
    assert ground.stage.on_branch("partly.txt", ground.stage.runs(task)[0]["id"]) == "partly"


@scenario
def endless_work(ground: Ground) -> None:
    """An agent that works and talks for ever is ended at the total limit, and what it had done is kept."""
    task = ground.trouble("echo partly > partly.txt; while true; do echo busy; sleep 0.05; done", timeout_s=1)
    ground.await_end(task, "failed", "timed_out", runs=1)
    assert ground.stage.on_branch("partly.txt", ground.stage.runs(task)[0]["id"]) == "partly"


@scenario
def flood(ground: Ground) -> None:
    """Lines as fast as they can be written cost no memory, and the log ends at its limit; the work is done."""
    megabytes = 400 if ground.long else 60
    task = ground.trouble(f"yes 'the same line again and again, 64 bytes long with its line end....' |"
                          f" head -c {megabytes}000000; echo well > flood.txt")  # fmt: skip
    ground.await_end(task, "completed", None, runs=1)
    _prove_modesty(ground, task)


@scenario
def endless_line(ground: Ground) -> None:
    """A line of 50 MB without an end is logged in pieces, costs no memory, and what comes behind it is heard."""
    task = ground.trouble("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last words; echo well > line.txt")
    ground.await_end(task, "completed", None, runs=1)
    assert ground.stage.task(task)["summary"].endswith("last words")
    _prove_modesty(ground, task)


@scenario
def endless_line_of_events(ground: Ground) -> None:
    """The same from an agent whose lines are understood: it is bounded too, and its result is heard."""
    ground.open_for("claude", "fake_claude.py", "endless_line")
    task = ground.tell("endless_line")
    ground.await_end(task, "completed", None, runs=1)
    assert ground.stage.task(task)["summary"] == "All done."
    _prove_modesty(ground, task)


@scenario
def endless_line_of_codex(ground: Ground) -> None:
    """The same through the program between us and Codex, which is bounded too."""
    ground.open_for("codex", "fake_codex.py", "endless_line")
    task = ground.tell("endless_line")
    ground.await_end(task, "completed", None, runs=1, within_s=20)
    assert ground.peak_of_child_mb < SUPERVISOR_MB, f"the program between took {ground.peak_of_child_mb:.0f} MB"
    _prove_modesty(ground, task)


@scenario
def binary_garbage(ground: Ground) -> None:
    """Random bytes and NULs on both outputs, from a command and between events, are no reason to fail."""
    ground.open_for("claude", "fake_claude.py", "binary")
    garbage = "head -c 3000000 /dev/urandom; head -c 1000000 /dev/zero; head -c 3000000 /dev/urandom >&2; printf '\\0'"
    tasks = [ground.trouble(f"{garbage}; echo well > garbage.txt"), ground.tell("binary")]
    for task in tasks:
        ground.await_end(task, "completed", None, runs=1)
        _prove_modesty(ground, task)


def _prove_modesty(ground: Ground, task: str) -> None:
    """The supervisor stayed small, and the log within its limit (and one chunk)."""
    assert 0 < ground.peak_mb < SUPERVISOR_MB, f"a supervisor took {ground.peak_mb:.0f} MB"
    run = ground.stage.runs(task)[0]["id"]
    assert (ground.stage.run_folder(run) / "log.jsonl").stat().st_size < MOST_BYTES + 8_000_000


@scenario
def half_lines(ground: Ground) -> None:
    """An agent of events that dies in the middle of a line, or without a result, has not succeeded."""
    behaviours: dict[str, list[str | None]] = {
        "half_line": ["invalid_output"],
        "not_json": ["invalid_output"],
        "half_line_killed": ["agent_crashed", None],
        "no_result": ["interrupted", None],
    }
    ground.open_for("claude", "fake_claude.py", *behaviours)
    tasks = {behaviour: ground.tell(behaviour, merge="none") for behaviour in behaviours}
    for behaviour, codes in behaviours.items():
        state = "failed" if codes[-1] else "completed"
        ground.await_end(tasks[behaviour], state, codes[-1])
        assert [code for _, code in ground.ends(tasks[behaviour])] == codes, behaviour


@scenario
def nonsense(ground: Ground) -> None:
    """JSON of wrong types, too deep or not finite means nothing: the agent's work is judged by its real result."""
    ground.open_for("claude", "fake_claude.py", "nonsense", retry__max=0)
    task = ground.tell("nonsense")
    ground.await_end(task, "completed", None, runs=1)
    assert ground.stage.merged("done.txt") == "1\n"


@scenario
def false_success(ground: Ground) -> None:
    """A result that is called success and is an error is a failure; nothing of it is merged."""
    ground.open_for("claude", "fake_claude.py", "false_success")
    task = ground.tell("false_success")
    ground.await_end(task, "failed", "agent_failed", runs=1)
    assert ground.stage.merged("done.txt") is None
    assert ground.stage.on_branch("done.txt", ground.stage.runs(task)[0]["id"]) == "1"


@scenario
def service_gone(ground: Ground) -> None:
    """An agent that cannot reach its service failed by the network, and is tried again."""
    ground.open_for("claude", "fake_claude.py", "unreachable")
    task = ground.tell("unreachable")
    ground.await_end(task, "completed", None)
    assert ground.ends(task) == [("failed", "network"), ("succeeded", None)]


@scenario
def deaf_to_sigterm(ground: Ground) -> None:
    """An agent that ignores SIGTERM is killed after the grace, by a person's kill as by the total limit."""
    timed = ground.trouble(f"{deaf(ground, 'T2')}; true", timeout_s=1)
    killed = ground.trouble(f"echo partly > partly.txt; {deaf(ground, 'T3')}; true")
    run = ground.await_run(killed)
    ground.announcements(run, 1)
    ground.stage.orchestrion.kill(run, "enough")
    ground.await_end(killed, "failed", "killed", runs=1)
    ground.await_end(timed, "failed", "timed_out", runs=1)
    ground.announcements(ground.stage.runs(timed)[0]["id"], 1)


@scenario
def detached_children(ground: Ground) -> None:
    """Children in sessions of their own, twice forked, without a marker and deaf, end with the run; the work counts."""
    one = deaf(ground, "T2")
    forms = (f"(setsid {one} &)", f"(env -i setsid {one} &)", f"(setsid sh -c {shlex.quote(f'({one} &)')} &)")
    wait = f"while test $(cat {ground.folder}/pids-T2 2>/dev/null | wc -l) -lt {len(forms)}; do sleep 0.05; done"
    silence = " ".join(f"{form} >/dev/null 2>&1;" for form in forms)
    task = ground.trouble(f"{silence} {wait}; echo well > detached.txt")
    ground.announcements(ground.await_run(task), len(forms))
    ground.await_end(task, "completed", None, runs=1)


@scenario
def lies(ground: Ground) -> None:
    """Exit code 0 or a result of success without the work: the check says so, and nothing is merged."""
    ground.open_for("claude", "fake_claude.py", "empty_promise", run__feedback=1)
    check = ("test -f done.txt",)
    tasks = [
        ground.trouble("echo I am done; echo junk > junk.txt", checks=check),
        ground.tell("empty_promise", checks=check),
    ]
    for task in tasks:
        ground.await_end(task, "failed", "check_failed", runs=1)
        run = ground.stage.run(ground.stage.runs(task)[0]["id"])
        assert [one["exit_code"] for one in run["checks"]] == [1, 1]
    assert ground.stage.merged("junk.txt") is None


@at_length
def result_and_no_end(ground: Ground) -> None:
    """An agent that gave its result and will not end is ended; its work counts."""
    ground.open_for("claude", "fake_claude.py", "lingering")
    task = ground.tell("lingering")
    ground.await_end(task, "completed", None, runs=1)
    assert ground.stage.merged("done.txt") == "1\n"
