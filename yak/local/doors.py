"""Doors between the processes of a cluster (relay.py): who has which, and who may be cut apart.

    doors = Doors([1, 2, 3])                     before each broker, and one to yak-zk for each
    doors.options(1)                             by which broker 1 is started behind them
    with Orders(doors.address) as orders:        what is ordered holds until this is closed
        orders.order([*apart(1, 2)])

Rules:

* A broker behind doors tells everybody the address of its door, clients too; where it listens
  itself stays open.
* Doors keep their ports, so that a relay that ended can be started again.

Not here: what passes through them (relay.py).
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from yak.errors import Fatal
from yak.local.note import ZK
from yak.local.ports import Reserved
from yak.local.relay import HOST, Rule
from yak.model import Address

NAME: Final = "relay"
#: It is on this machine, and does nothing that takes long.
_ANSWER_S: Final = 5.0


class Doors:
    """See the module's text.  ids: of the brokers."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._inward = {broker: Reserved.take(HOST, 0) for broker in ids}
        self._outward = {broker: Reserved.take(HOST, 0) for broker in ids}
        self._orders = Reserved.take(HOST, 0)

    @property
    def address(self) -> Address:
        """Where the relay takes orders."""
        return self._orders.address

    @property
    def _all(self) -> list[Reserved]:
        return [*self._inward.values(), *self._outward.values(), self._orders]

    def options(self, broker: int) -> list[str]:
        """Of yak-broker, behind its door and by its door to yak-zk."""
        inward, outward = self._inward[broker].address, self._outward[broker].address
        return ["--advertise", str(inward), "--zk", str(outward)]

    def argv(self, address: Callable[[int], Address]) -> list[str]:
        """The command of the relay.  address: where a broker, or yak-zk (0), listens."""
        doors = []
        for broker in self._inward:
            ways = ((self._inward, None, broker), (self._outward, broker, ZK))
            for reserved, dialler, target in ways:
                port = reserved[broker].address.port
                doors.append({"port": port, "dialler": dialler, "target": target})
                doors[-1]["to"] = address(target).port
        asked = [json.dumps(doors), str(self.address.port)]
        return [sys.executable, "-m", "yak.local.relay", *asked]

    def give(self) -> None:
        """The relay is about to bind them."""
        for reserved in self._all:
            reserved.give()

    def close(self) -> None:
        for reserved in self._all:
            reserved.close()


class Orders:
    """A connection to a relay.  Raises Fatal where it is gone."""

    def __init__(self, address: Address) -> None:
        self._address = address
        try:
            self._socket = socket.create_connection(address, _ANSWER_S)
        except OSError as e:
            raise self._gone(e) from e
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def order(self, rules: Sequence[Rule]) -> None:
        """These, and nothing else that was ordered here before; in force when this returns."""
        line = json.dumps(rules).encode() + b"\n"
        try:
            self._socket.sendall(line)
            answer = self._answers.readline()
        except OSError as e:
            raise self._gone(e) from e
        if answer != line:
            raise self._gone(ConnectionError("it closed the connection"))

    def close(self) -> None:
        """What was ordered here ends."""
        self._answers.close()
        self._socket.close()

    def _gone(self, error: OSError) -> Fatal:
        return Fatal(
            f"the relay at {self._address} does not answer: {error}; where it has ended, `yak up` "
            "starts it again"
        )


def apart(
    one: int, other: int, late_ms: float | None = None, *, one_way: bool = False
) -> list[Rule]:
    """Nothing comes through between two, or all comes late.  one_way: only from one to other."""
    rules: list[Rule] = [(one, other, late_ms)]
    return rules if one_way else [*rules, (other, one, late_ms)]


def among(
    members: Sequence[int],
    brokers: Sequence[int],
    late_ms: float | None = None,
    *,
    one_way: bool = False,
) -> list[Rule]:
    """The same for the first of these and the others; alone: for it and all there are."""
    one, *others = members
    others = others or [member for member in (ZK, *brokers) if member != one]
    return [rule for other in others for rule in apart(one, other, late_ms, one_way=one_way)]
