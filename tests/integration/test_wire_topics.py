"""Section 4 of the protocol: topics that grow, change, are trimmed, deleted and made again."""

from __future__ import annotations

import pytest

from tests.support.cluster import Cluster
from tests.support.process import wait_until
from tests.support.wire import Fields, Wire, frame_of, payload_of

#: A topic's files roll at this size, so that a few batches make several.
SMALL = {"segment_bytes": 1024}


def entry_of(wire: Wire, topic: str) -> Fields:
    entry: Fields = wire.ok("metadata", topics=[topic])["topics"][topic]
    return entry


def filled(leader: Wire, topic: str, batches: int = 20, partitions: int = 1) -> None:
    """A topic with ten records of some 50 bytes in each batch: a file holds two of them."""
    leader.ok("create_topic", topic=topic, partitions=partitions, config=SMALL)
    for number in range(batches):
        leader.produce(topic, 0, [f"{number} {n} {'x' * 40}" for n in range(10)])


# -- create_partitions, alter_topic, delete_topic -------------------------------------------------


def test_a_topic_grows(leader: Wire, name: str) -> None:
    made = leader.ok("create_topic", topic=name, partitions=2)
    grown = leader.ok("create_partitions", topic=name, partitions=4, topic_id=made["topic_id"])
    assert (grown["partitions"], grown["topic_id"]) == (4, made["topic_id"])
    assert leader.produce(name, 3, ["new"])["partitions"] == 4
    for total in (4, 3, 0, 10_001):
        leader.refused("INVALID_CONFIG", "create_partitions", topic=name, partitions=total)
    leader.refused("UNKNOWN_TOPIC", "create_partitions", topic=name + "x", partitions=4)


def test_settings_are_set_and_unset(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=1, config={"retention_ms": 5, **SMALL})
    altered = leader.ok(
        "alter_topic", topic=name, config={"max_batch_bytes": 60}, unset=["retention_ms"]
    )
    assert altered["config"] == {"max_batch_bytes": 60, **SMALL}
    assert entry_of(leader, name)["config"] == altered["config"]
    leader.produce(name, 0, ["fits"])
    body = b'{"value":"%s"}\n' % (b"x" * 80)
    leader.refused("BATCH_TOO_LARGE", "produce", body, topic=name, partition=0, count=1)
    leader.ok("alter_topic", topic=name, config={}, unset=["max_batch_bytes"])
    leader.ok("produce", body, topic=name, partition=0, count=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"config": {"colour": 1}},
        {"config": {"retention_ms": None}},
        {"config": {}, "unset": ["colour"]},
        {"config": {"retention_ms": 1}, "unset": ["retention_ms"]},
    ],
)
def test_what_is_no_setting_is_refused(leader: Wire, topic: str, fields: Fields) -> None:
    leader.refused("INVALID_CONFIG", "alter_topic", topic=topic, **fields)


@pytest.mark.parametrize("kind", ["delete_topic", "create_partitions", "alter_topic", "trim"])
def test_a_topic_made_again_is_another_one(leader: Wire, name: str, kind: str) -> None:
    old = leader.ok("create_topic", topic=name, partitions=1)["topic_id"]
    leader.ok("delete_topic", topic=name)
    new = leader.ok("create_topic", topic=name, partitions=1)["topic_id"]
    assert new != old
    more: dict[str, Fields] = {
        "delete_topic": {},
        "create_partitions": {"partitions": 2},
        "alter_topic": {"config": {}},
        "trim": {"partition": 0, "before": 0},
    }
    fields = more[kind]
    leader.refused("UNKNOWN_TOPIC", kind, topic=name, topic_id=old, **fields)
    assert entry_of(leader, name)["partitions"] == 1
    leader.ok(kind, topic=name, topic_id=new, **fields)


def test_deleting_answers_whoever_waits_and_drops_what_groups_acknowledged(
    leader: Wire, follower: Wire, topic: str
) -> None:
    leader.produce(topic, 0, ["a", "b"])
    leader.ok("ack", group=topic, offsets=[[topic, 0, 2]])
    wait_until(lambda: follower.fetch(topic, 0, 0)[1], "the follower has the records")
    polls = [
        (wire, wire.post("fetch", partitions=[[topic, 0, 2]], wait_ms=30_000))
        for wire in (leader, follower)
    ]
    # Both at once, so that a replica may well apply them together.
    again = {"type": "create_topic", "id": 2, "topic": topic, "partitions": 1}
    frames = [{"type": "delete_topic", "id": 1, "topic": topic}, again]
    leader.send_raw(b"".join(frame_of(payload_of(frame)) for frame in frames))
    for wire, poll in polls:
        answer, body = wire.answer_to(poll)
        assert answer["partitions"][0]["error"] == "UNKNOWN_TOPIC", answer
        assert body == b""
    assert leader.answer_to(1)[0]["ok"]
    assert leader.answer_to(2)[0]["ok"]
    assert leader.ok("group", group=topic)["partitions"] == []
    assert leader.high_watermark(topic, 0) == 0


# -- trim -----------------------------------------------------------------------------------------


def test_a_trim_moves_the_log_s_start_on_every_replica(
    leader: Wire, follower: Wire, name: str
) -> None:
    filled(leader, name)
    trimmed = leader.ok("trim", topic=name, partition=0, before=95)
    assert (trimmed["topic"], trimmed["partition"], trimmed["start"]) == (name, 0, 95)
    wait_until(lambda: follower.fetch(name, 0, 200)[0]["start"] == 95, "the follower trims")
    for wire in (leader, follower):
        entry, operations = wire.fetch(name, 0, 94)
        assert (entry["error"], entry["start"]) == ("OFFSET_OUT_OF_RANGE", 95)
        assert operations == []
        _, operations = wire.fetch(name, 0, 95)
        assert 95 in operations[0].offsets  # whole operations: a client skips what is before
        assert wire.high_watermark(name, 0) == 200
    offsets = leader.ok("list_offsets", partitions=[[name, 0]], at="earliest")["offsets"]
    assert offsets == [[name, 0, 95]]
    assert leader.ok("list_offsets", partitions=[[name, 0]], at=0)["offsets"] == offsets


def test_a_trim_frees_whole_files_the_same_on_every_replica(
    shared: Cluster, leader: Wire, name: str
) -> None:
    filled(leader, name)
    folders = [shared.data_dir(broker) / "topics" / name / "0" for broker in shared.ids]

    def firsts() -> list[list[int]]:
        return [sorted(int(path.stem) for path in folder.glob("*.jsonl")) for folder in folders]

    wait_until(lambda: all(len(found) > 5 for found in firsts()), "the files are written")
    before = firsts()[0][3] + 1
    leader.ok("trim", topic=name, partition=0, before=before)
    wait_until(lambda: all(found[0] > 0 for found in firsts()), "files are freed")
    wait_until(lambda: firsts()[0] == firsts()[1] == firsts()[2], "the replicas agree")
    kept = firsts()[0]
    assert kept[0] < before  # this file also holds what is kept
    assert kept[1] > before


def test_a_trim_up_to_the_end_leaves_an_empty_log_that_goes_on(leader: Wire, name: str) -> None:
    filled(leader, name, batches=5)
    assert leader.ok("trim", topic=name, partition=0, before=50)["start"] == 50
    entry, operations = leader.fetch(name, 0, 50)
    assert (entry["start"], entry["high_watermark"], operations) == (50, 50, [])
    assert leader.ok("list_offsets", partitions=[[name, 0]], at=0)["offsets"] == [[name, 0, None]]
    assert leader.produce(name, 0, ["next"])["offset"] == 50
    assert [op.values for op in leader.read_all(name, 0, 50)] == [["next"]]


def test_a_trim_below_the_start_changes_nothing(leader: Wire, name: str) -> None:
    filled(leader, name, batches=5)
    leader.ok("trim", topic=name, partition=0, before=30)
    end = leader.ok("status")["log_end"]
    for before in (30, 29, 0):
        assert leader.ok("trim", topic=name, partition=0, before=before)["start"] == 30
    assert leader.ok("status")["log_end"] == end


def test_a_trim_above_the_high_watermark_is_refused(leader: Wire, name: str) -> None:
    filled(leader, name, batches=5)
    leader.ok("trim", topic=name, partition=0, before=7)
    refusal = leader.refused("OFFSET_OUT_OF_RANGE", "trim", topic=name, partition=0, before=51)
    assert (refusal["start"], refusal["high_watermark"]) == (7, 50)
    assert leader.fetch(name, 0, 7)[0]["start"] == 7


def test_a_trim_of_what_does_not_exist_is_refused(leader: Wire, topic: str) -> None:
    leader.refused("UNKNOWN_TOPIC", "trim", topic=topic + "x", partition=0, before=0)
    leader.refused("UNKNOWN_PARTITION", "trim", topic=topic, partition=1, before=0)


def test_a_follower_names_the_leader(leader: Wire, follower: Wire, topic: str) -> None:
    for kind, fields in (
        ("trim", {"partition": 0, "before": 0}),
        ("create_partitions", {"partitions": 2}),
        ("alter_topic", {"config": {}}),
        ("delete_topic", {}),
    ):
        refusal = follower.refused("NOT_LEADER", kind, topic=topic, **fields)
        assert refusal["leader"]["port"] == leader.address[1]


def test_whoever_waits_at_the_end_waits_on_over_a_trim(leader: Wire, name: str) -> None:
    filled(leader, name, batches=2)
    poll = leader.post("fetch", partitions=[[name, 0, 20]], wait_ms=30_000)
    leader.ok("trim", topic=name, partition=0, before=20)
    leader.produce(name, 0, ["after"])
    answer, body = leader.answer_to(poll)
    (entry,) = answer["partitions"]
    assert "error" not in entry
    assert (entry["start"], entry["high_watermark"]) == (20, 21)
    assert b"after" in body


def test_a_group_s_lag_counts_from_the_log_s_start(leader: Wire, name: str) -> None:
    filled(leader, name, batches=5)
    leader.ok("ack", group=name, offsets=[[name, 0, 10]])
    leader.ok("trim", topic=name, partition=0, before=30)
    (row,) = leader.ok("group", group=name)["partitions"]
    assert (row["acked"], row["lag"]) == (10, 20)


WRONG = [
    ("topic", None),
    ("topic", 1),
    ("topic", "missing"),
    ("partition", None),
    ("partition", True),
    ("partition", -1),
    ("partition", "0"),
    ("partition", "missing"),
    ("before", None),
    ("before", 1.0),
    ("before", -1),
    ("before", 2**53),
    ("before", "earliest"),
    ("before", "missing"),
    ("topic_id", None),
    ("timeout_ms", -1),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_of_trim_is_named(
    leader: Wire, topic: str, field: str, value: object
) -> None:
    fields: Fields = {"topic": topic, "partition": 0, "before": 0, field: value}
    if value == "missing":
        del fields[field]
    refusal = leader.refused("INVALID_REQUEST", "trim", **fields)
    assert field in refusal["message"]
    leader.ok("status")
