"""Consumer and AsyncConsumer against scripted brokers: in order, at least once, never back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.consuming import consuming, elsewhere, fetches, take, until_acked, values
from tests.support.fake_broker import DROP, SILENT, Ask, Result, Step, refusal, refuse
from tests.support.fake_cluster import FakeCluster, Stored, fake_cluster
from yak.consumer import AsyncConsumer, Consumer
from yak.core.records import encode_values
from yak.errors import CommitFailedError, ProtocolError, YakError
from yak.model import Record

pytestmark = pytest.mark.asyncio


async def test_records_come_in_order_with_all_that_they_carry() -> None:
    async with consuming(*range(5)) as (town, consumer):
        line = b'{"key":"k","value":{"a":[1]},"headers":[["h",null]],"timestamp":7}\n'
        town.log["t", 0].append(Stored(None, None, [line], 5))
        records = await take(consumer, 6)
        assert [record.offset for record in records] == list(range(6))
        last = records[-1]
        assert (last.topic, last.partition, last.key, last.value) == ("t", 0, "k", {"a": [1]})
        assert (last.headers, last.timestamp, last.epoch) == ([("h", None)], 7, 1)
        assert records[0].timestamp == records[0].time == 1_763_800_000_000
        assert consumer.positions == {("t", 0): 6}
        assert await consumer.poll(timeout=0.01) == []


@pytest.mark.parametrize(
    ("start", "first"),
    [("beginning", 0), ("end", 10), (4, 4), (-3, 7), (-99, 0), ({("t", 0): 6}, 6), ({}, 0)],
)
async def test_where_it_starts(start: Any, first: int) -> None:
    async with consuming(*range(10), start=start) as (town, consumer):
        await consumer.start()
        town.append("t", 0, 10)
        assert (await take(consumer, 1))[0].value == first


async def test_every_partition_is_read_and_new_ones_are_found() -> None:
    async with consuming(topics={"t": 2}, metadata_max_age_ms=30, start="end") as (town, consumer):
        town.append("t", 0, "before")
        await consumer.start()
        town.append("t", 1, "b")
        assert await values(consumer, 1) == ["b"]
        town.topics["t"] = 3
        town.append("t", 2, "in a new partition, from its beginning")
        assert [record.partition for record in await take(consumer, 1)] == [2]
        assert consumer.assignment == [("t", 0), ("t", 1), ("t", 2)]


async def test_chosen_partitions_only() -> None:
    async with consuming(topics={"t": 3}, partitions=[1]) as (town, consumer):
        for n in range(3):
            town.append("t", n, n)
        assert await values(consumer, 1) == [1]
        assert consumer.assignment == [("t", 1)]
    async with consuming(topics={"t": 3}, partitions=[3]) as (_, consumer):
        with pytest.raises(YakError, match="not 3") as caught:
            await consumer.start()
        assert caught.value.name == "UNKNOWN_PARTITION"


async def test_a_topic_that_does_not_exist_yet_is_waited_for_and_read_whole() -> None:
    async with consuming(topics={}, start="end") as (town, consumer):
        await consumer.start()
        town.topics["t"] = 1
        town.append("t", 0, "first")
        assert await values(consumer, 1) == ["first"]


async def test_polls_respect_max_records_and_decode_what_is_left_later() -> None:
    async with consuming(*range(10), max_records=4) as (_, consumer):
        sizes = [len(await consumer.poll(1)) for _ in range(3)]
        assert sizes == [4, 4, 2]


async def test_iteration_goes_on_for_ever() -> None:
    async with consuming(1, 2) as (town, consumer):
        seen: list[Any] = []
        async for record in consumer:
            seen.append(record.value)
            if record.value == 2:
                town.append("t", 0, 3)
            if record.value == 3:
                break
        assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    "step",
    [lambda _: DROP, refuse("OVERLOADED"), lambda _: b"\x00\x00\x00\x02{]", refuse("INTERNAL")],
    ids=["drop", "overloaded", "no json", "internal"],
)
async def test_another_replica_serves_where_one_fails(step: Step) -> None:
    async with consuming(*range(3)) as (town, consumer):
        await take(consumer, 3)
        town.append("t", 0, 3)
        for broker in town.brokers:
            broker.on("fetch", step, town.fetch)
        assert await values(consumer, 1) == [3]


async def test_a_hung_replica_is_left() -> None:
    async with consuming(*range(3)) as (town, consumer):
        await take(consumer, 3)
        source = next(b for b in town.brokers if str(b.address) == consumer.source)
        source.hung = True
        town.append("t", 0, 3)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await values(consumer, 1) == [3]
        assert loop.time() - started < 2.5
        assert consumer.source != str(source.address)


async def test_a_replica_that_is_cut_off_is_left() -> None:
    def cut_off(ask: Ask) -> Result:
        entry = {"topic": "t", "partition": 0, "error": "NO_LEADER", "retriable": True}
        return {"partitions": [entry]}

    async with consuming(*range(3)) as (town, consumer):
        await take(consumer, 3)
        source = next(b for b in town.brokers if str(b.address) == consumer.source)
        source.on("fetch", cut_off)
        town.append("t", 0, 3)
        assert await values(consumer, 1) == [3]
        assert consumer.source != str(source.address)


@pytest.mark.parametrize("read_from", ["leader", 1, 3])
async def test_the_chosen_replica_serves_and_another_when_it_dies(read_from: Any) -> None:
    async with consuming(*range(3), read_from=read_from) as (town, consumer):
        await take(consumer, 3)
        chosen = town[1] if read_from == "leader" else town[read_from]
        assert consumer.source == str(chosen.address)
        chosen.stop()
        town.lead(2, 2)
        town.append("t", 0, 3)
        assert await values(consumer, 1) == [3]


async def test_a_replica_that_lags_sends_nothing_twice_and_nothing_goes_back() -> None:
    async with consuming(*range(5)) as (town, consumer):
        await take(consumer, 5)

        def old(ask: Ask) -> Result:
            operation = town.log["t", 0][0].operation("t", 0)
            entry = {"topic": "t", "partition": 0, "high_watermark": 5, "size": len(operation)}
            return {"partitions": [entry]}, operation

        for broker in town.brokers:
            broker.on("fetch", old, town.fetch)
        town.append("t", 0, 5)
        assert await values(consumer, 1) == [5]


async def test_a_record_inside_an_operation_is_where_reading_goes_on() -> None:
    async with consuming(*range(10), start=7) as (_, consumer):
        assert await values(consumer, 3) == [7, 8, 9]


async def test_damage_is_fetched_again_from_elsewhere_and_told_if_it_is_everywhere() -> None:
    def damaged(town: FakeCluster) -> Step:
        def step(ask: Ask) -> Result:
            operation = town.log["t", 0][0].operation("t", 0).replace(b'"good"', b'"evil"')
            entry = {"topic": "t", "partition": 0, "high_watermark": 1, "size": len(operation)}
            return {"partitions": [entry]}, operation

        return step

    async with consuming("good") as (town, consumer):
        town[1].on("fetch", damaged(town))
        town[2].on("fetch", damaged(town))
        assert await values(consumer, 1) == ["good"]
    async with consuming("good") as (town, consumer):
        for broker in town.brokers:
            broker.on("fetch", damaged(town))
        with pytest.raises(ProtocolError) as caught:
            await take(consumer, 1)
        assert caught.value.name == "CORRUPT"


async def test_what_was_trimmed_away_is_counted_and_passed_over() -> None:
    def trimmed(town: FakeCluster) -> Step:
        def step(ask: Ask) -> Any:
            if ask.request["partitions"][0][2] < 4:
                entry = {"topic": "t", "partition": 0, "start": 4, "high_watermark": 10}
                return {"partitions": [{**entry, "error": "OFFSET_OUT_OF_RANGE"}]}
            return town.fetch(ask)

        return step

    async with consuming(*[0, 1, 2, 3]) as (town, consumer):
        town.append("t", 0, 4, 5)
        for broker in town.brokers:
            broker.on("fetch", trimmed(town))
        assert await values(consumer, 2) == [4, 5]
        assert consumer.missed == 4


async def test_a_record_that_cannot_be_decoded_is_handed_on_raw() -> None:
    async with consuming() as (town, consumer):
        lines = [b'{"value":1}\n', b'{"value":1e9999}\n', b'{"value":2}\n']
        town.log["t", 0] = [Stored(None, None, lines, 0)]
        records = await take(consumer, 3)
        assert [record.raw for record in records] == [False, True, False]
        assert records[1].value == '{"value":1e9999}'


async def test_at_end_and_high_watermarks() -> None:
    async with consuming(*range(3)) as (town, consumer):
        assert not consumer.at_end
        await take(consumer, 3)
        await town[1].until(lambda: consumer.at_end)
        assert consumer.high_watermarks == {("t", 0): 3}


async def test_fetching_stops_while_the_application_does_not_take() -> None:
    async with consuming(max_bytes=300) as (town, consumer):
        for n in range(100):
            town.append("t", 0, f"{n}" * 50)
        await consumer.poll(1, max_records=1)
        before = -1
        while before != len(fetches(town)):
            before = len(fetches(town))
            await asyncio.sleep(0.05)
        assert before < 20
        assert len(await take(consumer, 99)) == 99


# -- groups ---------------------------------------------------------------------------------------


async def test_asking_for_more_acknowledges_and_close_says_goodbye() -> None:
    async with consuming(*range(10), group="g") as (town, consumer):
        await take(consumer, 4)
        assert town.acked.get(("t", 0), 0) == 0
        await consumer.poll(1, max_records=2)
        await until_acked(town, 4)
        await consumer.close()
        assert town.acked["t", 0] == 4
        assert town.members == []


async def test_leaving_the_block_normally_acknowledges_the_last_and_an_error_does_not() -> None:
    async with consuming(*range(10), group="g") as (town, consumer):
        async with consumer:
            await take(consumer, 4)
        assert town.acked["t", 0] == 4
    async with consuming(*range(10), group="g") as (town, consumer):
        with pytest.raises(KeyError):
            await _fail_after(consumer, 4)
        assert town.acked["t", 0] == 0
    async with consuming(*range(10), group="g") as (town, consumer):
        with pytest.raises(KeyError):
            await _fail_at(consumer, 3)
        assert town.acked["t", 0] == 3


async def _fail_after(consumer: AsyncConsumer, count: int) -> None:
    async with consumer:
        await take(consumer, count)
        raise KeyError


async def _fail_at(consumer: AsyncConsumer, value: int) -> None:
    async with consumer:
        async for record in consumer:
            if record.value == value:
                raise KeyError


async def test_by_hand_nothing_is_acknowledged_but_what_is_said() -> None:
    async with consuming(*range(10), group="g", commit="manual") as (town, consumer):
        records = await take(consumer, 4)
        await consumer.poll(1, max_records=3)
        await records[1].ack()
        assert town.acked["t", 0] == 2
        await consumer.ack()
        assert town.acked["t", 0] == 7
        await records[0].ack()
        assert town.acked["t", 0] == 7


async def test_the_group_resumes_where_it_stands() -> None:
    async with consuming(*range(10), group="g") as (town, consumer):
        town.acked["t", 0] = 6
        assert await values(consumer, 1) == [6]


async def test_a_group_that_begins_at_the_end_notes_where_that_is() -> None:
    async with consuming(*range(10), group="g", start="end") as (town, consumer):
        await consumer.start()
        assert town.acked["t", 0] == 10


async def test_heartbeats_tell_what_is_owned_and_delivered() -> None:
    async with consuming(*range(10), group="g", session_ms=1000) as (town, consumer):
        await take(consumer, 4)
        await town[1].until(
            lambda: any(
                ask.request["delivered"] == [["t", 0, 4]] and ask.request["owned"] == [["t", 0]]
                for ask in town[1].asks("heartbeat")
            )
        )


async def test_a_partition_that_leaves_is_reported_only_when_its_records_are_done() -> None:
    async with consuming(topics={"t": 2}, group="g", session_ms=1000) as (town, consumer):
        town.append("t", 0, *range(10))
        records = await take(consumer, 4)
        assert {record.partition for record in records} == {0}
        town.assign(("t", 1))
        beats = town[1].asks("heartbeat")

        def reports() -> list[Any]:
            return [
                ask.request["owned"]
                for ask in town[1].asks("heartbeat")
                if ask.request["generation"] == town.generation
            ]

        await town[1].until(lambda: len(reports()) >= 2)
        assert reports() == [[["t", 0], ["t", 1]]] * len(reports())
        assert len(beats) < len(town[1].asks("heartbeat"))
        town.append("t", 1, "other")
        assert await values(consumer, 1) == ["other"], "nothing more of the one that left"
        await town[1].until(lambda: reports()[-1] == [["t", 1]])
        assert town.acked["t", 0] == 4, "acknowledged before it was let go"
        assert consumer.assignment == [("t", 1)]


async def test_a_partition_nobody_holds_records_of_leaves_at_once() -> None:
    async with consuming(topics={"t": 2}, group="g", session_ms=1000) as (town, consumer):
        await consumer.start()
        town.assign(("t", 1))
        await town[1].until(
            lambda: [ask.request["owned"] for ask in town[1].asks("heartbeat")][-1:] == [[["t", 1]]]
        )


async def test_a_partition_that_comes_back_goes_on_where_it_was() -> None:
    async with consuming(topics={"t": 2}, group="g", session_ms=1000) as (town, consumer):
        town.append("t", 0, *range(6))
        await take(consumer, 2)
        town.assign(("t", 1))
        await town[1].until(lambda: consumer.assignment == [("t", 1)])
        town.assign(("t", 0), ("t", 1))
        await town[1].until(lambda: len(consumer.assignment) == 2)
        assert await values(consumer, 4) == [2, 3, 4, 5]


async def test_a_member_that_was_forgotten_registers_again_and_reads_what_was_not_acked() -> None:
    async with consuming(*range(10), group="g", session_ms=1000) as (town, consumer):
        await take(consumer, 2)
        await consumer.poll(1, max_records=2)
        await until_acked(town, 2)
        town.members.clear()
        await town[1].until(lambda: len(town.members) == 1)
        assert (await take(consumer, 1))[0].offset == 2
        town.members.clear()
        with pytest.raises(CommitFailedError):
            await consumer.ack()


async def test_acknowledgements_survive_a_change_of_leader() -> None:
    async with consuming(*range(10), group="g") as (town, consumer):
        await take(consumer, 2)
        town[1].stop()
        town.lead(2, 2)
        await consumer.ack()
        assert town.acked["t", 0] == 2


async def test_one_bad_acknowledgement_holds_up_no_other() -> None:
    async with consuming(topics={"t": 2}, group="g", commit="manual") as (town, consumer):
        town.append("t", 0, 1)
        town.append("t", 1, 2)
        await take(consumer, 2)

        def picky(ask: Ask) -> Result:
            if ["t", 0, 1] in ask.request["offsets"]:
                return refusal("UNKNOWN_TOPIC")
            return town.ack(ask)

        town[1].on("ack", picky)
        with pytest.raises(YakError):
            await consumer.ack()
        assert town.acked == {("t", 0): 0, ("t", 1): 1}
        with pytest.raises(YakError):
            await consumer.ack()
        town[1].on("ack", town.ack)
        await consumer.ack()
        assert town.acked == {("t", 0): 1, ("t", 1): 1}


async def test_errors_of_registering_are_said() -> None:
    async with consuming(group="g") as (town, consumer):
        town[1].on("register", refuse("INVALID_TOPIC", retriable=False))
        with pytest.raises(YakError) as caught:
            async with consumer:
                pass
        assert caught.value.name == "INVALID_TOPIC"


async def test_who_waits_for_a_cluster_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yak.net.cluster.WAITING_S", 0.2)
    told: list[str] = []
    async with fake_cluster() as town:
        steps = town.metadata
        for broker in town.brokers:
            broker.on("metadata", refuse("OVERLOADED"))
        consumer = AsyncConsumer("t", bootstrap=town.bootstrap, on_waiting=told.append)
        starting = asyncio.ensure_future(consumer.start())
        await town[1].until(lambda: len(told) > 1)
        assert all("as scripted" in why for why in told)
        for broker in town.brokers:
            broker.on("metadata", steps)
        await starting
        await consumer.close()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("start", "middle"),
        ("start", "stored"),
        ("commit", "before"),
        ("read_from", "nearest"),
        ("session_ms", 10),
        ("wait_ms", -1),
        ("max_records", 0),
    ],
)
async def test_bad_options_are_named(option: str, value: Any) -> None:
    options: Any = {option: value}
    with pytest.raises(ValueError, match=option):
        Consumer("t", **options)
    with pytest.raises(ValueError, match="topic"):
        Consumer()
    with pytest.raises(ValueError, match="partitions"):
        Consumer("t", group="g", partitions=[0])


# -- the synchronous one --------------------------------------------------------------------------


async def test_the_synchronous_consumer() -> None:
    async with elsewhere(group="g") as (town, consumer):
        town.append("t", 0, *range(5000))

        def use() -> None:
            with consumer:
                seen = [record.offset for _, record in zip(range(100), consumer, strict=False)]
                assert seen == list(range(100))
                records: list[Record] = []
                while len(seen) < 5000:
                    records = consumer.poll(5, max_records=1000)
                    seen += [record.offset for record in records]
                assert seen == sorted(set(seen))
                records[-1].ack()
                assert consumer.poll(0.01) == []
                assert consumer.member == "m1"
            consumer.close()
            with pytest.raises(YakError) as caught:
                consumer.poll(0)
            assert caught.value.name == "CLOSED"

        await asyncio.to_thread(use)
        assert town.acked["t", 0] == 5000
        assert town.members == []


async def test_an_exception_in_the_loop_leaves_its_record_unacknowledged() -> None:
    async with elsewhere(group="g") as (town, consumer):
        town.append("t", 0, *range(10))

        def use() -> None:
            with consumer:
                for record in consumer:
                    if record.value == 7:
                        raise KeyError(record.value)

        with pytest.raises(KeyError):
            await asyncio.to_thread(use)
        assert town.acked["t", 0] == 7


async def test_closing_from_another_thread_ends_a_poll_that_waits() -> None:
    async with elsewhere() as (town, consumer):
        polling = asyncio.ensure_future(asyncio.to_thread(consumer.poll))
        await town[1].until(lambda: len(fetches(town)) > 0)
        await asyncio.to_thread(consumer.close)
        with pytest.raises(YakError) as caught:
            await polling
        assert caught.value.name == "CLOSED"


async def test_records_do_not_need_their_consumer_to_be_read() -> None:
    body = encode_values([{"a": 1}])
    async with consuming() as (town, consumer):
        town.log["t", 0] = [Stored(None, None, [body], 0)]
        (record,) = await take(consumer, 1)
        await consumer.close()
        assert json.dumps(record.value) == '{"a": 1}'
        assert "t[0]@0" in repr(record)
    assert SILENT is not DROP
