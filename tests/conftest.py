"""For all tests: the signals of this process are what a terminal gives a program."""

import signal

# A shell lets what it runs in the background (`make test &`, nohup) ignore SIGINT, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
