"""Topics that grow, are deleted and made again under clients that produce and consume."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yak
from tests.support.cluster import Cluster, MakeCluster
from tests.support.logfiles import read_oplog
from tests.support.process import wait_until
from tests.support.wire import Wire
from yak.core.partitioner import partition_of
from yak.net.receipts import Sent

#: Of a record: value, partition, offset.
Place = tuple[str, int, int]


class Keyed(threading.Thread):
    """A producer that goes on sending keyed records, each with a number, until `stop`.

    acked: (key, partition, offset) of number n, or None where it was not acknowledged.
    """

    def __init__(self, cluster: Cluster, topic: str, name: str) -> None:
        super().__init__(name=name)
        self.producer = yak.Producer(bootstrap=cluster.bootstrap(), client=name)
        self.topic = topic
        self.ended = threading.Event()
        self.receipts: list[tuple[str, Sent]] = []
        self.acked: list[tuple[str, int, int] | None] = []
        self.refused: set[str] = set()

    def run(self) -> None:
        for number in itertools.count():
            if self.ended.is_set():
                return
            key = f"{self.name}-{number % 97}"
            sent = self.producer.send(self.topic, f"{self.name} {number}", key=key)
            self.receipts.append((key, sent))
            if number % 20 == 0:
                time.sleep(0.001)  # leave the one core to the brokers now and then

    def stop(self) -> None:
        self.ended.set()
        self.join(30)
        with suppress(yak.UndeliveredError):  # each is looked at below
            self.producer.close(60)
        for key, sent in self.receipts:
            self.acked.append(self._outcome(key, sent))

    def _outcome(self, key: str, sent: Sent) -> tuple[str, int, int] | None:
        try:
            where = sent.result(0)
        except yak.YakError as e:
            self.refused.add(e.name)
            return None
        return None if where.offset is None else (key, where.partition, where.offset)


@contextmanager
def producing(cluster: Cluster, topic: str, count: int) -> Iterator[list[Keyed]]:
    """Keyed producers that run inside the block; afterwards all they sent has its outcome."""
    threads = [Keyed(cluster, topic, f"p{number}") for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()


def stored(wire: Wire, topic: str, partition: int) -> dict[int, Any]:
    """{offset: value} of a partition."""
    return {
        op.offsets[place]: value
        for op in wire.read_all(topic, partition)
        for place, value in enumerate(op.values)
    }


def progress(threads: list[Keyed], more: int) -> Callable[[], bool]:
    """Whether each has had `more` records acknowledged since now."""
    wanted = [thread.producer.statistics.acknowledged + more for thread in threads]
    return lambda: all(
        thread.producer.statistics.acknowledged >= least
        for thread, least in zip(threads, wanted, strict=True)
    )


def test_partitions_are_added_under_keyed_producers(
    shared: Cluster, leader: Wire, name: str
) -> None:
    """All is acknowledged, each record where murmur2 says for a number of partitions that was."""
    totals = [2, 3, 8]
    leader.ok("create_topic", topic=name, partitions=totals[0])
    with yak.Admin(shared.bootstrap()) as admin, producing(shared, name, 2) as threads:
        for total in totals[1:]:
            wait_until(progress(threads, 500), "the producers run")
            assert admin.create_partitions(name, total).partitions == total
        wait_until(progress(threads, 500), "the producers run on")
    contents = [stored(leader, name, partition) for partition in range(totals[-1])]
    for thread in threads:
        assert thread.refused == set()
        at = 0  # the place in `totals` that this producer has come to
        for number, place in enumerate(thread.acked):
            assert place is not None
            key, partition, offset = place
            assert contents[partition].pop(offset) == f"{thread.name} {number}"
            while partition_of(key.encode(), totals[at]) != partition:
                at += 1  # an IndexError: where no number of partitions would put it
        assert at == len(totals) - 1, "it never heard of the new partitions"
    assert not any(contents), "stored and not acknowledged"


def test_an_idle_producer_hears_of_new_partitions_in_time(
    shared: Cluster, leader: Wire, name: str
) -> None:
    leader.ok("create_topic", topic=name, partitions=1)
    key = next(f"k{n}" for n in range(100) if partition_of(f"k{n}".encode(), 4) == 3)
    with yak.Producer(bootstrap=shared.bootstrap(), metadata_max_age_ms=300) as producer:
        assert producer.send(name, 1, key=key).result(10).partition == 0
        leader.ok("create_partitions", topic=name, partitions=4)
        # Its own first answer tells it; an idle one asks.
        wait_until(lambda: producer._producer._accumulator.topic(name).partitions == 4, "it asks")
        assert producer.send(name, 2, key=key).result(10).partition == 3


def test_an_answer_tells_of_new_partitions_at_once(
    shared: Cluster, leader: Wire, name: str
) -> None:
    leader.ok("create_topic", topic=name, partitions=1)
    key = next(f"k{n}" for n in range(100) if partition_of(f"k{n}".encode(), 4) == 3)
    with yak.Producer(bootstrap=shared.bootstrap(), metadata_max_age_ms=60_000) as producer:
        producer.send(name, 1, key=key).result(10)
        leader.ok("create_partitions", topic=name, partitions=4)
        assert producer.send(name, 2, key=key).result(10).partition == 0
        assert producer.send(name, 3, key=key).result(10).partition == 3


def test_the_command_sends_keys_to_partitions_that_were_added(
    shared: Cluster, leader: Wire, name: str
) -> None:
    leader.ok("create_topic", topic=name, partitions=1)
    keys = [f"k{n}" for n in range(40)]
    lines = "".join(f"{key}: before\n" for key in keys).encode()
    assert shared.run("yak-produce", name, "-K", ": ", stdin=lines).returncode == 0
    assert shared.run("yak", "topic", "alter", name, "--partitions", "5").returncode == 0
    assert shared.run("yak-produce", name, "-K", ": ", stdin=lines).returncode == 0
    counts = [leader.high_watermark(name, partition) for partition in range(5)]
    expected = [len([k for k in keys if partition_of(k.encode(), 5) == p]) for p in range(5)]
    assert counts == [expected[0] + len(keys), *expected[1:]]
    assert all(expected)


def made_anyhow(admin: yak.Admin, topic: str) -> None:
    """By us, or by a producer that was first."""
    try:
        admin.create_topic(topic, 3)
    except yak.YakError as e:
        if e.name != "TOPIC_EXISTS":
            raise


def test_topics_come_and_go_under_producers(shared: Cluster, leader: Wire, name: str) -> None:
    """Each record has one outcome; what the last topic of that name acknowledged, it holds."""
    leader.ok("create_topic", topic=name, partitions=3)
    with yak.Admin(shared.bootstrap()) as admin, producing(shared, name, 2) as threads:
        for _ in range(8):
            wait_until(progress(threads, 100), "the producers go on")
            admin.delete_topic(name)
            made_anyhow(admin, name)
        wait_until(progress(threads, 500), "the producers go on")
    assert leader.ok("metadata", topics=[name])["topics"][name]["partitions"] == 3
    check_last(threads, leader, name)


def test_topics_come_and_go_while_leaders_die(make_cluster: MakeCluster) -> None:
    """What had no answer when the leader died may have been stored in a topic that is gone."""
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=3)
    with yak.Admin(cluster.bootstrap()) as admin, producing(cluster, "t", 2) as threads:
        for number in range(6):
            wait_until(progress(threads, 100), "the producers go on")
            if number % 2:
                leader = cluster.wait_leader()
                cluster.kill(leader)
                admin.delete_topic("t")
                made_anyhow(admin, "t")
                cluster.start(leader)
                cluster.wait_isr(cluster.ids)
            else:
                admin.delete_topic("t")
                made_anyhow(admin, "t")
        wait_until(progress(threads, 500), "the producers go on")
    cluster.wait_level()
    with cluster.connect_leader() as wire:
        check_last(threads, wire, "t", earlier=earlier_lives(cluster.data_dir(1), "t"))


def earlier_lives(data_dir: Path, topic: str) -> set[Place]:
    """What the topics that had the name before held, as the log tells it."""
    gone: set[Place] = set()
    held: set[Place] = set()
    for op in read_oplog(data_dir):
        if op.fields.get("topic") != topic:
            continue
        if op.fields["op"] == "delete_topic":
            gone, held = gone | held, set()
        elif op.fields["op"] == "append":
            partition = op.fields["partition"]
            held |= {(v, partition, o) for v, o in zip(op.values, op.offsets, strict=True)}
    return gone


def check_last(
    threads: list[Keyed], leader: Wire, name: str, earlier: Set[Place] = frozenset()
) -> None:
    """The topic that has the name now holds all that it acknowledged, once, and nothing else.

    earlier: where a topic before it may have acknowledged a record later than the first one of
    this: each batch whose answer was lost is sent again after a pause of its own, in any order.
    """
    contents = [stored(leader, name, partition) for partition in range(3)]
    where = {value: (p, o) for p in range(3) for o, value in contents[p].items()}
    assert len(where) == sum(map(len, contents)), "stored twice"
    for thread in threads:
        assert thread.refused == set(), "a batch failed"
        for partition in range(3):
            mine = [
                (f"{thread.name} {number}", place[2])
                for number, place in enumerate(thread.acked)
                if place is not None and place[1] == partition
            ]
            first = next(n for n, (value, _) in enumerate(mine) if value in where)
            for value, offset in mine[first:]:
                assert where.pop(value) == (partition, offset)
    assert not where, "stored and not acknowledged"


def test_a_topic_made_again_with_fewer_partitions(shared: Cluster, leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=6)
    with yak.Producer(bootstrap=shared.bootstrap()) as producer:
        producer.send_many(name, range(60), keys=[f"k{n}" for n in range(60)])
        producer.flush(20)
        leader.ok("delete_topic", topic=name)
        leader.ok("create_topic", topic=name, partitions=2)
        gone = [partition_of(f"k{n}".encode(), 6) >= 2 for n in range(60)]
        sent = [producer.send(name, n, key=f"k{n}") for n in range(60)]
        try:
            producer.flush(20)
        except yak.UndeliveredError as e:
            failed = {record.value for record in e.records}
        else:
            failed = set()
        # Those sent before it was heard of go back to the caller; none is lost unheard.
        assert failed <= {n for n in range(60) if gone[n]}
        kept = {n for n in range(60) if n not in failed}
        assert {n for n in range(60) if sent[n].done()} == set(range(60))
        contents = [stored(leader, name, partition) for partition in range(2)]
        assert sorted(value for one in contents for value in one.values()) == sorted(kept)
        where = producer.send(name, "k", key="k5").result(10)
        assert where.partition == partition_of(b"k5", 2)
