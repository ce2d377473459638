"""How a flow run executes inside one process.

`machine` is the life of a task run and of a flow run as a pure state machine, with `retry` and `timeout` as its rules.
`node` couples one run to the machine and drives it, sync or async. `tasks` and `run` are the two kinds of nodes.
`threads` runs submitted tasks, `dependencies` finds what they wait for, `deadlines` ends what takes too long, `signals`
what the outside ends. `reporter` is the only way out: the engine knows neither files nor clusters.
"""
