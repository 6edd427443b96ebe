"""Plans as files: what a person or an agent writes, and how a graph is drawn.

``source.py`` turns a file's bytes into a plan, whatever its format; ``structured.py`` (YAML,
JSON) and ``markdown.py`` read a format into a tree of values that know their line and
column; ``fields.py`` says what each field may hold; ``document.py`` makes the plan of such
a tree, the same for every format; ``drawing.py`` shows a graph as tree, Mermaid, DOT or JSON.
All of that is pure: no database, no clock, no disk. May import ``core``.
"""
