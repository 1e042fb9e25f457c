"""The tests. `python -m pytest` runs them all."""

import signal

# A job that a shell starts in the background ignores Ctrl-C, and so does every process that it starts. Tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
