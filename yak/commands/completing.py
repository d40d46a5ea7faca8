"""What a shell completes that only the cluster knows: names of topics and groups, ids of brokers.

Rules:

* The cluster is asked only while a shell completes, and answers within ASK_S, or nothing is
  offered: a shell that waits is worse than one that does not know.
* Whatever goes wrong is silent.  A word on stderr would land in the middle of the user's line.
* Which cluster: what the line says by then (`-b`), else the environment, else that of `yak up`,
  else the default.

Not here: words that the commands themselves know, which click completes; the scripts that ask
(completion.py).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

import click

from yak.commands.options import running_brokers
from yak.errors import YakError

if TYPE_CHECKING:
    from yak.admin import AsyncAdmin

#: A shell's user notices a pause from about here on, in seconds.
ASK_S: Final = 0.5


def complete_topic(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """The topics that begin so."""
    return _names(context, incomplete, lambda admin: admin.topics())


def complete_group(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """The groups that begin so."""
    return _names(context, incomplete, lambda admin: admin.groups())


def complete_broker(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """The ids of brokers that begin so."""

    async def ids(admin: AsyncAdmin) -> list[str]:
        return [str(broker.id) for broker in await admin.brokers()]

    return _names(context, incomplete, ids)


def _names(
    context: click.Context,
    incomplete: str,
    ask: Callable[[AsyncAdmin], Awaitable[Iterable[str]]],
) -> list[str]:
    import asyncio

    from yak.admin import AsyncAdmin

    async def look() -> list[str]:
        async with (
            asyncio.timeout(ASK_S),
            AsyncAdmin(_bootstrap(context), timeout_s=ASK_S) as admin,
        ):
            return sorted(name for name in await ask(admin) if name.startswith(incomplete))

    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return asyncio.run(look())
        except (YakError, OSError, ValueError):  # TimeoutError is an OSError
            return []


def _bootstrap(context: click.Context) -> str:
    said = context.params.get("bootstrap")
    return said if isinstance(said, str) else running_brokers()
