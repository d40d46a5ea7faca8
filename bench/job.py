"""What is measured: a job for one client process, and the workloads that are made of jobs.

A contestant is SYSTEM/WAY: which system, and which of its clients' ways into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["produce", "consume", "e2e", "gap"]
Fsync = Literal["never", "always"]


@dataclass(frozen=True)
class Job:
    """One client's work: so many records of `size` bytes; rate: a second, of e2e and gap."""

    kind: Kind
    topic: str
    records: int
    size: int = 100
    partitions: int = 1
    rate: int = 0
    group: str = ""


@dataclass(frozen=True)
class Workload:
    """records: for all clients together, at scale 1.  slow: those that get a tenth of them."""

    name: str
    title: str
    kind: Kind
    contestants: tuple[str, ...]
    records: int
    size: int = 100
    partitions: int = 1
    clients: int = 1
    rate: int = 0
    fsync: Fsync = "never"
    grouped: bool = False


#: A tenth of the records is enough to time these, and all of them would take minutes.
SLOW: Final = frozenset({"redis/redis-py", "nats/nats-py", "kafka/aiokafka", "mock/aiokafka"})

_PRODUCERS: Final = (
    *("yak/send_many", "kafka/produce_batch", "kafka/produce", "kafka/java", "kafka/aiokafka"),
    *("redis/redis-py", "nats/nats-py"),
)
#: The fastest Python client of each.
_FASTEST: Final = ("yak/send_many", "kafka/produce_batch", "redis/redis-py", "nats/nats-py")
#: With a heap of a quarter of the default.
_SMALL_HEAP: Final = ("kafka/heap-256m",)
_CEILINGS: Final = ("yak/send", "mock/produce", "mock/produce_batch", "mock/aiokafka")
_CONSUMERS: Final = (
    *("yak/poll", "kafka/consume", "kafka/aiokafka"),
    *("redis/redis-py", "nats/nats-py"),
)
_LATENCIES: Final = (
    "yak/e2e-leader",
    "yak/e2e-any",
    "kafka/aiokafka",
    "redis/redis-py",
    "nats/nats-py",
)

WORKLOADS: Final = (
    Workload("produce", "100 B in", "produce", (*_PRODUCERS, *_SMALL_HEAP, *_CEILINGS), 1_000_000),
    Workload(
        "produce-1k", "1 KiB in", "produce", _PRODUCERS, 200_000, size=1024
    ),
    Workload(
        "produce-12", "100 B in, 12 partitions", "produce", _FASTEST, 1_000_000, partitions=12
    ),
    Workload(
        "produce-x4", "100 B in, 4 producers", "produce", _FASTEST, 1_000_000,
        partitions=4, clients=4,
    ),
    Workload(
        "produce-fsync", "100 B in, synced before it is acknowledged", "produce",
        ("yak/send_many", "redis/redis-py", "kafka/produce_batch"), 500_000, fsync="always",
    ),
    Workload("consume", "100 B out", "consume", _CONSUMERS, 1_000_000),
    Workload(
        "consume-group", "100 B out, a group of three", "consume",
        ("yak/poll", "kafka/consume", "redis/redis-py"), 1_000_000,
        partitions=12, clients=3, grouped=True,
    ),
    Workload("e2e-1000", "each alone, 1,000 a second", "e2e", _LATENCIES, 10_000, rate=1000),
    Workload("e2e-10000", "each alone, 10,000 a second", "e2e", _LATENCIES, 50_000, rate=10_000),
)  # fmt: skip
