"""Consumers of the library in a group, through what befalls them: crashes, hangs, rebalances,
topics made again, partitions that come, records that are trimmed away before they are read.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import yak
from tests.support.cluster import Cluster, MakeCluster
from tests.support.process import Process, wait_until
from tests.support.wire import Wire

#: A member in a process of its own: it says on stdout, a line of JSON each, what it is told and
#: what it gets, and handles for ever the record that it is told to stop at.
MEMBER = """
import json, sys, time, yak

topic, bootstrap, stop_at, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

def say(*what):
    print(json.dumps(what), flush=True)

def saying(kind):
    return lambda partitions: say(kind, sorted(number for _, number in partitions))

with yak.Consumer(
    topic, bootstrap=bootstrap, group=topic, start="beginning", on_assigned=saying("assigned"),
    on_revoked=saying("revoked"), on_lost=saying("lost"), **json.loads(options),
) as consumer:
    for record in consumer:
        say("record", record.value)
        while record.value == stop_at:
            time.sleep(60)
"""


def member(cluster: Cluster, topic: str, *, stop_at: int = -1, **options: Any) -> Process:
    script = cluster.directory / "member.py"
    script.write_text(MEMBER, encoding="utf-8")
    argv = [sys.executable, str(script), topic, cluster.bootstrap(), str(stop_at)]
    return cluster.spawn("member", [*argv, json.dumps(options)])


def said(process: Process, kind: str) -> list[Any]:
    lines = process.stdout().split("\n")[:-1]
    return [what for said, what in map(json.loads, lines) if said == kind]


def acked(leader: Wire, group: str) -> dict[int, int | None]:
    return {e["partition"]: e["acked"] for e in leader.ok("group", group=group)["partitions"]}


def consumer(cluster: Cluster, topic: str, **options: Any) -> yak.Consumer:
    options = {"group": topic, "start": "beginning", "session_ms": 2000, **options}
    return yak.Consumer(topic, bootstrap=cluster.bootstrap(), **options)


def values(consumer: yak.Consumer, count: int) -> list[Any]:
    """So many, and then no more."""
    found: list[Any] = []

    def look() -> bool:
        found.extend(record.value for record in consumer.poll(0.5))
        return len(found) >= count

    wait_until(look, f"{count} records come")
    found += [record.value for record in consumer.poll(0.2)]
    return found


# -- crashes, hangs, exceptions -------------------------------------------------------------------


def test_a_crash_between_receiving_and_acknowledging_delivers_again(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    leader.produce(topic, 0, range(20))
    doomed = member(shared, topic, stop_at=7, session_ms=1000)
    wait_until(lambda: 7 in said(doomed, "record"), "it is in the middle of the eighth record")
    wait_until(lambda: acked(leader, topic) == {0: 7}, "the seven before it are acknowledged")
    doomed.kill()
    with consumer(shared, topic) as successor:
        assert values(successor, 13) == list(range(7, 20))


def test_a_member_that_hangs_hears_what_it_lost_when_it_wakes(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    leader.produce(topic, 0, range(3))
    sleeper = member(shared, topic, session_ms=1000)
    wait_until(lambda: acked(leader, topic) == {0: 3}, "it has read and acknowledged all")
    sleeper.pause()
    with consumer(shared, topic) as successor:
        wait_until(lambda: successor.poll(0.1) == [] and successor.assignment, "it is replaced")
        leader.produce(topic, 0, range(3, 6))
        assert values(successor, 3) == [3, 4, 5]
        sleeper.resume()
        wait_until(lambda: said(sleeper, "lost") == [[0]], "awake, it hears that all is lost")
        assert values_for(successor, 1.0) == []
    wait_until(lambda: len(said(sleeper, "assigned")) == 2, "the partition is its own again")
    leader.produce(topic, 0, [6])
    wait_until(lambda: 6 in said(sleeper, "record"), "it goes on")
    assert said(sleeper, "record") == [0, 1, 2, 6], "nothing that its successor had"
    sleeper.kill()


def values_for(consumer: yak.Consumer, seconds: float) -> list[Any]:
    return [record.value for record in consumer.poll(seconds)]


def test_an_exception_in_the_loop_acknowledges_nothing_that_was_not_handled(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    leader.produce(topic, 0, range(20))

    async def fail() -> None:
        options: dict[str, Any] = {"group": topic, "start": "beginning"}
        async with yak.AsyncConsumer(topic, bootstrap=shared.bootstrap(), **options) as awaited:
            async for record in awaited:
                if record.value == 5:
                    raise KeyError(record.value)

    with pytest.raises(KeyError):
        asyncio.run(fail())
    assert acked(leader, topic) == {0: 5}

    def fail_in_a_list() -> None:
        with consumer(shared, topic) as polled:
            records = polled.poll(10, max_records=10)
            assert [record.value for record in records] == list(range(5, 15))
            raise KeyError(records[0].value)

    with pytest.raises(KeyError):
        fail_in_a_list()
    assert acked(leader, topic) == {0: 5}, "of a list nobody knows how far it came"
    with consumer(shared, topic) as again:
        assert values(again, 15) == list(range(5, 20))


# -- rebalances -----------------------------------------------------------------------------------


class Ledger:
    """Who holds which partition by what the callbacks say; nobody may be given one that is held."""

    def __init__(self) -> None:
        self.held: dict[int, str] = {}
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def options(self, name: str) -> dict[str, Any]:
        return {
            "on_assigned": lambda partitions: self._take(name, partitions),
            "on_revoked": lambda partitions: self._give(name, partitions),
            "on_lost": lambda partitions: self._give(name, partitions),
        }

    def _take(self, name: str, partitions: list[tuple[str, int]]) -> None:
        with self._lock:
            for _, number in partitions:
                if number in self.held:
                    self.wrong.append(f"{name} is given {number}, which {self.held[number]} has")
                self.held[number] = name

    def _give(self, name: str, partitions: list[tuple[str, int]]) -> None:
        with self._lock:
            for _, number in partitions:
                if self.held.pop(number, None) != name:
                    self.wrong.append(f"{name} lets go {number}, which was not its own")


@contextmanager
def in_the_background(
    cluster: Cluster, topic: str, seen: list[Any], **options: Any
) -> Iterator[threading.Event]:
    """A member on a thread of its own, until the block ends or the event is set."""
    done = threading.Event()
    failed: list[Exception] = []

    def run() -> None:
        try:
            with consumer(cluster, topic, **options) as one:
                while not done.is_set():
                    seen.extend(record.value for record in one.poll(0.05))
        except (yak.YakError, AssertionError) as e:
            failed.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        done.set()
        thread.join(20)
        assert not thread.is_alive()
        assert failed == []


def test_members_that_come_and_go_never_hold_the_same(
    shared: Cluster, leader: Wire, name: str
) -> None:
    leader.ok("create_topic", topic=name, partitions=6)
    ledger, seen = Ledger(), list[Any]()
    count = 3000

    def shares() -> list[int]:
        held = list(ledger.held.values())
        return sorted(held.count(one) for one in set(held))

    with (
        yak.Producer(bootstrap=shared.bootstrap()) as producer,
        in_the_background(shared, name, seen, **ledger.options("a")),
    ):
        for number in range(count):
            producer.send(name, number, key=str(number))
        wait_until(lambda: shares() == [6], "one has all")
        with in_the_background(shared, name, seen, **ledger.options("b")):
            wait_until(lambda: shares() == [3, 3], "two have three each")
            with in_the_background(shared, name, seen, **ledger.options("c")):
                wait_until(lambda: shares() == [2, 2, 2], "three have two each")
                producer.send_many(name, range(count, 2 * count))
                producer.flush()
            wait_until(lambda: shares() == [3, 3], "one has left")
        wait_until(lambda: shares() == [6], "and another one")
        wait_until(lambda: len(set(seen)) == 2 * count, "all is read")
    assert ledger.wrong == []
    assert ledger.held == {}
    assert len(seen) == 2 * count, "nobody died, so nothing was delivered twice"


def test_members_go_on_when_the_leader_dies(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=4)
    ledger, seen = Ledger(), list[Any]()
    count = 2000
    with (
        in_the_background(cluster, "t", seen, session_ms=10_000, **ledger.options("a")),
        in_the_background(cluster, "t", seen, session_ms=10_000, **ledger.options("b")),
        yak.Producer(bootstrap=cluster.bootstrap()) as producer,
    ):
        wait_until(lambda: len(ledger.held) == 4, "the group is formed")
        for number in range(count):
            producer.send("t", number, key=str(number))
            if number == count // 2:
                producer.flush(20)
                cluster.kill(cluster.wait_leader())
        producer.flush(30)
        wait_until(lambda: len(set(seen)) == count, "all is read")
    assert ledger.wrong == []
    with cluster.connect_leader() as wire:
        entries = wire.ok("group", group="t")["partitions"]
    assert sum(entry["acked"] or 0 for entry in entries) == count
    assert [entry["lag"] for entry in entries] == [0] * 4


# -- topics that live -----------------------------------------------------------------------------


def test_partitions_added_under_a_group_are_read_from_their_beginning(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    with consumer(shared, topic, start="end") as reader:
        assert reader.poll(0.1) == []
        leader.ok("create_partitions", topic=topic, partitions=3)
        for number in range(3):
            leader.produce(topic, number, [number])
        assert sorted(values(reader, 3)) == [0, 1, 2]
        assert reader.assignment == [(topic, 0), (topic, 1), (topic, 2)]


def test_a_topic_made_again_under_a_group_is_read_from_its_beginning(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    ledger = Ledger()
    leader.produce(topic, 0, range(10))
    with consumer(shared, topic, **ledger.options("it")) as reader:
        assert values(reader, 10) == list(range(10))
        leader.ok("delete_topic", topic=topic)
        wait_until(lambda: reader.poll(0.1) == [] and not ledger.held, "it hears that it is gone")
        leader.ok("create_topic", topic=topic, partitions=2)
        leader.produce(topic, 0, ["new"])
        leader.produce(topic, 1, ["newer"])
        assert sorted(values(reader, 2)) == ["new", "newer"]
    assert ledger.wrong == []
    assert acked(leader, topic) == {0: 1, 1: 1}


# -- what was trimmed away ------------------------------------------------------------------------


@pytest.fixture
def trimmed(shared: Cluster, leader: Wire, name: str) -> str:
    """Thirty records, of which a group has acknowledged two, and the first twenty are gone."""
    leader.ok("create_topic", topic=name, partitions=1, config={"segment_bytes": 1024})
    for first in range(0, 30, 10):
        leader.produce(name, 0, [f"{number:0100}" for number in range(first, first + 10)])
    with consumer(shared, name, commit="manual") as early:
        early.poll(10, max_records=2)
        early.ack()
    leader.ok("trim", topic=name, partition=0, before=20)
    shared.wait_level()
    entry, _ = leader.fetch(name, 0, 25)
    assert entry["start"] == 20
    return name


@pytest.mark.parametrize(("gap", "missed", "first"), [("beginning", 18, 20), ("end", 28, 30)])
def test_who_lags_behind_the_logs_start_goes_on_and_says_what_it_missed(
    shared: Cluster, leader: Wire, trimmed: str, gap: str, missed: int, first: int
) -> None:
    with consumer(shared, trimmed, on_gap=gap) as late:
        late.start()
        wait_until(lambda: late.missed, "it notices the gap")
        leader.produce(trimmed, 0, [f"{30:0100}"])
        assert [int(value) for value in values(late, 31 - first)] == list(range(first, 31))
        assert late.missed == missed


def test_who_lags_behind_the_logs_start_may_want_an_error(shared: Cluster, trimmed: str) -> None:
    with consumer(shared, trimmed, on_gap="error") as late:
        with pytest.raises(yak.YakError, match="18 records are missed") as caught:
            late.poll(10)
        assert caught.value.name == "OFFSET_OUT_OF_RANGE"
        assert late.seek_to_beginning() == {(trimmed, 0): 20}
        assert [int(value) for value in values(late, 10)] == list(range(20, 30))


def test_the_command_says_what_it_missed(shared: Cluster, trimmed: str) -> None:
    shown = shared.run("yak-consume", trimmed, "-g", trimmed, "--from-beginning", "-n", "1")
    assert shown.returncode == 0, shown.stderr
    assert int(shown.stdout) == 20
    assert b"18 records are missed" in shown.stderr
