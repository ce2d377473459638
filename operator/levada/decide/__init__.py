"""Pure decisions: frozen facts in (with `now`), a plan out. No I/O, no clock, no kopf, no asyncio.

Every module is one policy; run.py, flow.py, deployment.py and schedule.py are the tables of contents that call them.
"""
