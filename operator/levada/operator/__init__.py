"""The operator: watch, gather facts, decide, apply. The only room that imports kopf, and only shell.py does.

shell.py       kopf, reflectors, workers, metrics: one process, supervised
controller.py  what a change means: which keys to look at, and one reconcile per kind
store.py       slim views of everything that decisions read, with the indexes that they need
workqueue.py   de-duplicating queue: one key is never with two workers
gather.py      store -> facts          apply.py  plan -> API calls
"""
