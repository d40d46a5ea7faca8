"""Clients that mean harm, or are only broken: bounded memory, and the others are served.

One broker alone; its resident memory is read from /proc.
"""

from __future__ import annotations

import contextlib
import random
import struct
import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster
from tests.support.process import wait_until
from tests.support.wire import ClosedError, Wire, frame_of, payload_of, record

MIB = 1 << 20
#: What a broker may need beyond its limits: the interpreter, and the buffers of the moment.
ROOM_MIB = 150

LIMITS = (
    *("--max-partial-bytes", "20MiB", "--max-unsent-bytes", "2MiB"),
    *("--max-connections", "2000", "--frame-timeout-ms", "60000"),
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker with a topic of 8 MB."""
    with Cluster(
        tmp_path_factory.mktemp("alone"),
        ids=[1],
        zk_options=("--min-insync-replicas", "1"),
        broker_options=LIMITS,
    ) as cluster:
        with cluster.connect_leader() as wire:
            wire.ok("create_topic", topic="t", partitions=1)
            for _ in range(8):
                wire.ok("produce", record("x" * 1_000_000), topic="t", partition=0, count=1)
        yield cluster


def memory_mib(cluster: Cluster) -> int:
    """Resident memory of the broker."""
    with open(f"/proc/{cluster.brokers[1].pid}/statm") as statm:  # noqa: PTH123 -- /proc is no file tree
        return int(statm.read().split()[1]) * 4096 // MIB


def serves(cluster: Cluster) -> float:
    """Seconds for a round trip of somebody else."""
    started = time.monotonic()
    with cluster.connect(1) as wire:
        wire.ok("produce", record("other"), topic="t", partition=0, count=1, acks=1)
    return time.monotonic() - started


def test_a_thousand_connections_that_say_nothing(alone: Cluster) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(alone.connect(1)) for _ in range(1000)]
        assert serves(alone) < 3
        for wire in wires[::100]:
            wire.ok("status")
    wait_until(lambda: (alone.status(1) or {}).get("connections", 0) < 10, "they are forgotten")


def test_frames_that_are_announced_and_never_sent(alone: Cluster) -> None:
    """Buffers grow with what has arrived, not with what was announced."""
    before = memory_mib(alone)
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            wire = stack.enter_context(alone.connect(1))
            wire.send_raw(struct.pack(">I", 16 * MIB) + b'{"type":"produce"')
        assert serves(alone) < 3
        assert memory_mib(alone) < before + ROOM_MIB, "8 GB were announced"


def test_half_frames_have_one_limit_for_all(alone: Cluster) -> None:
    """40 connections with 1 MiB each of a frame that never ends: some are told OVERLOADED."""
    before = memory_mib(alone)
    overloaded = 0
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(alone.connect(1, timeout_s=5)) for _ in range(40)]
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.send_raw(struct.pack(">I", 2 * MIB) + b"x" * MIB)
        assert serves(alone) < 5
        assert memory_mib(alone) < before + ROOM_MIB
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.socket.settimeout(0.1)
                answer, _ = wire.receive()
                overloaded += answer["error"] == "OVERLOADED"
    assert 0 < overloaded < 40


def test_a_client_that_asks_and_never_reads(alone: Cluster) -> None:
    """200 answers of a megabyte: they are not all made at once, and nobody else waits."""
    before = memory_mib(alone)
    with alone.connect(1) as greedy:
        request = {"type": "fetch", "id": 1, "partitions": [["t", 0, 0]], "max_bytes": MIB}
        greedy.send_raw(b"".join(frame_of(payload_of({**request, "id": n})) for n in range(200)))
        for _ in range(5):
            assert serves(alone) < 3
        assert memory_mib(alone) < before + ROOM_MIB
        seen = {greedy.receive()[0]["id"] for _ in range(200)}
        assert seen == set(range(200)), "and as it reads after all, it gets all of them"


@pytest.mark.parametrize("seed", range(5))
def test_noise(alone: Cluster, seed: int) -> None:
    """Random bytes, and requests with random damage: an error or an end, and no harm."""
    chance = random.Random(seed)
    good = payload_of({"type": "fetch", "id": 1, "partitions": [["t", 0, 0]], "max_bytes": 10})
    for _ in range(100):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with alone.connect(1, timeout_s=5) as wire:
            wire.send_payload(bytes(damaged) if chance.random() < 0.7 else chance.randbytes(60))
            wire.send({"type": "status", "id": "after"})
            with contextlib.suppress(ClosedError, ConnectionResetError):
                wire.answer_to("after")
    assert alone.brokers[1].running
    assert serves(alone) < 3
    assert "Traceback" not in alone.brokers[1].stderr()


def test_noise_on_yak_zk(alone: Cluster) -> None:
    """The same gate stands before the coordinator."""
    assert alone.zk is not None
    assert alone.zk_address is not None
    chance = random.Random(7)
    payloads = [b"", b"{", b"[]", b'{"type":"join","id":1}', b'{"type":"isr","id":1,"epoch":null}']
    payloads += [b'{"type":"heartbeat","id":1,"number":1,"heard":9}', chance.randbytes(100)]
    for payload in payloads:
        with Wire(alone.zk_address, timeout_s=5) as wire:
            wire.send_payload(payload)
            answer, _ = wire.receive()
            assert answer["ok"] is False, answer
    for data in (struct.pack(">I", 2**32 - 1), b"GET / HTTP/1.1\r\n\r\n", b"ruok"):
        with Wire(alone.zk_address, timeout_s=5) as wire:
            wire.send_raw(data)
            assert wire.receive()[0]["error"] == "FRAME_TOO_LARGE"
    assert alone.zk.running
    assert serves(alone) < 3
    assert "Traceback" not in alone.zk.stderr()
