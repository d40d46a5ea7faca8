"""What each `yak …` command does, one module a command.

A module declares its options with click, turns them into a call of an actor or of `yak.admin`,
and prints what came of it: records and tables to stdout, everything else to stderr.  Exit codes:
0 done; 1 something failed; 2 usage; 130 interrupted twice.

Actors are imported inside the commands that run them: `yak --help` must not pay for a broker.

Not here: any knowledge of the wire or of files' formats beyond their public readers.
"""
