"""Scripted brokers with one log between them: enough of a cluster to try clients on.

    async with fake_cluster() as town:
        town[1].on("produce", refuse("NOT_LEADER"), town.produce)   # once refused, then stored
        town.lead(2, epoch=2)                                        # the others agree at once

`town.log["t", 0]` is what a partition holds: `Stored(producer, sequence, lines)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from google_crc32c import value as crc32c

from tests.support.fake_broker import Ask, FakeBroker, Result, Step, refusal
from yak.errors import UndeliveredError
from yak.model import SEQUENCE_SPAN
from yak.producer import AsyncProducer


class Stored(NamedTuple):
    """One append.  offset: of its first record."""

    producer: int | None
    sequence: int | None
    lines: list[bytes]
    offset: int
    time: int = 1_763_800_000_000

    def operation(self, topic: str, partition: int) -> bytes:
        body = b"".join(self.lines)
        line = {
            "index": 1, "epoch": 1, "time": self.time, "op": "append", "topic": topic,
            "partition": partition, "offset": self.offset, "count": len(self.lines),
            "size": len(body), "crc": format(crc32c(body), "08x"), "sum": "00000000",
        }  # fmt: skip
        return json.dumps(line).encode() + b"\n" + body


class FakeCluster:
    """See the module's text."""

    def __init__(self, brokers: list[FakeBroker], topics: dict[str, int]) -> None:
        self.brokers = brokers
        self.topics = dict(topics)
        #: Which topic of its name it is: "NAME#1", and so on.
        self.topic_ids = {name: f"{name}#1" for name in topics}
        self.made = len(topics)
        self.log: dict[tuple[str, int], list[Stored]] = {}
        self.producers: set[int] = set()
        self.given_ids = 0
        self.session_ms = 30_000
        self.expected: dict[tuple[int, str, int], int] = {}
        #: The group's offsets, and what was acknowledged in order.
        self.acked: dict[tuple[str, int], int] = {}
        self.acks: list[dict[str, Any]] = []
        self.members: list[str] = []
        self.subscribed: list[str] = []
        self.generation = 0
        self.assignment: list[tuple[str, int]] | None = None
        #: Where each partition's log begins, if not at 0.
        self.starts: dict[tuple[str, int], int] = {}
        #: What a connection reads, and what it knows of it: (broker, connection) -> ...
        self.sessions: dict[tuple[int, int], tuple[dict[tuple[str, int], int], Any]] = {}
        self.released = asyncio.Event()
        self.lead(1, 1)
        for broker in brokers:
            broker.news = brokers[0].news
            for kind in (
                "metadata", "register", "deregister", "produce", "heartbeat", "fetch",
                "list_offsets", "ack",
            ):  # fmt: skip
                broker.on(kind, getattr(self, kind))

    def __getitem__(self, number: int) -> FakeBroker:
        return self.brokers[number - 1]

    @property
    def bootstrap(self) -> str:
        return ",".join(str(broker.address) for broker in self.brokers)

    def lead(self, leader: int | None, epoch: int) -> None:
        self.leader = leader
        self.epoch = epoch

    def hint(self, number: int) -> Step:
        return lambda _: self._pointer(number)

    def _pointer(self, number: int) -> dict[str, Any]:
        address = self[number].address
        leader = {"id": number, "host": address.host, "port": address.port}
        return refusal("NOT_LEADER", leader=leader)

    def lines(self, topic: str, partition: int = 0) -> list[bytes]:
        return [line for stored in self.log.get((topic, partition), []) for line in stored.lines]

    def values(self, topic: str, partition: int = 0) -> list[Any]:
        return [json.loads(line)["value"] for line in self.lines(topic, partition)]

    def end(self, topic: str, partition: int) -> int:
        return len(self.lines(topic, partition))

    def append(self, topic: str, partition: int, *values: Any) -> None:
        lines = [json.dumps({"value": value}).encode() + b"\n" for value in values]
        end = self.end(topic, partition)
        self.log.setdefault((topic, partition), []).append(Stored(None, None, lines, end))

    def delete(self, topic: str) -> None:
        """The topic is gone, with its records and what producers sent to it."""
        del self.topics[topic]
        self.topic_ids.pop(topic, None)
        self.log = {where: log for where, log in self.log.items() if where[0] != topic}
        self.expected = {key: n for key, n in self.expected.items() if key[1] != topic}

    def make(self, topic: str, partitions: int) -> None:
        """Another topic has this name now."""
        self.made += 1
        self.topics[topic] = partitions
        self.topic_ids[topic] = f"{topic}#{self.made}"

    # -- what brokers answer ----------------------------------------------------------------------

    def _misled(self, ask: Ask) -> dict[str, Any] | None:
        if self.leader == ask.broker.id:
            return None
        return refusal("NO_LEADER") if self.leader is None else self._pointer(self.leader)

    def metadata(self, ask: Ask) -> dict[str, Any]:
        names = ask.request.get("topics", list(self.topics))
        topics = {
            name: {**self._size(name), "config": {}}
            if name in self.topics
            else {"error": "UNKNOWN_TOPIC"}
            for name in names
        }
        brokers = [
            {"id": b.id, "host": b.address.host, "port": b.address.port, "live": not b.hung}
            for b in self.brokers
        ]
        return {
            "cluster": "c", "epoch": self.epoch, "leader": self.leader, "brokers": brokers,
            "isr": [b.id for b in self.brokers], "topics": topics,
        }  # fmt: skip

    def register(self, ask: Ask) -> dict[str, Any]:
        if misled := self._misled(ask):
            return misled
        for name in ask.request["topics"]:
            if name not in self.topics:
                self.make(name, 3)
        if ask.request["role"] == "consumer":
            return self._register_member(ask)
        self.given_ids += 1
        self.producers.add(self.given_ids)
        topics = {name: self._size(name) for name in ask.request["topics"]}
        return {
            "producer": self.given_ids,
            "session_ms": self.session_ms,
            "topics": {name: {"partitions": size["partitions"]} for name, size in topics.items()},
            "topic_ids": {name: size["topic_id"] for name, size in topics.items()},
        }

    def _size(self, topic: str) -> dict[str, Any]:
        topic_id = self.topic_ids.setdefault(topic, f"{topic}#1")
        return {"partitions": self.topics[topic], "topic_id": topic_id}

    def _register_member(self, ask: Ask) -> dict[str, Any]:
        self.subscribed = ask.request["topics"]
        member = ask.request.get("member") or f"m{len(self.members) + 1}"
        if member not in self.members:
            self.members.append(member)
            self.generation += 1
        if self.assignment is None:
            self.assignment = [
                (name, n) for name in ask.request["topics"] for n in range(self.topics[name])
            ]
        return {
            "member": member, "generation": self.generation, "assignment": self.assignment,
            "offsets": self._offsets(), "session_ms": ask.request["session_ms"],
            "topics": self._group_topics(),
        }  # fmt: skip

    def _offsets(self) -> list[Any]:
        return [[t, p, self.acked.get((t, p))] for t, p in self.assignment or []]

    def _group_topics(self) -> dict[str, Any]:
        """Those of the member's topics that there are, also where it has no partition."""
        return {topic: self._size(topic) for topic in self.subscribed if topic in self.topics}

    def assign(self, *where: tuple[str, int]) -> None:
        """A new generation, in which the one member has these."""
        self.assignment = list(where)
        self.generation += 1

    def deregister(self, ask: Ask) -> dict[str, Any]:
        self.producers.discard(ask.request.get("producer", -1))
        if "member" in ask.request:
            self.members.remove(ask.request["member"])
        return {}

    def heartbeat(self, ask: Ask) -> dict[str, Any]:
        if misled := self._misled(ask):
            return misled
        if "producer" in ask.request:
            known = ask.request["producer"] in self.producers
            return {} if known else refusal("UNKNOWN_PRODUCER", retriable=False)
        if ask.request["member"] not in self.members:
            return refusal("UNKNOWN_MEMBER", retriable=False)
        if ask.request["generation"] == self.generation:
            return {"generation": self.generation}
        return {
            "generation": self.generation,
            "assignment": self.assignment,
            "offsets": self._offsets(),
            "topics": self._group_topics(),
        }

    def produce(self, ask: Ask) -> dict[str, Any]:
        request = ask.request
        if misled := self._misled(ask):
            return misled
        topic, partition = request["topic"], request["partition"]
        if topic not in self.topics:
            return refusal("UNKNOWN_TOPIC")
        known = self._size(topic)["topic_id"]
        if request.get("topic_id", known) != known:
            return refusal("UNKNOWN_TOPIC")
        if partition >= self.topics[topic]:
            return refusal("UNKNOWN_PARTITION")
        lines = ask.body.splitlines(keepends=True)
        assert len(lines) == request["count"]
        if any(b'"bad"' in line for line in lines):
            return refusal("INVALID_RECORD", retriable=False)
        log = self.log.setdefault((topic, partition), [])
        producer, sequence = request.get("producer"), request.get("sequence")
        if producer is not None:
            if producer not in self.producers:
                return refusal("UNKNOWN_PRODUCER", retriable=False)
            for stored in log:
                if (stored.producer, stored.sequence) == (producer, sequence):
                    return {**self._stored(stored, topic), "duplicate": True}
            expected = self.expected.get((producer, topic, partition), 0)
            if sequence != expected:
                return refusal("OUT_OF_ORDER_SEQUENCE", retriable=False, expected=expected)
            self.expected[producer, topic, partition] = (sequence + len(lines)) % SEQUENCE_SPAN
        stored = Stored(producer, sequence, lines, self.end(topic, partition))
        log.append(stored)
        return self._stored(stored, topic)

    def _stored(self, stored: Stored, topic: str) -> dict[str, Any]:
        return {
            "offset": stored.offset, "count": len(stored.lines), "time": stored.time,
            "partitions": self.topics[topic],
        }  # fmt: skip

    async def fetch(self, ask: Ask) -> Result:
        """With a session, as core/standing.py has it."""
        request, key = ask.request, (ask.broker.id, ask.connection)
        asked = {(topic, partition): offset for topic, partition, offset in request["partitions"]}
        if request.get("session") == "same":
            if key not in self.sessions:
                return refusal("INVALID_REQUEST", retriable=False)
            asked = {**self.sessions[key][0], **asked}
            request = {**request, "topic_ids": self.sessions[key][1]}
        self.sessions[key] = (asked, request.get("topic_ids", {}))
        deadline = asyncio.get_running_loop().time() + request["wait_ms"] / 1000
        while True:
            entries, body = self._read(asked, request)
            late = asyncio.get_running_loop().time() >= deadline
            if body or late or any("error" in entry for entry in entries):
                break
            await asyncio.sleep(0.005)
        if request.get("session") == "same":
            entries = [entry for entry in entries if entry["size"] or "error" in entry]
        return {"partitions": entries}, body

    def _read(
        self, asked: dict[tuple[str, int], int], request: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], bytes]:
        entries: list[dict[str, Any]] = []
        bodies: list[bytes] = []
        left = request["max_bytes"]
        for (topic, partition), offset in asked.items():
            entry: dict[str, Any] = {"topic": topic, "partition": partition, "size": 0}
            entries.append(entry)
            if self._unknown(topic, partition, request):
                entry |= {"error": "UNKNOWN_TOPIC", "message": "no", "retriable": True}
                continue
            start = self.starts.get((topic, partition), 0)
            entry |= {"start": start, "high_watermark": self.end(topic, partition)}
            if offset < start:
                entry |= {"error": "OFFSET_OUT_OF_RANGE", "message": "no", "retriable": False}
                continue
            for stored in self.log.get((topic, partition), []):
                if stored.offset + len(stored.lines) <= offset:
                    continue
                operation = stored.operation(topic, partition)
                if len(operation) > left and bodies:
                    break
                left -= len(operation)
                entry["size"] += len(operation)
                bodies.append(operation)
        return entries, b"".join(bodies)

    def _unknown(self, topic: str, partition: int, request: dict[str, Any]) -> bool:
        if partition >= self.topics.get(topic, 0):
            return True
        known = self._size(topic)["topic_id"]
        return bool(request.get("topic_ids", {}).get(topic, known) != known)

    def list_offsets(self, ask: Ask) -> dict[str, Any]:
        if misled := self._misled(ask):
            return misled
        request = ask.request
        if any(self._unknown(t, p, request) for t, p in request["partitions"]):
            return refusal("UNKNOWN_TOPIC")
        offsets = [[t, p, self._place(t, p, request["at"])] for t, p in request["partitions"]]
        return {"offsets": offsets}

    def _place(self, topic: str, partition: int, at: str | int) -> int | None:
        if at == "latest":
            return self.end(topic, partition)
        start = self.starts.get((topic, partition), 0)
        if at == "earliest":
            return start
        log = self.log.get((topic, partition), [])
        return next((one.offset for one in log if one.time >= int(at)), None)

    def ack(self, ask: Ask) -> dict[str, Any]:
        if misled := self._misled(ask):
            return misled
        if ask.request["member"] not in self.members:
            return refusal("UNKNOWN_MEMBER", retriable=False)
        if any(self._unknown(t, p, ask.request) for t, p, _ in ask.request["offsets"]):
            return refusal("UNKNOWN_TOPIC")
        self.acks.append(ask.request)
        for topic, partition, offset in ask.request["offsets"]:
            self.acked[topic, partition] = max(offset, self.acked.get((topic, partition), 0))
        return {}


@asynccontextmanager
async def fake_cluster(
    brokers: int = 3, topics: dict[str, int] | None = None
) -> AsyncIterator[FakeCluster]:
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(FakeBroker(n + 1)) for n in range(brokers)]
        yield FakeCluster(made, {"t": 1} if topics is None else topics)


@asynccontextmanager
async def producing(
    topics: dict[str, int] | None = None, **options: Any
) -> AsyncIterator[tuple[FakeCluster, AsyncProducer]]:
    """A cluster, and a producer that knows it."""
    async with fake_cluster(topics=topics) as town:
        options.setdefault("delivery_timeout", 20.0)
        producer = AsyncProducer(bootstrap=town.bootstrap, **options)
        try:
            yield town, producer
        finally:
            with contextlib.suppress(UndeliveredError):  # the test has looked at it
                await producer.close(5)
