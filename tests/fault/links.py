"""Faults of links: between two brokers, or a broker and yak-zk; some between brokers and clients.

By the proxies of roads.py, everywhere:

    link cut        a pair hears nothing of each other       one-way cut     one does not hear
    cut off         one process and all others               link delay      20 to 400 ms later
    link stall      all that one process is sent waits       trickle         a few bytes at a time
    half-open       one end is gone, the other waits         reset           both ends are gone

By network namespaces (spaces.py), where root allows them, the same cuts on the wire itself, where
the kernel's own retransmission and time-outs decide what becomes of a connection.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

from tests.fault import spaces
from tests.fault.fault import Fault, UnableError, Whom
from tests.fault.field import Field, name, names
from tests.fault.roads import CLIENTS, ZK, Connection, Effect, Pair
from tests.fault.spaces import Spaces
from tests.support.wire import Address

#: A process's word, given before it starts: any port of its own, which it tells.
_LOOPBACK: Address = ("127.0.0.1", 0)


@contextlib.contextmanager
def prepared(field: Field, *, apart: bool) -> Iterator[None]:
    """Doors for everyone, before any process starts.  apart: each in a namespace of its own."""
    try:
        if apart:
            field.spaces = Spaces(field.roads, field.everyone)
            _doors_apart(field, field.spaces)
        else:
            _doors(field)
        yield
    finally:
        field.roads.close()


def _doors(field: Field) -> None:
    """One for each broker, which finds out who dials; one to yak-zk for each broker."""
    post = field.roads.post("roads")
    for broker in field.brokers:
        to_zk = field.roads.door(post, _LOOPBACK, broker, ZK, partial(_where, field, ZK))
        to_it = field.roads.door(post, _LOOPBACK, None, broker, partial(_where, field, broker))
        field.cluster.options_of[broker] = [
            *("--zk", "{}:{}".format(*to_zk), "--advertise", "{}:{}".format(*to_it)),
        ]


def _doors_apart(field: Field, apart: Spaces) -> None:
    """At each host, one to each other."""
    cluster = field.cluster
    cluster.zk_address = apart.address(ZK)
    for number in field.everyone:
        cluster.before[number] = apart.before(number)
    for broker in field.brokers:
        cluster.addresses[broker] = apart.address(broker)
        for number, post in [*apart.hosts.items(), (CLIENTS, apart.yard)]:
            if number != broker:
                field.roads.door(
                    post, apart.door(broker), number, broker, partial(apart.address, broker)
                )
        host = apart.hosts[broker]
        field.roads.door(host, apart.door(ZK), broker, ZK, partial(apart.address, ZK))
        cluster.options_of[broker] = [
            *("--zk", "{}:{}".format(*apart.door(ZK))),
            *("--advertise", "{}:{}".format(*apart.door(broker))),
        ]


def _where(field: Field, number: int) -> Address:
    found = field.cluster.zk_address if number == ZK else field.cluster.addresses.get(number)
    if found is None:
        raise ConnectionRefusedError(f"{name(number)} has not started yet")
    return found


def _pair(field: Field, kind: str, *, one_way: bool = False) -> Pair:
    """Two processes: each pair has its turn, in an order that mixes them."""
    choose = itertools.permutations if one_way else itertools.combinations
    pairs = list(choose(field.everyone, 2))
    random.Random(len(pairs)).shuffle(pairs)
    return pairs[field.turn(kind) % len(pairs)]


def _both(a: int, b: int) -> list[Pair]:
    return [(a, b), (b, a)]


class _Effects(Fault):
    """Of the proxies."""

    whom: ClassVar[Whom] = "process"

    def __init__(self) -> None:
        self._effect: Effect | None = None

    def _do(self, field: Field, pairs: list[Pair], effect: Effect) -> None:
        self._effect = effect
        field.roads.begin(pairs, effect)

    def end(self, field: Field) -> None:
        if self._effect is not None:
            field.roads.end(self._effect)


class LinkCut(_Effects):
    kind = "link cut (proxy)"
    whom = "all"
    lasts_s = (0.2, 6.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        pair = _pair(field, self.kind)
        self._do(field, _both(*pair), Effect(hold=True))
        return f"{names(pair)} do not hear each other"


class OneWayCut(_Effects):
    kind = "one-way cut (proxy)"
    whom = "all"
    lasts_s = (0.2, 6.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        pair = _pair(field, self.kind, one_way=True)
        self._do(field, [pair], Effect(hold=True))
        return f"{name(pair[1])} does not hear {name(pair[0])}"


class CutOff(_Effects):
    kind = "cut off (proxy)"
    lasts_s = (0.2, 6.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        pairs = [pair for other in field.everyone for pair in _both(victim, other)]
        self._do(field, pairs, Effect(hold=True))
        return f"{name(victim)} and all others do not hear each other"


class Delay(_Effects):
    kind = "link delay"
    lasts_s = (0.5, 8.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        late_s = chance.uniform(0.02, 0.4)
        others = [other for other in (*field.everyone, CLIENTS) if other != victim]
        some = chance.sample(others, chance.randint(1, len(others)))
        pairs = [pair for other in some for pair in _both(victim, other)]
        self._do(field, pairs, Effect(late_s=late_s))
        return f"{name(victim)} and {_with_clients(some)}: {late_s * 1000:.0f} ms later"


class Stall(_Effects):
    """One direction of all its links, clients' too: nothing is read, buffers fill."""

    kind = "link stall"
    lasts_s = (0.1, 5.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        others = [other for other in (*field.everyone, CLIENTS) if other != victim]
        inwards = chance.random() < 0.5
        pairs = [(other, victim) if inwards else (victim, other) for other in others]
        self._do(field, pairs, Effect(hold=True))
        return f"what {name(victim)} {'is sent' if inwards else 'sends'} waits"


class Trickle(_Effects):
    kind = "trickle"
    lasts_s = (0.5, 5.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        peer = chance.choice([o for o in (*field.everyone, CLIENTS) if o != victim])
        piece = chance.choice([1, 7, 40, 200])
        self._do(field, _both(victim, peer), Effect(piece=piece))
        return f"{name(victim)} and {_with_clients([peer])}: {piece} bytes at a time"


class HalfOpen(Fault):
    """What one end had is gone, and the other does not learn of it before the fault ends."""

    kind = "half-open"
    whom = "process"
    lasts_s = (0.2, 6.0)

    def __init__(self) -> None:
        self._connections: list[Connection] = []

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        peers = [o for o in field.everyone if o != victim and field.roads.between(victim, o)]
        if not peers:
            raise UnableError("it has no connection now")
        peer = chance.choice(peers)
        self._connections = field.roads.half_open(victim, peer)
        ends = len(self._connections)
        return f"{ends} connections with {name(victim)} are gone for {name(peer)} alone"

    def end(self, field: Field) -> None:
        for connection in self._connections:
            connection.post.loop.call_soon_threadsafe(connection.abort)
        self._connections.clear()


class Reset(Fault):
    kind = "reset"
    whom = "process"
    lasts_s = (0.0, 0.5)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        others = [other for other in (*field.everyone, CLIENTS) if other != victim]
        some = chance.sample(others, chance.randint(1, len(others)))
        count = sum(field.roads.reset(victim, other) for other in some)
        if not count:
            raise UnableError("it has no connection now")
        return f"{count} connections of {name(victim)} with {_with_clients(some)} are reset"

    def end(self, field: Field) -> None:
        """Whoever wants a connection has dialled again."""


def _with_clients(numbers: list[int]) -> str:
    servers = names(number for number in numbers if number != CLIENTS)
    return ", ".join(filter(None, [servers, "clients" * (CLIENTS in numbers)]))


class _Wires(Fault):
    """Of the namespaces."""

    whom: ClassVar[Whom] = "process"
    lasts_s = (0.2, 6.0)

    def __init__(self) -> None:
        self._cut: list[Pair] = []

    def missing(self, field: Field) -> str:
        return spaces.missing()

    def _do(self, field: Field, pairs: list[Pair]) -> None:
        if field.spaces is None:
            raise UnableError("this run has no namespaces")
        for pair in pairs:
            self._cut.append(pair)
            field.spaces.cut(*pair)

    def end(self, field: Field) -> None:
        while self._cut and field.spaces is not None:
            field.spaces.heal(*self._cut.pop())


class WireCut(_Wires):
    kind = "link cut (namespace)"
    whom = "all"

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        pair = _pair(field, self.kind)
        self._do(field, _both(*pair))
        return f"the wire between {names(pair)} is cut"


class OneWayWire(_Wires):
    kind = "one-way cut (namespace)"
    whom = "all"

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        pair = _pair(field, self.kind, one_way=True)
        self._do(field, [pair])
        return f"no frame of {name(pair[0])} comes to {name(pair[1])}"


class WiresOff(_Wires):
    kind = "cut off (namespace)"

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        others = [other for other in field.everyone if other != victim]
        self._do(field, list(itertools.chain(*(_both(victim, other) for other in others))))
        return f"{name(victim)} is unplugged from all others"


FAULTS: tuple[type[Fault], ...] = (
    LinkCut, OneWayCut, CutOff, Delay, Stall, Trickle, HalfOpen, Reset, WireCut, OneWayWire,
    WiresOff,
)  # fmt: skip
