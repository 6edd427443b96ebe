"""The doors. They translate in and out and call the same use cases; they decide nothing.

``cli`` is the command line, ``web`` the server, ``mcp`` the tools for agents; ``supervise`` is how a
worker starts a supervisor. May import ``orchestrator`` and what it gives back.
"""
