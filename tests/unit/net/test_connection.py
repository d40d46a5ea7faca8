"""One connection against a scripted broker: answers find their requests, endings reach all."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.fake_broker import DROP, SILENT, Ask, FakeBroker, Result, answer, refuse
from yak import errors
from yak import messages as m
from yak.errors import ProtocolError, RetriableError, YakError
from yak.model import Address
from yak.net.connection import Connection, read_answer
from yak.protocol import frame

pytestmark = pytest.mark.asyncio


def _fetch() -> m.Fetch:
    return m.Fetch(id=0, partitions=(("t", 0, 0),))


async def test_answers_find_their_requests_in_any_order() -> None:
    held: list[Ask] = []

    def hold_two(ask: Ask) -> Result:
        held.append(ask)
        if len(held) == 2:
            held[1].later({"offsets": [["t", 0, 2]]})
            held[0].later({"offsets": [["t", 0, 1]]})
        return SILENT

    async with FakeBroker() as broker:
        broker.on("list_offsets", hold_two)
        connection = await Connection.open(broker.address)
        ask = m.ListOffsets(id=0, partitions=[("t", 0)], at="latest")
        first, second = connection.send(ask), connection.send(ask)
        answers = [
            read_answer(await sent, m.OffsetsAnswer, broker.address)[0].offsets
            for sent in (first, second)
        ]
        assert answers == [[("t", 0, 1)], [("t", 0, 2)]]
        assert [a.request["id"] for a in held] == [1, 2]
        connection.close()


async def test_bodies_travel_both_ways() -> None:
    big = b"x" * 300_000
    async with FakeBroker() as broker:
        broker.on(
            "produce",
            lambda ask: ({"offset": 0, "count": 1, "time": 1, "partitions": 1}, ask.body * 2),
        )
        connection = await Connection.open(broker.address)
        produce = m.Produce(id=0, topic="t", partition=0, count=1)
        _, body = await connection.ask(produce, m.ProduceAnswer, [big, b"tail"])
        assert bytes(body) == (big + b"tail") * 2
        connection.close()


async def test_an_error_answer_is_raised_with_all_that_it_says() -> None:
    async with FakeBroker() as broker:
        hint = {"id": 2, "host": "h", "port": 9}
        broker.on("fetch", refuse("NOT_LEADER", leader=hint))
        broker.on("produce", refuse("OUT_OF_ORDER_SEQUENCE", retriable=False, expected=7))
        connection = await Connection.open(broker.address)
        with pytest.raises(RetriableError) as caught:
            await connection.ask(_fetch(), m.FetchAnswer)
        assert caught.value.name == "NOT_LEADER"
        assert caught.value.leader == m.LeaderHint(2, "h", 9)
        assert caught.value.broker == str(broker.address)
        with pytest.raises(YakError) as refused:
            await connection.ask(m.Produce(id=0, topic="t", partition=0, count=1), m.ProduceAnswer)
        assert (refused.value.details, refused.value.retriable) == ({"expected": 7}, False)
        connection.close()


async def test_all_that_wait_fail_when_the_connection_ends_and_so_does_what_follows() -> None:
    closings: list[str] = []
    async with FakeBroker() as broker:
        broker.on("fetch", answer(partitions=[]))
        broker.on("status", DROP_STEP)
        connection = await Connection.open(broker.address, on_closed=closings.append)
        broker.on("heartbeat", SILENT_STEP)
        waiting = connection.send(m.Heartbeat(id=0, producer=1))
        dropped = connection.send(m.Status(id=0))
        for future in (waiting, dropped):
            with pytest.raises(RetriableError, match="ended") as caught:
                await future
            assert caught.value.name == "CONNECTION"
        assert connection.closed
        assert len(closings) == 1
        with pytest.raises(RetriableError):
            await connection.ask(_fetch(), m.FetchAnswer)
        with pytest.raises(RetriableError):
            connection.post(_fetch())


def SILENT_STEP(_: Ask) -> Result:  # noqa: N802 -- a constant that happens to be a function
    return SILENT


def DROP_STEP(_: Ask) -> Result:  # noqa: N802 -- a constant that happens to be a function
    return DROP


async def test_a_late_answer_is_dropped_after_a_time_out() -> None:
    held: list[Ask] = []

    def hold(ask: Ask) -> Result:
        held.append(ask)
        return SILENT

    async with FakeBroker() as broker:
        broker.on("fetch", hold, answer(partitions=[]))
        connection = await Connection.open(broker.address)
        with pytest.raises(errors.TimeoutError, match="fetch") as caught:
            await connection.ask(_fetch(), m.FetchAnswer, timeout_s=0.05)
        assert isinstance(caught.value, TimeoutError)
        held[0].later({"partitions": [{"topic": "late", "partition": 0}]})
        good, _ = await connection.ask(_fetch(), m.FetchAnswer)
        assert good.partitions == []
        connection.close()


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"".join(map(bytes, frame(b"not json"))),
        b"".join(map(bytes, frame(b"[1]"))),
        b"\x00\x00\x00\x04\x00\x01\x02\x03",
        b"\x00\x00\x00\x00",
    ],
    ids=["http", "not json", "no object", "another dialect", "empty"],
)
async def test_what_is_no_yak_ends_the_connection_with_a_protocol_error(bytes_sent: bytes) -> None:
    async with FakeBroker() as broker:
        broker.on("fetch", lambda _: bytes_sent)
        connection = await Connection.open(broker.address)
        with pytest.raises(ProtocolError) as caught:
            await connection.ask(_fetch(), m.FetchAnswer)
        assert str(broker.address) in str(caught.value)
        assert caught.value.name == "PROTOCOL"
        assert connection.closed


async def test_an_answer_of_another_kind_is_a_protocol_error_and_the_connection_stays() -> None:
    async with FakeBroker() as broker:
        broker.on("fetch", answer(partitions=7), answer(partitions=[]))
        connection = await Connection.open(broker.address)
        with pytest.raises(ProtocolError, match="FetchAnswer"):
            await connection.ask(_fetch(), m.FetchAnswer)
        await connection.ask(_fetch(), m.FetchAnswer)
        connection.close()


async def test_an_error_without_an_id_ends_the_connection_with_that_error() -> None:
    message = {"id": None, "ok": False, "error": "OVERLOADED", "message": "x", "retriable": True}
    async with FakeBroker() as broker:
        broker.on("fetch", lambda _: b"".join(map(bytes, frame(json.dumps(message).encode()))))
        connection = await Connection.open(broker.address)
        with pytest.raises(RetriableError) as caught:
            await connection.ask(_fetch(), m.FetchAnswer)
        assert caught.value.name == "OVERLOADED"
        assert connection.closed


async def test_half_a_frame_and_then_nothing_is_a_lost_connection() -> None:
    def half(ask: Ask) -> Result:
        ask.raw(b"\x00\x00\x01\x00" + b'{"id":1,"ok"')
        return DROP

    async with FakeBroker() as broker:
        broker.on("fetch", half)
        connection = await Connection.open(broker.address)
        with pytest.raises(RetriableError) as caught:
            await connection.ask(_fetch(), m.FetchAnswer)
        assert caught.value.name == "CONNECTION"


async def test_pushes_reach_their_listener() -> None:
    pushed: asyncio.Queue[bytes] = asyncio.Queue()
    async with FakeBroker() as broker:
        broker.on("fetch", lambda _: b"".join(map(bytes, frame(b'{"type":"cluster"}'))))
        connection = await Connection.open(broker.address, on_push=pushed.put_nowait)
        future = connection.send(_fetch())
        assert await asyncio.wait_for(pushed.get(), 5) == b'{"type":"cluster"}'
        connection.close()
        with pytest.raises(RetriableError):
            await future


async def test_nobody_listening_is_said_with_the_address() -> None:
    async with FakeBroker() as broker:
        address = broker.address
    with pytest.raises(RetriableError, match=str(address.port)) as caught:
        await Connection.open(address)
    assert caught.value.hint is not None


async def test_a_host_that_is_no_host() -> None:
    with pytest.raises(RetriableError, match="cannot connect"):
        await Connection.open(Address("no-such-host.invalid", 1), timeout_s=5)


async def test_what_waits_and_was_cancelled_disturbs_nobody() -> None:
    async with FakeBroker() as broker:
        broker.on("fetch", SILENT_STEP)
        connection = await Connection.open(broker.address)
        future = connection.send(_fetch())
        future.cancel()
        connection.close("enough")
        assert "enough" in connection.reason
        connection.close("twice")
        assert "enough" in connection.reason
