"""A full copy between two shells: piece by piece, with failures on either side."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from tests.support.annals import annals, content
from tests.support.memory_disk import MemoryDisk
from tests.support.store_life import Life, partition_files, state_of, uninterrupted
from yak import copying
from yak import messages as m
from yak.copying import Fetching, Giving
from yak.core import events as e
from yak.core import ops
from yak.storage.disk import Buffer
from yak.storage.faults import StorageError

HISTORY = annals(110, seed=184)
AT = 75
CONN, LINK = 7, 3
FOLLOWER = 2


class Pair:
    """A leader that gives, a follower that fetches, and the link between them.

    spoil: what becomes of a piece on its way.  asked: the requests.  held: nothing is answered.
    """

    def __init__(self) -> None:
        self.leader = Life(MemoryDisk())
        self.leader.run(HISTORY, AT)
        self.leader.checkpoint()
        self.disk = MemoryDisk()
        self.follower = Life(self.disk)
        self.giving = Giving(self.leader.store)
        self.told: list[e.Event] = []
        self.failed: list[str] = []
        self.asked: list[m.Copy] = []
        self.held = False
        self.spoil: Callable[[bytes], bytes] = lambda data: data
        self._waiting: Callable[[], None] | None = None
        self.fetching = Fetching(FOLLOWER, self.follower.store, lambda: self, self.told.append)

    def copy(
        self, link: int, request: m.Copy, received: Callable[[m.CopyAnswer, Buffer], None]
    ) -> None:
        self.asked.append(request)
        self.received = received

        def deliver() -> None:
            answer, data = self.giving.piece(e.SendCopy(CONN + link - LINK, request))
            received(answer, self.spoil(data))

        self._waiting = deliver
        if not self.held:
            asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(self) -> None:
        """Unless the link was lost since."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def fail(self, link: int, reason: str) -> None:
        self.failed.append(reason)

    def begin(self, link: int = LINK) -> e.FetchCopy:
        offer = self.giving.offer(e.OfferCopy(CONN + link - LINK, 0, FOLLOWER, 1)).copy
        assert isinstance(offer, m.CopyOffer)
        effect = e.FetchCopy(link, 1, offer)
        self.fetching.begin(effect)
        return effect

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not look():  # noqa: ASYNC110 -- a thread's work has no event to wait for
                await asyncio.sleep(0.001)

    def done(self, link: int = LINK) -> bool:
        return e.CopyDone(link, AT) in self.told

    def check_installed(self) -> None:
        self.fetching.install(e.Install(AT))
        self.disk.close()
        again = Life(self.disk)
        assert again.found.next == AT + 1
        assert content(again.state) == content(state_of(HISTORY, AT))
        assert partition_files(self.disk) == uninterrupted(HISTORY, AT).files


@pytest.mark.asyncio
async def test_piece_after_piece_until_all_is_there_and_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copying, "PIECE_FILES", 1)
    pair = Pair()
    pair.begin()
    await pair.until(pair.done)
    pieces = len(pair.asked)
    assert pieces > 5
    assert pair.told.count(e.CopyHeard(LINK)) > pieces, "the syncs are heard as well"
    assert pair.told[-1] == e.CopyDone(LINK, AT)
    pair.check_installed()


@pytest.mark.asyncio
async def test_small_files_come_together() -> None:
    """The checkpoint, then all that it names."""
    pair = Pair()
    pair.begin()
    await pair.until(pair.done)
    assert len(pair.asked) == 2
    pair.check_installed()


@pytest.mark.asyncio
async def test_a_leader_gives_no_more_files_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is asked for: nobody else is answered while it reads them."""
    pair = Pair()
    pair.held = True
    pair.begin()
    pair.deliver()
    (asked,) = pair.asked[1:]
    monkeypatch.setattr(copying, "PIECE_FILES", 2)
    two = pair.giving.piece(e.SendCopy(CONN, asked))[1]
    monkeypatch.setattr(copying, "PIECE_FILES", 1)
    one = pair.giving.piece(e.SendCopy(CONN, asked))[1]
    assert two.startswith(one)
    assert isinstance(asked.file, tuple)
    three = pair.leader.store.outgoing().read(asked.file, 0, 10**6, 3)
    assert len(one) < len(two) < len(three)


@pytest.mark.asyncio
async def test_one_piece_is_asked_for_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE_FILES", 1)
    pair = Pair()
    pair.held = True
    pair.begin()
    for number in range(1, 4):
        assert len(pair.asked) == number
        pair.deliver()


@pytest.mark.asyncio
async def test_over_another_link_it_goes_on_where_it_was_and_the_old_ones_piece_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copying, "PIECE_FILES", 1)
    pair = Pair()
    pair.held = True
    pair.begin()
    for _ in range(3):
        pair.deliver()
    old, asked = pair.received, pair.asked[-1]
    late = pair.giving.piece(e.SendCopy(CONN, asked))
    pair.begin(LINK + 1)
    assert (pair.asked[-1].file, pair.asked[-1].position) == (asked.file, asked.position)
    count, told = len(pair.asked), len(pair.told)
    old(*late)
    assert (len(pair.asked), len(pair.told)) == (count, told), "it was taken"
    with pytest.raises(StorageError, match="no copy of checkpoint"):
        pair.giving.piece(e.SendCopy(CONN, asked))  # the old connection's is over
    pair.held = False
    pair.deliver()
    await pair.until(lambda: pair.done(LINK + 1))
    assert not pair.done()
    pair.check_installed()


@pytest.mark.asyncio
async def test_a_piece_that_is_not_what_the_leader_read_fails_the_link_and_is_asked_for_again() -> (
    None
):
    pair = Pair()
    pair.spoil = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    pair.begin()
    await pair.until(lambda: bool(pair.failed))
    assert pair.failed == ["a piece of the copy is not what the leader read"]
    pair.spoil = lambda data: data
    pair.begin(LINK + 1)
    await pair.until(lambda: pair.done(LINK + 1))
    pair.check_installed()


@pytest.mark.asyncio
async def test_a_full_disk_is_told_and_the_copy_goes_on_later() -> None:
    pair = Pair()
    pair.held = True
    pair.begin()
    pair.deliver()
    pair.disk.space_left = 5
    pair.deliver()
    (failed,) = [event for event in pair.told if isinstance(event, e.StorageFailed)]
    assert "a full copy cannot be written: No space left on device" in str(failed)
    assert pair._waiting is None, "nothing more is asked for"
    pair.disk.space_left, pair.held = None, False
    pair.begin(LINK + 1)
    await pair.until(lambda: pair.done(LINK + 1))
    pair.check_installed()


@pytest.mark.asyncio
async def test_where_a_sync_fails_the_copy_begins_anew() -> None:
    """What the failed one did not take would be held for written by the next."""
    pair = Pair()
    pair.disk.sync_fails = True
    pair.begin()
    await pair.until(lambda: any(isinstance(x, e.StorageFailed) for x in pair.told))
    assert not pair.done()
    pair.disk.sync_fails = False
    asked = len(pair.asked)
    pair.begin(LINK + 1)
    await pair.until(lambda: pair.done(LINK + 1))
    assert len(pair.asked) == 2 * asked
    pair.fetching.install(e.Install(AT))


@pytest.mark.asyncio
async def test_a_leaders_damaged_file_is_no_piece() -> None:
    pair = Pair()
    pair.held = True
    pair.begin()
    pair.deliver()
    file = pair.asked[-1].file
    assert isinstance(file, tuple)
    disk = pair.leader.disk
    assert isinstance(disk, MemoryDisk)
    disk.flip(f"/data/topics/{file[0]}/{file[1]}/{file[2]:020}.jsonl", 3)
    with pytest.raises(StorageError) as raised:
        pair.deliver()
    assert raised.value.damaged


@pytest.mark.asyncio
async def test_what_was_not_offered_is_not_given() -> None:
    pair = Pair()
    request = m.Copy(id=1, broker=FOLLOWER, epoch=1, index=AT, position=0)
    with pytest.raises(StorageError, match="no copy of checkpoint 75 was offered here"):
        pair.giving.piece(e.SendCopy(CONN, request))
    pair.giving.offer(e.OfferCopy(CONN, 0, FOLLOWER, 1))
    answer, data = pair.giving.piece(e.SendCopy(CONN, request))
    assert answer.crc == ops.crc_of(data)
    for conn, index in ((CONN + 1, AT), (CONN, AT + 1)):
        other = m.Copy(id=1, broker=FOLLOWER, epoch=1, index=index, position=0)
        with pytest.raises(StorageError, match="no copy of checkpoint"):
            pair.giving.piece(e.SendCopy(conn, other))


@pytest.mark.asyncio
async def test_a_checkpoint_stays_pinned_a_while_after_the_connections_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copying, "PIN_S", 0.05)
    pair = Pair()
    pair.giving.offer(e.OfferCopy(CONN, 0, FOLLOWER, 1))
    pair.leader.run(HISTORY, 100)
    pair.leader.checkpoint(pinned=pair.giving.pinned)
    assert pair.giving.pinned == AT
    pair.giving.closed(CONN)
    assert pair.giving.pinned == AT
    await pair.until(lambda: pair.giving.pinned == 100)


@pytest.mark.asyncio
async def test_who_comes_back_in_time_is_offered_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIN_S", 0.05)
    pair = Pair()
    first = pair.giving.offer(e.OfferCopy(CONN, 0, FOLLOWER, 1))
    pair.leader.run(HISTORY, 100)
    pair.leader.checkpoint(pinned=AT)
    pair.giving.closed(CONN)
    assert pair.giving.offer(e.OfferCopy(CONN + 1, 0, FOLLOWER, 1)) == first
    await asyncio.sleep(0.1)  # the old connection's time is over, and must not let this one's go
    assert pair.giving.pinned == AT
    other = pair.giving.offer(e.OfferCopy(CONN + 2, 0, FOLLOWER + 1, 1)).copy
    assert isinstance(other, m.CopyOffer)
    assert other.index == 100
    assert pair.giving.pinned == AT


@pytest.mark.asyncio
async def test_what_cannot_take_its_place_is_refused() -> None:
    pair = Pair()
    pair.begin()
    await pair.until(pair.done)
    pair.disk.mkdir("/data/installing/in the way")
    with pytest.raises(OSError, match="in the way") as raised:
        pair.fetching.install(e.Install(AT))
    assert raised.value.errno == errno.ENOTEMPTY
