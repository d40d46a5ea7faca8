"""One question after the other to one broker, on a blocking socket.

For those who ask a few things of processes that they have started, and need no event loop for it:
loading one takes longer than the answers.  It does not reconnect, and tries nothing twice.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Final, Self, TypeVar

from yak import messages as m
from yak import protocol
from yak.config import Limits
from yak.errors import RetriableError, error_from_wire
from yak.model import Address
from yak.protocol import Frame, FrameReader

A = TypeVar("A", bound=m.Answer)

_READ_BYTES: Final = 65536


class Asker:
    """A connection.  Raises YakError, CONNECTION where nobody is there or an answer is late."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self._reader = FrameReader(Limits().max_frame_bytes)
        try:
            self._socket = socket.create_connection(address, timeout_s)
        except OSError as e:
            raise self._lost(e) from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: m.Request, answer_type: type[A], body: bytes = b"") -> tuple[A, bytes]:
        """The answer, and its body."""
        try:
            self._socket.sendall(b"".join(protocol.frame(protocol.encode_request(request), [body])))
            answer = self._read()
        except OSError as e:
            raise self._lost(e) from e
        head = protocol.decode_head(answer.header)
        if head is not None and not head.ok:
            raise error_from_wire(head.error or "", head.message, str(self.address))
        return protocol.decode_answer(answer.header, answer_type), answer.body

    def _read(self) -> Frame:
        while True:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("it closed the connection")
            for part in self._reader.feed(data):
                assert isinstance(part, Frame)
                return part

    def _lost(self, error: OSError) -> RetriableError:
        return RetriableError(
            f"{self.address} does not answer: {error}", name="CONNECTION", broker=str(self.address)
        )
