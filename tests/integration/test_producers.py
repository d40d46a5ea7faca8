"""Producers over time, on real clusters: silence, return, crowds, sequences that begin again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from google_crc32c import value as crc32c

import yak
from tests.support.cluster import Cluster, MakeCluster
from tests.support.logfiles import find, read_oplog, segments
from tests.support.process import wait_until
from tests.support.wire import Fields, Wire, record, records

#: Silence after which a producer of these tests is gone.
SESSION_MS = 400
SPAN = 2**31
MIB = 1024 * 1024


def brief(make_cluster: MakeCluster, *more: str) -> Cluster:
    """A cluster whose producers are soon gone."""
    options = ("--producer-session-ms", str(SESSION_MS), "--default-partitions", "1", *more)
    return make_cluster(broker_options=options)


def register(wire: Wire, *topics: str) -> int:
    number: int = wire.ok("register", role="producer", client="p", topics=list(topics))["producer"]
    return number


def produce(wire: Wire, producer: int, sequence: int, values: list[Any] | None = None) -> Fields:
    """A batch of `values` (one, the sequence) to orders[0]; the answer has to be good."""
    values = [sequence] if values is None else values
    return wire.produce("orders", 0, values, producer=producer, sequence=sequence)


def comings(cluster: Cluster, broker: int, producer: int) -> list[str]:
    """What a broker's log says of a producer: `register`, or why it went."""
    found = [op.fields for op in read_oplog(cluster.data_dir(broker))]
    return [
        str(op.get("reason", op["op"]))
        for op in found
        if op["op"] in ("register", "deregister") and op.get("producer") == producer
    ]


def wait_gone(cluster: Cluster, broker: int, producer: int) -> None:
    wait_until(
        lambda: comings(cluster, broker, producer)[-1:] == ["expired"],
        f"producer {producer} is logged as gone",
    )


def known(cluster: Cluster) -> set[int]:
    """How many producers the brokers know, each."""
    return {status["producers"] for status in cluster.statuses().values()}


def values(wire: Wire) -> list[Any]:
    return [value for op in wire.read_all("orders", 0) for value in op.values]


# -- silence and return ---------------------------------------------------------------------------


def test_a_gone_producer_comes_back_to_another_leader_and_nothing_is_stored_twice(
    make_cluster: MakeCluster,
) -> None:
    cluster = brief(make_cluster)
    old = cluster.wait_leader()
    with cluster.connect(old) as wire:
        producer = register(wire, "orders")
        for sequence in range(3):
            produce(wire, producer, sequence)
    wait_gone(cluster, old, producer)
    cluster.wait_level()
    cluster.kill(old)
    new = cluster.wait_leader(other_than=old)
    with cluster.connect(new) as wire:
        again = produce(wire, producer, 2)
        assert (again["duplicate"], again["offset"]) == (True, 2), "its answer may have been lost"
        assert produce(wire, producer, 3)["offset"] == 3
        assert comings(cluster, new, producer) == ["register", "expired", "register"]
        wait_gone(cluster, new, producer)
        assert wire.ok("heartbeat", producer=producer)
        assert values(wire) == [0, 1, 2, 3]
    cluster.start(old)
    cluster.wait_isr(cluster.ids)
    cluster.wait_level()
    assert comings(cluster, old, producer)[:4] == ["register", "expired", "register", "expired"]


def test_where_max_producers_are_known_the_one_gone_longest_makes_room(
    make_cluster: MakeCluster,
) -> None:
    cluster = brief(make_cluster, "--max-producers", "2")
    old = cluster.wait_leader()
    with cluster.connect(old) as wire:
        first = register(wire, "orders")
        produce(wire, first, 0)
        wait_gone(cluster, old, first)
        second = register(wire, "orders")
        produce(wire, second, 0)
        wait_gone(cluster, old, second)
    cluster.wait_level()
    cluster.kill(old)
    new = cluster.wait_leader(other_than=old)
    with cluster.connect(new) as wire:
        third = register(wire, "orders")
        assert comings(cluster, new, first) == ["register", "expired", "forgotten"]
        wire.refused("UNKNOWN_PRODUCER", "heartbeat", producer=first)
        assert produce(wire, second, 0)["duplicate"] is True, "it is remembered, and here again"
        produce(wire, third, 0)
        refusal = wire.refused(
            "OVERLOADED", "register", role="producer", client="p", topics=["orders"]
        )
        assert "max_producers is 2" in refusal["message"]
    events = (cluster.data_dir(new) / "events.jsonl").read_text()
    assert '"producer_forgotten"' in events
    assert '"max_producers"' in events


# -- a crowd --------------------------------------------------------------------------------------

#: Producers that come, write once, and go; a third of them without a word.
CROWD = 3000
#: So many come at once: each has to write before it counts as gone, however slow the machine.
WAVE = 50


def test_a_crowd_comes_and_goes_and_leaves_nothing(make_cluster: MakeCluster) -> None:
    cluster = brief(make_cluster, "--producer-retention-ms", "2000")
    leader = cluster.wait_leader()
    with cluster.connect(leader) as wire:
        come_and_go(wire, 300)  # so that what every process needs once is there
        wait_until(lambda: known(cluster) == {0}, "the first ones are forgotten")
        before = {broker: one.rss_bytes for broker, one in cluster.brokers.items()}
        come_and_go(wire, CROWD)
        wait_until(lambda: known(cluster) == {0}, "all that were silent are forgotten")
        assert len(values(wire)) == 300 + CROWD
    for broker, process in cluster.brokers.items():
        # 3.6 MB of it is the log's recent operations.
        assert process.rss_bytes - before[broker] < 16 * MIB, f"broker {broker}"
    cluster.kill(leader)
    cluster.wait_leader(other_than=leader)
    assert known(cluster) == {0}


def come_and_go(wire: Wire, count: int) -> None:
    """So many register, write a record, and deregister, but for every third."""
    for _ in range(0, count, WAVE):
        wave(wire, WAVE)


def wave(wire: Wire, count: int) -> None:
    asked = [
        wire.post("register", role="producer", client="p", topics=["orders"]) for _ in range(count)
    ]
    numbers = [wire.answer_to(one)[0]["producer"] for one in asked]
    assert len(set(numbers)) == count
    asked = [
        wire.post(
            "produce",
            record(number),
            topic="orders",
            partition=0,
            count=1,
            producer=number,
            sequence=0,
        )
        for number in numbers
    ]
    asked += [wire.post("deregister", producer=n) for n in numbers if n % 3]
    for one in asked:
        answer, _ = wire.answer_to(one)
        assert answer["ok"] is True, answer


# -- sequences begin again ------------------------------------------------------------------------


def plant(cluster: Cluster, producer: int, sequence: int) -> None:
    """While all brokers are stopped: a record of this sequence at the end of every log.

    As if the producer had sent two thousand million records before it.
    """
    for broker in cluster.ids:
        operations = read_oplog(cluster.data_dir(broker))
        body = record(sequence)
        batch = {
            "index": len(operations) + 1,
            "epoch": operations[-1].fields["epoch"],
            "time": operations[-1].fields["time"],
            "op": "append",
            "topic": "orders",
            "partition": 0,
            "offset": find(operations, op="append")[-1]["offset"] + 1,
            "count": 1,
            "size": len(body),
            "crc": f"{crc32c(body):08x}",
            "producer": producer,
            "sequence": sequence,
        }
        append_line(cluster.data_dir(broker), batch, operations[-1].fields["sum"], body)


def append_line(data_dir: Path, operation: Fields, previous_sum: str, body: bytes) -> None:
    head = json.dumps(operation, separators=(",", ":")).encode()[:-1]
    digest = f"{crc32c(previous_sum.encode() + head):08x}".encode()
    with segments(data_dir / "oplog")[-1].open("ab") as file:
        file.write(b'%s,"sum":"%s"}\n' % (head, digest) + body)


def begin_again_at(cluster: Cluster, producer: int, sequence: int) -> None:
    """Stop everything, plant, start everything."""
    cluster.wait_level()
    for broker in cluster.ids:
        assert cluster.terminate(broker) == 0
    plant(cluster, producer, sequence)
    cluster.start(*cluster.ids)
    cluster.wait_isr(cluster.ids)


def test_sequences_begin_again_at_zero_on_the_wire(make_cluster: MakeCluster) -> None:
    cluster = brief(make_cluster)
    with cluster.connect_leader() as wire:
        producer = register(wire, "orders")
        produce(wire, producer, 0)
    begin_again_at(cluster, producer, SPAN - 4)
    old = cluster.wait_leader()
    with cluster.connect(old) as wire:
        assert produce(wire, producer, SPAN - 3, ["a", "b"])["offset"] == 2
        assert produce(wire, producer, SPAN - 1, ["c", "d"])["offset"] == 4, "it ends with 0"
        gap = wire.refused(
            "OUT_OF_ORDER_SEQUENCE",
            "produce",
            records([0]),
            topic="orders",
            partition=0,
            count=1,
            producer=producer,
            sequence=2,
        )
        assert gap["expected"] == 1
        assert produce(wire, producer, 1, ["e"])["offset"] == 6
    cluster.kill(old)
    with cluster.connect(cluster.wait_leader(other_than=old)) as wire:
        for sequence, batch, offset in ((SPAN - 3, ["a", "b"], 2), (SPAN - 1, ["c", "d"], 4)):
            again = produce(wire, producer, sequence, batch)
            assert (again["duplicate"], again["offset"]) == (True, offset)
        assert produce(wire, producer, 2, ["f"])["offset"] == 7
        assert values(wire) == [0, SPAN - 4, *"abcdef"]


def test_the_library_sends_across_the_end_of_sequences_and_a_failover(
    make_cluster: MakeCluster,
) -> None:
    cluster = brief(make_cluster)

    async def send() -> None:
        async with yak.AsyncProducer(bootstrap=cluster.bootstrap(), linger_ms=0) as producer:
            await (await producer.send("orders", "first")).result()
            (lane,) = producer._sender._lanes.values()
            assert lane.producer is not None
            await asyncio.to_thread(begin_again_at, cluster, lane.producer, SPAN - 31)
            lane.flight._next_sequence = SPAN - 30
            old = await asyncio.to_thread(cluster.wait_leader)
            receipts = [await producer.send("orders", number) for number in range(20)]
            await asyncio.gather(*(one.result() for one in receipts))
            await asyncio.to_thread(cluster.pause, old)  # what is sent to it now goes unanswered
            receipts = [await producer.send("orders", number) for number in range(20, 60)]
            await asyncio.to_thread(cluster.kill, old)
            sent = await asyncio.gather(*(one.result() for one in receipts))
            assert [one.offset for one in sent] == list(range(22, 62))
            for number in range(60, 63):
                await (await producer.send("orders", number)).result()

    asyncio.run(send())
    with cluster.connect_leader() as wire:
        assert values(wire) == ["first", SPAN - 31, *range(63)]
    log = find([*read_oplog(cluster.data_dir(cluster.wait_leader()))], op="append")
    sequences = [(op["sequence"], op["count"]) for op in log[2:]]
    assert sequences[0][0] == SPAN - 30
    assert (sum(sequences[-1]) - sequences[0][0]) % SPAN == 63
    assert len({op["producer"] for op in log}) == 1, "it was never forgotten"
