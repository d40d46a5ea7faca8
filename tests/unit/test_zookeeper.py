"""yak-zk in this process, on loopback: brokers are connections that say what they are told to."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.documents import agreed
from tests.support.memory_disk import MemoryDisk
from yak import messages as m
from yak import zookeeper
from yak.config import CoordinatorConfig, Limits, Settings
from yak.errors import Fatal, YakError
from yak.model import Address, parse_address
from yak.net.connection import Connection
from yak.net.server import Server, ServerConnection
from yak.protocol import RequestDecoder
from yak.storage.data_dir import DataDir

PATIENCE_S = 20.0
#: A session that outlasts any of these tests, and one that is over soon.
LONG = Settings(session_ms=60_000)
SHORT = Settings(heartbeat_ms=50, session_ms=500, lease_ms=300)


class Told:
    """Stands for stdout: the first line written names the address."""

    def __init__(self) -> None:
        self.address: asyncio.Future[Address] = asyncio.get_running_loop().create_future()

    def write(self, text: str) -> int:
        if not self.address.done():
            assert text.startswith("listening on ")
            assert text.endswith("\n")
            address = parse_address(text.removeprefix("listening on ").strip())
            assert address is not None
            self.address.set_result(address)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


class Zk:
    """A running yak-zk, and what it takes to talk to it."""

    def __init__(self, address: Address, data_dir: Path, task: asyncio.Task[None]) -> None:
        self.address = address
        self.data_dir = data_dir
        self.task = task

    @property
    def state(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.data_dir / "state.json").read_bytes())
        return data

    async def ask(self, request: m.Request, kind: type[Any]) -> Any:
        connection = await Connection.open(self.address)
        try:
            return (await connection.ask(request, kind))[0]
        finally:
            connection.close()

    async def view(self) -> m.ClusterView:
        answer: m.JoinAnswer = await self.ask(m.ClusterQuery(id=0), m.JoinAnswer)
        return answer.view


@asynccontextmanager
async def running(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings = LONG, **more: Any
) -> AsyncIterator[Zk]:
    told, stop = Told(), asyncio.Event()
    monkeypatch.setattr(sys, "stdout", told)
    config = CoordinatorConfig(
        port=0, data_dir=data_dir, settings=settings, **{"bootstrap_wait_ms": 0, **more}
    )
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        task = group.create_task(zookeeper.run(config, stop=stop))
        try:
            yield Zk(await told.address, data_dir, task)
        finally:
            stop.set()


class Broker:
    """One that joins; its port is a server which says that incarnation `says` runs here."""

    def __init__(self, zk: Zk, broker: int) -> None:
        self.zk = zk
        self.id = broker
        self.inc = self.says = f"i{broker}.1"
        self.views: asyncio.Queue[m.ClusterView] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.probed = asyncio.Event()
        self.connection: Connection
        self.port: Server | None = None
        self.address = Address("127.0.0.1", 1)

    async def listen(self) -> None:
        self.port = await Server.start(
            "127.0.0.1", 0, RequestDecoder(m.BrokerRequest), self, Limits()
        )
        self.address = self.port.address

    async def join(self, **more: Any) -> m.ClusterView:
        self.lost.clear()
        self.connection = await Connection.open(
            self.zk.address, on_push=self._pushed, on_closed=lambda _: self.lost.set()
        )
        usual: dict[str, Any] = {
            "broker": self.id,
            "host": self.address.host,
            "port": self.address.port,
            "cluster": None,
            "disk": f"d{self.id}",
            "inc": self.inc,
            "state": "whole",
            "end": (0, 0),
            "epoch": 0,
        }
        request = m.Join(id=0, **{**usual, **more})
        view = (await self.connection.ask(request, m.JoinAnswer))[0].view
        self.views.put_nowait(view)
        return view

    async def ask(self, request: m.Request, kind: type[Any]) -> Any:
        return (await self.connection.ask(request, kind))[0]

    async def until(self, wanted: Callable[[m.ClusterView], bool]) -> m.ClusterView:
        """The first view, of those not yet looked at, that is as wanted."""
        while True:
            view = await self.views.get()
            if wanted(view):
                return view

    def _pushed(self, header: bytes) -> None:
        self.views.put_nowait(msgspec.json.decode(header, type=m.ClusterView))

    def opened(self, connection: ServerConnection, /) -> None:
        """A probe."""

    def received(self, connection: ServerConnection, request: Any, _body: Any, /) -> None:
        answer = m.StatusAnswer(
            broker=self.id,
            cluster="C",
            role="follower",
            epoch=1,
            leader=1,
            isr=[1],
            state="whole",
            log_start=1,
            log_end=1,
            committed=0,
            applied=0,
            lease_ms=0,
            followers=[],
            inc=self.says,
        )
        connection.answer(request.id, answer)

    def closed(self, connection: ServerConnection, /) -> None:
        """The probe has its answer."""
        self.probed.set()


async def pair(zk: Zk) -> tuple[Broker, Broker]:
    """1 leads, and 2 is in sync."""
    one, two = Broker(zk, 1), Broker(zk, 2)
    await one.listen()
    await two.listen()
    await one.join()
    await one.until(lambda view: view.leader == 1)
    view = await two.join()
    proposal = m.ProposeIsr(
        id=0, epoch=view.epoch, version=view.version, isr=[1, 2], incs={"2": two.inc}
    )
    await one.ask(proposal, m.IsrAnswer)
    return one, two


async def closing(*brokers: Broker) -> None:
    for broker in brokers:
        broker.connection.close()
        if broker.port is not None:
            await broker.port.close(0.0)


Story = Callable[[Zk], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a story with a yak-zk to itself."""

    def player(story: Story, settings: Settings = LONG, **more: Any) -> None:
        async def played() -> None:
            async with running(tmp_path, monkeypatch, settings, **more) as zk:
                await story(zk)

        asyncio.run(played())

    return player


def test_a_cluster_forms_grows_and_elects(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one, two = await pair(zk)
        await one.ask(m.Leave(id=0), m.Done)
        view = await two.until(lambda view: view.leader == 2)
        assert (view.epoch, view.isr) == (2, [1, 2])
        assert [(b.id, b.live) for b in view.brokers] == [(1, False), (2, True)]
        assert (zk.state["epoch"], zk.state["leader"]) == (2, 2)
        await closing(one, two)

    play(story)


def test_zk_durable_whoever_hears_a_decision_finds_it_on_disk(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one = Broker(zk, 1)
        joined = await one.join()
        assert zk.state["version"] >= joined.version
        view = await one.until(lambda view: view.leader == 1)
        assert (zk.state["version"], zk.state["leader"]) == (view.version, 1)
        await closing(one)

    play(story)


def test_a_closed_session_whose_port_refuses_is_dead_at_once(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one, two = await pair(zk)
        await closing(one)
        await two.until(lambda view: view.leader == 2)
        reason = zk.state["elections"][-1]["reason"]
        assert "its port refuses connections" in reason
        await closing(two)

    play(story)


def test_a_closed_session_whose_port_has_another_process_is_dead(
    play: Callable[..., None],
) -> None:
    async def story(zk: Zk) -> None:
        one, two = await pair(zk)
        one.says = "i1.2"
        one.connection.close()
        await two.until(lambda view: view.leader == 2)
        assert "another process answers" in zk.state["elections"][-1]["reason"]
        await closing(one, two)

    play(story)


def test_a_port_that_closes_while_it_is_asked_is_asked_again(play: Callable[..., None]) -> None:
    """A dying process resets what waits at its door, and refuses only then."""

    async def story(zk: Zk) -> None:
        one, two = await pair(zk)
        assert one.port is not None
        await one.port.close(0.0)
        door = socket.create_server((one.address.host, one.address.port))
        asked = asyncio.Event()
        ask = zookeeper._ask_address

        async def closing_meanwhile(*question: Any) -> Any:
            asking = asyncio.ensure_future(ask(*question))
            await asyncio.sleep(0)  # it knocks
            door.close()
            asked.set()
            return await asking

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zookeeper, "_ask_address", closing_meanwhile)
            one.connection.close()
            await asked.wait()
            await two.until(lambda view: view.leader == 2)
        assert "its port refuses connections" in zk.state["elections"][-1]["reason"]
        await closing(two)

    play(story)


def test_a_closed_session_whose_process_lives_goes_on(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one, two = await pair(zk)
        one.connection.close()
        await one.probed.wait()
        assert (await zk.view()).leader == 1
        view = await one.join(cluster=zk.state["cluster"])
        assert (view.leader, view.epoch) == (1, 1)
        await closing(one, two)

    play(story)


def test_a_session_that_falls_silent_dies_and_is_hung_up_on(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one = Broker(zk, 1)
        await one.join()
        await one.lost.wait()
        view = await zk.view()
        assert (view.leader, view.brokers[0].live) == (None, False)
        assert "silent for" in zk.state["elections"][-1]["reason"]

    play(story, SHORT)


def test_heartbeats_are_numbered_and_keep_a_session(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one = Broker(zk, 1)
        await one.join()
        heard = 0
        for number in range(1, 25):
            answer = await one.ask(m.Beat(id=0, number=number, heard=heard), m.BeatAnswer)
            assert answer.number == heard + 1
            heard = answer.number
            await asyncio.sleep(SHORT.heartbeat_ms / 1000)  # what a heartbeat is
        assert not one.lost.is_set()
        await closing(one)

    play(story, SHORT)


def test_a_refused_join_says_why_and_the_connection_lives(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one = Broker(zk, 1)
        with pytest.raises(YakError, match=r"cluster X.*cluster") as e:
            await one.join(cluster="X")
        assert e.value.name == "CLUSTER_MISMATCH"
        assert (await one.ask(m.ClusterQuery(id=0), m.JoinAnswer)).view.epoch == 0
        await closing(one)

    play(story)


def test_status_for_anybody(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one, two = await pair(zk)
        status = await zk.ask(m.Status(id=0), m.CoordinatorStatus)
        assert (status.leader, status.epoch, status.isr) == (1, 1, [1, 2])
        assert [session.live for session in status.sessions] == [True, True]
        assert status.elections[0].reason == "a new cluster; broker 1 is the lowest id present"
        await closing(one, two)

    play(story)


def test_an_order_is_given_as_it_was_looked_at(play: Callable[..., None]) -> None:
    async def story(zk: Zk) -> None:
        one, two = await pair(zk)
        before = zk.state
        seen = await zk.ask(m.Elect(id=0, broker=2), m.OrderAnswer)
        assert (seen.done, seen.leader, zk.state) == (False, 2, before)
        done = await zk.ask(m.Elect(id=0, broker=2, plan=seen.plan), m.OrderAnswer)
        assert (done.done, done.epoch, zk.state["leader"]) == (True, 2, 2)
        assert (await one.until(lambda view: view.epoch == 2)).leader == 2
        assert "ordered by an operator" in zk.state["elections"][-1]["reason"]
        await closing(one, two)

    play(story)


def test_an_adopted_cluster_is_this_directory_s_own_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def played() -> None:
        async with running(tmp_path, monkeypatch) as zk:
            one = Broker(zk, 1)
            with pytest.raises(YakError, match="yak zk adopt"):
                await one.join(cluster="X", end=(4, 9), epoch=4)
            seen = await zk.ask(m.Adopt(id=0), m.OrderAnswer)
            assert zk.state["cluster"] != "X"
            await zk.ask(m.Adopt(id=0, plan=seen.plan), m.OrderAnswer)
            assert zk.state["cluster"] == "X"
            view = await one.join(cluster="X", end=(4, 9), epoch=4)
            assert (view.cluster, view.epoch, view.leader) == ("X", seen.epoch, None)
            answer = m.Beat(id=0, number=1, heard=0, end=(4, 9), seen=(view.epoch, view.version))
            await one.ask(answer, m.BeatAnswer)
            assert (await one.until(lambda view: view.leader == 1)).epoch == seen.epoch + 1
            await closing(one)
        assert json.loads((tmp_path / "meta.json").read_bytes())["cluster"] == "X"
        async with running(tmp_path, monkeypatch) as zk:
            assert (await zk.view()).cluster == "X"

    asyncio.run(played())


def test_restarted_it_carries_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def played() -> None:
        async with running(tmp_path, monkeypatch) as zk:
            one, two = await pair(zk)
            before = zk.state
            await closing(one, two)
        async with running(tmp_path, monkeypatch) as zk:
            view = await zk.view()
            assert (view.cluster, view.epoch, view.leader, view.isr) == (
                before["cluster"],
                1,
                1,
                [1, 2],
            )
            one = Broker(zk, 1)
            assert (await one.join(cluster=view.cluster, epoch=1)).leader == 1
            await closing(one)
        events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
        names = [event["event"] for event in events]
        assert names[0] == "started"
        assert names.count("elected") == 1
        assert names[-1] == "stopped"

    asyncio.run(played())


# -- what keeps it from starting, or going on -----------------------------------------------------


def fails(data_dir: Path, settings: Settings = LONG, *, port: int = 0) -> Fatal:
    config = CoordinatorConfig(port=port, data_dir=data_dir, settings=settings)

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await zookeeper.run(config, stop=asyncio.Event())

    with pytest.raises(Fatal) as e:
        asyncio.run(bounded())
    assert "\n" not in e.value.message
    return e.value


def test_settings_that_leave_no_time_for_a_heartbeat_are_refused(tmp_path: Path) -> None:
    error = fails(tmp_path, Settings(heartbeat_ms=500, lease_ms=1500, session_ms=2000))
    assert error.exit_code == 2
    assert "--heartbeat-ms 500" in error.message


def test_a_state_that_cannot_be_read_is_kept_and_named(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(started(tmp_path, patch))
    state = tmp_path / "state.json"
    good = state.read_bytes()
    state.write_bytes(good[:-20])
    assert "state.json is not what yak-zk writes there" in fails(tmp_path).message
    assert state.read_bytes() == good[:-20]
    state.write_bytes(good.replace(b'"format": 1', b'"format": 9'))
    assert "has format 9" in fails(tmp_path).message
    state.unlink()
    assert "state.json is missing" in fails(tmp_path).message


async def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and stopped again."""
    async with running(tmp_path, monkeypatch) as zk:
        assert zk.state["epoch"] == 0


def test_a_busy_port_and_a_locked_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def played() -> None:
        async with running(tmp_path / "a", monkeypatch) as zk:
            config = CoordinatorConfig(port=zk.address.port, data_dir=tmp_path / "b")
            with pytest.raises(Fatal, match="in use"):
                await zookeeper.run(config, stop=asyncio.Event())
            config = CoordinatorConfig(port=0, data_dir=tmp_path / "a")
            with pytest.raises(Fatal, match="another yak-zk runs on this directory"):
                await zookeeper.run(config, stop=asyncio.Event())

    asyncio.run(played())


def test_what_cannot_be_saved_is_not_told_and_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    async def played() -> None:
        async with running(tmp_path, monkeypatch) as zk:
            monkeypatch.setattr(zookeeper, "write_json_durably", full)
            before = zk.state
            with pytest.raises(YakError) as e:
                await Broker(zk, 1).join()
            assert e.value.name == "CONNECTION"
            assert zk.state == before

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(played())
    (error,) = caught.value.exceptions
    assert isinstance(error, Fatal)
    assert "No space left" in error.message


def test_one_bit_flipped_at_every_byte_of_the_state_is_refused(tmp_path: Path) -> None:
    """Another leader, epoch or ISR would be believed by everybody."""
    disk, path = MemoryDisk(), "/zk/state.json"
    directory = DataDir.open(disk, "/zk", kind="zookeeper")
    zookeeper._save(directory, path, agreed())
    assert zookeeper._load(directory, path) == agreed()
    for position in range(len(disk.read_file(path))):
        for bit in range(8):
            disk.flip(path, position, 1 << bit)
            with pytest.raises(Fatal, match=r"state\.json"):
                zookeeper._load(directory, path)
            disk.flip(path, position, 1 << bit)
    assert zookeeper._load(directory, path) == agreed()
