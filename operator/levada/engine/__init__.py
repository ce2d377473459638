"""How a flow run executes inside one process.

`machine` is the life of a task run and of a flow run as a pure state machine, with `retry` and `timeout` as its rules. `node` couples one
run to the machine, `driving` carries it, sync or async; `taskrun` and `run` are the two kinds of nodes, `calls` and `generators` how
they are called, `hooks` and `keeping` what happens at their ends.

`lanes` says where submitted tasks go: to `threads`, and from there to the workers of `remote`. `dependencies` finds what they wait for,
`deadlines` ends what takes too long, `signals` what the outside ends. `reporter` is the only way out: the engine knows neither files
nor clusters. `clock` is its time.
"""
