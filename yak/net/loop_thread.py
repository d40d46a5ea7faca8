"""A thread with an event loop: how the synchronous clients run their asynchronous twins.

* The loop is uvloop's where there is one.  The thread is a daemon: a client that nobody closed
  does not keep its process alive.
* `call` runs a coroutine there and waits for it here.  Interrupted (Ctrl-C) or timed out, it
  cancels the coroutine and lets the interruption go on; the loop stays usable, so that a `close`
  in an `except KeyboardInterrupt` works.
* What a twin's docstring says of its arguments and errors is told by `help` of ours, too
  (`told_by`); in the source it stands once.
* After a fork the child has the object and no thread: every `call` then says so at once.

It knows nothing of what runs on it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from yak.errors import YakError

T = TypeVar("T")
C = TypeVar("C", bound=type)

#: How long the loop may take to end what still runs on it, in seconds.
_STOP_S = 5.0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's loop, or asyncio's where uvloop does not exist."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class LoopThread:
    """See the module's text.  Runs from its making to `stop`."""

    def __init__(self, name: str) -> None:
        self.loop = new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it runs, in this process."""
        return self._thread.is_alive()

    def call(self, coro: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run it on the loop and wait for what it returns or raises.

        Raises the built-in TimeoutError after `timeout_s`, and YakError CLOSED if the thread
        has ended.
        """
        if not self.alive:
            coro.close()
            raise YakError(
                "this client has no running thread: it was closed, or the process was forked",
                name="CLOSED",
                hint="make a new client (after a fork: in the child)",
            )
        assert threading.current_thread() is not self._thread, "it would wait for itself"
        future = asyncio.run_coroutine_threadsafe(coro, self.loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.CancelledError as e:
            raise YakError("this client was closed meanwhile", name="CLOSED") from e
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and its thread; what still runs there is cancelled.  Idempotent."""
        if self.alive:
            with contextlib.suppress(RuntimeError):  # it ended between the two lines
                self.loop.call_soon_threadsafe(self.loop.stop)
            if threading.current_thread() is not self._thread:
                self._thread.join(_STOP_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


def told_by(twin: type) -> Callable[[C], C]:
    """A class decorator: a docstring that says "as Async…" is followed by the twin's, or is it."""

    def decorate(cls: C) -> C:
        for name, method in vars(cls).items():
            own = getattr(method, "__doc__", None) or ""
            theirs = getattr(getattr(twin, name, None), "__doc__", None)
            if theirs and callable(method) and f"as {twin.__name__}".lower() in own.lower():
                is_pointer = own.startswith("As ")
                method.__doc__ = theirs if is_pointer else f"{own}\n\n        {theirs}"
        return cls

    return decorate
