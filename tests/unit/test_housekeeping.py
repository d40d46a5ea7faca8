"""When a checkpoint is begun, what becomes of one that fails, and what goes once it is durable."""

from __future__ import annotations

import asyncio
import errno
import io
from collections.abc import Callable

import pytest

from tests.support.annals import annals
from tests.support.memory_disk import MemoryDisk
from tests.support.store_life import Life
from yak import housekeeping
from yak.config import Limits
from yak.core.state import State
from yak.housekeeping import Housekeeper
from yak.storage.faults import Damaged
from yak.storage.story import Story

HISTORY = annals(110, seed=184)
MANY = 10**12


class Troubled(MemoryDisk):
    """error: what the next checkpoint's file meets."""

    error: int | None = None

    def write_durably(self, path: str, data: bytes) -> None:
        if self.error is not None and path.endswith("checkpoint.json"):
            raise OSError(self.error, "refused", path)
        super().write_durably(path, data)


class House:
    """A housekeeper, and the broker that it asks."""

    def __init__(self, **limits: int) -> None:
        self.disk = Troubled()
        self.life = Life(self.disk)
        self.told = io.StringIO()
        self.failed: list[OSError] = []
        self.cut: list[int] = []
        self.damaged: list[str] = []
        self.pin: int | None = None
        wanted = {"checkpoint_bytes": MANY, "checkpoint_operations": MANY, "trash_ms": 10**6}
        story = Story("broker-1", None, self.told)
        self.keeper = Housekeeper(
            self.life.store, story, self, Limits(**{**wanted, **limits}), retain_bytes=0
        )

    def state(self) -> State:
        return self.life.state

    def wanted(self) -> int:
        return self.life.store.next_index

    def log_damaged(self, reason: str) -> None:
        self.damaged.append(reason)

    def pinned(self) -> int:
        return self.life.store.checkpoint if self.pin is None else self.pin

    def log_cut(self, first: int) -> None:
        self.cut.append(first)

    def sync_failed(self, error: OSError) -> None:
        self.failed.append(error)

    def run(self, upto: int) -> None:
        self.life.run(HISTORY, upto)
        self.keeper.look()

    async def until(self, look: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(10):
                while not look():  # noqa: ASYNC110 -- a thread's work has no event to wait for
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise AssertionError(f"still not: {what}; told: {self.told.getvalue()}") from None

    async def until_made(self, index: int) -> None:
        await self.until(lambda: self.life.store.checkpoint == index, f"a checkpoint at {index}")


@pytest.mark.asyncio
async def test_one_is_begun_after_so_many_operations_and_not_before() -> None:
    house = House(checkpoint_operations=40)
    house.run(39)
    assert house.life.store.operations_since == 39, "begun too early"
    house.run(40)
    await house.until_made(40)
    house.run(79)
    assert house.life.store.operations_since == 39
    house.run(80)
    await house.until_made(80)
    assert house.told.getvalue().count(" checkpoint index=") == 2
    assert house.cut == sorted(house.cut)
    assert house.cut[-1] == house.life.store.first_index > 1
    await house.keeper.close()


@pytest.mark.asyncio
async def test_one_is_begun_after_so_many_bytes() -> None:
    house = House(checkpoint_bytes=5000)
    upto = 0
    while house.life.store.bytes_since < 5000:
        house.keeper.look()
        assert house.life.store.operations_since == upto, "begun too early"
        upto += 1
        house.life.run(HISTORY, upto)
    house.keeper.look()
    await house.until_made(upto)
    await house.keeper.close()


@pytest.mark.asyncio
async def test_a_log_that_was_changed_is_told_and_no_checkpoint_is_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end cannot be found: who went on as if nothing were would never make one again."""
    house = House(checkpoint_operations=40)
    house.life.run(HISTORY, 40)

    def place_of(next_index: int) -> None:
        raise Damaged("/data/oplog/1", 23, "not an operation")

    monkeypatch.setattr(house.life.store._log, "place_of", place_of)
    house.keeper.look()
    assert house.damaged
    assert "not an operation" in house.damaged[0]
    assert "checkpoint_waits" in house.told.getvalue()
    assert not house.failed
    await house.keeper.close()


@pytest.mark.asyncio
async def test_one_at_a_time_and_the_next_covers_what_came_meanwhile() -> None:
    house = House(checkpoint_operations=10)
    house.run(10)
    house.run(60)  # nothing of the first one has run: the loop has not turned
    await house.until_made(10)
    house.keeper.look()
    await house.until_made(60)
    await house.keeper.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE]
)
async def test_a_full_disk_is_waited_out(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "AGAIN_S", 0.05)
    house = House(checkpoint_operations=40)
    house.disk.error = code
    house.run(40)
    await house.until(lambda: "checkpoint_waits" in house.told.getvalue(), "it waits")
    house.run(50)
    assert house.life.store.operations_since == 50, "begun while it waits"
    house.disk.error = None
    await house.until_made(50)
    assert house.failed == []
    await house.keeper.close()


@pytest.mark.asyncio
async def test_a_sync_that_fails_otherwise_stops_the_broker() -> None:
    house = House(checkpoint_operations=40)
    house.disk.error = errno.EIO
    house.run(40)
    await house.until(lambda: bool(house.failed), "the broker is told")
    assert house.life.store.checkpoint == 0
    assert not house.disk.exists("/data/checkpoint.json")
    await house.keeper.close()


@pytest.mark.asyncio
async def test_what_was_freed_waits_for_trash_ms_at_most_and_is_removed() -> None:
    house = House(trash_ms=30)
    house.run(70)
    assert house.life.store.has_trash
    assert house.life.store.checkpoint == 0
    await house.until_made(70)
    await house.until(lambda: house.disk.listdir("/data/trash") == [], "the trash is empty")
    await house.keeper.close()


@pytest.mark.asyncio
async def test_what_a_copy_still_reads_stays() -> None:
    house = House(checkpoint_operations=35)
    house.run(35)
    await house.until_made(35)
    house.pin = 35
    first = house.life.store.first_index
    house.run(110)
    await house.until_made(110)
    await house.until(lambda: not house.keeper._running, "nothing more is removed")
    assert house.life.store.has_trash
    assert house.life.store.first_index == first
    house.pin = None
    house.keeper.tidy()
    await house.until(lambda: house.disk.listdir("/data/trash") == [], "the trash is empty")
    assert house.life.store.first_index > first
    assert not house.life.store.has_trash
    await house.keeper.close()


@pytest.mark.asyncio
async def test_closed_it_begins_nothing_more() -> None:
    house = House(trash_ms=1, checkpoint_operations=40)
    house.run(40)
    await house.keeper.close()
    changes = house.disk.stop_after = MANY
    await asyncio.sleep(0.05)  # trash_ms, and the rest of the steps, had they been asked for
    assert house.disk.stop_after == changes
    assert house.life.store.checkpoint == 0
