"""What the doctor finds, and what follows from it: each step's cause and fix."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from yak import messages as m
from yak.commands import diagnosis
from yak.commands.diagnosis import Wanted, examine
from yak.commands.findings import Step, failed, ok
from yak.config import Settings
from yak.errors import RetriableError, YakError
from yak.model import Address

_WHERE = Address("h", 9)


def _metadata(**said: object) -> m.MetadataAnswer:
    brokers = [m.BrokerEntry(id=n, host="h", port=n, live=n != 3) for n in (1, 2, 3)]
    known = {"cluster": "c", "epoch": 4, "leader": 1, "isr": [1, 2], "topics": {}}
    return m.MetadataAnswer(**{**known, "brokers": brokers, **said})  # type: ignore[arg-type]  # as said


def _hello(broker: int, cluster: str = "c") -> m.HelloAnswer:
    return m.HelloAnswer(protocol=1, broker=broker, cluster=cluster, version="1")


@pytest.mark.parametrize(
    ("why", "cause"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "no process listens"),
        (TimeoutError(), "firewall"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no way to that network"),
        (OSError(errno.EACCES, "Permission denied"), "the system refused"),
    ],
)
def test_why_nobody_could_be_connected_to(why: OSError, cause: str) -> None:
    error = RetriableError("cannot connect", name="CONNECTION")
    error.__cause__ = why
    step = diagnosis.refusal(_WHERE, error)
    assert (step.step, step.where, step.state) == ("tcp", "h:9", "failed")
    assert cause in step.cause
    assert step.fix


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("TIMEOUT", "hangs"),
        ("PROTOCOL", "another program"),
        ("CONNECTION", "another program"),
        ("INVALID_REQUEST", "no broker"),
        ("OVERLOADED", "refused"),
    ],
)
def test_what_says_no_hello(name: str, cause: str) -> None:
    step = diagnosis.no_hello(_WHERE, YakError("as told", name=name))
    assert step.state == "failed"
    assert cause in step.cause


def test_metadata() -> None:
    assert diagnosis.metadata_step(_metadata(), ["c"]).is_ok
    assert "nobody leads" in diagnosis.metadata_step(_metadata(leader=None), ["c"]).found
    assert "mixes clusters" in diagnosis.metadata_step(_metadata(), ["c", "d"]).cause


def _broker(
    number: int, hello: m.HelloAnswer | None, *, live: bool = True, bad: str = "refused"
) -> Step:
    entry = m.BrokerEntry(id=number, host="h", port=9, live=live)
    steps = [failed("tcp", _WHERE, bad, "no process listens there", "start it")]
    return diagnosis.broker_step(entry, _metadata(), hello, [] if hello else steps)


def test_a_broker_where_the_cluster_says_that_it_is() -> None:
    assert _broker(1, _hello(1)).found == "leads"
    assert _broker(2, _hello(2)).found == "in sync"
    assert "not in sync" in _broker(3, _hello(3)).found


def test_a_broker_that_is_down_and_one_that_only_we_do_not_reach() -> None:
    assert "--id 3" in _broker(3, None, live=False).fix
    unreached = _broker(2, None)
    assert "from here: refused" in unreached.found
    assert "--advertise" in unreached.fix


def test_another_one_where_a_broker_should_be() -> None:
    assert "broker 1 of cluster c" in _broker(2, _hello(1)).found
    assert "cluster d" in _broker(2, _hello(2, "d")).found


def _zk(**said: object) -> m.CoordinatorStatus:
    known = {"cluster": "c", "version": 1, "epoch": 4, "leader": 1, "isr": [1], "sessions": []}
    return m.CoordinatorStatus(**{**known, "settings": Settings(), "elections": [], **said})  # type: ignore[arg-type]  # as said


def test_yak_zk() -> None:
    assert diagnosis.zk_step(_WHERE, _zk(), _metadata()).is_ok
    assert diagnosis.zk_step(_WHERE, _zk(), None).is_ok
    assert "another yak-zk" in diagnosis.zk_step(_WHERE, _zk(cluster="d"), _metadata()).cause
    refused = m.RefusedEntry(
        broker=7, host="h", port=7, cluster="d", disk="x", state="whole", end=(1, 2), epoch=1,
        age_ms=5, why="broker 7 belongs to cluster d",
    )  # fmt: skip
    step = diagnosis.zk_step(_WHERE, _zk(refused=[refused]), _metadata())
    assert (step.state, step.cause) == ("failed", "broker 7 belongs to cluster d")


def test_clocks() -> None:
    assert diagnosis.clock_step([]).is_ok
    assert "orders" in diagnosis.clock_step(["orders"]).found


@pytest.mark.asyncio
async def test_what_depends_on_a_failed_step_is_skipped(tmp_path: Path) -> None:
    nobody = Address("127.0.0.1", 1)
    steps = await examine(Wanted([nobody], True, nobody, True, tmp_path))
    states = {step.step: step.state for step in steps}
    assert states == {
        "address": "ok",
        "tcp": "failed",
        "hello": "skipped",
        "metadata": "skipped",
        "broker": "skipped",
        "yak-zk": "failed",
        "clocks": "skipped",
        "disk": "ok",
        "files": "ok",
    }
    assert all(step.cause and step.fix for step in steps if step.state == "failed")


@pytest.mark.asyncio
async def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    lost = Address("no-such-host.invalid", 9092)
    steps = await examine(Wanted([lost], True, Address("127.0.0.1", 1), False, tmp_path))
    assert [step.state for step in steps[:3]] == ["failed", "skipped", "skipped"]
    assert "no-such-host.invalid" in steps[0].cause
    assert next(step for step in steps if step.step == "yak-zk").state == "skipped"


@pytest.mark.asyncio
async def test_a_broker_that_was_dialled_in_vain_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same broker is in the bootstrap list and in the metadata: one cause, told once."""
    there, gone = Address("127.0.0.1", 2), Address("127.0.0.1", 3)

    async def reach(address: Address) -> diagnosis._Reached:
        if address == there:
            return diagnosis._Reached([ok("hello", address, "")], _hello(1))
        return diagnosis._Reached([failed("tcp", address, "no", "why", "fix")], None)

    async def metadata(_reached: object) -> m.MetadataAnswer:
        brokers = [
            m.BrokerEntry(id=n, host=at.host, port=at.port, live=n == 1)
            for n, at in ((1, there), (2, gone), (3, Address("127.0.0.1", 4)))
        ]
        return _metadata(brokers=brokers)

    monkeypatch.setattr(diagnosis, "_reach", reach)
    monkeypatch.setattr(diagnosis, "_metadata", metadata)
    wanted = Wanted([there, gone], True, Address("127.0.0.1", 1), False, tmp_path)
    found = {step.step: step for step in await examine(wanted)}
    assert found["broker 1"].state == "ok"
    assert (found["broker 2"].state, found["broker 2"].found) == (
        "skipped",
        "needs tcp; the cluster calls it down",
    )
    assert (found["broker 3"].state, found["broker 3"].fix[:8]) == ("failed", "start it")
