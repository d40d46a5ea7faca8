"""Section 4 of the protocol: fetch and list_offsets, on leaders and followers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.wire import Fields, Wire, records, split_operations


def fetch_many(
    wire: Wire, places: list[tuple[str, int, int]], **fields: Any
) -> list[tuple[Fields, bytes]]:
    """Each entry of a fetch's answer, with its own part of the body."""
    answer, body = wire.ask("fetch", partitions=[list(place) for place in places], **fields)
    assert answer["ok"] is True, answer
    assert [(e["topic"], e["partition"]) for e in answer["partitions"]] == [p[:2] for p in places]
    found = []
    for entry in answer["partitions"]:
        found.append((entry, body[: entry["size"]]))
        body = body[entry["size"] :]
    assert body == b"", "the body holds no more than the entries say"
    return found


@pytest.fixture
def batches(shared: Cluster, leader: Wire, topic: str) -> str:
    """Offsets 0-9, 10-19, ... 90-99 in ten operations, on every replica."""
    for first in range(0, 100, 10):
        leader.produce(topic, 0, range(first, first + 10))
    shared.wait_level()
    return topic


@pytest.mark.parametrize("broker", [1, 2, 3])
def test_every_replica_serves_the_same_bytes(shared: Cluster, batches: str, broker: int) -> None:
    with shared.connect_leader() as leads, shared.connect(broker) as wire:
        expected = leads.read_all(batches, 0)
        assert wire.read_all(batches, 0) == expected
        assert [value for op in expected for value in op.values] == list(range(100))


def test_whole_operations_from_the_one_that_holds_the_offset(leader: Wire, batches: str) -> None:
    for offset in (0, 1, 9, 10, 55, 89, 99):
        entry, operations = leader.fetch(batches, 0, offset)
        assert entry["high_watermark"] == 100
        assert entry["start"] == 0
        assert operations[0].fields["offset"] == offset // 10 * 10
        assert operations[-1].offsets.stop == 100


def test_past_the_high_watermark_it_is_empty(shared: Cluster, batches: str) -> None:
    for broker in shared.ids:
        with shared.connect(broker) as wire:
            for offset in (100, 101, 2**53 - 1):
                entry, operations = wire.fetch(batches, 0, offset)
                assert "error" not in entry
                assert (entry["high_watermark"], entry["size"], operations) == (100, 0, [])


def test_max_bytes_is_for_whole_operations(leader: Wire, batches: str) -> None:
    sizes = [len(op.line) + len(op.body) for op in leader.read_all(batches, 0)]
    for limit, count in (
        (0, 1),
        (1, 1),
        (sizes[0], 1),
        (sizes[0] + sizes[1] - 1, 1),
        (sizes[0] + sizes[1], 2),
        (sum(sizes) - 1, 9),
        (sum(sizes), 10),
    ):
        _, operations = leader.fetch(batches, 0, 0, max_bytes=limit)
        assert len(operations) == count, f"max_bytes={limit} of operations of {sizes}"


def test_max_bytes_is_for_the_whole_answer(leader: Wire, name: str) -> None:
    """Only the first partition with data may exceed it, and by one operation."""
    leader.ok("create_topic", topic=name, partitions=4)
    for partition in (1, 2, 3):
        leader.produce(name, partition, ["x" * 1000])
    places = [(name, partition, 0) for partition in (0, 1, 2, 3)]
    one = fetch_many(leader, places)[1][0]["size"]
    for limit, sizes in (
        (1, [0, one, 0, 0]),
        (one * 2 - 1, [0, one, 0, 0]),
        (one * 2, [0, one, one, 0]),
        (one * 3, [0, one, one, one]),
    ):
        found = fetch_many(leader, places, max_bytes=limit)
        assert [entry["size"] for entry, _ in found] == sizes, f"max_bytes={limit}"
        assert [entry["high_watermark"] for entry, _ in found] == [0, 1, 1, 1]


def test_errors_are_entries_and_the_others_are_served(leader: Wire, batches: str) -> None:
    places = [
        ("no" + batches, 0, 0),
        (batches, 1, 0),
        (batches, 0, 90),
        ("../../etc/passwd", 0, 0),
    ]
    found = fetch_many(leader, places)
    assert [entry.get("error") for entry, _ in found] == [
        "UNKNOWN_TOPIC",
        "UNKNOWN_PARTITION",
        None,
        "UNKNOWN_TOPIC",
    ]
    assert [entry["size"] == 0 for entry, _ in found] == [True, True, False, True]
    assert split_operations(found[2][1])[0].values == list(range(90, 100))


def test_no_partitions_is_an_empty_answer(leader: Wire) -> None:
    assert fetch_many(leader, []) == []


def test_without_waiting_it_answers_at_once(leader: Wire, topic: str) -> None:
    asked = time.monotonic()
    leader.fetch(topic, 0, 0)
    assert time.monotonic() - asked < 2


@pytest.mark.parametrize("broker", [1, 2, 3])
def test_waiting_ends_with_the_first_record(
    shared: Cluster, leader: Wire, topic: str, broker: int
) -> None:
    shared.wait_level()
    leader.produce(topic, 0, ["old"])
    with shared.connect(broker) as wire:
        polled = wire.post("fetch", partitions=[[topic, 0, 1]], wait_ms=30_000)
        wire.ok("status")
        asked = time.monotonic()
        leader.produce(topic, 0, ["new"])
        answer, body = wire.answer_to(polled)
        assert time.monotonic() - asked < 5
    assert answer["partitions"][0]["high_watermark"] == 2
    (operation,) = split_operations(body)
    assert operation.values == ["new"]


@pytest.mark.parametrize("broker", [1, 2, 3])
def test_waiting_beyond_the_end_goes_on_when_records_come_below(
    shared: Cluster, leader: Wire, topic: str, broker: int
) -> None:
    """A client that has read further elsewhere waits for *its* first record."""
    with shared.connect(broker) as wire:
        shared.wait_level()
        polled = wire.post("fetch", partitions=[[topic, 0, 2]], wait_ms=30_000)
        wire.ok("status")
        for value in range(3):
            leader.produce(topic, 0, [value])
        answer, body = wire.answer_to(polled)
    (operation,) = split_operations(body)
    assert (operation.values, answer["partitions"][0]["high_watermark"]) == ([2], 3)


def test_waiting_for_several_partitions_ends_with_a_record_in_any(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=3)
    places = [[name, partition, 0] for partition in range(3)]
    polled = leader.post("fetch", partitions=places, wait_ms=30_000)
    leader.ok("status")
    leader.produce(name, 2, ["here"])
    answer, body = leader.answer_to(polled)
    assert [entry["size"] for entry in answer["partitions"]] == [0, 0, len(body)]


def test_waiting_ends_with_its_time(leader: Wire, topic: str) -> None:
    asked = time.monotonic()
    entry, operations = leader.fetch(topic, 0, 0, wait_ms=400)
    assert 0.35 < time.monotonic() - asked < 5
    assert (entry["size"], operations) == (0, [])


def test_waiting_is_not_for_who_has_data(leader: Wire, batches: str) -> None:
    asked = time.monotonic()
    found = fetch_many(leader, [(batches, 0, 100), (batches, 0, 0)], wait_ms=30_000)
    assert time.monotonic() - asked < 5
    assert found[0][0]["size"] == 0
    assert found[1][0]["size"] > 0


def test_large_answers_stay_under_the_brokers_own_limit(leader: Wire, topic: str) -> None:
    """However much a client asks for, an answer is bounded, and the client comes again."""
    for number in range(12):
        leader.produce(topic, 0, [f"{number:02}" + "x" * 900_000])
    entry, operations = leader.fetch(topic, 0, 0, max_bytes=2**53 - 1)
    assert 0 < len(operations) <= 10
    assert entry["high_watermark"] == 12
    assert [op.values[0][:2] for op in leader.read_all(topic, 0)] == [f"{n:02}" for n in range(12)]


# -- list_offsets ---------------------------------------------------------------------------------


def offsets(wire: Wire, at: object, *places: tuple[str, int]) -> list[int | None]:
    """One offset for each place."""
    found = wire.ok("list_offsets", partitions=[list(place) for place in places], at=at)["offsets"]
    assert [(topic, partition) for topic, partition, _ in found] == list(places)
    return [offset for _, _, offset in found]


def test_earliest_and_latest(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=2)
    leader.produce(name, 1, ["a", "b", "c"])
    both = [(name, 0), (name, 1)]
    assert offsets(leader, "earliest", *both) == [0, 0]
    assert offsets(leader, "latest", *both) == [0, 3]


def test_offsets_of_a_time(leader: Wire, topic: str) -> None:
    """The first operation at or after it; null if there is none."""
    times = []
    for value in range(4):
        times.append(leader.produce(topic, 0, [value, value])["time"])
        while time.time() * 1000 < times[-1] + 2:
            time.sleep(0.001)
    assert offsets(leader, 0, (topic, 0)) == [0]
    for number, at in enumerate(times):
        assert offsets(leader, at, (topic, 0)) == [number * 2]
        assert offsets(leader, at + 1, (topic, 0)) == [number * 2 + 2 if number < 3 else None]
    assert offsets(leader, 2**53 - 1, (topic, 0)) == [None]


def test_offsets_of_what_is_not_there(leader: Wire, topic: str) -> None:
    for at in ("earliest", "latest", 0):
        leader.refused("UNKNOWN_TOPIC", "list_offsets", partitions=[["no" + topic, 0]], at=at)
        leader.refused("UNKNOWN_PARTITION", "list_offsets", partitions=[[topic, 1]], at=at)


def test_offsets_in_a_topic_that_is_being_created(leader: Wire, name: str) -> None:
    """Asked in one breath with the creation: it is not on the broker's disk yet."""
    created = leader.post("create_topic", topic=name, partitions=1)
    asked = {at: leader.post("list_offsets", partitions=[[name, 0]], at=at) for at in (1, "latest")}
    assert leader.answer_to(created)[0]["ok"]
    assert leader.answer_to(asked[1])[0]["offsets"] == [[name, 0, None]]
    assert leader.answer_to(asked["latest"])[0]["offsets"] == [[name, 0, 0]]
    leader.produce(name, 0, ["still there"])


def test_a_body_of_many_batches_pipelined_arrives_in_order(leader: Wire, topic: str) -> None:
    """A few megabytes, written and read again over one connection."""
    body = records("x" * 200 for _ in range(500))
    asked = [leader.post("produce", body, topic=topic, partition=0, count=500) for _ in range(40)]
    first = [leader.answer_to(request_id)[0]["offset"] for request_id in asked]
    assert first == list(range(0, 20_000, 500))
    operations = leader.read_all(topic, 0)
    assert all(op.body == body for op in operations)
    assert operations[-1].offsets.stop == 20_000
