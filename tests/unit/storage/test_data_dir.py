"""Whose directory it is, its lock, and what the last run left."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from tests.support.memory_disk import MemoryDisk
from yak.errors import Fatal
from yak.storage.data_dir import (
    LINEAGE_MAX,
    DataDir,
    Kind,
    read_boot_id,
    worse,
    write_json_durably,
)
from yak.storage.disk import Disk, OsDisk


def open_dir(
    disk: Disk,
    path: str = "/data",
    *,
    broker: int = 1,
    boot_id: str = "boot-1",
    kind: Kind = "broker",
) -> DataDir:
    return DataDir.open(disk, path, kind=kind, broker=broker, boot_id=boot_id)


def reopen(disk: MemoryDisk, boot_id: str = "boot-1") -> DataDir:
    disk.crash("kill", random.Random(0))
    return open_dir(disk, boot_id=boot_id)


def test_a_new_directory_gets_an_id_and_keeps_what_is_saved(disk: Disk, root: str) -> None:
    path = f"{root}/data/broker-1"
    first = open_dir(disk, path)
    assert first.meta.cluster is None
    assert first.state == "whole"
    first.save_cluster("c-1")
    first.save_epoch(3)
    first.mark_running(inc="i-1", boot_id="boot-1", fsync="never")
    first.mark_stopped()
    disk.close()
    again = open_dir(disk, path)
    assert (again.meta.cluster, again.meta.epoch, again.meta.disk) == ("c-1", 3, first.meta.disk)
    assert again.meta.running is None
    written = msgspec.json.decode(disk.read_file(f"{path}/meta.json"))
    assert written["format"] == 1
    assert written["kind"] == "broker"


def saved_lineage(disk: Disk, path: str) -> list[str]:
    written = msgspec.json.decode(disk.read_file(f"{path}/meta.json"))["lineage"]
    assert isinstance(written, list)
    return written


def test_runs_are_marked_from_their_beginning_and_once_more_before_a_goodbye(
    disk: Disk, root: str
) -> None:
    path, marked = f"{root}/data/broker-1", []
    for inc in ("i-1", "i-2"):
        one = open_dir(disk, path)
        one.mark_running(inc=inc, boot_id="boot-1", fsync="never")
        marked.append(saved_lineage(disk, path))
        one.mark_leaving()
        marked.append(saved_lineage(disk, path))
        one.mark_stopped()
        disk.close()
    marks = ["i-1", "i-1.ended", "i-2", "i-2.ended"]
    assert marked == [marks[: n + 1] for n in range(4)]


def test_an_end_that_cannot_be_saved_is_not_marked() -> None:
    """Else yak-zk would take the next start for one of an older copy."""
    disk = MemoryDisk()
    one = open_dir(disk, "/b")
    one.mark_running(inc="i", boot_id="boot-1", fsync="never")
    disk.space_left = 0
    with pytest.raises(Fatal):
        one.mark_leaving()
    assert one.meta.lineage == ["i"]


def test_marks_before_one_that_yak_zk_has_are_forgotten_with_what_is_saved_next(
    disk: Disk, root: str
) -> None:
    path = f"{root}/data/broker-1"
    for inc in ("i-1", "i-2", "i-3"):
        one = open_dir(disk, path)
        one.mark_running(inc=inc, boot_id="boot-1", fsync="never")
        disk.close()
    one = open_dir(disk, path)
    one.mark_running(inc="i-4", boot_id="boot-1", fsync="never")
    one.mark_leaving()
    one.recorded()  # the answer to a join that was sent before: it may not know of the end yet
    assert one.meta.lineage == ["i-4", "i-4.ended"]
    assert saved_lineage(disk, path) == ["i-1", "i-2", "i-3", "i-4", "i-4.ended"]
    one.mark_stopped()
    assert saved_lineage(disk, path) == ["i-4", "i-4.ended"]


def test_of_many_runs_that_yak_zk_may_not_know_the_first_and_the_newest_are_remembered(
    disk: Disk, root: str
) -> None:
    one = open_dir(disk, f"{root}/data/broker-1")
    one.mark_running(inc="known", boot_id="boot-1", fsync="never")
    one.recorded()
    for n in range(2 * LINEAGE_MAX):
        one.mark_running(inc=f"i-{n}", boot_id="boot-1", fsync="never")
    newest = [f"i-{n}" for n in range(LINEAGE_MAX + 1, 2 * LINEAGE_MAX)]
    assert one.meta.lineage == ["known", *newest]


def test_yak_zk_may_take_over_another_cluster_and_a_broker_never_changes_its_own(
    disk: Disk, root: str
) -> None:
    path = f"{root}/data/zookeeper"
    kept = open_dir(disk, path, kind="zookeeper", broker=0)
    kept.save_cluster("c-1")
    kept.take_over("c-2")
    with pytest.raises(AssertionError):
        kept.save_cluster("c-3")
    disk.close()
    assert open_dir(disk, path, kind="zookeeper", broker=0).meta.cluster == "c-2"


def test_disk_ids_differ(disk: Disk, root: str) -> None:
    ids = {open_dir(disk, f"{root}/{number}").meta.disk for number in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("fsync", "boot_id", "state"),
    [
        ("always", "boot-1", "whole"),
        ("always", "boot-2", "whole"),
        ("never", "boot-1", "whole"),
        ("never", "boot-2", "unclean"),
        ("interval:50", "boot-2", "unclean"),
        ("never", "", "unclean"),
    ],
)
def test_what_a_run_that_did_not_end_in_order_means(fsync: str, boot_id: str, state: str) -> None:
    disk = MemoryDisk()
    open_dir(disk).mark_running(inc="i", boot_id="boot-1", fsync=fsync)
    found = reopen(disk, boot_id)
    assert found.state == state
    found.mark_running(inc="j", boot_id=boot_id, fsync="always")
    assert reopen(disk, boot_id).state == state
    found = reopen(disk, boot_id)
    found.recorded()
    assert found.state == "whole"
    assert reopen(disk, boot_id).state == "whole"


def test_a_run_without_a_boot_id_counts_as_another_boot() -> None:
    disk = MemoryDisk()
    open_dir(disk, boot_id="").mark_running(inc="i", boot_id="", fsync="never")
    assert reopen(disk, "").state == "unclean"


def test_the_graver_suspicion_stays() -> None:
    directory = open_dir(MemoryDisk())
    for state, expected in (("torn", "torn"), ("unclean", "unclean"), ("torn", "unclean")):
        directory.suspect(state)  # type: ignore[arg-type]  # the literals of the table above
        assert directory.state == expected
    directory.suspect("damaged")
    assert directory.state == "damaged"
    assert worse("whole", "torn") == "torn"


def test_a_failed_sync_is_remembered_from_the_first_lost_operation() -> None:
    disk = MemoryDisk()
    directory = open_dir(disk)
    directory.sync_failed(41)
    directory.sync_failed(50)
    again = reopen(disk)
    assert (again.rewrite_from, again.state) == (42, "unclean")
    again.rewritten()
    assert (reopen(disk).rewrite_from, reopen(disk).state) == (None, "unclean")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first, second = OsDisk(), OsDisk()
    open_dir(first, f"{tmp_path}/d")
    with pytest.raises(Fatal, match="another broker runs on this directory"):
        open_dir(second, f"{tmp_path}/d")
    first.close()
    open_dir(second, f"{tmp_path}/d")
    second.close()


def test_another_owner_is_refused(disk: Disk, root: str) -> None:
    open_dir(disk, f"{root}/d", broker=1)
    disk.close()
    with pytest.raises(Fatal, match="belongs to broker 1, and this is broker 2"):
        open_dir(disk, f"{root}/d", broker=2)
    disk.close()
    with pytest.raises(Fatal, match="belongs to broker 1, and this is yak-zk"):
        open_dir(disk, f"{root}/d", broker=0, kind="zookeeper")


def test_a_foreign_directory_is_refused_and_left_alone(disk: Disk, root: str) -> None:
    disk.write_file(f"{root}/thesis.tex", b"...")
    with pytest.raises(Fatal, match=r"thesis\.tex"):
        open_dir(disk, root)
    assert disk.listdir(root) == ["thesis.tex"]


def test_a_first_start_that_was_killed_is_no_foreign_directory(disk: Disk, root: str) -> None:
    disk.write_file(f"{root}/lock", b"")
    disk.write_file(f"{root}/meta.json.tmp", b"{")
    disk.mkdir(f"{root}/lost+found")
    assert open_dir(disk, root).state == "whole"


def test_a_file_in_the_way_is_refused(disk: Disk, root: str) -> None:
    disk.write_file(f"{root}/d", b"")
    with pytest.raises(Fatal, match="a file is in the way"):
        open_dir(disk, f"{root}/d")
    with pytest.raises(Fatal, match="data directory"):
        open_dir(disk, f"{root}/d/e")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"format":7,"kind":"broker"}', "format 7"),
        (b"{", "not what yak writes"),
        (b"\xff", "not what yak writes"),
        (b'{"format":1}', "kind"),
    ],
)
def test_a_meta_that_cannot_be_read_is_kept(content: bytes, says: str) -> None:
    disk = MemoryDisk()
    disk.mkdir("/data")
    disk.write_file("/data/meta.json", content)
    with pytest.raises(Fatal, match=says):
        open_dir(disk)
    assert disk.read_file("/data/meta.json") == content


def test_a_disk_that_refuses_is_one_line() -> None:
    disk = MemoryDisk()
    disk.space_left = 10
    with pytest.raises(Fatal, match=r"meta\.json cannot be written: No space left") as refused:
        open_dir(disk)
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("seed", range(25))
def test_a_power_cut_leaves_the_old_file_or_the_new_one(seed: int) -> None:
    rng = random.Random(seed)
    disk = MemoryDisk()
    write_json_durably(disk, "/a.json", {"n": 0})
    write_json_durably(disk, "/a.json", {"n": 1})
    disk.write_file("/a.json.tmp", b'{"n":2}')
    if rng.random() < 0.5:
        disk.sync("/a.json.tmp")
        disk.rename("/a.json.tmp", "/a.json")
    disk.crash("power", rng)
    assert msgspec.json.decode(disk.read_file("/a.json"))["n"] in (1, 2)


def test_the_boot_id_is_one_word_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "boot").write_text("abc-1\n", encoding="ascii")
    assert read_boot_id(f"{tmp_path}/boot") == "abc-1"
    assert read_boot_id(f"{tmp_path}/none") == ""


def test_a_sync_that_failed_is_remembered_though_that_cannot_be_synced_either() -> None:
    """The next start of the same boot reads what the system holds, and nothing else tells it."""
    disk = MemoryDisk()
    directory = DataDir.open(disk, "/b", kind="broker", broker=1, boot_id="boot")
    directory.mark_running(inc="i1", boot_id="boot", fsync="always")
    disk.sync_fails = True
    with pytest.raises(Fatal):
        directory.sync_failed(7)
    disk.sync_fails = False
    disk.crash("kill", random.Random(0))
    again = DataDir.open(disk, "/b", kind="broker", broker=1, boot_id="boot")
    assert (again.state, again.rewrite_from) == ("unclean", 8)
