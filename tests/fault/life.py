"""Writers and readers around one fault, and the judgement over what they saw.

    with Life(tmp_path, fsync="always") as life:
        life.victim("leader") ... the fault ... its end
        life.check()

Everything acknowledged is found on each replica, once, where the answer said; the replicas' logs
are the same bytes.  Directories are mounts of their own where a test asks for it.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

from tests.support.cluster import FAST, Cluster
from tests.support.history import Reader, Writer, closing_read, judge
from tests.support.logfiles import oplog_bytes, read_oplog
from tests.support.mounts import Kind, Mount, mounted
from tests.support.process import wait_until

MIB: Final = 1024 * 1024
#: An ext4 of less has hardly room for its journal; and it is filled in no time.
DISK_BYTES: Final = 32 * MIB
#: Segments roll and checkpoints are made all the while.
SMALL: Final = ("--oplog-segment-bytes", "60000")
BUSY: Final = ("--checkpoint-operations", "300")

Whose: TypeAlias = Literal["leader", "follower"]


class Life:
    """A cluster with clients, of which one thing is taken away."""

    def __init__(
        self,
        directory: Path,
        *,
        fsync: str = "always",
        disks: Kind | None = None,
        cluster: type[Cluster] = Cluster,
        broker_options: Sequence[str] = (),
    ) -> None:
        """disks: what each broker's directory is mounted as; None: a part of the machine's."""
        self._stack = contextlib.ExitStack()
        self.disks: dict[int, Mount] = {}
        self.boot_ids = {broker: directory / f"boot-id-{broker}" for broker in (1, 2, 3)}
        for broker in self.boot_ids:
            self.new_boot(broker)
        boots = {b: ("--boot-id-path", str(path)) for b, path in self.boot_ids.items()}
        self._disks = disks
        self.cluster = cluster(
            directory,
            fsync=fsync,
            broker_options=(*BUSY, *broker_options),
            options_of=boots,
            zk_options=(*FAST, *SMALL),
        )
        self.writers: list[Writer] = []
        self.readers: list[Reader] = []

    def __enter__(self) -> Self:
        try:
            for broker in self.boot_ids if self._disks else ():
                mount = mounted(self.cluster.data_dir(broker), DISK_BYTES, self._disks or "tmpfs")
                self.disks[broker] = self._stack.enter_context(mount)
            self._stack.enter_context(self.cluster)
            with self.cluster.connect_leader() as wire:
                wire.ok("create_topic", topic="t", partitions=1)
            self.writers = [Writer(self.cluster, f"w{n}", "t", 0, batch=n) for n in (1, 3, 10)]
            self.readers = [Reader(self.cluster, f"r{n}", "t", 0) for n in (1, 2)]
            for client in self.clients:
                client.start()
            self.progress(10)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for client in self.clients:
            client.done.set()
        # Processes end before their file systems go; a frozen one would keep them.
        for mount in self.disks.values():
            if mount.kind == "ext4":
                mount.thaw()
        self._stack.close()

    @property
    def clients(self) -> list[Any]:
        return [*self.writers, *self.readers]

    def new_boot(self, broker: int) -> None:
        """From its next start on the machine of this broker has been started again."""
        self.boot_ids[broker].write_text(f"{uuid.uuid4()}\n")

    def victim(self, whose: Whose) -> int:
        leader = self.cluster.wait_leader()
        if whose == "leader":
            return leader
        return next(broker for broker in self.cluster.ids if broker != leader)

    def progress(self, more: int) -> None:
        """So much more is acknowledged to every writer, and shown to every reader."""
        for client in self.clients:
            client.wait_progress(more)

    def says(self, broker: int, *words: str) -> None:
        """Until a broker's story has one of these."""
        process = self.cluster.brokers[broker]
        wait_until(
            lambda: any(word in process.stderr() for word in words), f"broker {broker}: {words}"
        )

    def found(self, broker: int, kind: str) -> dict[str, Any]:
        """What the broker's status says of this kind of trouble with its disk, once mended."""

        def look() -> dict[str, Any] | None:
            seen = self.cluster.status(broker)
            for one in seen["found"] if seen is not None else ():
                if one["kind"] == kind and one["mended"] is not None:
                    return dict(one)
            return None

        found = wait_until(look, lambda: f"{kind!r} mended: {self.cluster.status(broker)}")
        assert found is not None
        return found

    def events(self, broker: int) -> list[dict[str, Any]]:
        """A broker's events.jsonl."""
        path = self.cluster.data_dir(broker) / "events.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def whole(self) -> float:
        """Until all are in sync, and writers are answered; how long that took."""
        began = time.monotonic()
        self.cluster.wait_isr(self.cluster.ids)
        self.progress(5)
        return time.monotonic() - began

    def check(self) -> int:
        """See the module; how many records were acknowledged."""
        self.whole()
        for client in self.clients:
            client.finish()
        cluster = self.cluster
        cluster.wait_level()
        for broker in cluster.ids:
            with cluster.connect(broker) as wire:
                judge(closing_read(wire, "t", 0), self.writers, self.readers)
        self.check_logs()
        return sum(len(writer.acknowledged) for writer in self.writers)

    def check_logs(self) -> None:
        """What replicas hold of the log is the same; one that took a full copy begins later."""
        logs = {b: oplog_bytes(self.cluster.data_dir(b)) for b in self.cluster.ids}
        whole = max(logs, key=lambda broker: len(logs[broker]))
        if min(logs[whole]) == f"{1:020}.jsonl":
            read_oplog(self.cluster.data_dir(whole))
        for broker, log in logs.items():
            for name, data in log.items():
                expected = logs[whole].get(name)
                assert expected is None or data == expected, f"broker {broker}: {name} differs"
