"""The page: what people look at, and act through.

Every view is made on the server from use cases of the ``orchestrator``; a browser only asks
for it again when the journal says that something changed. ``board``, ``graph``, ``timeline``,
``transcript``, ``patch`` and ``charts`` turn what use cases return into what a template shows,
and touch nothing; ``contents`` asks for what each view shows; ``views`` and ``deeds`` are the
routes; ``sheet`` fills templates, which escape everything that an agent or a person wrote. There
is no build step, no inline script or style, and nothing is fetched from anywhere else.
"""
