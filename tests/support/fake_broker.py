"""A broker that does as it is told: it speaks frames on a real port and follows a script.

    async with FakeBroker() as broker:
        broker.on("produce", refuse("NOT_LEADER"), accept)      # first refused, then accepted
        …
        assert [ask.request["type"] for ask in broker.asked] == […]

Each request takes the next step scripted for its type, the last one for ever.  A step is called
with the `Ask` and returns an answer's members, `(members, body)`, `DROP` (close the connection),
`SILENT` (never answer), or raw bytes that are written as they are; it may be a coroutine function,
and may call `ask.later(members)` after returning SILENT.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from yak.model import Address
from yak.net.tasks import spawn
from yak.protocol import Frame, FrameReader, frame


class _Outcome:
    """DROP or SILENT."""


DROP: Final = _Outcome()
SILENT: Final = _Outcome()


@dataclass
class Ask:
    """One request as it arrived."""

    broker: FakeBroker
    connection: int
    request: dict[str, Any]
    body: bytes
    _writer: asyncio.StreamWriter = field(repr=False)
    finishing: asyncio.Task[None] | None = None

    def later(self, members: dict[str, Any], body: bytes = b"") -> None:
        """Answer now, whenever that is."""
        answer = {"id": self.request["id"], "ok": True, **members}
        self._writer.writelines(frame(json.dumps(answer).encode(), [body] if body else []))

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    def drop(self) -> None:
        self._writer.close()


Result = dict[str, Any] | tuple[dict[str, Any], bytes] | _Outcome | bytes
Step = Callable[[Ask], Result | Awaitable[Result]]


def refusal(name: str, *, retriable: bool = True, **details: Any) -> dict[str, Any]:
    """The members of an error answer."""
    members = {"ok": False, "error": name, "message": "as scripted", "retriable": retriable}
    return {**members, **details}


def refuse(name: str, *, retriable: bool = True, **details: Any) -> Step:
    """A step that answers with an error."""
    return lambda _: refusal(name, retriable=retriable, **details)


def answer(**members: Any) -> Step:
    return lambda _: members


class FakeBroker:
    """See the module's text.  `address` is its port once it was entered."""

    def __init__(self, broker_id: int = 1) -> None:
        self.id = broker_id
        self.address = Address("127.0.0.1", 0)
        self.asked: list[Ask] = []
        self.connections = 0
        #: Read nothing and answer nothing, like a stopped process.
        self.hung = False
        self._steps: dict[str, list[Step]] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        #: Set when something was asked; a cluster's brokers share one.
        self.news = asyncio.Event()

    async def __aenter__(self) -> FakeBroker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = Address(*self._server.sockets[0].getsockname()[:2])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def stop(self) -> None:
        """Die: close the port and every connection."""
        if self._server is not None:
            self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection; new ones are welcome."""
        for writer in list(self._writers):
            writer.transport.abort()

    def on(self, kind: str, *steps: Step) -> None:
        """Follow these steps for requests of that type."""
        self._steps[kind] = list(steps)

    def asks(self, kind: str) -> list[Ask]:
        """What was asked of that type, in order of arrival."""
        return [ask for ask in self.asked if ask.request.get("type") == kind]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until a request makes the condition true."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        number = self.connections
        frames = FrameReader(16 * 1024 * 1024)
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                if self.hung:
                    continue
                for item in frames.feed(data):
                    assert isinstance(item, Frame), item
                    ask = Ask(self, number, json.loads(item.header), bytes(item.body), writer)
                    self._take(ask)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _take(self, ask: Ask) -> None:
        kind = str(ask.request.get("type"))
        steps = self._steps.get(kind)
        self.asked.append(ask)
        self.news.set()
        if steps is None:
            result: Any = refusal("INVALID_REQUEST", retriable=False)
        else:
            result = (steps.pop(0) if len(steps) > 1 else steps[0])(ask)
            if inspect.isawaitable(result):
                ask.finishing = spawn(self._finish(ask, result), name="a step of the script")
                return
        self._answer(ask, result)

    async def _finish(self, ask: Ask, result: Awaitable[Result]) -> None:
        self._answer(ask, await result)

    def _answer(self, ask: Ask, result: Any) -> None:
        if self.hung:
            return
        if result is DROP:
            ask.drop()
        elif isinstance(result, bytes):
            ask.raw(result)
        elif isinstance(result, tuple):
            ask.later(*result)
        elif result is not SILENT:
            ask.later(result)
