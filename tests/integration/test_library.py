"""Producer, Consumer and their asynchronous twins against a real cluster, as a user writes them."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from typing import Any

import pytest

import yak
from tests.support.cluster import Cluster, MakeCluster
from tests.support.process import wait_until
from tests.support.wire import Wire


def stored(wire: Wire, topic: str, partition: int = 0) -> list[Any]:
    return [value for op in wire.read_all(topic, partition) for value in op.values]


# -- Producer -------------------------------------------------------------------------------------


def test_send_returns_where_the_record_went(shared: Cluster, leader: Wire, topic: str) -> None:
    with yak.Producer(bootstrap=shared.bootstrap(), acks="all", linger_ms=5) as producer:
        sent = [producer.send(topic, {"id": number}, key="k") for number in range(5)]
        found = [handle.result(10) for handle in sent]
    assert [(m.topic, m.partition, m.offset) for m in found] == [(topic, 0, n) for n in range(5)]
    assert found[0].timestamp is not None
    assert abs(found[0].timestamp - time.time() * 1000) < 60_000
    assert stored(leader, topic) == [{"id": number} for number in range(5)]


def test_a_receipt_can_be_looked_at(shared: Cluster, name: str) -> None:
    with yak.Admin(bootstrap=shared.bootstrap()) as admin:
        admin.create_topic(name, partitions=1, config={"max_batch_bytes": 2048})
    with yak.Producer(bootstrap=shared.bootstrap(), linger_ms=60_000) as producer:
        one, many = producer.send(name, 1), producer.send_many(name, [2, 3])
        assert repr(one) == "<Sent: on its way>"
        assert repr(many) == "<SentMany: 2 records, on their way>"
        producer.flush()
        assert repr(one) == f"<Sent: {name}[0]@0>"
        assert repr(many) == "<SentMany: 2 records, acknowledged>"
        large, larger = producer.send(name, "x" * 5000), producer.send_many(name, ["x" * 6000])
        with pytest.raises(yak.UndeliveredError):
            producer.flush()
        assert repr(large).startswith("<Sent: lost: ")
        assert repr(larger) == "<SentMany: 1 records, 1 lost>"


def test_everything_that_json_can_say(shared: Cluster, leader: Wire, topic: str) -> None:
    values = ["text", 17, 2.5, None, True, [1, [2]], {"a": {"b": "grüß"}}, ""]
    with yak.Producer(bootstrap=shared.bootstrap()) as producer:
        for value in values:
            producer.send(topic, value)
        producer.send(topic, b"bytes", headers=[("h", "v")], timestamp=17)
        producer.send(topic, b"\xff\x00")
    assert stored(leader, topic) == [*values, "bytes", "/wA="]
    with yak.Consumer(topic, bootstrap=shared.bootstrap(), start="beginning") as consumer:
        records = list(itertools.islice(consumer, 10))
    assert [record.value for record in records[:8]] == values
    assert [list(header) for header in records[8].headers] == [["h", "v"]]
    assert records[8].timestamp == 17
    assert records[9].value == b"\xff\x00"


def test_send_many_keeps_the_order(shared: Cluster, leader: Wire, topic: str) -> None:
    values = [{"n": number, "text": "x" * 50} for number in range(20_000)]
    with yak.Producer(bootstrap=shared.bootstrap()) as producer:
        producer.send_many(topic, values)
        producer.flush()
        assert stored(leader, topic) == values


def test_an_unserialisable_value_is_the_callers_fault(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    with yak.Producer(bootstrap=shared.bootstrap()) as producer:
        with pytest.raises((TypeError, ValueError, yak.YakError)):
            producer.send(topic, object())
        producer.send(topic, "good").result(10)
    assert stored(leader, topic) == ["good"]


def test_a_record_that_is_too_large_fails_alone(shared: Cluster, leader: Wire, topic: str) -> None:
    producer = yak.Producer(bootstrap=shared.bootstrap())
    before = producer.send(topic, "before")
    with pytest.raises(yak.YakError, match="max_batch_bytes"):
        producer.send(topic, "x" * 2_000_000).result(10)
    after = producer.send(topic, "after")
    assert [before.result(10).offset, after.result(10).offset] == [0, 1]
    with pytest.raises(yak.UndeliveredError) as caught:
        producer.close()
    assert len(caught.value.records) == 1
    assert stored(leader, topic) == ["before", "after"]


def test_many_threads_share_a_producer(shared: Cluster, leader: Wire, topic: str) -> None:
    with yak.Producer(bootstrap=shared.bootstrap()) as producer:

        def work(name: int) -> None:
            for number in range(500):
                producer.send(topic, [name, number])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    found = stored(leader, topic)
    assert len(found) == 2000
    for name in range(4):
        assert [number for who, number in found if who == name] == list(range(500))


def test_what_is_undelivered_is_raised_with_its_records(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
    producer = yak.Producer(bootstrap=cluster.bootstrap(), delivery_timeout=1.5)
    producer.send("t", "delivered").result(10)
    cluster.kill(*cluster.ids)
    lost = [producer.send("t", f"lost {number}") for number in range(2)]
    with pytest.raises(yak.UndeliveredError) as caught:
        producer.close()
    assert len(caught.value.records) == 2
    for handle in lost:
        with pytest.raises(yak.YakError):
            handle.result(1)


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hung"])
def test_a_producer_survives_its_leader(make_cluster: MakeCluster, hangs: bool) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
    with yak.Producer(bootstrap=cluster.bootstrap()) as producer:
        sent = []
        for number in range(3000):
            sent.append(producer.send("t", number))
            if number == 1000:
                sent[500].result(10)
                cluster.pause(1) if hangs else cluster.kill(1)
        producer.flush(30)
        offsets = [handle.result(1).offset for handle in sent]
    assert offsets == list(range(3000))
    with cluster.connect(cluster.wait_leader(other_than=1)) as wire:
        assert stored(wire, "t") == list(range(3000))


# -- Consumer -------------------------------------------------------------------------------------


@pytest.fixture
def filled(shared: Cluster, leader: Wire, topic: str) -> str:
    leader.produce(topic, 0, range(100))
    shared.wait_level()
    return topic


def test_iteration_acknowledges_when_the_next_is_asked_for(
    shared: Cluster, leader: Wire, filled: str
) -> None:
    def group() -> yak.Consumer:
        return yak.Consumer(filled, bootstrap=shared.bootstrap(), group=filled, start="beginning")

    with group() as consumer:
        first = list(itertools.islice(consumer, 10))
    assert [record.value for record in first] == list(range(10))
    assert first[3].offset == 3
    (entry,) = leader.ok("group", group=filled)["partitions"]
    assert entry["acked"] in (9, 10), "the tenth: handed out, and closed without a fault"
    stands = entry["acked"]

    def handle_until_20_fails() -> None:
        with group() as consumer:
            for record in consumer:
                assert record.value >= stands
                if record.value == 20:
                    raise RuntimeError("in the loop")

    with pytest.raises(RuntimeError, match="in the loop"):
        handle_until_20_fails()
    (entry,) = leader.ok("group", group=filled)["partitions"]
    assert entry["acked"] == 20, "what was handled, and not the one that failed"


def test_poll_returns_lists_and_acknowledges_the_last_one(
    shared: Cluster, leader: Wire, filled: str
) -> None:
    with yak.Consumer(
        filled, bootstrap=shared.bootstrap(), group=filled, start="beginning"
    ) as consumer:
        seen: list[Any] = []
        while len(seen) < 100:
            records = consumer.poll(timeout=5.0, max_records=30)
            assert len(records) <= 30
            seen += [record.value for record in records]
        assert seen == list(range(100))
        assert consumer.poll(timeout=0.1) == []
    (entry,) = leader.ok("group", group=filled)["partitions"]
    assert entry["acked"] == 100


def test_manual_acknowledgement(shared: Cluster, leader: Wire, filled: str) -> None:
    options: dict[str, Any] = {"group": filled, "start": "beginning", "commit": "manual"}
    with yak.Consumer(filled, bootstrap=shared.bootstrap(), **options) as consumer:
        records = consumer.poll(timeout=5.0, max_records=50)
        records[6].ack()
    (entry,) = leader.ok("group", group=filled)["partitions"]
    assert entry["acked"] == 7, "everything up to the acknowledged one"
    with yak.Consumer(filled, bootstrap=shared.bootstrap(), **options) as consumer:
        records = consumer.poll(timeout=5.0, max_records=10)
        assert records[0].value == 7
        consumer.ack()
    (entry,) = leader.ok("group", group=filled)["partitions"]
    assert entry["acked"] == records[-1].offset + 1


def test_a_consumer_survives_its_broker(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=2)
    count = 4000
    seen: list[Any] = []

    def read() -> None:
        with yak.Consumer(
            "t", bootstrap=cluster.bootstrap(), group="g", start="beginning"
        ) as consumer:
            for record in consumer:
                seen.append(record.value)
                if len(seen) == count:
                    return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with yak.Producer(bootstrap=cluster.bootstrap()) as producer:
        for number in range(count):
            producer.send("t", number, key=str(number))
            if number == count // 2:
                producer.flush(20)
                wait_until(lambda: len(seen) > count // 4, "it reads")
                cluster.kill(1)
        producer.flush(30)
    reader.join(30)
    assert not reader.is_alive(), f"{len(seen)} of {count}"
    twice = [value for value, times in Counter(seen).items() if times > 1]
    assert sorted(set(seen)) == list(range(count)), f"twice: {twice[:10]}"


# -- Asynchronous ---------------------------------------------------------------------------------


def test_the_asynchronous_twins(shared: Cluster, leader: Wire, topic: str) -> None:
    async def story() -> list[Any]:
        async with yak.AsyncProducer(bootstrap=shared.bootstrap()) as producer:
            await producer.send(topic, {"n": 0})
            await producer.send_many(topic, [{"n": 1}, {"n": 2}])
            await producer.flush()
        async with yak.AsyncConsumer(
            topic, bootstrap=shared.bootstrap(), group=topic, start="beginning"
        ) as consumer:
            seen: list[Any] = []
            async for record in consumer:
                seen.append(record.value)
                if len(seen) == 3:
                    return seen
        return []

    assert asyncio.run(story()) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert leader.ok("group", group=topic)["members"] == []


def test_nobody_answers() -> None:
    with (
        pytest.raises(yak.YakError, match=r"127\.0\.0\.1:1"),
        yak.Producer(bootstrap="127.0.0.1:1", delivery_timeout=1, max_block_ms=1000) as producer,
    ):
        producer.send("t", "x").result(5)
