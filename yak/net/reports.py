"""One question to one process, on a connection of its own: how it is, what it holds, an order.

Brokers are asked each for itself, and taken together afterwards, so that this works while nobody
leads and while some are down.

Not here: what only the leader knows, which cluster.py finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from yak import messages as m
from yak.core import ops
from yak.errors import RetriableError, YakError
from yak.model import Address
from yak.net.cluster import WAITING_S, OnWaiting
from yak.net.connection import Connection

#: How long one process may take to say how it is, in seconds.
PROBE_S: Final = 2.0
#: How long yak-zk may take to carry out an order: it writes to its disk first.
ORDER_S: Final = 10.0
#: An order that yak-zk cannot judge yet is given again after this long.
ORDER_AGAIN_S: Final = 0.1

A = TypeVar("A", bound=m.Answer)


class BrokerReport(msgspec.Struct, kw_only=True, frozen=True):
    """One broker's own word.  Either `status` is there, or `error` says why it is not.

    id: None for an address of the bootstrap list that never answered and that no other broker
    has named.
    """

    id: int | None
    address: Address
    status: m.StatusAnswer | None = None
    error: str = ""


class ClusterReport(msgspec.Struct, kw_only=True, frozen=True):
    """What the brokers say, taken together: the word of those with the highest epoch counts."""

    cluster: str | None
    epoch: int
    leader: int | None
    isr: list[int]
    brokers: list[BrokerReport]

    def broker(self, broker_id: int | None) -> m.StatusAnswer | None:
        """That broker's status, if it answered."""
        for report in self.brokers:
            if report.id is not None and report.id == broker_id:
                return report.status
        return None


async def ask_one(
    address: Address, request: m.Request, answer_type: type[A], *, timeout_s: float | None = None
) -> A:
    """One question on a connection of its own, without a second try.

    timeout_s: for all of it; PROBE_S.
    """
    timeout_s = PROBE_S if timeout_s is None else timeout_s
    loop = asyncio.get_running_loop()
    began = loop.time()
    connection = await Connection.open(address, timeout_s=min(PROBE_S, timeout_s))
    try:
        left = round(max(0.01, timeout_s - (loop.time() - began)), 2)
        answer, _ = await connection.ask(request, answer_type, timeout_s=left)
    finally:
        connection.close()
    return answer


async def order(address: Address, request: m.Elect | m.Adopt, *, timeout_s: float) -> m.OrderAnswer:
    """Give yak-zk an order, or look at it; while it waits for brokers, ask again."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + timeout_s
    while True:
        try:
            return await ask_one(address, request, m.OrderAnswer, timeout_s=ORDER_S)
        except RetriableError as error:
            if error.name != "NO_LEADER" or loop.time() >= give_up_at:
                raise
        await asyncio.sleep(ORDER_AGAIN_S)


async def probe(address: Address) -> BrokerReport:
    try:
        status = await ask_one(address, m.Status(id=0), m.StatusAnswer)
    except YakError as e:
        return BrokerReport(id=None, address=address, error=str(e))
    return BrokerReport(id=status.broker, address=address, status=status)


async def survey(
    addresses: Sequence[Address], on_waiting: OnWaiting
) -> tuple[list[BrokerReport], dict[Address, int]]:
    """What each of these says, and each broker that they name beside them; and all those names.

    All are asked at once, and whoever hangs holds up nobody's but its own answer, for PROBE_S.
    on_waiting: is told once where none has answered for WAITING_S.
    """
    names = ", ".join(map(str, addresses))
    why = f"no answer yet from {names}"
    waiting = asyncio.get_running_loop().call_later(WAITING_S, on_waiting, why)
    known: dict[Address, int] = {}
    async with asyncio.TaskGroup() as group:
        asked = {one: group.create_task(probe(one)) for one in addresses}
        rest = set(asked.values())
        try:
            while rest and not known:
                done, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
                known = await registered([task.result() for task in done])
        finally:
            waiting.cancel()
        for address in known:
            if address not in asked:
                asked[address] = group.create_task(probe(address))
    return [task.result() for task in asked.values()], known


async def registered(reports: Sequence[BrokerReport]) -> dict[Address, int]:
    """Every broker that the cluster has ever known, asked of one that answered just now."""
    for report in reports:
        if report.status is not None:
            try:
                answer = await ask_one(
                    report.address, m.Metadata(id=0, topics=[]), m.MetadataAnswer
                )
            except YakError:
                continue
            return {Address(b.host, b.port): b.id for b in answer.brokers}
    return {}


def together(reports: Sequence[BrokerReport], known: Mapping[Address, int]) -> ClusterReport:
    """One report of all: each broker once, and the word of the highest epoch on who leads.

    An address that nobody knows and that does not answer is none of the cluster's brokers: the
    default bootstrap list names three, and a cluster may have one.
    """
    brokers: dict[int, BrokerReport] = {}
    for report in reports:
        broker_id = report.id if report.id is not None else known.get(report.address)
        if broker_id is not None and (broker_id not in brokers or report.status is not None):
            brokers[broker_id] = msgspec.structs.replace(report, id=broker_id)
    words = [report.status for report in brokers.values() if report.status is not None]
    best = max(words, key=lambda word: (word.epoch, word.broker == word.leader))
    return ClusterReport(
        cluster=best.cluster,
        epoch=best.epoch,
        leader=best.leader,
        isr=best.isr,
        brokers=[brokers[broker_id] for broker_id in sorted(brokers)],
    )


async def fetch_operation(
    address: Address, topic: str, partition: int, offset: int
) -> ops.Append | None:
    """The operation that holds this offset, as a broker gives it to readers; None if it cannot."""
    connection = await Connection.open(address, timeout_s=PROBE_S)
    try:
        # At least one operation comes, however large it is.
        request = m.Fetch(id=0, partitions=((topic, partition, offset),), max_bytes=1)
        answer, body = await connection.ask(request, m.FetchAnswer, timeout_s=PROBE_S)
    finally:
        connection.close()
    size = answer.partitions[0].size if answer.partitions else 0
    if not size:
        return None
    line, _, _ = bytes(body[:size]).partition(b"\n")
    op = ops.decode(line)
    return op if isinstance(op, ops.Append) and op.offset <= offset else None
