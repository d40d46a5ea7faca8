"""`make demo`: a record's walk through three brokers, and the leader dies in the middle.

    __main__.py    the story, in the order in which it happens
    text.py        a real text, and how its lines are told apart
    processes.py   the commands as a user starts them, and all that they say
    proof.py       what must be true at the end, compared byte for byte

Everything happens in a new temporary directory, which is kept, on ports that nobody else uses.
Nothing waits a fixed time and hopes: each step waits for a line, an answer or a process's end,
with a limit.  Whatever differs from what is promised ends it with exit code 1 and every
process's output.
"""
