"""The runner: the process inside a run's pod that loads the flow, runs it and reports it to its own FlowRun.

`run` is the life of the process, `settings` what it was told, `code` finds the flow, `rows` and `status` are the pure half
of reporting (what the status should say), `report` and `api` the other half (saying it), `outcome` is how it ended.

Nothing here knows Kubernetes beyond one object: its own FlowRun, read and patched over `http.client`. A run's pod should
start in a fraction of a second, so this room imports neither aiohttp nor kubernetes nor kopf, and pydantic only through
`engine` when a flow's parameter is annotated.
"""
