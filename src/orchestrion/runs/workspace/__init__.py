"""A run's own copy of the user's repository: made, filled, watched, and its work brought home.

``prepare`` makes a workspace that works like the user's checkout (``carried``, ``drivers``,
``submodules``, ``lfs``, ``ports``); ``live`` says which files an agent has changed so far;
``work`` makes one commit of all that it left (``snapshot`` of the files, ``told_git``, ``nested``,
``markers``), finds what lies beside it (``side_work``), and ``publish`` puts both into the project;
``removal`` takes a workspace away when its work is safe.

No git of ours ever runs in a repository that an agent could write to: ``agent_repository`` reads
that one as data, and ``trusted`` is a git directory of ours beside it, which the rest works with.
``pipes`` takes away what git would wait for.
"""
