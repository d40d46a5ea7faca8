"""Every setting and every limit, each with its name, its unit, its default and the reason.

A limit's option on the command line is its name with dashes.  Settings on which the brokers
must agree are the coordinator's (`Settings`): they reach the brokers with the cluster document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from yak.model import Address

KIB: Final = 1024
MIB: Final = 1024 * KIB

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"
DEFAULT_ZK: Final = "127.0.0.1:2181"

#: Where Linux tells one boot of the machine from another.
BOOT_ID_PATH: Final = "/proc/sys/kernel/random/boot_id"

#: Above this a frame could be mistaken for a TLS hello (0x16 0x03 …).
MAX_FRAME_CEILING: Final = 0x16000000
#: What a frame needs beside a batch: the header.
FRAME_OVERHEAD_BYTES: Final = 64 * KIB
#: What a follower can lack and still catch up from the log.
OPLOG_RETAIN_BYTES: Final = 1024 * MIB
#: File descriptors that neither clients nor held files may take: those of a sync, of a checkpoint
#: that is written or copied, and of connections to the leader and yak-zk, with as many to spare.
RESERVED_DESCRIPTORS: Final = 32
#: So long a broker that found damage waits for another to come in sync, so that there are enough
#: while it is filled itself: a full copy of some 5 GB.  Meanwhile what is damaged is not served.
DAMAGE_WAIT_S: Final = 60.0
#: What a broker found wrong with its disk, and says in `status`: more than there are kinds of it
#: (storage/findings.py), so that something else than the last one is there to be read.
MAX_FINDINGS: Final = 20
#: Of one of these: a path, a place in it, and what it means.
MAX_FINDING_CHARS: Final = 1000
#: A long poll ends after this at the latest, so that no client waits for ever by mistake.
MAX_WAIT_MS: Final = 60_000
#: What /metrics tells of at most, as six samples of each partition and two of each group's place
#: in one: some 0.3 s of a loaded machine's processor in all, in pieces of 2 ms, and 2 MB of text.
METRICS_MAX_PARTITIONS: Final = 2_000
METRICS_MAX_GROUP_ROWS: Final = 2_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What all brokers must agree on; set by yak-zk's options."""

    heartbeat_ms: int = 250
    #: Silence after which yak-zk declares a broker dead: eight heartbeats.
    session_ms: int = 2000
    #: A leader without a heartbeat's answer for this long stops speaking for the cluster.
    #: Must be below session_ms: the lease ends before yak-zk can elect another.
    lease_ms: int = 1300
    #: A follower further behind than this leaves the ISR.
    replica_lag_ms: int = 1500
    #: A leader whom no live member of the ISR follows for this long resigns.
    resign_ms: int = 3000
    min_insync_replicas: int = 2
    oplog_segment_bytes: int = 64 * MIB


@dataclass(frozen=True)
class Limits:
    """A broker's limits.  `docs/operations.md` lists them."""

    #: The largest payload of a frame that is read; a batch and its header must fit.
    max_frame_bytes: int = 16 * MIB
    #: The default of a topic's `max_batch_bytes`.
    max_batch_bytes: int = 1 * MIB
    #: Partitions of one topic.
    max_partitions: int = 10_000
    max_topics: int = 100_000
    #: Partitions of all topics, as many as `max_topics` have by default.  Each takes a broker some
    #: 4.5 KB; they would be 1.4 GB.
    max_total_partitions: int = 300_000
    #: Producers known: registered, or gone and remembered for their sequences.  One that is gone
    #: takes a broker 0.6 KB (1.3 KB with five batches), a leader 0.3 KB more, and a checkpoint
    #: being made as much again: some 200 MB for so many.  When they are so many, the one gone
    #: longest is forgotten for each that comes; only if none is gone, it is refused.
    max_producers: int = 100_000
    max_groups: int = 100_000
    #: Members of one group.
    max_members: int = 10_000
    max_connections: int = 10_000
    #: Requests of one connection that wait for an answer; further ones are not read.
    max_inflight_requests: int = 1_000
    #: What requests without an answer take of memory, and sets of partitions that a client goes on
    #: reading, over all connections: a long poll of one partition 1 KB, of a thousand 0.6 MB.  So
    #: many as 500,000 of the former, or 900 of the latter.  Half of it is shared out evenly.
    max_inflight_bytes: int = 512 * MIB
    #: Bytes of frames that have arrived only in part, or wait since their connection has too many
    #: requests unanswered, over all connections.  Sixteen of the largest frames at once.
    max_partial_bytes: int = 256 * MIB
    #: Bytes appended and not yet committed, and 1 KiB for each operation; more is refused with
    #: OVERLOADED.  A follower that stalls leaves the ISR after replica_lag_ms: until then so much
    #: is what 100 MB/s bring.
    max_uncommitted_bytes: int = 256 * MIB
    #: Bytes applied that wait in memory because the disk refuses the partition files; with more,
    #: nothing is applied any more, and a leader gives way.  Ten times what 100 MB/s bring between
    #: two flushes, so that it is never the disk's slowness alone that reaches it.
    max_unflushed_bytes: int = 64 * MIB
    #: Bytes of answers that one slow client may leave unread before its requests wait.
    max_unsent_bytes: int = 8 * MIB
    #: Bytes of answers that all clients may leave unread.  Of half of it everybody's large answers
    #: are made: sixteen stopped consumers, each with the largest one.  The rest is for those who
    #: read.  Where others wait for room, whoever has not read for longest is cut off.
    max_unread_bytes: int = 256 * MIB
    #: The largest answer to one fetch.
    max_fetch_bytes: int = 8 * MIB
    #: A frame that began to arrive must end within this.
    frame_timeout_ms: int = 30_000
    #: How often the leader looks whether retention lets something go.  A look at a partition takes
    #: 5 µs, so that 10,000 of them cost the leader one percent; and retention is counted in hours.
    retention_check_ms: int = 5000
    #: Silence after which a producer is listed as gone.
    producer_session_ms: int = 30_000
    #: How long a gone producer's sequences are kept.
    producer_retention_ms: int = 24 * 3600 * 1000
    #: Log that is applied between two checkpoints, and so what a restart applies again at most:
    #: a second or two.
    checkpoint_bytes: int = 64 * MIB
    #: The same in operations, which cost a restart more than their bytes when they are small.
    checkpoint_operations: int = 50_000
    #: How long what was deleted or trimmed may wait for a checkpoint, which frees its space.
    trash_ms: int = 30_000


@dataclass(frozen=True)
class BrokerConfig:
    """One broker's options."""

    id: int
    host: str = "127.0.0.1"
    #: 0 takes any free port.
    port: int = 0
    zk: str = DEFAULT_ZK
    #: How long the first join is retried before the broker gives up, in seconds.
    zk_wait_s: float = 30.0
    data_dir: Path = Path("data/broker-1")
    #: HOST:PORT that clients are told; by default the one that they dialled.
    advertise: str | None = None
    #: "always", "never", or "interval:MS".
    fsync: str = "always"
    #: A test that cuts the power puts its own file here.
    boot_id_path: str = BOOT_ID_PATH
    default_partitions: int = 3
    auto_create: bool = True
    #: Events go to events.jsonl only, and nothing but errors to stderr.
    quiet: bool = False
    #: Ends when standard input does.
    until_eof: bool = False
    #: Log that is kept before the last checkpoint, for followers that come back; they would need
    #: a full copy.  None: OPLOG_RETAIN_BYTES, or a tenth of the disk where that is less.
    oplog_retain_bytes: int | None = None
    #: [HOST:]PORT of /metrics, /healthz and /readyz; None: there is none.
    metrics: Address | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class CoordinatorConfig:
    """yak-zk's options."""

    host: str = "127.0.0.1"
    port: int = 2181
    data_dir: Path = Path("data/zookeeper")
    #: A new cluster is formed this long after the first broker joined.
    bootstrap_wait_ms: int = 200
    #: A leader that resigned is not elected again for this long, unless nobody else is electable.
    cooldown_ms: int = 5000
    #: As a broker's.
    quiet: bool = False
    until_eof: bool = False
    metrics: Address | None = None
    settings: Settings = field(default_factory=Settings)
