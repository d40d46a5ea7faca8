"""Simulated time, and processes that live, hang and die in it.

    Scheduler    one heap of timers; `now` jumps from one to the next
    Process      something that can be killed, stopped and continued: a broker, yak-zk, a client
    Loop         what a real shell asks of its event loop, on one process's behalf

Rules:

* A timer belongs to a *life* of a process, or (process None) to the world itself: the network,
  faults.  What belongs to a life that is over never runs.
* A stopped process (SIGSTOP) runs nothing; what was due for it runs in order when it goes on.
* Chance comes from one seeded generator only, and nothing here depends on a set's order, so
  that a seed always gives the same run.
* `step` marks the places between which a process may die: every write to its disk, every message
  that it sends.  A fuse counts them down, and raises Died in the middle of a turn.

It knows nothing of brokers.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from yak.errors import Fatal

#: A turn of an event loop begins at most this long after it was asked for, in seconds.
TURN_S: Final = 0.0003
#: Wall time at the beginning, ms since 1970.
EPOCH_MS: Final = 1_763_800_000_000


class Died(BaseException):
    """The process ends here, in the middle of what it was doing."""


class Timer:
    """Something to call at a time; `life` is the life of `process` that asked for it."""

    __slots__ = ("args", "cancelled", "fn", "life", "process")

    def __init__(
        self, process: Process | None, life: int, fn: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self.process = process
        self.life = life
        self.fn = fn
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Process:
    """One process on one host.

    life: counts starts.  up: it runs, if only stopped.  powered: its host does.
    offset: what its monotonic clock shows beyond the simulation's, in seconds.
    wall_ms: what its wall clock shows beyond it.
    """

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.life = 0
        self.up = False
        self.powered = True
        self.paused = False
        #: It is in the middle of a turn meanwhile.
        self.hangs = False
        self.offset = 0.0
        self.wall_ms = 0
        #: What came due while it was stopped.
        self.backlog: list[Timer] = []
        #: What it had handed to the network when it was stopped in the middle of a turn.
        self.unsent: list[tuple[Any, Callable[..., object], tuple[Any, ...]]] = []
        #: Called whenever it has run.
        self.after_step: Callable[[], None] | None = None
        #: So many steps more, then it dies, or what `on_fuse` says happens.
        self.fuse: int | None = None
        self.on_fuse: Callable[[], None] | None = None
        #: How it then dies, if not as one that was killed.
        self.ends: Callable[[], None] | None = None

    def after(self, delay: float, fn: Callable[..., object], *args: Any) -> Timer:
        return self.scheduler.at(self.scheduler.now + delay, self, fn, *args)

    def step(self) -> None:
        """A place between two effects: here a fuse may burn down."""
        if self.fuse is None:
            return
        self.fuse -= 1
        if self.fuse < 0:
            self.fuse = None
            if self.on_fuse is None:
                raise Died
            action, self.on_fuse = self.on_fuse, None
            action()

    def begin_life(self) -> None:
        assert not self.up
        self.life += 1
        self.up = self.powered = True
        self.paused = False
        self.unfuse()

    def end_life(self) -> None:
        """Nothing of this life runs any more."""
        self.up = self.paused = False
        self.unfuse()
        self.backlog.clear()
        self.unsent.clear()

    def lives(self, life: int) -> bool:
        """Whether that life of it is the one that runs, if only stopped."""
        return self.up and self.life == life

    def unfuse(self) -> None:
        self.fuse = self.on_fuse = self.ends = None

    def died(self) -> None:
        """A fuse burnt down: what a process's kind does then."""
        raise NotImplementedError

    def pause(self) -> None:
        if self.up:
            self.paused = True

    def hang(self, seconds: float) -> None:
        """It is stopped in the middle of a turn; time goes on, and then the turn does."""
        scheduler, life = self.scheduler, self.life
        turn, self.paused, self.hangs = scheduler.current, True, True
        if self.after_step is not None:
            self.after_step()  # what it did so far is done
        if self.lives(life):
            scheduler.run(scheduler.now + seconds)
        scheduler.current, self.hangs = turn, False
        if not self.lives(life):
            raise Died
        self.paused = False
        self._send_unsent()
        backlog, self.backlog = self.backlog, []
        for timer in backlog:  # after this turn
            scheduler.at(scheduler.now, None, scheduler.call, timer)

    def resume(self) -> None:
        if not self.paused or self.hangs:
            return
        self.paused = False
        self._send_unsent()
        backlog, self.backlog = self.backlog, []
        for timer in backlog:
            self.scheduler.call(timer)

    def _send_unsent(self) -> None:
        unsent, self.unsent = self.unsent, []
        for pipe, fn, args in unsent:
            pipe.send(fn, *args)


class Scheduler:
    """See the module.  steps: how often a process ran."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        #: A turn of an event loop always takes as long to begin.
        self.even = False
        self.current: Process | None = None
        self.steps = 0
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(
        self, when: float, process: Process | None, fn: Callable[..., object], *args: Any
    ) -> Timer:
        timer = Timer(process, process.life if process else 0, fn, args)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, timer))
        return timer

    def enter(self, process: Process, life: int, fn: Callable[..., object], *args: Any) -> None:
        """Run something in a process now, or when it goes on; never in another life of it."""
        self.call(Timer(process, life, fn, args))

    def call(self, timer: Timer) -> None:
        process = timer.process
        if process is None:
            self.current = None
            timer.fn(*timer.args)
            return
        if not process.up or timer.life != process.life or timer.cancelled:
            return
        if process.paused:
            process.backlog.append(timer)
            return
        outer, self.current = self.current, process
        self.steps += 1
        try:
            timer.fn(*timer.args)
            if process.after_step is not None:
                process.after_step()
        except Died:
            if process.lives(timer.life):  # else it ended where it would have hung
                if process.after_step is not None:
                    process.after_step()  # what it did before it died was done
                process.died()
            if process.after_step is not None:
                process.after_step()
        self.current = outer

    def run(self, until: float, finished: Callable[[], bool] | None = None) -> bool:
        """Let time pass.  True as soon as `finished` says so; False when `until` has come."""
        heap = self._heap
        look = self.now
        while heap and heap[0][0] <= until:
            when, _, timer = heapq.heappop(heap)
            if timer.cancelled:
                continue
            self.now = when
            self.call(timer)
            if finished is not None and when >= look:
                if finished():
                    return True
                look = when + LOOK_S
        self.now = max(self.now, until)  # somebody may have hung for longer
        return False

    # -- what stands in for the module `time` in the shells ---------------------------------------

    def monotonic(self) -> float:
        return self.now + (self.current.offset if self.current else 0.0)

    def time_ns(self) -> int:
        wall = EPOCH_MS + (self.current.wall_ms if self.current else 0)
        return wall * 1_000_000 + int(self.now * 1_000_000_000)


#: How often `run` asks whether it is finished, in seconds.
LOOK_S: Final = 0.05


class Outcome:
    """What a thread's work came to: the part of asyncio's Future that a shell uses."""

    def __init__(self) -> None:
        self._error: OSError | Fatal | None = None
        self._callbacks: list[Callable[[Any], object]] = []

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def exception(self) -> OSError | Fatal | None:
        return self._error

    def run(self, fn: Callable[[], object]) -> None:
        try:
            fn()
        except (OSError, Fatal) as error:
            self._error = error
        for callback in self._callbacks:
            callback(self)


class Loop:
    """The part of an event loop that a broker's shell uses, for one process.

    work_s: how long a thread takes for its work, asked each time.
    """

    def __init__(self, process: Process, work_s: Callable[[], float]) -> None:
        self._process = process
        self._work_s = work_s

    def call_soon(self, fn: Callable[..., object], *args: Any) -> Timer:
        scheduler = self._process.scheduler
        wait = TURN_S if scheduler.even else TURN_S * scheduler.rng.random()
        return self._process.after(wait, fn, *args)

    def call_later(self, delay: float, fn: Callable[..., object], *args: Any) -> Timer:
        return self._process.after(delay, fn, *args)

    def run_in_executor(self, _executor: None, fn: Callable[[], object]) -> Outcome:
        outcome = Outcome()
        self._process.after(self._work_s(), outcome.run, fn)
        return outcome


@contextmanager
def running(loop: Loop) -> Iterator[None]:
    """What asyncio.get_running_loop gives meanwhile, as an event loop's own code sets it."""
    asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", loop))
    try:
        yield
    finally:
        asyncio._set_running_loop(None)
