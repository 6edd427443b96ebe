"""What agents should know: who they are, what came before them, what is expected of them.

May import: core, store. Nothing here moves a task or starts a run; a brief is handed to
those who do as a value.
"""
