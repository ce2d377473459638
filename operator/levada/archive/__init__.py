"""The archive: what of a run outlives its pod and its object, in a storage: log, task rows, artifacts, record, and an index.

`layout` says where things lie, `chunks` writes what grows, `record` is the form of a run's record and of its line in the
index, `index` answers "the last 50 runs of X" in one read, `reader` is how everybody reads.

Writers: a run's own process its folder, the operator the records of runs that died and every index. Light imports only: the
run's pod loads this room.
"""
