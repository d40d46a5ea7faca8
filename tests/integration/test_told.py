"""Damage of every kind, one after the other: told in the story, in `yak status`, by `yak verify`.

Each is done to a broker that is down, the leader or a follower by turns, and has to be

    proved    by `yak verify DIR` before the start: exit code 1, and which file
    told      as an event in events.jsonl, and in `yak status`, also when it is mended
    mended    the broker is in sync again, on the same bytes, and nothing acknowledged is lost

docs/operations.md has the same table, for whoever meets one of them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from click.testing import CliRunner, Result

from tests.support.cluster import Cluster, run_command
from tests.support.history import closing_read
from tests.support.logfiles import partition_dir, segments, split_segment
from tests.support.process import wait_until
from yak.commands.status import status
from yak.commands.verify import verify

OPERATIONS: Final = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
#: So much is written before each damage, and a checkpoint is made meanwhile.
BATCHES: Final = 25
BEHIND: Final = ", behind the checkpoint"


class House:
    """The cluster of this module, and all that it acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.values: list[str] = []
        with cluster.connect_leader() as wire:
            wire.ok("create_topic", topic="t", partitions=1)

    def write(self, batches: int = BATCHES) -> None:
        with self.cluster.connect_leader() as wire:
            for _ in range(batches):
                values = [f"value {len(self.values) + n:04}" for n in range(3)]
                wire.produce("t", 0, values)
                self.values += values

    def settle(self, broker: int) -> None:
        """Its partition's file holds all, and some operations are behind its last checkpoint, in
        the last file of its log.
        """
        home = self.cluster.data_dir(broker)

        def look() -> bool:
            last = self.cluster.wait_level() - 1
            if self.values[-1].encode() not in self.records(home).read_bytes():
                return False
            operations = split_segment(last_log(home))[1]
            if 3 <= last - checkpointed(home) <= 15 and len(operations) >= 3:
                return True
            self.write(1)
            return False

        wait_until(look, "there is something behind a checkpoint")

    @staticmethod
    def records(home: Path) -> Path:
        return segments(partition_dir(home, "t", 0))[0]

    def check(self) -> None:
        """All are in sync, and every value is there once, on each."""
        self.cluster.wait_isr(self.cluster.ids)
        self.cluster.wait_level()
        for broker in self.cluster.ids:
            with self.cluster.connect(broker) as wire:
                assert closing_read(wire, "t", 0) == self.values
        proved = prove(self.cluster.directory)
        assert proved.return_value == 0, proved.stdout
        for process in self.cluster.processes():
            assert "Traceback" not in process.stderr(), process.report()


def checkpointed(home: Path) -> int:
    """The operation of its checkpoint, if that names a file of the partition."""
    path = home / "checkpoint.json"
    if not path.exists():
        return 0
    checkpoint = json.loads(path.read_bytes())
    return int(checkpoint["state"]["index"]) if checkpoint["partitions"] else 0


def prove(path: Path) -> Result:
    return CliRunner().invoke(verify, [str(path)], standalone_mode=False)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    options = ("--checkpoint-operations", "20")
    segments_of = ("--oplog-segment-bytes", "6000", "--session-ms", "2000")
    with Cluster(
        tmp_path_factory.mktemp("told"), zk_options=segments_of, broker_options=options
    ) as cluster:
        yield House(cluster)


# -- what is done ----------------------------------------------------------------------------------


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def last_log(home: Path) -> Path:
    """The last file of the log that holds an operation."""
    return segments(home / "oplog")[-1]


def tear(home: Path) -> None:
    cut(last_log(home), last_log(home).stat().st_size - 5)


def shorten_log(home: Path) -> None:
    last = split_segment(last_log(home))[1][-1]
    cut(last_log(home), last_log(home).stat().st_size - len(last.line) - len(last.body))


def flip_line(home: Path) -> None:
    """Of an operation with others behind it, behind the checkpoint's."""
    data = last_log(home).read_bytes()
    before = split_segment(last_log(home))[1][-2]
    flip(last_log(home), data.index(before.line) + 20)


def flip_body(home: Path) -> None:
    data = last_log(home).read_bytes()
    before = split_segment(last_log(home))[1][-2]
    flip(last_log(home), data.index(before.line) + len(before.line) + 20)


def remove_log(home: Path) -> None:
    shutil.rmtree(home / "oplog")


def remove_last_log(home: Path) -> None:
    last_log(home).unlink()


def flip_checkpoint(home: Path) -> None:
    flip(home / "checkpoint.json", 200)


def remove_checkpoint(home: Path) -> None:
    """And the log before it, which is let go as soon as there is one."""
    (home / "checkpoint.json").unlink()
    segments(home / "oplog")[0].unlink()


def flip_record(home: Path) -> None:
    data = House.records(home).read_bytes()
    flip(House.records(home), data.index(b'"value 0000"') + 2)


def remove_records(home: Path) -> None:
    House.records(home).unlink()


def remove_topics(home: Path) -> None:
    shutil.rmtree(home / "topics")


def shorten_records(home: Path) -> None:
    """Cut between two batches, below what the checkpoint names."""
    path = House.records(home)
    header = path.read_bytes().index(b"\n") + 1
    first = split_segment(path)[1][0]
    cut(path, header + len(first.line) + len(first.body))


class Row(NamedTuple):
    """name: as in docs/operations.md.  proof: what `yak verify` says, with exit code 1; "" where it
    finds nothing, or nothing is left to be looked at.  found: the kind in `status`, and a word of
    what is said there.
    """

    name: str
    do: Callable[[Path], None]
    proof: str
    found: str
    says: str
    by_leader: bool = False
    read: bool = False


ROWS: Final = (
    Row("torn end of the log", tear, "", "torn", "bytes were cut from the log's end"),
    Row("log too short", shorten_log, "but the log ends at", "torn", "the log ends at", True),
    Row(f"bit in the log's line{BEHIND}", flip_line, "the sum", "damaged", "the leader fills it"),
    Row(f"bit in the log's body{BEHIND}", flip_body, "the crc", "damaged", "leader fills it", True),
    Row("the log is gone", remove_log, "but the log ends at", "torn", "the log ends before"),
    Row("the log's last file is gone", remove_last_log, "but the log ends at", "torn", "log ends"),
    Row("bit in checkpoint.json", flip_checkpoint, "the crc", "damaged", "the crc", True),
    Row("checkpoint.json is gone", remove_checkpoint, "no checkpoint", "damaged", "no checkpoint"),
    Row("bit in a partition's file", flip_record, "the crc", "damaged", "the crc", False, True),
    Row("a partition's file is gone", remove_records, "is not there", "damaged", "not there", True),
    Row("topics/ is gone", remove_topics, "is not there", "damaged", "is not there"),
    Row("a partition's file is too short", shorten_records, "fewer than", "damaged", "fewer than"),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.name.replace(" ", "-") for row in ROWS])
def test_damage_is_proved_told_and_mended(house: House, row: Row) -> None:
    cluster = house.cluster
    house.write()
    leader = cluster.wait_leader()
    victim = leader if row.by_leader else next(one for one in cluster.ids if one != leader)
    house.settle(victim)
    home = cluster.data_dir(victim)
    cluster.kill(victim)
    assert prove(home).return_value == 0, "before the damage"
    row.do(home)
    if row.proof:
        proved = prove(home)
        assert proved.return_value == 1, proved.stdout
        assert row.proof in proved.stdout
    left = log_of(home)
    house.write(2)
    cluster.start(victim)
    if row.read:
        scrub(cluster, victim)
    found = wait_mended(cluster, victim, row.found)
    assert row.says in found["what"], found
    house.check()
    check_story(home, found)
    if found["kind"] == "damaged" and not row.read:  # else it lived before, and its log grew
        kept = re.search(r"kept in (\S+):", found["what"])
        assert kept is not None, found
        assert log_of(Path(kept[1])) == left, "kept as it was found"
    printed = CliRunner().invoke(status, ["-b", cluster.bootstrap()], standalone_mode=False).stdout
    assert f"broker {victim} found at" in printed
    assert row.says in printed
    assert "mended at" in printed
    assert f"| {row.name} |" in OPERATIONS, "docs/operations.md, What to do when: keep it true"


def log_of(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((home / "oplog").glob("*.jsonl"))}


def test_an_emptied_directory_of_one_in_sync_is_told_and_filled(house: House) -> None:
    """All were down at once, yak-zk first, so that it was in sync: its vote goes with its disk."""
    cluster = house.cluster
    house.write(2)
    cluster.wait_level()
    assert cluster.zk is not None
    cluster.zk.kill()
    cluster.kill(*cluster.ids)
    shutil.rmtree(cluster.data_dir(1))
    cluster.data_dir(1).mkdir()
    cluster.start_zk()
    cluster.start(*cluster.ids)
    found = wait_mended(cluster, 1, "damaged")
    assert "an emptied one" in found["what"]
    house.check()
    check_story(cluster.data_dir(1), found)
    assert '"event":"other_disk"' in (cluster.zk_dir / "events.jsonl").read_text()
    assert "| the directory is empty |" in OPERATIONS


def test_a_bit_in_the_log_before_the_checkpoint_is_found_when_a_follower_needs_it(
    house: House,
) -> None:
    """A start does not read that far; and what it cannot prove a leader does not send."""
    cluster = house.cluster
    house.write(2)
    end = cluster.wait_level()
    victim = cluster.wait_leader()
    late = next(one for one in cluster.ids if one != victim)
    home = cluster.data_dir(victim)
    cluster.kill(late)
    house.write(60)
    log = next(one for one in segments(home / "oplog") if int(one.stem) > end)
    damaged = split_segment(log)[1][1]
    index = int(json.loads(damaged.line)["index"])
    wait_until(lambda: checkpointed(home) > index, "a checkpoint has more than is damaged")
    cluster.kill(victim)
    flip(log, log.read_bytes().index(damaged.line) + 20)
    assert prove(home).return_value == 1
    cluster.start(victim)
    cluster.wait_isr([one for one in cluster.ids if one != late])
    seen = cluster.status(victim)
    assert seen is not None
    assert {one["kind"] for one in seen["found"]} <= {"kept"}, "of its earlier lives"
    move_lead(cluster, victim)
    cluster.start(late)
    found = wait_until(lambda: newest(cluster, victim, "cannot be read"), "it is found and mended")
    assert found is not None
    house.check()
    check_story(home, found)
    assert "| bit in the log before the checkpoint |" in OPERATIONS


def move_lead(cluster: Cluster, broker: int) -> None:
    assert cluster.zk_address is not None
    address = "{}:{}".format(*cluster.zk_address)
    moved = run_command("yak", "zk", "elect", str(broker), "--yes", "--zk", address)
    assert moved.returncode == 0, moved.stderr
    wait_until(lambda: cluster.leader() == broker, f"broker {broker} leads")


def newest(cluster: Cluster, broker: int, says: str) -> dict[str, Any] | None:
    """What it found last, if that is mended and is this."""
    seen = cluster.status(broker)
    for one in reversed(seen["found"]) if seen is not None else ():
        if says in one["what"]:
            return dict(one) if one["mended"] is not None else None
    return None


def scrub(cluster: Cluster, broker: int) -> None:
    """Read all that it has, until it gives what was written."""

    def look() -> bool:
        try:
            with cluster.connect(broker, 5.0) as wire:
                return bool(wire.read_all("t", 0))
        except (OSError, AssertionError):  # STORAGE_ERROR, or it begins anew
            return False

    wait_until(look, f"all can be read at broker {broker}")


def wait_mended(cluster: Cluster, broker: int, kind: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        seen = cluster.status(broker)
        for one in seen["found"] if seen is not None else ():
            if one["kind"] == kind and one["mended"] is not None:
                return dict(one)
        return None

    def last() -> str:
        return f"broker {broker} has found and mended {kind!r}: {cluster.status(broker)}"

    found = wait_until(look, last)
    assert found is not None
    return found


def check_story(home: Path, found: dict[str, Any]) -> None:
    """events.jsonl says it, too, and says the end of it."""
    events = [json.loads(line) for line in (home / "events.jsonl").read_bytes().splitlines()]
    first = found["what"].partition("; then: ")[0]
    assert any(first.startswith(one.get("reason") or "-") for one in events), first
    assert events[-1]["time"] >= found["mended"]
    assert any(one["event"] == "whole_again" for one in events)


# -- what a start refuses --------------------------------------------------------------------------


def remove_meta(home: Path) -> None:
    (home / "meta.json").unlink()


def flip_meta(home: Path) -> None:
    flip(home / "meta.json", 60)


@pytest.mark.parametrize(
    ("name", "do", "says"),
    [
        ("meta.json is gone", remove_meta, "start with an empty one"),
        ("bit in meta.json", flip_meta, "crc"),
    ],
)
def test_a_broker_without_its_meta_json_is_refused(
    house: House, name: str, do: Callable[[Path], None], says: str
) -> None:
    """Whose it was, and of which cluster, is not guessed; with it back, all is as it was."""
    cluster, victim = house.cluster, 3
    house.write(1)
    cluster.kill(victim)
    home = cluster.data_dir(victim)
    whole = (home / "meta.json").read_bytes()
    do(home)
    proved = prove(cluster.directory)
    assert proved.return_value == 1
    assert "meta.json" in proved.stdout
    assert refused(cluster, victim, says)
    (home / "meta.json").write_bytes(whole)
    cluster.start(victim)
    house.check()
    assert f"| {name} |" in OPERATIONS


def refused(cluster: Cluster, broker: int, *says: str) -> bool:
    """One line on stderr, exit code 1, and nothing in the directory is changed."""
    cluster.start(broker, wait=False)
    process = cluster.brokers[broker]
    assert process.wait() == 1
    last = process.stderr().strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert all(word in last for word in says), last
    return True


def test_the_directory_of_another_broker_is_refused(house: House) -> None:
    cluster = house.cluster
    cluster.kill(2, 3)
    two, three = cluster.data_dir(2), cluster.data_dir(3)
    aside = three.with_name("aside")
    three.rename(aside)
    shutil.copytree(two, three)
    assert refused(cluster, 3, "it belongs to broker 2")
    shutil.rmtree(three)
    aside.rename(three)
    cluster.start(2, 3)
    house.check()
    assert "| another broker's directory |" in OPERATIONS


@pytest.mark.parametrize(
    ("name", "do", "says"),
    [
        ("state.json of yak-zk is gone", lambda path: path.unlink(), "yak zk adopt"),
        ("bit in state.json of yak-zk", lambda path: flip(path, 60), "bring a good copy back"),
    ],
)
def test_a_yak_zk_without_its_state_is_refused(
    house: House, name: str, do: Callable[[Path], None], says: str
) -> None:
    """Brokers go on with their leader; with it back, all is as it was."""
    cluster = house.cluster
    assert cluster.zk is not None
    cluster.zk.kill()
    path = cluster.zk_dir / "state.json"
    whole = path.read_bytes()
    do(path)
    with pytest.raises(AssertionError, match="before it listened") as error:
        cluster.start_zk()
    assert says in str(error.value)
    path.write_bytes(whole)
    cluster.start_zk()
    house.write(1)
    house.check()
    assert f"| {name} |" in OPERATIONS
