"""Tasks that nobody waits for, without the two ways in which such tasks are lost.

The event loop keeps only weak references to tasks, so one that nobody holds may vanish; and an
exception in one that nobody awaits is told, if ever, when it is collected.  A spawned task is
held until it ends, and its exception goes at once to the loop's exception handler.

It neither restarts nor limits what it spawns; where tasks belong together, use a TaskGroup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_running: Final[set[asyncio.Task[Any]]] = set()


def spawn(coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Run a coroutine beside the caller.  name: what the report of its failure calls it."""
    task = asyncio.get_running_loop().create_task(coro, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        task.get_loop().call_exception_handler(
            {"message": f"task {task.get_name()} failed", "exception": error, "task": task}
        )
