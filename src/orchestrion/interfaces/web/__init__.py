"""The door for programs and browsers: REST under ``/api/v1``, events, metrics, and whoever is asked for a token.

``app`` puts it together, ``security`` stands before it, ``house`` is the project behind it. It
imports the use cases, and nothing deeper. Needs the extra ``serve``.
"""
