"""Section 4 of the protocol: producers and what they send."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.logfiles import find, read_oplog
from tests.support.process import wait_until
from tests.support.wire import Fields, Wire, records

ONE = b'{"value":1}\n'


def register(wire: Wire, *topics: str) -> int:
    """A new producer's id."""
    producer: int = wire.ok("register", role="producer", client="test", topics=list(topics))[
        "producer"
    ]
    return producer


class Batches:
    """Batches of one registered producer to partition 0 of a topic."""

    def __init__(self, wire: Wire, topic: str, producer: int | None = None) -> None:
        self.wire = wire
        self.topic = topic
        self.producer = register(wire, topic) if producer is None else producer

    def fields(self, sequence: int, count: int, **more: object) -> Fields:
        return {
            "topic": self.topic,
            "partition": 0,
            "count": count,
            "producer": self.producer,
            "sequence": sequence,
            **more,
        }

    def send(self, sequence: int, count: int = 1, **more: object) -> Fields:
        """Values `sequence` to `sequence + count - 1`; the answer has to be good."""
        body = records(range(sequence, sequence + count))
        return self.wire.ok("produce", body, **self.fields(sequence, count, **more))

    def refused(self, error: str, sequence: int, count: int = 1, **more: object) -> Fields:
        body = records(range(sequence, sequence + count))
        return self.wire.refused(error, "produce", body, **self.fields(sequence, count, **more))


def stored(wire: Wire, topic: str, partition: int = 0) -> list[object]:
    """All values of a partition."""
    return [value for op in wire.read_all(topic, partition) for value in op.values]


# -- register, heartbeat, deregister --------------------------------------------------------------


def test_register_answers_and_creates_topics(leader: Wire, name: str) -> None:
    answer = leader.ok("register", role="producer", client="billing", topics=[name])
    assert answer["topics"] == {name: {"partitions": 3}}
    assert answer["session_ms"] == 30_000
    assert isinstance(answer["producer"], int)
    assert leader.ok("metadata", topics=[name])["topics"][name]["partitions"] == 3


def test_register_without_topics_and_every_time_another_id(leader: Wire) -> None:
    ids = {register(leader) for _ in range(5)}
    assert len(ids) == 5
    assert leader.ok("register", role="producer", topics=[])["topics"] == {}


def test_register_of_a_good_and_a_bad_topic_creates_nothing(leader: Wire, name: str) -> None:
    leader.refused("INVALID_TOPIC", "register", role="producer", topics=[name, "a/b"])
    assert "error" in leader.ok("metadata", topics=[name])["topics"][name]


def test_heartbeat_and_deregister(leader: Wire, topic: str) -> None:
    batches = Batches(leader, topic)
    leader.ok("heartbeat", producer=batches.producer)
    batches.send(0)
    leader.ok("deregister", producer=batches.producer)
    batches.refused("UNKNOWN_PRODUCER", 1)
    leader.refused("UNKNOWN_PRODUCER", "heartbeat", producer=batches.producer)
    leader.refused("UNKNOWN_PRODUCER", "deregister", producer=batches.producer)
    assert stored(leader, topic) == [0]


def test_a_producer_that_never_registered_is_unknown(leader: Wire, topic: str) -> None:
    stranger = 2**40
    leader.refused("UNKNOWN_PRODUCER", "heartbeat", producer=stranger)
    Batches(leader, topic, stranger).refused("UNKNOWN_PRODUCER", 0)


def test_silence_lists_a_producer_as_gone_and_its_next_batch_brings_it_back(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(broker_options=("--producer-session-ms", "1000"))
    with cluster.connect_leader() as wire:
        silent, beating = Batches(wire, "t"), register(wire)
        silent.send(0)

        def gone(times: int) -> list[Fields]:
            wire.ok("heartbeat", producer=beating)
            found = find(read_oplog(cluster.data_dir(1)), op="deregister", reason="expired")
            return found if len(found) == times else []

        (expired,) = wait_until(lambda: gone(1), "the silent producer is listed as gone", 15)
        assert expired["producer"] == silent.producer, "the one that beats is not"
        assert silent.send(0)["duplicate"] is True, "its sequences stay"
        assert silent.send(1)["offset"] == 1
        _, again = wait_until(lambda: gone(2), "it had come back, and is gone again", 15)
        assert again["producer"] == silent.producer
        log = read_oplog(cluster.data_dir(1))
        registered = find(log, op="register", producer=silent.producer)
        assert len(registered) == 2, "its next batch registered it again"


def test_without_auto_create_unknown_topics_are_refused(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        ids=[1],
        zk_options=("--min-insync-replicas", "1"),
        broker_options=("--no-auto-create", "--default-partitions", "7"),
    )
    with cluster.connect_leader() as wire:
        wire.refused("UNKNOWN_TOPIC", "register", role="producer", topics=["orders"])
        wire.refused("UNKNOWN_TOPIC", "register", role="consumer", group="g", topics=["orders"])
        assert wire.ok("metadata")["topics"] == {}
        wire.ok("create_topic", topic="orders")
        answer = wire.ok("register", role="producer", topics=["orders"])
        assert answer["topics"] == {"orders": {"partitions": 7}}


# -- produce --------------------------------------------------------------------------------------


@pytest.mark.parametrize("acks", ["all", 1])
def test_produce_answers_offset_count_time_and_partitions(
    leader: Wire, name: str, acks: object
) -> None:
    leader.ok("create_topic", topic=name, partitions=2)
    before_ms = int(time.time() * 1000)
    first = leader.produce(name, 1, ["a", "b"], acks=acks)
    second = leader.produce(name, 1, ["c"], acks=acks)
    assert (first["offset"], first["count"], first["partitions"]) == (0, 2, 2)
    assert (second["offset"], second["count"]) == (2, 1)
    assert before_ms - 5 <= first["time"] <= second["time"] <= time.time() * 1000 + 5
    wait_until(lambda: stored(leader, name, 1) == ["a", "b", "c"], "all is committed")
    assert stored(leader, name, 0) == []


def test_acks_left_out_is_all(shared: Cluster, leader: Wire, topic: str) -> None:
    """Acknowledged means committed: a fetch right behind the answer finds it."""
    for number in range(20):
        leader.produce(topic, 0, [number])
        entry, operations = leader.fetch(topic, 0, number)
        assert entry["high_watermark"] == number + 1
        assert operations[0].values == [number]
    assert shared.leader() is not None


def test_acks_0_is_never_answered(leader: Wire, topic: str) -> None:
    leader.post("produce", ONE, topic=topic, partition=0, count=1, acks=0)
    leader.post("produce", b"{}\n", topic=topic, partition=0, count=1, acks=0)
    leader.post("produce", ONE, topic=topic + "x", partition=0, count=1, acks=0)
    leader.post("produce", ONE, topic=topic, partition=5, count=1, acks=0)
    leader.post("produce", ONE, topic=topic, partition=0, count=1, acks=0)
    asked = leader.post("status")
    answer, _ = leader.receive()
    assert answer["id"] == asked, "nothing came before the answer to what was asked last"
    wait_until(lambda: len(stored(leader, topic)) == 2, "the two good ones are stored")
    assert leader.socket.gettimeout() is not None
    leader.ok("status")


def test_unknown_topics_and_partitions(leader: Wire, topic: str) -> None:
    leader.refused("UNKNOWN_TOPIC", "produce", ONE, topic="no" + topic, partition=0, count=1)
    leader.refused("UNKNOWN_PARTITION", "produce", ONE, topic=topic, partition=1, count=1)
    leader.refused("UNKNOWN_TOPIC", "produce", ONE, topic="../x", partition=0, count=1)


def test_another_topic_id_is_another_topic(leader: Wire, topic: str) -> None:
    known = leader.ok("metadata", topics=[topic])["topics"][topic]["topic_id"]
    assert leader.produce(topic, 0, ["x"], topic_id=known)["offset"] == 0
    leader.refused(
        "UNKNOWN_TOPIC", "produce", ONE, topic=topic, partition=0, count=1, topic_id="other"
    )


@pytest.mark.parametrize(
    "fields",
    [{"producer": 1}, {"sequence": 0}, {"producer": 1, "sequence": 0, "acks": 1}],
    ids=["producer-alone", "sequence-alone", "with-acks-1"],
)
def test_producer_and_sequence_come_together_and_with_acks_all(
    leader: Wire, topic: str, fields: Fields
) -> None:
    own = register(leader)
    if "producer" in fields:
        fields = {**fields, "producer": own}
    leader.refused("INVALID_REQUEST", "produce", ONE, topic=topic, partition=0, count=1, **fields)
    assert stored(leader, topic) == []


# -- Sequences ------------------------------------------------------------------------------------


def test_a_batch_sent_again_gets_the_first_ones_answer(leader: Wire, topic: str) -> None:
    batches = Batches(leader, topic)
    first = batches.send(0, 3)
    assert "duplicate" not in first
    batches.send(3, 2)
    again = batches.send(0, 3)
    assert again["duplicate"] is True
    assert all(again[key] == first[key] for key in ("offset", "count", "time"))
    assert stored(leader, topic) == [0, 1, 2, 3, 4]


def test_a_batch_sent_twice_in_one_breath_is_stored_once(leader: Wire, topic: str) -> None:
    """The duplicate arrives while the first is not committed yet: it waits for it."""
    batches = Batches(leader, topic)
    asked = [
        leader.post("produce", records([sequence]), **batches.fields(sequence, 1))
        for sequence in (0, 0, 1, 1, 0)
    ]
    answers = [leader.answer_to(request_id)[0] for request_id in asked]
    assert [answer["offset"] for answer in answers] == [0, 0, 1, 1, 0]
    assert [answer.get("duplicate", False) for answer in answers] == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert stored(leader, topic) == [0, 1]


def test_a_gap_names_the_sequence_that_is_expected(leader: Wire, topic: str) -> None:
    batches = Batches(leader, topic)
    assert batches.refused("OUT_OF_ORDER_SEQUENCE", 5)["expected"] == 0
    batches.send(0, 4)
    assert batches.refused("OUT_OF_ORDER_SEQUENCE", 5)["expected"] == 4
    batches.send(4)
    assert stored(leader, topic) == [0, 1, 2, 3, 4]


def test_a_pipelined_gap_refuses_all_behind_it(leader: Wire, topic: str) -> None:
    """The batch in the middle is bad: what follows it must not slip in before it."""
    batches = Batches(leader, topic)
    bodies = [(0, records([0])), (1, b"{}\n"), (2, records([2])), (3, records([3]))]
    asked = [leader.post("produce", body, **batches.fields(n, 1)) for n, body in bodies]
    answers = [leader.answer_to(request_id)[0] for request_id in asked]
    assert [answer.get("error") for answer in answers] == [
        None,
        "INVALID_RECORD",
        "OUT_OF_ORDER_SEQUENCE",
        "OUT_OF_ORDER_SEQUENCE",
    ]
    assert {answer["expected"] for answer in answers[2:]} == {1}
    assert stored(leader, topic) == [0]


def test_five_batches_are_remembered(leader: Wire, topic: str) -> None:
    batches = Batches(leader, topic)
    for sequence in range(0, 14, 2):
        batches.send(sequence, 2)
    for sequence in (4, 6, 8, 10, 12):
        again = batches.send(sequence, 2)
        assert (again["duplicate"], again["offset"]) == (True, sequence)
    for sequence in (0, 2):
        again = batches.send(sequence, 2)
        assert (again["duplicate"], again["offset"]) == (True, None)
    assert stored(leader, topic) == list(range(14))


def test_the_same_sequence_with_another_count_is_refused(leader: Wire, topic: str) -> None:
    batches = Batches(leader, topic)
    batches.send(0, 3)
    batches.refused("INVALID_REQUEST", 0, 2)
    batches.refused("INVALID_REQUEST", 0, 4)
    batches.send(3)
    assert stored(leader, topic) == [0, 1, 2, 3]


def test_sequences_belong_to_a_partition_and_a_producer(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=2)
    producers = [register(leader), register(leader)]
    for partition, producer, sequence in itertools.product((0, 1), producers, (0, 1, 2)):
        answer = leader.produce(
            name, partition, [f"{producer}-{sequence}"], producer=producer, sequence=sequence
        )
        assert "duplicate" not in answer
    for partition in (0, 1):
        assert len(stored(leader, name, partition)) == 6


def test_the_sequence_right_below_zero_is_a_gap(leader: Wire, topic: str) -> None:
    """Sequences wrap at 2**31: the highest one stands right before 0, not after it."""
    batches = Batches(leader, topic)
    assert batches.refused("OUT_OF_ORDER_SEQUENCE", 2**31 - 1)["expected"] == 0
    batches.send(0)
    answer, _ = leader.ask("produce", records([0]), **batches.fields(2**31 - 1, 1))
    assert answer["ok"] is False or answer["offset"] is None, "never stored"
    assert stored(leader, topic) == [0]
