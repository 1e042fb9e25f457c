"""Try to break the library, promise by promise: `python -m tests.prove`.

    python -m tests.prove --short         # at most 3 minutes; .ci/run does this
    python -m tests.prove                 # the whole programme, at most 60 minutes on two cores
    python -m tests.prove --part 0.1      # every trial, a tenth of the way from short to whole
    python -m tests.prove --only P4 P9    # some promises
    python -m tests.prove --json FILE     # write the table as JSON too

Each trial runs in a process of its own and judges by the server's record. Each has a control: a client, a journal or a
server that is made to break the promise, which the same judge must notice. A row fails if the promise does not hold, or
if its control was not noticed. The exit code is 1 if a row fails.

A trial that crashes, or takes four times its usual time, is a row that failed, and the programme goes on. Ctrl-C shows
the table so far. The JSON is written after each trial.
"""
