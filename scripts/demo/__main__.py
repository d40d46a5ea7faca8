"""The story, in the order in which it happens.

Every step waits for what it tells of: the leader is killed while yak-produce's input is not at
its end, after records of it were seen committed, so that it dies in the middle by construction.

Not here: what counts as proof; that is proof.py's.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from scripts.demo import proof
from scripts.demo.processes import COMMAND_LIMIT_S, Failure, Process, command, run
from scripts.demo.text import Text, make_text
from yak.admin import Admin
from yak.errors import YakError
from yak.net.reports import ClusterReport

BROKERS: Final = (1, 2, 3)
TOPIC: Final = "lines"
PARTITIONS: Final = 3
#: How long the cluster may take for anything that it does by itself.
_PATIENCE_S: Final = 20.0
#: How often it is asked meanwhile.
_LOOK_EVERY_S: Final = 0.01
#: Lines that are written to yak-produce at a time.
_CHUNK_LINES: Final = 2_000
#: What is shown of each process's output if something went wrong.
_TAIL_LINES: Final = 25

T = TypeVar("T")


class Demo:
    """One cluster, one text, one producer, one consumer, and one leader that dies."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.output = home / "output"
        self.output.mkdir()
        self.started = time.monotonic()
        self.processes: list[Process] = []
        self.brokers: dict[int, Process] = {}
        #: HOST:PORT of yak-zk, and of every broker by its id.
        self.zk = ""
        self.addresses: dict[int, str] = {}
        self.killed_ms = 0

    def play(self) -> None:
        """All of it.  Raises Failure where something is not as promised."""
        text = make_text(self.home / "text.txt")
        self.tell(f"the text: {len(text.lines):,} lines, {text.size:,} bytes, {text.origin}")
        self.start_cluster()
        with Admin(self.bootstrap, client="demo") as admin:
            first = self.first_leader(admin)
            self.publish(admin, text, first)
            second = self.next_leader(admin, first)
            self.consume(admin, text, second)
            self.bring_back(admin, first)
            self.compare_logs(admin)
        self.stop_cluster()
        self.show_where_to_look(second)

    # -- the cluster ------------------------------------------------------------------------------

    def start_cluster(self) -> None:
        """yak-zk, then the brokers, all at once."""
        zk = [command("yak-zk"), "--port=0", f"--data-dir={self.home / 'zookeeper'}"]
        self.zk = self.start("yak-zk", zk).wait_until_it_listens()
        self.tell(f"yak-zk listens on {self.zk}")
        for broker in BROKERS:
            self.start_broker(broker, port=0)
        for broker in BROKERS:
            self.addresses[broker] = self.brokers[broker].wait_until_it_listens()
        where = ", ".join(f"{broker} on {self.addresses[broker]}" for broker in BROKERS)
        self.tell(f"brokers listen: {where}")

    def start_broker(self, broker: int, port: int) -> None:
        """A broker, on any port or where it was before."""
        args = [f"--id={broker}", f"--port={port}", f"--zk={self.zk}"]
        args += [f"--data-dir={self.data_dir(broker)}"]
        self.brokers[broker] = self.start(f"broker-{broker}", [command("yak-broker"), *args])

    def first_leader(self, admin: Admin) -> int:
        """Wait until all are in sync, then make the topic; who leads."""
        report = self.wait_for("three brokers in sync", admin, lambda r: r.isr == list(BROKERS))
        leader = _leader(report)
        self.tell(f"broker {leader} leads, epoch {report.epoch}: {self.reason(admin, report)}")
        create = ["topic", "create", TOPIC, f"--partitions={PARTITIONS}", f"-b{self.bootstrap}"]
        run("yak-topic", [command("yak"), *create], self.output)
        return leader

    def stop_cluster(self) -> None:
        """SIGTERM to all: each ends in order, with exit code 0."""
        for broker in BROKERS:
            self.brokers[broker].terminate()
        self.processes[0].terminate()
        self.tell("all four processes stopped in order")

    # -- the walk ---------------------------------------------------------------------------------

    def publish(self, admin: Admin, text: Text, leader: int) -> None:
        """Send the text, and kill the leader while its lines flow."""
        args = [command("yak-produce"), TOPIC, f"-b{self.bootstrap}", "-K", "\\t"]
        producer = self.start("yak-produce", args, stdin=subprocess.PIPE)
        lines = text.keyed()
        third = len(lines) // 3
        empty = _committed(admin.status())
        self.tell(f"yak-produce sends to {TOPIC}, {PARTITIONS} partitions")
        _feed(producer, lines[:third])
        self.wait_for("committed records", admin, lambda r: _committed(r) > empty)
        _feed(producer, lines[third : 2 * third])
        # Its input is not at its end: whatever happens now happens in the middle of the publish.
        self.killed_ms = time.time_ns() // 1_000_000
        self.brokers[leader].kill()
        self.tell(f"kill -9: broker {leader}, the leader, is dead; the lines go on")
        _feed(producer, lines[2 * third :])
        assert producer.popen.stdin is not None
        producer.popen.stdin.close()
        try:
            code = producer.popen.wait(COMMAND_LIMIT_S)
        except subprocess.TimeoutExpired as e:
            raise Failure(f"yak-produce did not end within {COMMAND_LIMIT_S:g} s") from e
        if code != 0:
            raise Failure(f"yak-produce ended with exit code {code}")
        summary = producer.log.read_text(encoding="utf-8").splitlines()[-1]
        self.tell(f"yak-produce: {summary}")

    def next_leader(self, admin: Admin, dead: int) -> int:
        """Who took over, why, how soon; and that both leaders wrote a part of the text."""
        report = self.wait_for("another leader", admin, lambda r: r.leader not in (None, dead))
        leader = _leader(report)
        status = admin.coordinator(self.zk)
        elected_ms = next(e.time for e in status.elections if e.epoch == report.epoch)
        self.tell(
            f"broker {leader} leads since {elected_ms - self.killed_ms} ms after the kill, epoch "
            f"{report.epoch}: {self.reason(admin, report)}"
        )
        wrote = [epoch for epoch in proof.epochs(self.data_dir(leader)) if epoch.records]
        if len(wrote) < 2:
            raise Failure("the leader did not die in the middle: one epoch has all records")
        parts = ", then ".join(f"{one.records:,} from broker {one.leader}" for one in wrote)
        resumed = wrote[1].first_ms - self.killed_ms
        self.tell(f"the log has {parts}, whose first came {resumed} ms after the kill")
        return leader

    def consume(self, admin: Admin, text: Text, leader: int) -> None:
        """Read everything from a broker that does not lead, and compare it with the text."""
        source = next(b.id for b in admin.status().brokers if b.status and b.id != leader)
        consumed = self.home / "consumed.jsonl"
        args = [TOPIC, f"-b{self.bootstrap}", f"--read-from={source}", "--from-beginning"]
        args += ["-J", "-e", f"--expect={len(text.lines)}"]
        run("yak-consume", [command("yak-consume"), *args], self.output, stdout=consumed)
        counts = proof.every_line_once_and_in_order(text, consumed)
        self.tell(
            f"yak-consume, from broker {source}: {sum(counts):,} lines "
            f"({', '.join(f'{count:,}' for count in counts)}), each once, in order in each "
            "partition"
        )
        self.tell(f"put together again: the same {text.size:,} bytes, sha256 {text.digest}…")

    def bring_back(self, admin: Admin, dead: int) -> None:
        """The dead broker starts again where it was, and catches up."""
        began = time.monotonic()
        self.start_broker(dead, int(self.addresses[dead].rpartition(":")[2]))
        self.brokers[dead].wait_until_it_listens()
        self.wait_for("the dead broker in sync", admin, lambda r: sorted(r.isr) == list(BROKERS))
        seconds = time.monotonic() - began
        self.tell(f"broker {dead} is back and in sync, {seconds:.2f} s after its start")

    def compare_logs(self, admin: Admin) -> None:
        """Once all three have everything, their logs are the same bytes."""
        self.wait_for("three equal logs", admin, _all_equal)
        size = proof.the_same_bytes([self.data_dir(broker) for broker in BROKERS])
        self.tell(f"the operation logs of brokers 1, 2, 3: the same {size:,} bytes")

    # -- telling and waiting ----------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """Every broker's address."""
        return ",".join(self.addresses.values())

    def data_dir(self, broker: int) -> Path:
        """Where a broker keeps its files."""
        return self.home / f"broker-{broker}"

    def tell(self, line: str) -> None:
        """One line of the story, with the seconds since it began."""
        click.echo(f"{time.monotonic() - self.started:6.2f} s  {line}")

    def reason(self, admin: Admin, report: ClusterReport) -> str:
        """yak-zk's own words on why that broker leads."""
        elections = admin.coordinator(self.zk).elections
        return next(e.reason for e in reversed(elections) if e.epoch == report.epoch)

    def start(self, name: str, args: list[str], *, stdin: int = subprocess.DEVNULL) -> Process:
        """Start a process that this story ends."""
        process = Process(name, args, self.output, stdin=stdin)
        self.processes.append(process)
        return process

    def wait_for(
        self, what: str, admin: Admin, is_so: Callable[[ClusterReport], bool]
    ) -> ClusterReport:
        """Ask the brokers until it is so."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                report = admin.status()
            except YakError:
                continue
            if is_so(report):
                return report
            time.sleep(_LOOK_EVERY_S)
        raise Failure(f"{what}: not within {_PATIENCE_S:g} s")

    def show_where_to_look(self, broker: int) -> None:
        """What a reader can now look at."""
        log = next((self.data_dir(broker) / "oplog").iterdir())
        click.echo(f"\nEvery byte can be read; it is all in {self.home}\n")
        for line in (
            f"{command('yak')} log {self.data_dir(broker)} | less",
            f"tail -n +2 {log} | jq -c 'select(.op == \"lead\")'",
            f"cat {self.data_dir(broker)}/topics/{TOPIC}/0/*.jsonl | head -5",
            f"jq -c . {self.home}/zookeeper/events.jsonl",
        ):
            click.echo(f"    {line}")

    def close(self) -> None:
        """Whatever happened, nothing is left running."""
        for process in self.processes:
            process.close()

    def show_outputs(self) -> None:
        """What every process said, for whoever has to find out."""
        for path in sorted(self.output.iterdir()):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            click.echo(f"\n--- {path}, the last of {len(lines)} lines", err=True)
            click.echo("\n".join(lines[-_TAIL_LINES:]), err=True)


def _feed(producer: Process, lines: list[bytes]) -> None:
    """Write lines to its stdin, which takes no more than it can send."""
    stdin = producer.popen.stdin
    assert stdin is not None
    try:
        for start in range(0, len(lines), _CHUNK_LINES):
            stdin.write(b"".join(lines[start : start + _CHUNK_LINES]))
        stdin.flush()
    except BrokenPipeError as e:
        raise Failure(f"yak-produce ended with exit code {producer.popen.wait()}") from e


def _leader(report: ClusterReport) -> int:
    assert report.leader is not None
    return report.leader


def _committed(report: ClusterReport) -> int:
    """How far the leader's log is committed."""
    leader = report.broker(report.leader)
    return leader.committed if leader is not None else 0


def _all_equal(report: ClusterReport) -> bool:
    words = [one.status for one in report.brokers if one.status is not None]
    ends = {(word.log_end, word.committed + 1) for word in words}
    return len(words) == len(BROKERS) and len(ends) == 1 and all(a == b for a, b in ends)


def main() -> int:
    """Play it; 0 if all was as promised."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    demo = Demo(Path(tempfile.mkdtemp(prefix="yak-demo-")))
    click.echo(f"yak: a record's walk, and the leader dies.  Files in {demo.home}\n")
    try:
        demo.play()
    except (Failure, YakError) as e:
        demo.tell(f"FAILED: {e}")
        demo.show_outputs()
        return 1
    finally:
        demo.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
