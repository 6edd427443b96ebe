"""Makes other programs start ours: their configuration is edited, never rewritten.

``clients`` is the table of them, ``jsonc``, ``toml`` and ``block`` know how to change one part of
a text, ``hooks`` what Claude Code calls us for, ``files`` and ``records`` how a file is replaced
and how it comes back, ``change`` puts it together.
"""
