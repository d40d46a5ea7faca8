"""What a consumer tells its application, when, in which thread, and what a callback may do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.support.consuming import consuming, elsewhere, take, until_acked, values
from tests.support.fake_cluster import FakeCluster
from yak.consumer import AsyncConsumer, Consumer
from yak.errors import YakError
from yak.model import TopicPartition

pytestmark = pytest.mark.asyncio

T0, T1 = ("t", 0), ("t", 1)


class Told:
    """Callbacks that note what they are told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[TopicPartition]]] = []
        self.threads: set[int] = set()

    def options(self) -> dict[str, Any]:
        def noting(kind: str) -> Any:
            return lambda partitions: self.note(kind, partitions)

        return {f"on_{kind}": noting(kind) for kind in ("assigned", "revoked", "lost")}

    def note(self, kind: str, partitions: list[TopicPartition]) -> None:
        self.calls.append((kind, partitions))
        self.threads.add(threading.get_ident())


def owned(town: FakeCluster) -> list[Any]:
    """What the last heartbeat said."""
    beats = [ask for ask in town[1].asks("heartbeat") if ask.request["generation"] > 0]
    return beats[-1].request["owned"] if beats else []


async def test_what_came_is_told_before_its_records_and_what_goes_before_it_is_let_go() -> None:
    told = Told()
    options = {"group": "g", "session_ms": 1000, **told.options()}
    async with consuming(1, 2, topics={"t": 2}, **options) as (town, consumer):
        assert await values(consumer, 1) == [1]
        assert told.calls == [("assigned", [T0, T1])]
        town.assign(T1)
        await town[1].until(lambda: consumer.assignment == [T1])
        beats = len(town[1].asks("heartbeat"))
        await town[1].until(lambda: len(town[1].asks("heartbeat")) > beats + 2)
        assert owned(town) == [["t", 0], ["t", 1]], "the application has not come back"
        assert await consumer.poll(0.01) == []
        assert told.calls[1:] == [("revoked", [T0])]
        await town[1].until(lambda: owned(town) == [["t", 1]])
        assert town.acked[T0] == 1
        await consumer.close()
        assert told.calls[2:] == [("revoked", [T1])]
    assert town.members == []


async def test_on_revoked_acknowledges_what_is_handled_and_nobody_has_it_meanwhile() -> None:
    """by hand, in a coroutine: until it has returned the partition is still owned."""
    seen: list[Any] = []

    async def on_revoked(partitions: list[TopicPartition]) -> None:
        assert partitions == [T0]
        town.append("t", 1, "meanwhile")
        beats = len(town[1].asks("heartbeat"))
        await town[1].until(lambda: len(town[1].asks("heartbeat")) > beats + 2)
        seen.append(owned(town))
        await records[0].ack()
        seen.append(town.acked[T0])

    async with consuming(
        *range(5), topics={"t": 2}, group="g", session_ms=1000, commit="manual",
        on_revoked=on_revoked,
    ) as (town, consumer):  # fmt: skip
        records = await take(consumer, 3)
        town.assign(T1)
        await town[1].until(lambda: consumer.assignment == [T1])
        assert await values(consumer, 1) == ["meanwhile"]
        assert seen == [[["t", 0], ["t", 1]], 1]
        await town[1].until(lambda: owned(town) == [["t", 1]])
        consumer._callbacks = consumer._callbacks._replace(revoked=None)


async def test_on_assigned_seeks_before_anything_is_handed_out() -> None:
    def on_assigned(partitions: list[TopicPartition]) -> None:
        for topic, partition in partitions:
            consumer.seek(topic, partition, 7)

    async with consuming(*range(10), group="g", on_assigned=on_assigned) as (_, consumer):
        await consumer.start()
        assert await values(consumer, 3) == [7, 8, 9]


async def test_what_a_callback_raises_surfaces_and_nothing_is_lost() -> None:
    fails = iter([KeyError("once"), KeyError("twice")])
    told: list[list[TopicPartition]] = []

    def failing(partitions: list[TopicPartition]) -> None:
        for error in fails:
            raise error
        told.append(partitions)

    async with consuming(
        *range(3), topics={"t": 2}, group="g", session_ms=1000, on_assigned=failing
    ) as (town, consumer):
        for _ in range(2):
            with pytest.raises(KeyError):
                await consumer.poll(5)
        assert told == []
        assert await values(consumer, 3) == [0, 1, 2]
        assert told == [[T0, T1]]
        fails = iter([KeyError("going")])
        consumer._callbacks = consumer._callbacks._replace(revoked=failing)
        town.assign(T1)
        await town[1].until(lambda: consumer.assignment == [T1])
        with pytest.raises(KeyError):
            await consumer.poll(5)
        beats = len(town[1].asks("heartbeat"))
        await town[1].until(lambda: len(town[1].asks("heartbeat")) > beats + 2)
        assert owned(town) == [["t", 0], ["t", 1]], "it has not heard that it goes"
        assert await consumer.poll(0.01) == []
        assert told[1:] == [[T0]]
        await town[1].until(lambda: owned(town) == [["t", 1]])


async def test_a_callback_that_fails_at_the_end_is_raised_and_the_consumer_is_closed() -> None:
    def failing(_: list[TopicPartition]) -> None:
        raise KeyError("at the end")

    async with consuming(*range(3), group="g", on_revoked=failing) as (town, consumer):
        await take(consumer, 3)
        consumer._inbox.came_back()
        with pytest.raises(KeyError):
            await consumer.close()
        assert town.members == []
        assert town.acked[T0] == 3
        with pytest.raises(YakError, match="closed"):
            await consumer.poll(0)


async def test_a_member_that_was_forgotten_hears_that_all_is_lost() -> None:
    told = Told()
    options = {"group": "g", "session_ms": 1000, **told.options()}
    async with consuming(*range(10), **options) as (town, consumer):
        await take(consumer, 2)
        town.members.clear()
        await town[1].until(lambda: len(town.members) == 1)
        assert [record.offset for record in await take(consumer, 1)] == [0]
        assert told.calls == [("assigned", [T0]), ("lost", [T0]), ("assigned", [T0])]


async def test_a_consumer_without_a_group_is_told_of_partitions_that_come() -> None:
    told = Told()
    async with consuming(1, metadata_max_age_ms=30, **told.options()) as (town, consumer):
        assert await values(consumer, 1) == [1]
        town.topics["t"] = 2
        town.append("t", 1, 2)
        assert await values(consumer, 1) == [2]
        town.delete("t")
        assert await consumer.poll(2) == []
        town.make("t", 1)
        town.append("t", 0, 3)
        assert await values(consumer, 1) == [3]
        assert told.calls == [
            ("assigned", [T0]), ("assigned", [T1]), ("lost", [T0, T1]), ("assigned", [T0]),
        ]  # fmt: skip


async def test_a_callback_may_not_poll() -> None:
    async def polling(_: list[TopicPartition]) -> None:
        await consumer.poll(0)

    async with consuming(1, on_assigned=polling) as (_, consumer):
        with pytest.raises(RuntimeError, match="return first"):
            await consumer.poll(5)


async def test_a_callback_may_close() -> None:
    async def closing(_: list[TopicPartition]) -> None:
        await consumer.close()

    async with consuming(1, group="g", on_assigned=closing) as (town, consumer):
        with pytest.raises(YakError, match="closed"):
            await consumer.poll(5)
        assert town.members == []


@pytest.mark.parametrize("kind", ["assigned", "revoked", "lost"])
async def test_callbacks_are_callable(kind: str) -> None:
    options: dict[str, Any] = {f"on_{kind}": "print"}
    with pytest.raises(ValueError, match=f"on_{kind}"):
        AsyncConsumer("t", **options)


async def test_a_synchronous_consumer_awaits_nothing() -> None:
    async def on_lost(_: list[TopicPartition]) -> None: ...

    with pytest.raises(ValueError, match="on_lost of a Consumer is a plain function"):
        Consumer("t", on_lost=on_lost)


# -- the synchronous one --------------------------------------------------------------------------


async def test_in_the_applications_thread_inside_the_loop_over_records() -> None:
    told = Told()
    async with elsewhere(group="g", session_ms=1000, **told.options()) as (town, consumer):
        town.append("t", 0, *range(3))

        def use() -> int:
            with consumer:
                for record in consumer:
                    if record.value == 2:
                        break
            return threading.get_ident()

        thread = await asyncio.to_thread(use)
        assert told.calls == [("assigned", [T0]), ("revoked", [T0])]
        assert told.threads == {thread}
        assert town.acked[T0] == 3


async def test_on_revoked_of_a_synchronous_consumer_commits_what_was_handled() -> None:
    at_the_time: list[int] = []

    def on_revoked(_: list[TopicPartition]) -> None:
        consumer.ack()
        at_the_time.append(town.acked[T0])

    async with elsewhere(
        group="g", session_ms=1000, commit="manual", on_revoked=on_revoked
    ) as (town, consumer):  # fmt: skip
        town.append("t", 0, *range(3))

        def use() -> None:
            while not consumer.poll(5):
                pass
            town.assign()
            while not at_the_time:
                consumer.poll(0.05)

        await asyncio.wait_for(asyncio.to_thread(use), 20)
        assert at_the_time == [3]
        await town[1].until(lambda: owned(town) == [])
        await asyncio.to_thread(consumer.close)


async def test_an_exception_in_the_block_still_says_that_all_goes() -> None:
    told = Told()
    async with elsewhere(group="g", **told.options()) as (town, consumer):
        town.append("t", 0, *range(3))

        def use() -> None:
            with consumer:
                for record in consumer:
                    if record.value == 1:
                        raise KeyError

        with pytest.raises(KeyError):
            await asyncio.to_thread(use)
        assert told.calls == [("assigned", [T0]), ("revoked", [T0])]
        assert town.acked[T0] == 1


async def test_a_synchronous_callback_may_close() -> None:
    def closing(_: list[TopicPartition]) -> None:
        consumer.close()

    async with elsewhere(group="g", on_assigned=closing) as (town, consumer):
        with pytest.raises(YakError, match="closed"):
            await asyncio.to_thread(consumer.poll, 5)
        assert town.members == []


async def test_a_failure_that_is_handled_by_seeking_back_is_delivered_again() -> None:
    async with elsewhere(group="g") as (town, consumer):
        town.append("t", 0, *range(5))
        tries: list[int] = []

        def use() -> None:
            with consumer:
                for record in consumer:
                    tries.append(record.value)
                    if tries == [0, 1, 2]:
                        consumer.seek("t", 0, record.offset)
                    elif record.value == 4:
                        raise KeyError

        with pytest.raises(KeyError):
            await asyncio.to_thread(use)
        assert tries == [0, 1, 2, 2, 3, 4]
        assert town.acked[T0] == 4
        await until_acked(town, 4)
