"""A whole cluster on this machine: yak-zk and its brokers, each a process of its own.

    ports.py     who listens where, and who has a port that is not free
    process.py   one command that was started here
    pids.py      a process that somebody else started: is it still that one; end it
    note.py      yak.json: what runs, where, and how every other command finds it
    asking.py    one question to one broker, without an event loop
    ready.py     all in sync, and a record has gone round
    follow.py    what its processes say, as it comes
    acked.py     proof that nothing acknowledged was lost
    doors.py     doors between processes, by which two are cut apart; relay.py keeps them
    again.py     what ended is started again, as it was
    cluster.py   all of it: start, kill, pause, restart, stop
    faults.py    what is done to a cluster just now, noted so that it can be undone
    chaos.py     doing it, and undoing it

`yak up`, `yak down`, `yak chaos` and the pytest plugin are made of it.  It starts the commands that
a user would start, and knows nothing that they do not say.
"""
