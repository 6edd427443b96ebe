"""How fast Orchestrion is, as ratios to what the machine can do at best.

    python -m bench                  measures everything and writes docs/benchmarks.md
    python -m bench --check          measures again and fails where it got worse

A number of milliseconds says more about a machine than about a program. So each row
measures a *bound* in the same run, alternating with the product, and judges the ratio.
Nothing imports this folder; it uses ``orchestrion`` as any caller would.

    measure     one measurement, medians and percentiles
    databases   fresh SQLite files and PostgreSQL databases; ``postgres`` runs the server
    graph       the random graph of row 1
    bound       the bare-driver programs that row 1 compares with
    drain, scaling, cold_start, launch, memory    the rows
    project     a project on disk with its commands, for the rows that start processes
    soak        a program of its own: everything in use for hours, and whether anything grows
    report      the page, the stored ratios and the comparison with them
"""
