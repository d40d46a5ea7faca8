"""What docs/library.md promises, on a real cluster that breaks nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import threading
from pathlib import Path
from typing import Any, Final, assert_type

import pytest

import yak
from tests.integration.test_readme import run_python
from tests.support.cluster import Cluster
from tests.support.wire import Wire
from yak import Consumer, Producer, Record, RecordMetadata, YakError

DOCUMENT: Final = Path(__file__).parents[2] / "docs/library.md"
EXAMPLES: Final = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)


def stored(wire: Wire, topic: str) -> list[Any]:
    return [value for op in wire.read_all(topic, 0) for value in op.values]


def reading(shared: Cluster, topic: str, **options: Any) -> Consumer:
    return Consumer(topic, bootstrap=shared.bootstrap(), start="beginning", **options)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(shared: Cluster, name: str, tmp_path: Path, number: int) -> None:
    code = EXAMPLES[number].replace("127.0.0.1:9092", shared.bootstrap())
    for topic in ("payments", "visits"):
        code = code.replace(f'"{topic}"', f'"{name}"')
    printed = run_python(tmp_path / "example.py", code).splitlines()
    if number == 0:
        assert sorted(printed)[-1] == "{'user': 7} Payment(id=1, amount=12.5)"
        assert len(printed) == 4
    else:
        assert printed[0].startswith("stored: RecordMetadata(")


def test_what_is_sent_and_what_comes(shared: Cluster, leader: Wire, topic: str) -> None:
    with Producer(
        bootstrap=shared.bootstrap(),
        value_serializer=lambda value: json.dumps(value).encode(),
        key_serializer="str",
    ) as producer:
        producer.send(topic, {"n": 0}, key="k")
        producer.send(topic, None, key="k")
        producer.send_many(topic, [{"n": 1}, {"n": 2}], keys=["a", None])
        with pytest.raises(YakError, match="key_serializer failed: TypeError") as caught:
            producer.send(topic, 1, key=17)
        assert caught.value.name == "INVALID_RECORD"
        with pytest.raises(YakError, match="value_serializer failed"):
            producer.send(topic, object())
    assert sorted(map(str, stored(leader, topic))) == ["None", '{"n": 0}', '{"n": 1}', '{"n": 2}']
    shared.wait_level()
    with reading(
        shared, topic, value_deserializer=json.loads, key_deserializer="bytes"
    ) as consumer:
        found = [(r.key, r.value) for r in itertools.islice(consumer, 4)]
    assert sorted(found, key=repr) == sorted(
        [(b"k", {"n": 0}), (b"k", None), (b"a", {"n": 1}), (None, {"n": 2})], key=repr
    )


def test_a_record_that_cannot_be_deserialized(shared: Cluster, leader: Wire, topic: str) -> None:
    leader.produce(topic, 0, ["1", "2", "no number", "4"])
    shared.wait_level()
    options: dict[str, Any] = {"group": topic, "value_deserializer": lambda data: int(data)}

    def until_it_fails() -> list[int]:
        seen: list[int] = []
        with reading(shared, topic, **options) as consumer:
            while len(seen) < 4:
                seen += [record.value for record in consumer.poll(10.0)]
        return seen

    with pytest.raises(YakError, match=r"@2: value_deserializer failed: ValueError") as caught:
        until_it_fails()
    assert caught.value.details["record"].value == "no number"
    (entry,) = leader.ok("group", group=topic)["partitions"]
    assert entry["acked"] == 2, "what was handled, and not the one that failed"
    with reading(shared, topic, **options) as consumer:
        with pytest.raises(YakError, match="@2"):
            consumer.poll(10.0)
        assert [record.value for record in consumer.poll(10.0)] == [4]
        consumer.seek(topic, 0, 2)
        with pytest.raises(YakError, match="@2"):
            next(iter(consumer))


def test_callbacks_hear_and_harm_nobody(
    shared: Cluster, leader: Wire, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[RecordMetadata] = []
    all_heard = threading.Event()

    def hear(sent: Any) -> None:
        heard.append(sent.result())
        if len(heard) == 20:
            all_heard.set()

    def broken(sent: Any) -> None:
        raise RuntimeError("the application's fault")

    with caplog.at_level(logging.ERROR), Producer(bootstrap=shared.bootstrap()) as producer:
        for number in range(20):
            sent = producer.send(topic, number)
            sent.add_done_callback(broken)
            sent.add_done_callback(hear)
            if number % 5 == 0:
                sent.result(10)
        producer.flush(30)
        assert all_heard.wait(10)
    assert [place.offset for place in heard] == list(range(20))
    assert caplog.text.count("a delivery callback failed") == 20
    assert stored(leader, topic) == list(range(20))


def test_a_partitioner_of_one_s_own(shared: Cluster, leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=3)
    options: dict[str, Any] = {"key_serializer": lambda number: str(number).encode()}
    with Producer(
        bootstrap=shared.bootstrap(), partitioner=lambda key, count: int(key) % count, **options
    ) as producer:
        places = [producer.send(name, None, key=n).result(10).partition for n in range(6)]
    assert places == [0, 1, 2, 0, 1, 2]
    with (
        Producer(bootstrap=shared.bootstrap(), partitioner=lambda key, count: count) as producer,
        pytest.raises(YakError, match="has partitions 0 to 2, not 3"),
    ):
        producer.send(name, None, key="k")


def test_the_awaited_twins_say_the_same(shared: Cluster, topic: str) -> None:
    async def story() -> tuple[RecordMetadata, list[Any]]:
        heard = asyncio.Event()
        async with yak.AsyncProducer(
            bootstrap=shared.bootstrap(), value_serializer="str", key_serializer="json"
        ) as producer:
            place = await producer.send_and_wait(topic, "a", key=[1], headers=[("h", "v")])
            sent = await producer.send(topic, "b")
            sent.add_done_callback(lambda _: heard.set())
            await sent.result()
            await asyncio.wait_for(heard.wait(), 10)
        async with yak.AsyncConsumer(
            topic,
            bootstrap=shared.bootstrap(),
            start="beginning",
            value_deserializer="bytes",
            key_deserializer="json",
        ) as consumer:
            seen: list[Any] = []
            async for record in consumer:
                seen.append((record.key, record.value))
                if len(seen) == 2:
                    break
        return place, seen

    place, seen = asyncio.run(story())
    assert place.offset == 0
    assert seen == [([1], b"a"), (None, b"b")]


def test_types_are_what_they_say(shared: Cluster, topic: str) -> None:
    """mypy --strict looks at this file."""
    with Producer(bootstrap=shared.bootstrap()) as producer:
        assert_type(producer.send(topic, 1).result(10), RecordMetadata)
        assert_type(producer.send_many(topic, [1]).result(10), list[RecordMetadata])
    with reading(shared, topic) as consumer:
        assert_type(consumer.poll(10.0, max_records=1), list[Record])
        for record in consumer:
            assert_type(record, Record)
            break


@pytest.mark.parametrize("option", ["value_serializer", "key_serializer"])
def test_a_form_that_there_is_not(option: str) -> None:
    wrong: dict[str, Any] = {option: "avro"}
    with pytest.raises(ValueError, match=option):
        Producer(**wrong)
    wrong = {option.replace("_ser", "_deser"): 7}
    with pytest.raises(ValueError, match=option.replace("_ser", "_deser")):
        Consumer("t", **wrong)
