"""What keeps an installation in order: the clients' configuration, health, maintenance, restart.

Every number here is measured when it is asked for. Knows the ``core`` and the ``store`` only; the use
cases of ``orchestrator`` call it.
"""
