"""Section 4 of the protocol: hello, metadata, create_topic, status, and what holds for all.

Every field of every request: left out where it may not be, of another type, or out of range, it
is refused by its name, and nothing happens.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.wire import Fields, Wire, assert_refused

RECORD = b'{"value":1}\n'
OUT = 2**53

#: type -> good fields.  A field of None stands for "this test's topic".
REQUESTS: dict[str, Fields] = {
    "metadata": {"topics": ["?"]},
    "create_topic": {"topic": "?", "partitions": 1, "config": {}, "timeout_ms": 1000},
    "register": {"role": "consumer", "topics": [], "client": "c", "group": "?", "session_ms": 9000},
    "heartbeat": {"group": "?", "member": "m", "generation": 1, "owned": [], "delivered": []},
    "produce": {"topic": "?", "partition": 0, "count": 1, "acks": "all", "timeout_ms": 1000},
    "fetch": {"partitions": [["?", 0, 0]], "max_bytes": 1000, "wait_ms": 0},
    "list_offsets": {"partitions": [["?", 0]], "at": "latest"},
    "ack": {"group": "?", "offsets": [["?", 0, 0]], "timeout_ms": 1000},
    "group": {"group": "?"},
}

#: (type, field) -> values of another type, or out of range.
WRONG: dict[tuple[str, str], list[Any]] = {
    ("metadata", "topics"): [None, "t", [1], [None], {}],
    ("create_topic", "topic"): [None, 1, ["t"]],
    ("create_topic", "partitions"): [None, True, "3", 1.5, []],
    ("create_topic", "config"): [None, [], "x"],
    ("create_topic", "timeout_ms"): [None, True, -1, "1000", OUT],
    ("register", "role"): [None, "king", 1],
    ("register", "topics"): [None, "t", [1], {}],
    ("register", "client"): [None, 1],
    ("register", "group"): [None, 1],
    ("register", "member"): [None, 1],
    ("register", "session_ms"): [None, True, 999, 300_001, -1, "9000", OUT],
    ("heartbeat", "group"): [None, 1],
    ("heartbeat", "member"): [None, 1],
    ("heartbeat", "generation"): [None, True, -1, "1", OUT],
    ("heartbeat", "owned"): [None, {}, [["t"]], [["t", -1]], [["t", True]], [[0, "t"]]],
    ("heartbeat", "delivered"): [
        None,
        [["t", 0]],
        [["t", 0, -1]],
        [["t", 0, OUT]],
        [["t", 0, None]],
    ],
    ("heartbeat", "producer"): [None, True, -1, "7", OUT],
    ("produce", "topic"): [None, 1],
    ("produce", "partition"): [None, True, -1, "0", 0.5, OUT],
    ("produce", "count"): [None, True, -1, "1", OUT],
    ("produce", "acks"): [None, True, 2, -1, "one", "1", "ALL"],
    ("produce", "producer"): [None, True, -1, "7", OUT],
    ("produce", "sequence"): [None, True, -1, "0", 2**31],
    ("produce", "timeout_ms"): [None, True, -1, OUT],
    ("produce", "topic_id"): [None, 1],
    ("fetch", "partitions"): [
        None,
        {},
        [["t", 0]],
        [["t", 0, -1]],
        [["t", 0, OUT]],
        [[None, 0, 0]],
    ],
    ("fetch", "max_bytes"): [None, True, -1, "1", OUT],
    ("fetch", "wait_ms"): [None, True, -1, 60_001, "1"],
    ("list_offsets", "partitions"): [None, [["t"]], [["t", -1]], [["t", True]]],
    ("list_offsets", "at"): [None, True, -1, "newest", 1.5, OUT],
    ("ack", "group"): [None, 1],
    ("ack", "offsets"): [None, {}, [["t", 0]], [["t", 0, -1]], [["t", 0, None]], [["t", 0, OUT]]],
    ("ack", "member"): [None, 1],
    ("ack", "generation"): [None, True, -1, OUT],
    ("ack", "fence"): [None, 1, "true"],
    ("ack", "reset"): [None, 0, "true"],
    ("group", "group"): [None, 1],
}

REQUIRED = [
    ("create_topic", "topic"),
    ("register", "role"),
    ("register", "topics"),
    ("register", "group"),
    ("heartbeat", "member"),
    ("produce", "topic"),
    ("produce", "partition"),
    ("produce", "count"),
    ("fetch", "partitions"),
    ("list_offsets", "partitions"),
    ("list_offsets", "at"),
    ("ack", "group"),
    ("ack", "offsets"),
    ("group", "group"),
]


def good(kind: str, topic: str) -> tuple[Fields, bytes]:
    """The request's good fields, with the topic filled in, and its body."""

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(item) for item in value]
        return topic if value == "?" else value

    fields = {name: filled(value) for name, value in REQUESTS[kind].items()}
    return fields, RECORD if kind == "produce" else b""


@pytest.mark.parametrize(("kind", "field"), WRONG)
def test_a_field_of_another_type_is_refused_by_name(
    leader: Wire, topic: str, kind: str, field: str
) -> None:
    fields, body = good(kind, topic)
    if field in ("producer", "sequence"):
        fields |= {"producer": 1, "sequence": 0}
    for value in WRONG[kind, field]:
        answer = leader.refused("INVALID_REQUEST", kind, body, **{**fields, field: value})
        assert field in answer["message"], (value, answer)
    assert leader.high_watermark(topic, 0) == 0


@pytest.mark.parametrize(("kind", "field"), REQUIRED)
def test_a_missing_field_is_refused_by_name(
    leader: Wire, topic: str, kind: str, field: str
) -> None:
    fields, body = good(kind, topic)
    del fields[field]
    answer = leader.refused("INVALID_REQUEST", kind, body, **fields)
    assert field in answer["message"], answer


def test_unknown_fields_are_ignored(leader: Wire, name: str) -> None:
    for kind in REQUESTS:
        fields, body = good(kind, name)
        if kind == "heartbeat":
            continue
        if kind == "register":
            fields["group"] = f"{name}-of-its-own"
        answer, _ = leader.ask(kind, body, **fields, x=None, y={"a": [1, None]}, epoch="?")
        assert answer["ok"] is True, (kind, answer)


FOR_THE_LEADER = [
    "create_topic",
    "register",
    "heartbeat",
    "produce",
    "list_offsets",
    "ack",
    "group",
]


@pytest.mark.parametrize("kind", FOR_THE_LEADER)
def test_a_follower_names_the_leader(
    shared: Cluster, follower: Wire, topic: str, kind: str
) -> None:
    fields, body = good(kind, topic)
    answer = follower.refused("NOT_LEADER", kind, body, **fields)
    leads = shared.wait_leader()
    host, port = shared.addresses[leads]
    assert answer["leader"] == {"id": leads, "host": host, "port": port}


def test_a_follower_names_the_leader_to_producers_too(follower: Wire) -> None:
    for kind, fields in (
        ("register", {"role": "producer", "topics": []}),
        ("heartbeat", {"producer": 1}),
        ("deregister", {"producer": 1}),
        ("deregister", {"group": "g", "member": "m"}),
    ):
        assert "leader" in follower.refused("NOT_LEADER", kind, **fields)


# -- hello, status --------------------------------------------------------------------------------


def test_hello_on_every_broker(shared: Cluster) -> None:
    clusters = set()
    for broker in shared.ids:
        with shared.connect(broker) as wire:
            answer = wire.ok("hello", protocol=1, client="test/1.0")
            assert answer["protocol"] == 1
            assert answer["broker"] == broker
            assert isinstance(answer["version"], str)
            clusters.add(answer["cluster"])
    assert len(clusters) == 1, "one cluster, one id"
    assert clusters.pop()


@pytest.mark.parametrize("protocol", [0, 2, 99])
def test_hello_of_a_version_that_is_not_spoken(leader: Wire, protocol: int) -> None:
    leader.refused("UNSUPPORTED_VERSION", "hello", protocol=protocol)
    leader.ok("status")


def test_status_on_every_broker(shared: Cluster) -> None:
    leads = shared.wait_leader()
    end = shared.wait_level()
    for broker, status in shared.statuses().items():
        assert status["broker"] == broker
        assert status["role"] == ("leader" if broker == leads else "follower")
        assert status["leader"] == leads
        assert sorted(status["isr"]) == [1, 2, 3]
        assert (status["log_start"], status["log_end"], status["committed"]) == (1, end, end - 1)
    with shared.connect(leads) as wire:
        followers = wire.ok("status")["followers"]
    assert sorted(entry["id"] for entry in followers) == [b for b in (1, 2, 3) if b != leads]
    assert all(entry["matched"] >= end - 1 and entry["lag_ms"] >= 0 for entry in followers)


# -- metadata -------------------------------------------------------------------------------------


def test_metadata_on_every_broker(shared: Cluster, topic: str) -> None:
    leads = shared.wait_leader()
    shared.wait_level()
    for broker in shared.ids:
        with shared.connect(broker) as wire:
            answer = wire.ok("metadata", topics=[topic])
        assert answer["leader"] == leads
        assert answer["epoch"] >= 1
        assert sorted(answer["isr"]) == [1, 2, 3]
        listed = {entry["id"]: (entry["host"], entry["port"]) for entry in answer["brokers"]}
        assert listed == shared.addresses
        assert all(entry["live"] is True for entry in answer["brokers"])
        entry = answer["topics"][topic]
        assert (entry["partitions"], entry["config"]) == (1, {})
        assert entry["topic_id"]


def test_metadata_of_all_of_some_and_of_unknown_topics(leader: Wire, topic: str, name: str) -> None:
    assert topic in leader.ok("metadata")["topics"]
    assert leader.ok("metadata", topics=[])["topics"] == {}
    asked = leader.ok("metadata", topics=[topic, name + "x", "../../etc/passwd"])["topics"]
    assert list(asked[name + "x"].items()) == [("error", "UNKNOWN_TOPIC")]
    assert asked["../../etc/passwd"]["error"] == "UNKNOWN_TOPIC"
    assert name + "x" not in leader.ok("metadata")["topics"], "metadata creates nothing"


ALONE = ("--min-insync-replicas", "1")


def brokers_seen(cluster: Cluster, dialled: str) -> list[tuple[str, int]]:
    """The addresses in metadata, for who dialled that host."""
    with Wire((dialled, cluster.addresses[1][1])) as wire:
        return [(entry["host"], entry["port"]) for entry in wire.ok("metadata")["brokers"]]


def test_a_wildcard_listener_is_told_as_the_host_that_was_dialled(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(ids=[1], zk_options=ALONE, broker_options=("--host", "0.0.0.0"))
    port = cluster.addresses[1][1]
    for dialled in ("127.0.0.1", "127.0.0.2"):
        assert brokers_seen(cluster, dialled) == [(dialled, port)]


def test_an_advertised_address_is_told_as_it_is(make_cluster: MakeCluster) -> None:
    advertise = ("--advertise", "broker.example:4711")
    cluster = make_cluster(ids=[1], zk_options=ALONE, broker_options=advertise)
    assert brokers_seen(cluster, "127.0.0.1") == [("broker.example", 4711)]


# -- create_topic ---------------------------------------------------------------------------------


def test_a_topic_is_created_once(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=5, config={"retention_ms": 1000})
    entry = leader.ok("metadata", topics=[name])["topics"][name]
    assert (entry["partitions"], entry["config"]) == (5, {"retention_ms": 1000})
    leader.refused("TOPIC_EXISTS", "create_topic", topic=name, partitions=5)
    assert leader.ok("metadata", topics=[name])["topics"][name] == entry


def test_a_topic_has_the_brokers_default_of_partitions(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name)
    assert leader.ok("metadata", topics=[name])["topics"][name]["partitions"] == 3


@pytest.mark.parametrize("topic", ["a", "A.b_c-9", "...", "-", "_", "0", "x" * 249])
def test_names_that_are_allowed(leader: Wire, topic: str) -> None:
    answer, _ = leader.ask("create_topic", topic=topic, partitions=1)
    assert answer["ok"] or answer["error"] == "TOPIC_EXISTS", answer
    assert leader.produce(topic, 0, ["x"])["ok"]


@pytest.mark.parametrize(
    "topic",
    ["", ".", "..", "a/b", "../../etc/passwd", "a b", "a\n", "\n", "a\x00", "ü", "x" * 250, "a:b"],
)
def test_names_that_are_not_allowed(leader: Wire, topic: str) -> None:
    leader.refused("INVALID_TOPIC", "create_topic", topic=topic, partitions=1)
    leader.refused("INVALID_TOPIC", "register", role="producer", topics=[topic])
    leader.refused("INVALID_TOPIC", "register", role="consumer", group="names", topics=[topic])
    assert topic not in leader.ok("metadata")["topics"]


@pytest.mark.parametrize("partitions", [0, 10_001, 2**53 - 1])
def test_counts_of_partitions_that_are_not_allowed(
    leader: Wire, name: str, partitions: int
) -> None:
    leader.refused("INVALID_CONFIG", "create_topic", topic=name, partitions=partitions)
    assert name not in leader.ok("metadata")["topics"]


@pytest.mark.parametrize(
    "config",
    [
        {"colour": "red"},
        {"retention_ms": "soon"},
        {"retention_ms": -5},
        {"segment_bytes": True},
        {"max_batch_bytes": None},
        {"max_batch_bytes": 16 * 1024 * 1024},
        {"retention_bytes": 1, "colour": 2},
    ],
)
def test_configs_that_are_not_allowed(leader: Wire, name: str, config: Fields) -> None:
    answer = leader.refused("INVALID_CONFIG", "create_topic", topic=name, config=config)
    assert any(key in answer["message"] for key in config), answer
    assert name not in leader.ok("metadata")["topics"]


def test_a_topic_of_many_partitions(shared: Cluster, leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=200)
    assert leader.produce(name, 199, ["last"])["partitions"] == 200
    shared.wait_level()
    for broker in shared.ids:
        with shared.connect(broker) as wire:
            assert [op.values for op in wire.read_all(name, 199)] == [["last"]]
            refused, _ = wire.fetch(name, 200, 0)
            assert refused["error"] == "UNKNOWN_PARTITION"


def test_answers_are_refusals_in_full(leader: Wire, name: str) -> None:
    """A refusal names what was asked for, so that a person knows which of many it was."""
    answer, _ = leader.ask("create_topic", topic=name + "/", partitions=1)
    assert_refused(answer, "INVALID_TOPIC")
    assert name in answer["message"]
