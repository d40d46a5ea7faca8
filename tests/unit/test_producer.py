"""Producer and AsyncProducer against scripted brokers: whatever happens, once and in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.fake_broker import DROP, SILENT, Ask, Result, Step, refuse
from tests.support.fake_cluster import FakeCluster, fake_cluster, producing
from yak import errors
from yak.core.partitioner import partition_of
from yak.errors import UndeliveredError, YakError
from yak.model import RecordMetadata
from yak.net.loop_thread import LoopThread
from yak.producer import AsyncProducer, Producer

pytestmark = pytest.mark.asyncio


async def test_a_record_is_acknowledged_with_its_place() -> None:
    async with producing() as (town, producer):
        sent = await producer.send("t", {"id": 1}, key="k", headers=[("h", None)], timestamp=5)
        assert await sent.result() == RecordMetadata("t", 0, 0, 1_763_800_000_000)
        assert await producer.send_and_wait("t", b"\xff") == RecordMetadata(
            "t", 0, 1, 1_763_800_000_000
        )
        assert town.lines("t") == [
            b'{"key":"k","value":{"id":1},"headers":[["h",null]],"timestamp":5}\n',
            b'{"value":"/w==","enc":"base64"}\n',
        ]
        assert (producer.statistics.sent, producer.statistics.acknowledged) == (2, 2)


async def test_records_sent_meanwhile_travel_together_and_five_batches_at_most() -> None:
    held: list[Ask] = []

    def hold(ask: Ask) -> Result:
        held.append(ask)
        return SILENT

    async with producing() as (town, producer):
        town[1].on("produce", hold)
        for n in range(30):
            await producer.send("t", n)
            await asyncio.sleep(0)
        await town[1].until(lambda: len(held) == 5)
        town[1].on("produce", town.produce)
        for ask in held:
            ask.later(town.produce(ask))
        await producer.flush(5)
        assert town.values("t") == list(range(30))
        assert len(town.log["t", 0]) <= 7


async def test_linger_waits_and_flush_does_not() -> None:
    async with producing(linger_ms=60_000) as (town, producer):
        sent = await producer.send("t", 1)
        await asyncio.sleep(0.05)
        assert town.values("t") == []
        assert not sent.done()
        await producer.flush(5)
        assert town.values("t") == [1]


async def test_a_full_batch_does_not_linger() -> None:
    async with producing(linger_ms=60_000, batch_records=2) as (town, producer):
        await producer.send("t", 0)
        await producer.send("t", 1)
        last = await producer.send("t", 2)
        await town[1].until(lambda: len(town[1].asks("produce")) == 1)
        assert not last.done()


@pytest.mark.parametrize("acks", ["all", 1])
@pytest.mark.parametrize(
    "step",
    [
        refuse("NOT_ENOUGH_REPLICAS"),
        refuse("NO_LEADER"),
        refuse("REQUEST_TIMED_OUT"),
        refuse("STORAGE_ERROR"),
        refuse("OVERLOADED"),
        lambda _: DROP,
        lambda _: b"\x00\x00\x00\x02{]",
    ],
    ids=["replicas", "no leader", "timed out", "storage", "overloaded", "drop", "no json"],
)
async def test_what_can_heal_is_sent_again_in_order(step: Step, acks: Any) -> None:
    async with producing(batch_records=2, acks=acks) as (town, producer):
        town[1].on("produce", town.produce, step, town.produce)
        for n in range(20):
            await producer.send("t", n)
        await producer.flush(10)
        if acks == "all":
            assert town.values("t") == list(range(20))
        else:  # without sequences, later batches pass it, and a lost answer stores twice
            assert set(town.values("t")) == set(range(20))
        assert producer.statistics.retransmitted > 0
        assert producer.statistics.acknowledged == 20


async def test_a_lost_answer_stores_nothing_twice() -> None:
    async with producing(batch_records=2) as (town, producer):

        def store_and_drop(ask: Ask) -> Result:
            town.produce(ask)
            return DROP

        town[1].on("produce", town.produce, store_and_drop, town.produce)
        sent = [await producer.send("t", n) for n in range(20)]
        assert [(await one.result()).offset for one in sent] == list(range(20))
        assert town.values("t") == list(range(20))


async def test_a_new_leader_is_found_and_nothing_lost_when_the_old_one_dies() -> None:
    async with producing(batch_records=2) as (town, producer):
        await (await producer.send("t", 0)).result()
        for n in range(1, 10):
            await producer.send("t", n)
        town[1].stop()
        town.lead(None, 1)
        for n in range(10, 20):
            await producer.send("t", n)
        await town[2].until(lambda: len(town[2].asks("metadata")) > 2)
        town.lead(2, 2)
        await producer.flush(10)
        assert town.values("t") == list(range(20))


async def test_a_leader_that_hangs_is_left_for_the_one_that_the_others_name() -> None:
    async with producing(batch_records=2) as (town, producer):
        await (await producer.send("t", 0)).result()
        town[1].hung = True
        for n in range(1, 20):
            await producer.send("t", n)
        await town[3].until(lambda: len(town[3].asks("metadata")) > 2)
        loop = asyncio.get_running_loop()
        town.lead(2, 2)
        changed = loop.time()
        await producer.flush(10)
        assert loop.time() - changed < 1.0
        assert town.values("t") == list(range(20))


async def test_a_batch_refused_for_good_fails_alone() -> None:
    async with producing(batch_records=2) as (town, producer):
        values = [0, 1, 2, "bad", 4, 5, 6, 7, 8, 9]
        sent = [await producer.send("t", value) for value in values]
        with pytest.raises(UndeliveredError, match="as scripted") as caught:
            await producer.flush(10)
        assert [record.value for record in caught.value.records] == [2, "bad"]
        assert [record.offset for record in caught.value.records] == [-1, -1]
        with pytest.raises(YakError) as refused:
            await sent[2].result()
        assert refused.value.name == "INVALID_RECORD"
        assert town.values("t") == [0, 1, 4, 5, 6, 7, 8, 9]
        assert producer.statistics.lost == 2
        await producer.flush(1)


async def test_what_is_not_acknowledged_in_time_is_listed() -> None:
    async with producing(delivery_timeout=0.3) as (town, producer):
        town[1].on("produce", lambda _: SILENT)
        sent = await producer.send("t", "late", key="k")
        with pytest.raises(UndeliveredError) as caught:
            await producer.flush(10)
        (record,) = caught.value.records
        assert (record.topic, record.key, record.value) == ("t", "k", "late")
        with pytest.raises(errors.TimeoutError, match=r"t\[0\]"):
            await sent.result()
        town[1].on("produce", town.produce)
        await producer.send("t", "next")
        await producer.flush(10)
        assert town.values("t") == ["next"]


async def test_never_sent_batches_expire_too() -> None:
    async with producing(delivery_timeout=0.5, batch_records=1) as (town, producer):
        await (await producer.send("t", "first")).result()
        town[1].on("produce", refuse("NO_LEADER"))
        for n in range(20):
            await producer.send("t", n)
        with pytest.raises(UndeliveredError) as caught:
            await producer.flush(10)
        assert [record.value for record in caught.value.records] == list(range(20))


async def test_a_flush_that_runs_out_of_time_lists_what_is_on_its_way() -> None:
    async with producing() as (town, producer):
        town[1].on("produce", lambda _: SILENT)
        await producer.send("t", "slow")
        with pytest.raises(UndeliveredError) as caught:
            await producer.flush(0.05)
        assert [record.value for record in caught.value.records] == ["slow"]
        town[1].on("produce", town.produce)
        town[1].hang_up()
        await producer.flush(10)
        assert town.values("t") == ["slow"]


async def test_a_forgotten_producer_registers_anew_and_goes_on() -> None:
    async with producing(batch_records=2) as (town, producer):
        await (await producer.send("t", 0)).result()
        town.producers.clear()
        for n in range(1, 10):
            await producer.send("t", n)
        await producer.flush(10)
        assert town.values("t") == list(range(10))
        assert {stored.producer for stored in town.log["t", 0]} == {1, 2}


async def test_a_forgotten_producer_does_not_risk_a_duplicate() -> None:
    async with producing(batch_records=2) as (town, producer):
        await (await producer.send("t", 0)).result()

        def store_and_forget(ask: Ask) -> Result:
            town.produce(ask)
            town.producers.clear()
            return DROP

        town[1].on("produce", store_and_forget, town.produce)
        await producer.send("t", 1)
        with pytest.raises(UndeliveredError, match="forgotten") as caught:
            await producer.flush(10)
        assert [record.value for record in caught.value.records] == [1]
        await producer.send("t", 2)
        await producer.flush(10)
        assert town.values("t") == [0, 1, 2]


async def test_a_duplicate_older_than_what_is_remembered_is_acknowledged_without_offset() -> None:
    async with producing() as (town, producer):
        town[1].on(
            "produce",
            lambda _: {
                "offset": None,
                "count": 1,
                "time": None,
                "partitions": 1,
                "duplicate": True,
            },
        )
        assert await producer.send_and_wait("t", 1) == RecordMetadata("t", 0, None, None)


async def test_acks_0_is_sent_and_known_no_further() -> None:
    async with producing(acks=0, batch_records=2) as (town, producer):
        sent = [await producer.send("t", n) for n in range(6)]
        await producer.flush(5)
        await town[1].until(lambda: len(town[1].asks("produce")) == 3)
        assert town.values("t") == list(range(6))
        assert await sent[0].result() == RecordMetadata("t", 0, None, None)
        assert "producer" not in town[1].asks("produce")[0].request


async def test_keys_go_where_kafka_puts_them_and_the_rest_sticks() -> None:
    async with producing({"t": 5}, batch_records=10) as (town, producer):
        for n in range(50):
            await producer.send("t", n, key=f"k{n}")
        await producer.flush(5)
        for n in range(50):
            assert n in town.values("t", partition_of(f"k{n}".encode(), 5))
        used = {(await producer.send_and_wait("t", "no key")).partition for _ in range(5)}
        assert used == set(range(5)), "one partition after the other, a batch each"


async def test_partitions_are_checked_and_new_ones_are_learnt() -> None:
    async with producing({"t": 2}, metadata_max_age_ms=20) as (town, producer):
        with pytest.raises(YakError) as caught:
            await producer.send("t", 1, partition=2)
        assert caught.value.name == "UNKNOWN_PARTITION"
        town.topics["t"] = 3
        async with asyncio.timeout(5):
            while producer._accumulator.topic("t").partitions < 3:  # noqa: ASYNC110 -- untold
                await asyncio.sleep(0)
        assert (await (await producer.send("t", 1, partition=2)).result()).partition == 2


async def test_send_many_keeps_order_and_places() -> None:
    async with producing({"t": 3}, batch_bytes=2000) as (town, producer):
        values = [f"value {n}" * (1 + n % 7) for n in range(2000)]
        keys = [None if n % 10 == 0 else f"k{n % 17}" for n in range(2000)]
        sent = await producer.send_many("t", values, keys=keys)
        assert sent.count == 2000
        places = await sent.result()
        stored_values = [town.values("t", n) for n in range(3)]
        for value, key, where in zip(values, keys, places, strict=True):
            assert where.offset is not None
            assert stored_values[where.partition][where.offset] == value
            if key is not None:
                assert where.partition == partition_of(key.encode(), 3)
        for stored in (s for n in range(3) for s in town.log["t", n]):
            assert sum(map(len, stored.lines)) <= 2000


@pytest.mark.parametrize(
    "options", [{}, {"key": "k"}, {"headers": [("a", "b")]}, {"partition": 1}, {"key": b"\xff"}]
)
async def test_send_many_with_the_same_for_all(options: dict[str, Any]) -> None:
    async with producing({"t": 2}, batch_records=100) as (town, producer):
        sent = await producer.send_many("t", list(range(1000)), **options)
        where = await sent.result()
        assert len(where) == 1000
        if options and "headers" not in options:
            assert len({one.partition for one in where}) == 1
        stored = town.values("t", 0) + town.values("t", 1)
        assert sorted(stored) == list(range(1000))


async def test_send_many_of_nothing_and_of_what_is_wrong() -> None:
    async with producing() as (_, producer):
        sent = await producer.send_many("t", [])
        assert await sent.result() == []
        with pytest.raises(ValueError, match="keys"):
            await producer.send_many("t", [1, 2], keys=["a"])
        with pytest.raises(YakError):
            await producer.send_many("t", [1, object()])


async def test_one_record_larger_than_a_batch_goes_alone() -> None:
    async with producing(batch_bytes=100) as (town, producer):
        await (await producer.send_many("t", ["x" * n for n in (10, 500, 10)])).wait()
        assert [len(value) for value in town.values("t")] == [10, 500, 10]
        with pytest.raises(YakError, match="fits into no frame"):
            await producer.send("t", "x" * 17 * 1024 * 1024)


async def test_a_full_buffer_makes_send_wait_and_loses_nothing() -> None:
    async with producing(buffer_bytes=200, batch_records=1) as (town, producer):
        for n in range(100):
            await producer.send("t", n)
        await producer.flush(10)
        assert town.values("t") == list(range(100))


async def test_a_buffer_that_stays_full_is_said() -> None:
    async with producing(buffer_bytes=120, batch_records=1, max_block_ms=1000) as (
        town,
        producer,
    ):
        town[1].on("produce", lambda _: SILENT)
        with pytest.raises(errors.TimeoutError, match="full"):
            await producer.send_many("t", ["x" * 40] * 3)
        town[1].on("produce", town.produce)
        town[1].hang_up()


async def test_topics_that_cannot_be_are_said_at_once() -> None:
    async with producing() as (town, producer):
        town[1].on("register", refuse("INVALID_TOPIC", retriable=False))
        with pytest.raises(YakError) as caught:
            await producer.send("..", 1)
        assert caught.value.name == "INVALID_TOPIC"


async def test_an_unreachable_cluster_is_said_after_max_block_ms() -> None:
    async with fake_cluster() as town:
        for broker in town.brokers:
            broker.stop()
        producer = AsyncProducer(bootstrap=town.bootstrap, max_block_ms=200)
        with pytest.raises(errors.TimeoutError, match="cannot connect"):
            await producer.send("t", 1)
        await producer.close()


async def test_registering_is_part_of_the_time_for_delivery() -> None:
    loop = asyncio.get_running_loop()
    async with producing({}, delivery_timeout=1.0) as (town, producer):
        town[1].on("register", lambda _: SILENT)
        began = loop.time()
        with pytest.raises(errors.TimeoutError, match="'register' within 1 s"):
            await producer.send("new", 0)
        assert loop.time() - began < 2

        async def late(ask: Ask) -> Result:
            await asyncio.sleep(0.8)
            return town.register(ask)

        town[1].on("register", late)
        town[1].on("produce", lambda _: SILENT)
        for one in ("single", "many"):
            began = loop.time()
            many = producer.send_many(one, [1]) if one == "many" else producer.send(one, 1)
            await many
            with pytest.raises(UndeliveredError):
                await producer.flush(5)
            assert 0.9 < loop.time() - began < 1.6, "what registering took is not given again"


@pytest.mark.parametrize(
    "options", [{"acks": 1}, {"acks": 0}, {"acks": "all", "idempotent": False}]
)
async def test_who_numbers_nothing_registers_only_to_make_a_topic(options: Any) -> None:
    async with producing({"t": 1}, **options) as (town, producer):
        town[1].on("register", refuse("NOT_ENOUGH_REPLICAS"))
        await producer.send("t", 1)
        await producer.flush(5)
        await town[1].until(lambda: town.values("t") == [1])
        assert town[1].asks("register") == []
        town[1].on("register", town.register)
        await producer.send("new", 2, partition=0)
        await producer.flush(5)
        await town[1].until(lambda: town.values("new") == [2])
        assert len(town[1].asks("register")) == 1


async def test_who_waits_for_an_acknowledgement_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yak.net.cluster.WAITING_S", 0.2)
    monkeypatch.setattr("yak.net.sender.WAITING_S", 0.2)
    told: list[str] = []
    async with producing(on_waiting=told.append) as (town, producer):
        await producer.send_and_wait("t", 1)
        await asyncio.sleep(0.5)
        assert told == [], "nothing is waited for"
        town[1].on("produce", refuse("NOT_ENOUGH_REPLICAS"))
        await producer.send("t", 2)
        await town[1].until(lambda: len(told) > 1)
        assert all("as scripted" in why for why in told)
        town[1].on("produce", town.produce)
        await producer.flush(10)
        town.lead(None, 2)
        town[1].hang_up()
        told.clear()
        await producer.send("t", 3)
        await town[1].until(lambda: "no broker leads" in " ".join(told))
        town.lead(1, 3)
        await producer.flush(10)
        assert town.values("t") == [1, 2, 3]
        told.clear()
        town[1].on("deregister", refuse("NOT_ENOUGH_REPLICAS"))
        await producer.close()
        assert told == [], "nobody waits for its goodbye"


async def test_close_says_goodbye_and_then_nothing_more_goes() -> None:
    async with producing() as (town, producer):
        await producer.send("t", 1)
        await producer.close()
        await producer.close()
        assert town.values("t") == [1]
        assert town.producers == set()
        with pytest.raises(YakError) as caught:
            await producer.send("t", 2)
        assert caught.value.name == "CLOSED"


async def test_a_fenced_producer_stops() -> None:
    async with producing() as (town, producer):
        town[1].on("produce", refuse("PRODUCER_FENCED", retriable=False))
        sent = await producer.send("t", 1)
        with pytest.raises(errors.ProducerFencedError):
            await sent.result()
        with pytest.raises(errors.ProducerFencedError):
            await producer.send("t", 2)


@pytest.mark.parametrize(
    "options",
    [
        {"acks": 2},
        {"acks": True},
        {"acks": 1, "idempotent": True},
        {"batch_bytes": 0},
        {"batch_bytes": 1 << 30},
        {"linger_ms": -1},
        {"bootstrap": "nowhere"},
        {"metadata_max_age_ms": 0},
    ],
)
async def test_bad_options_are_named(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options)) + "|idempotent|address"):
        Producer(**options)


# -- the synchronous one --------------------------------------------------------------------------


@asynccontextmanager
async def elsewhere(**options: Any) -> AsyncIterator[tuple[FakeCluster, Producer]]:
    """A Producer in use from another thread while this loop serves the brokers."""
    async with fake_cluster(topics={"t": 1}) as town:
        options.setdefault("delivery_timeout", 20.0)
        yield town, await asyncio.to_thread(lambda: Producer(bootstrap=town.bootstrap, **options))


async def test_the_synchronous_producer() -> None:
    async with elsewhere() as (town, producer):

        def use() -> None:
            with producer:
                sent = producer.send("t", {"id": 1}, key="k")
                assert sent.result(5).offset == 0
                assert sent.exception(0) is None
                many = producer.send_many("t", list(range(5000)))
                assert [one.offset for one in many.result(10)] == list(range(1, 5001))
                producer.flush(5)
                assert producer.statistics.acknowledged == 5001
            producer.close()
            with pytest.raises(YakError) as caught:
                producer.send("t", 1)
            assert caught.value.name == "CLOSED"

        await asyncio.to_thread(use)
        assert town.producers == set()


async def test_many_threads_share_a_producer() -> None:
    async with elsewhere(batch_records=7) as (town, producer):

        def use(name: int) -> list[int]:
            sent = [producer.send("t", [name, n]) for n in range(300)]
            return [one.result(10).offset or 0 for one in sent]

        results = await asyncio.gather(*(asyncio.to_thread(use, name) for name in range(4)))
        values = town.values("t")
        assert sorted(offset for offsets in results for offset in offsets) == list(range(1200))
        for name, offsets in enumerate(results):
            assert [values[offset] for offset in offsets] == [[name, n] for n in range(300)]
        await asyncio.to_thread(producer.close)


async def test_with_raises_what_was_not_delivered_unless_something_worse_did() -> None:
    async with elsewhere() as (_, producer):

        def fine() -> None:
            with producer:
                producer.send("t", "bad")

        with pytest.raises(UndeliveredError):
            await asyncio.to_thread(fine)
    async with elsewhere() as (_, producer):

        def worse() -> None:
            with producer:
                producer.send("t", "bad")
                raise KeyError("worse")

        with pytest.raises(KeyError, match="worse") as caught:
            await asyncio.to_thread(worse)
        assert "not acknowledged" in caught.value.__notes__[0]


async def test_result_times_out_and_the_record_stays_on_its_way() -> None:
    async with elsewhere() as (town, producer):
        held: list[Ask] = []

        def hold(ask: Ask) -> Result:
            held.append(ask)
            return SILENT

        town[1].on("produce", hold)

        def use() -> Any:
            sent = producer.send("t", 1)
            with pytest.raises(errors.TimeoutError):
                sent.result(0.05)
            return sent

        sent = await asyncio.to_thread(use)
        await town[1].until(lambda: len(held) == 1)
        held[0].later(town.produce(held[0]))
        assert (await asyncio.to_thread(sent.result, 5)).offset == 0
        heard = threading.Event()
        sent.add_done_callback(lambda _: heard.set())
        assert heard.is_set()
        await asyncio.to_thread(producer.close)


async def test_a_loop_thread_ends_what_was_interrupted() -> None:
    thread = LoopThread("test")
    try:
        with pytest.raises(TimeoutError):
            thread.call(asyncio.sleep(60), timeout_s=0.01)
        assert thread.call(asyncio.sleep(0, "still works")) == "still works"
    finally:
        thread.stop()
        thread.stop()
    with pytest.raises(YakError) as caught:
        thread.call(asyncio.sleep(0))
    assert caught.value.name == "CLOSED"
