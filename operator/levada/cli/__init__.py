"""The command line: `levada`, and `kubectl levada` under its second name.

Each group of verbs is a module with a Typer `app`; main.py imports one only when it is called, so that a
command starts in the time of what it needs.
"""
