"""Every move of a task or a run, each within a transaction that the caller began.

Nobody else changes a state. The files, in the order of a task's life: ``create`` and
``shape`` (edges, gates, hierarchy), ``settle`` (what follows from a change), ``claim``,
``finish`` (how a run ends) and ``reports`` (what it said), ``decide`` (what people do to tasks), ``reap`` (timers
and the dead), ``slots`` (limits), ``explain`` (why a task is not running). May import ``core`` and
``store``; knows no file, process or git.
"""
