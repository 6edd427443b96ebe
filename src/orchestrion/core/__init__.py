"""What things are: states and their moves, errors, the graph, retries, configuration.

May import the standard library and nothing else, not even the rest of this package.
No I/O and no clock (``config.py`` alone reads files and the environment): time,
randomness and rows come in as arguments, so everything here can be tested on a
plain value.
"""
