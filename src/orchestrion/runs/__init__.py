"""One agent, one workspace, one process: what a run does on disk and to processes.

``workspace`` makes a run's own copy of the repository and brings its work home; ``plan_start``
and ``plan_tip`` say where runs of a plan start and where it is, ``merge`` joins work into it,
``landing`` brings it to the user's branch, ``refs`` takes ours away again; all of them ask git
through ``git``, and bring objects into the user's repository through ``quarantine``. ``agents`` are
the programs that can be run, ``checks`` the commands that accept their work; ``processes`` ends
everything that a run started. ``supervise`` sees one run through from end to end, and ``launch``
starts a supervisor.

May import: core, store, scheduler, plans. Never memory (a brief comes as a value),
worker, orchestrator or a door.
"""
