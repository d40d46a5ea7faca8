"""Processes that yak.json names and that have ended, started again as they were before.

They belong to whoever starts them as little as to whoever did first: each is in a session of its
own, and is found by yak.json.

Not here: why they ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from yak.errors import Fatal, RetriableError
from yak.local import note
from yak.local.note import RELAY, ZK, Member, Note
from yak.local.process import LISTEN_LIMIT_S, Process, wait_listening
from yak.local.ready import LOOK_EVERY_S, READY_LIMIT_S, Standing, round_trip, wait_in_sync
from yak.model import parse_address


def start_missing(data_dir: Path, found: Note) -> list[str]:
    """Start again the processes of a running cluster that have ended; their names."""
    begun = start_again(data_dir, found, [one.id for one in found.all])
    brokers = {one.id: parse_address(one.address) for one in found.members if one.id != ZK}

    def check() -> None:
        for process in begun:
            if process.code is not None:
                raise Fatal(f"{process.name} ended: {process.words()}")

    with Standing(brokers) as standing:
        _wait_ready(standing, check)
    return [process.name for process in begun]


def _wait_ready(standing: Standing, check: Callable[[], None]) -> None:
    """All in sync, and a record has gone round.

    A leader that has just been cut off from its followers (their relay ended) counts them as in
    sync for a while, and has nobody who acknowledges: it is asked again.
    """
    deadline = time.monotonic() + READY_LIMIT_S
    while True:
        word = wait_in_sync(standing, list(standing.addresses), READY_LIMIT_S, check)
        try:
            return round_trip(standing.addresses[word.broker])
        except RetriableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_S)


def start_again(data_dir: Path, found: Note, ids: Collection[int]) -> list[Process]:
    """Those of them that have ended, as they were started before; they listen when this returns.

    `found` and yak.json say so.  Only for who holds note.starting.
    """
    begun = {}
    for one in found.all:
        if one.id in ids and not one.process.alive:
            begun[one.id] = Process(one.name, one.argv, Path(one.log), env=one.env)
    found.members = [_anew(one, begun.get(one.id)) for one in found.members]
    if found.relay is not None:
        found.relay = _anew(found.relay, begun.get(RELAY))
    note.write(data_dir, found)
    wait_listening(begun.values(), LISTEN_LIMIT_S)
    return list(begun.values())


def _anew(member: Member, process: Process | None) -> Member:
    if process is None:
        return member
    return msgspec.structs.replace(member, pid=process.id.pid, born=process.id.born)
