"""A full copy from one store to another: while the one goes on, with the other killed anywhere."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator

import pytest

from tests.support.annals import annals, content
from tests.support.memory_disk import MemoryDisk, Stopped
from tests.support.store_life import Kind, Life, partition_files, state_of, uninterrupted
from yak.core import ops
from yak.storage import copy as copies
from yak.storage.checkpoint import FILE_NAME
from yak.storage.copy import Incoming, Offer, Outgoing, finish_install
from yak.storage.faults import StorageError

SEED = 184
#: The leader's checkpoint that is copied; where it is when the copy begins; where it ends.
AT, BEGUN, END = 75, 80, 110
#: How far the follower was.
HAD = 20
HISTORY = annals(END, seed=SEED)
PIECE = 400
#: In a piece, with those that follow the one that was asked for.
FILES = 3


def a_leader() -> Life:
    life = Life(MemoryDisk())
    life.run(HISTORY, AT)
    life.checkpoint()
    life.run(HISTORY, BEGUN)
    return life


def a_follower() -> MemoryDisk:
    """It was behind the leader's log when it was stopped."""
    life = Life(MemoryDisk())
    life.run(HISTORY, HAD)
    life.checkpoint()
    life.disk.close()
    assert isinstance(life.disk, MemoryDisk)
    life.disk.sync_all()
    return life.disk


def fill(
    outgoing: Outgoing,
    incoming: Incoming,
    pieces: int = 10**6,
    size: int = PIECE,
    files: int = FILES,
) -> int:
    """Piece after piece; how many were needed."""
    for number in range(pieces):
        wanted = incoming.wanted()
        if wanted is None:
            return number
        incoming.take(outgoing.read(*wanted, size, files))
    return pieces


def copied(leader: Life, disk: MemoryDisk) -> None:
    """All that a follower does to its disk, up to its next start."""
    outgoing = leader.store.outgoing()
    incoming = Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    fill(outgoing, incoming)
    for step in incoming.syncs():
        step()
    incoming.install()


def check_filled(disk: MemoryDisk, boot: str = "boot") -> None:
    """It holds the leader's checkpoint, and goes on as the leader did."""
    again = Life(disk, boot=boot)
    assert again.found.state == "whole", again.found.message
    assert again.found.next == AT + 1
    assert again.store.first_index == AT + 1
    assert content(again.state) == content(state_of(HISTORY, AT))
    assert partition_files(disk) == uninterrupted(HISTORY, AT).files
    again.run(HISTORY, END)
    assert again.held() == uninterrupted(HISTORY)
    again.checkpoint()
    disk.close()
    assert content(Life(disk, boot=boot).state) == content(again.state)


# -- Whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [1, 2, 10**6])
@pytest.mark.parametrize("size", [1, 100, 1000, 10**6])
def test_what_arrives_is_what_the_leader_had_at_its_checkpoint(size: int, files: int) -> None:
    leader, disk = a_leader(), a_follower()
    outgoing = leader.store.outgoing()
    assert outgoing.offer.at == AT
    incoming = Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    fill(outgoing, incoming, size=size, files=files)
    assert incoming.wanted() is None
    for step in incoming.syncs():
        step()
    incoming.install()
    disk.crash("power", random.Random(size))
    check_filled(disk, "another")


def test_it_is_the_checkpoint_as_it_was_though_the_leader_goes_on() -> None:
    """Files grow, segments are trimmed, topics deleted and made again, a new checkpoint made."""
    leader, disk = a_leader(), a_follower()
    outgoing = leader.store.outgoing()
    incoming = Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    while incoming.wanted() is not None:
        fill(outgoing, incoming, 1, size=100)
        if leader.state.index < END:
            leader.run(HISTORY, leader.state.index + 2)
            if leader.state.index in (90, 100):
                leader.checkpoint(pinned=AT)
    assert leader.state.index == END
    assert leader.store.has_trash
    for step in incoming.syncs():
        step()
    incoming.install()
    check_filled(disk)


def test_a_piece_ends_its_file_before_it_goes_on_and_keeps_to_both_limits() -> None:
    leader = a_leader()
    outgoing, sizes = leader.store.outgoing(), sizes_of(leader)
    files = list(sizes)
    assert len(files) > FILES
    first, second, third = files[:3]
    together = sizes[first] + sizes[second]
    whole = [outgoing.read(file, 0, sizes[file]) for file in files]
    assert [len(one) for one in whole] == list(sizes.values())
    assert outgoing.read(first, 0, 10**6) == whole[0], "whoever does not ask for more gets one"
    assert outgoing.read(first, 0, 10**6, 2) == b"".join(whole[:2])
    assert outgoing.read(first, 0, 10**6, FILES) == b"".join(whole[:FILES])
    assert outgoing.read(first, 0, together, FILES) == b"".join(whole[:2])
    assert outgoing.read(first, 0, together - 1, FILES) == whole[0], "the others come whole"
    assert outgoing.read(first, 0, sizes[first] - 1, FILES) == outgoing.read(
        first, 0, sizes[first] - 1
    )
    assert outgoing.read(files[-2], 0, 10**6, FILES) == b"".join(whole[-2:])
    assert outgoing.read(third, 0, 10**6, 10**6) == b"".join(whole[2:])


def sizes_of(leader: Life) -> dict[tuple[str, int, int], int]:
    """The files that its checkpoint names, in that order."""
    return leader.store.outgoing()._sizes


def test_more_files_than_it_pays_to_name_are_synced_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copies, "SYNC_ALL_ABOVE", 3)
    leader, disk = a_leader(), a_follower()
    copied(leader, disk)
    disk.crash("power", random.Random(0))
    check_filled(disk, "another")


def test_one_begun_again_with_the_same_offer_goes_on() -> None:
    leader, disk = a_leader(), a_follower()
    outgoing = leader.store.outgoing()
    incoming = Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    total = fill(outgoing, incoming)
    incoming = Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    fill(outgoing, incoming, total // 2)
    wanted = incoming.wanted()
    incoming.begin(leader.store.outgoing().offer)
    assert incoming.wanted() == wanted
    assert fill(outgoing, incoming) == total - total // 2
    incoming.begin(Offer(AT + 1, 10, "00000000"))
    assert incoming.wanted() == (None, 0)
    assert disk.listdir("/data/incoming/topics") == []


# -- What is not right -----------------------------------------------------------------------------


def pieces_of(leader: Life) -> Iterator[tuple[copies.File, int]]:
    """Everything that a follower asks for."""
    incoming = Incoming(a_follower(), "/data")
    outgoing = leader.store.outgoing()
    incoming.begin(outgoing.offer)
    while (wanted := incoming.wanted()) is not None:
        yield wanted
        incoming.take(outgoing.read(*wanted, PIECE))


def test_a_leaders_damaged_file_is_never_handed_out() -> None:
    """One bit flipped anywhere in what stands on its disk."""
    leader = a_leader()
    disk = leader.disk
    assert isinstance(disk, MemoryDisk)
    outgoing = leader.store.outgoing()
    for file, position in pieces_of(leader):
        if file is None:
            continue
        data = outgoing.read(file, position, PIECE)
        topic, partition, _ = file
        path = place(leader, file)
        # In a line's own sum and time a flip shows only where the log is; here crc and order do.
        for at in bodies(data)[::5]:
            disk.flip(path, position + at, 1)
            with pytest.raises(StorageError) as raised:
                outgoing.read(file, position, PIECE)
            assert raised.value.damaged
            assert f"{topic}/{partition} cannot be copied" in raised.value.message
            disk.flip(path, position + at, 1)
        assert outgoing.read(file, position, PIECE) == data


def test_a_damaged_file_after_the_one_that_was_asked_for_is_left_out_until_it_is_asked_for() -> (
    None
):
    """All before it arrives; then the leader is told, as it is of one that was asked for."""
    leader, disk = a_leader(), a_follower()
    assert isinstance(leader.disk, MemoryDisk)
    files = list(sizes_of(leader))
    damaged = files[len(files) // 2]
    leader.disk.flip(place(leader, damaged), 3)
    outgoing, incoming = leader.store.outgoing(), Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    with pytest.raises(StorageError) as raised:
        fill(outgoing, incoming, size=10**6, files=10**6)
    assert raised.value.damaged
    assert incoming.wanted() == (damaged, 0)
    leader.disk.flip(place(leader, damaged), 3)
    assert fill(outgoing, incoming, size=10**6, files=10**6) == 1
    for step in incoming.syncs():
        step()
    incoming.install()
    check_filled(disk)


def test_what_comes_after_the_last_file_is_not_taken() -> None:
    leader = a_leader()
    outgoing, incoming = leader.store.outgoing(), Incoming(a_follower(), "/data")
    incoming.begin(outgoing.offer)
    fill(outgoing, incoming, 1, size=10**6)
    wanted = incoming.wanted()
    assert wanted is not None
    rest = outgoing.read(*wanted, 10**6, 10**6)
    with pytest.raises(StorageError, match=rf"{len(rest) + 1} bytes of \('o', 1, 0\)"):
        incoming.take(rest + b"x")


def test_another_partitions_file_in_its_place_is_never_handed_out() -> None:
    """Its batches are whole, and their order is right."""
    leader = a_leader()
    outgoing = leader.store.outgoing()
    files = sorted({file for file, _ in pieces_of(leader) if file is not None})
    one = files[0]
    other = next(file for file in files if file[:2] != one[:2] and file[2] == one[2])
    wanted = leader.disk.size(place(leader, one))
    strange = leader.disk.read_file(place(leader, other))
    leader.disk.write_file(place(leader, one), (strange * wanted)[:wanted])
    with pytest.raises(StorageError, match=f"is of {other[0]}/{other[1]}") as raised:
        read_all(outgoing, one)
    assert raised.value.damaged


def place(leader: Life, file: tuple[str, int, int]) -> str:
    """Where it is by now."""
    topic, partition, first = file
    return leader.store._trash.where(f"/data/topics/{topic}/{partition}/{first:020}.jsonl", AT)


def bodies(data: bytes) -> list[int]:
    """The positions of all bytes of records."""
    found: list[int] = []
    at = 0
    for line in data.splitlines(keepends=True):
        if line.startswith(b'{"value"'):
            found += range(at, at + len(line))
        at += len(line)
    return found


def test_a_leaders_file_that_ends_too_early_is_never_handed_out() -> None:
    leader = a_leader()
    outgoing = leader.store.outgoing()
    file = next(file for file, _ in pieces_of(leader) if file is not None)
    path = place(leader, file)
    whole = outgoing.read(file, 0, 10**6)
    for size in range(0, len(whole), 7):
        disk = copy.deepcopy(leader.disk)
        disk.truncate(path, size)
        short = Outgoing(disk, "/data", leader.store._trash)
        with pytest.raises(StorageError) as raised:
            read_all(short, file)
        assert raised.value.damaged


def read_all(outgoing: Outgoing, file: tuple[str, int, int]) -> None:
    """Whole operations before the fault may still be read; from there on nothing."""
    position = 0
    for _ in range(50):
        position += len(outgoing.read(file, position, 10**6))


def test_what_the_checkpoint_does_not_name_is_refused() -> None:
    outgoing = a_leader().store.outgoing()
    for file in (("nobody", 0, 0), ("order", 99, 0), ("../oplog", 0, 1)):
        with pytest.raises(StorageError, match="the checkpoint has nothing of"):
            outgoing.read(file, 0, 100)
    file = next(file for file, _ in pieces_of(a_leader()) if file is not None)
    with pytest.raises(StorageError, match="the checkpoint has nothing of"):
        outgoing.read(file, 10**6, 100)


@pytest.mark.parametrize("harm", ["nothing", "too much", "another"])
def test_what_cannot_be_right_is_not_taken(harm: str) -> None:
    leader, disk = a_leader(), a_follower()
    outgoing = leader.store.outgoing()
    incoming = Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    size = outgoing.offer.size
    data = {"nothing": b"", "too much": b"x" * (size + 1), "another": b"x" * size}[harm]
    with pytest.raises(StorageError):
        incoming.take(data)
    incoming.begin(outgoing.offer)  # from the beginning where it was the checkpoint itself
    fill(outgoing, incoming)
    assert incoming.wanted() is None


def test_an_offer_that_is_no_checkpoint_is_not_taken() -> None:
    data = b"no checkpoint\n"
    incoming = Incoming(a_follower(), "/data")
    incoming.begin(Offer(AT, len(data), ops.crc_of(data)))
    with pytest.raises(StorageError, match="the leader's checkpoint: "):
        incoming.take(data)


def test_a_full_disk_is_waited_out() -> None:
    """Each piece that was refused is asked for again."""
    leader, disk = a_leader(), a_follower()
    outgoing = leader.store.outgoing()
    incoming = Incoming(disk, "/data")
    incoming.begin(outgoing.offer)
    refused = 0
    for number in itertools.count():
        wanted = incoming.wanted()
        if wanted is None:
            break
        data = outgoing.read(*wanted, PIECE)
        if number % 2:
            disk.space_left = number % 50
            try:
                incoming.take(data)
            except OSError:
                refused += 1
                assert incoming.wanted() == wanted
            disk.space_left = None
        else:
            incoming.take(data)
    assert refused > 5
    for step in incoming.syncs():
        step()
    incoming.install()
    check_filled(disk)


def test_a_disk_that_is_full_within_a_piece_of_several_files_is_waited_out() -> None:
    """What the disk took is not asked for again."""
    leader, disk = a_leader(), a_follower()
    outgoing = leader.store.outgoing()
    first, *_ = sizes_of(leader)
    incoming, begun = Incoming(disk, "/data"), set()
    for room in range(0, sum(sizes_of(leader).values()), 97):
        incoming = Incoming(disk, "/data")
        incoming.begin(outgoing.offer)
        fill(outgoing, incoming, 1, size=10**6)
        disk.space_left = room
        with pytest.raises(OSError, match="No space left"):
            fill(outgoing, incoming, size=10**6, files=10**6)
        disk.space_left = None
        wanted = incoming.wanted()
        assert wanted is not None
        assert wanted[1] == 0, "a piece of a file is here or not"
        begun.add(wanted[0])
        assert (wanted[0] == first) == (room < sizes_of(leader)[first])
        assert fill(outgoing, incoming, size=10**6, files=10**6) == 1
    assert begun == set(sizes_of(leader))
    for step in incoming.syncs():
        step()
    incoming.install()
    check_filled(disk)


# -- Killed ----------------------------------------------------------------------------------------


def killed(leader: Life, step: int, kind: Kind) -> tuple[MemoryDisk, bool]:
    disk = a_follower()
    disk.stop_after = step
    try:
        copied(leader, disk)
    except Stopped:
        stopped = True
    else:
        stopped = False
    disk.crash(kind, random.Random(step))
    return disk, stopped


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_killed_at_every_change_it_holds_the_one_or_the_other(kind: Kind) -> None:
    """What it had, until all is durable; then the copy.  And it can be filled again."""
    leader = a_leader()
    boot = "boot" if kind == "kill" else "another"
    had = had_new = 0
    for step in itertools.count():
        disk, stopped = killed(leader, step, kind)
        life = Life(disk, boot=boot)
        assert life.found.state == "whole", life.found.message
        assert life.found.next in (HAD + 1, AT + 1)
        is_new = life.found.next == AT + 1
        had_new += is_new
        had += not is_new
        index = AT if is_new else HAD
        assert content(life.state) == content(state_of(HISTORY, index))
        assert partition_files(disk) == uninterrupted(HISTORY, index).files
        assert not disk.exists("/data/incoming")
        if not is_new and step % 4 == 0:
            disk.close()
            copied(leader, disk)
            check_filled(disk, boot)
        if not stopped:
            assert is_new
            break
    assert had > 40
    assert had_new >= 1


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_killed_at_every_change_of_its_installation(kind: Kind) -> None:
    """By the start that puts it in its place; and by the next one at another change."""
    leader = a_leader()
    boot = "boot" if kind == "kill" else "another"
    complete = a_follower()
    copied(leader, complete)
    for steps in itertools.count():
        disk = copy.deepcopy(complete)
        if not started_and_killed(disk, steps, kind):
            break
        for second in range(0, 12, 5):
            twice = copy.deepcopy(disk)
            started_and_killed(twice, second, kind)
            check_filled(twice, boot)
    assert steps > 12


def started_and_killed(disk: MemoryDisk, step: int, kind: Kind) -> bool:
    disk.stop_after = step
    try:
        Life(disk, boot="another")
    except Stopped:
        disk.crash(kind, random.Random(step))
        return True
    disk.crash(kind, random.Random(step))
    return False


def test_a_start_without_a_copy_installs_nothing() -> None:
    disk = a_follower()
    files = partition_files(disk)
    assert not finish_install(disk, "/data")
    disk.mkdir("/data/incoming/topics/t/0")
    disk.write_file(f"/data/incoming/{FILE_NAME}", b"whatever")
    assert not finish_install(disk, "/data")
    assert not disk.exists("/data/incoming")
    assert partition_files(disk) == files


def harmless(_: MemoryDisk) -> None: ...


def lose_topics(disk: MemoryDisk) -> None:
    disk.rmtree("/data/topics")


def flip_log(disk: MemoryDisk) -> None:
    name = disk.listdir("/data/oplog")[0]
    disk.flip(f"/data/oplog/{name}", 100)


def reach_further(disk: MemoryDisk) -> None:
    """What it held, and nobody else, goes beyond what it is given."""
    disk.write_file(f"/data/oplog/{AT + 1:020}.jsonl", b"of another history\n")


@pytest.mark.parametrize("harm", [harmless, lose_topics, flip_log, reach_further])
def test_what_was_there_before_does_not_matter(harm: Callable[[MemoryDisk], None]) -> None:
    leader, disk = a_leader(), a_follower()
    copied(leader, disk)
    harm(disk)
    check_filled(disk)
