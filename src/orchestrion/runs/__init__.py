"""One agent, one workspace, one process: what a run does on disk and to processes.

``git`` asks git; ``workspaces`` makes a run's own copy of the repository and takes its
results home; ``merge`` joins results into a plan's branch; ``checks`` runs the commands
that accept them; ``processes`` ends everything a run started. These five know no
database: they import ``core``, the standard library and each other. The supervisor and
the launcher beside them tie them to the store and the scheduler.

May import: core, store, scheduler, plans. Never memory (a brief comes as a value),
worker, orchestrator or a door.
"""
