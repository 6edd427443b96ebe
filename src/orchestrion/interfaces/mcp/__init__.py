"""The door for agents: the Model Context Protocol, on the official SDK.

``catalogue`` says as data which tools there are and what they take; ``arguments`` reads what a
client sent; ``tools`` hold one function each, which calls the use cases; ``replies`` keep what
is answered short; ``desk`` knows who calls, for which project, and runs the use cases in
threads of its own; ``server`` joins all that to the SDK, and ``consent`` asks the client's
user. ``wire`` is stdio, ``http`` the streamable HTTP; ``reference`` makes the page about all
tools. Nothing here decides anything, and nothing but ``server``, ``consent``, ``wire``,
``stdio``, ``http`` and what they stand on imports the SDK.
"""
