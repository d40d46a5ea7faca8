"""/metrics, /healthz and /readyz of a client's command, while it runs.

They are on a thread of their own, so that they answer until the last record has its outcome, and
say so if the client's loop is stuck.  Where they are is said on stderr: stdout is for records.

Not here: what is told (metrics/of_clients.py).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from yak.model import Address

if TYPE_CHECKING:
    from yak.metrics.station import Figures

T = TypeVar("T")


class _Client(Protocol):
    """A Producer or a Consumer."""

    def on_loop(self, coro: Coroutine[Any, Any, T]) -> T: ...


@contextmanager
def pages(
    where: Address | None,
    process: str,
    client: _Client,
    make: Callable[[], Figures],
) -> Iterator[None]:
    """While it is open.  where: None opens nothing, and costs nothing.

    client: whose loop is looked after.  make: what it tells.
    Raises Fatal where nobody can listen there.
    """
    if where is None:
        yield
        return
    from yak.metrics.station import Station
    from yak.net.loop_thread import LoopThread
    from yak.net.timing import LoopLag

    lag = client.on_loop(LoopLag.begin())
    thread = LoopThread("yak-metrics")
    try:
        station = thread.call(Station.open(where, process, make(), lag))
        click.echo(station.line, err=True)
        try:
            yield
        finally:
            thread.call(_closed(station))
    finally:
        thread.stop()


async def _closed(station: Any) -> None:
    station.close()
