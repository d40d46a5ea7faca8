"""An event loop in which a test says when its next round comes."""

from __future__ import annotations

from collections.abc import Callable

from yak.net.rounds import Loop


class Turns(Loop):
    """soon, later: what was called.  now: what its clock says; `seconds` that each turn takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.later.append((self.now + seconds, call))

    def turn(self) -> None:
        """What is due."""
        due, self.soon = self.soon, []
        due += [call for at, call in self.later if at <= self.now]
        self.later = [(at, call) for at, call in self.later if at > self.now]
        for call in due:
            call()
        self.now += self.seconds
