"""Questions about topics, groups and brokers, against scripted brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.fake_broker import DROP, SILENT, Ask, FakeBroker, answer, refusal, refuse
from yak import admin as admin_module
from yak import errors
from yak.admin import Admin, AsyncAdmin, Place
from yak.errors import RetriableError, YakError
from yak.net import reports

pytestmark = pytest.mark.asyncio

CONFIG = {"retention_ms": 5}


def _status(broker: FakeBroker, **members: Any) -> dict[str, Any]:
    word = {
        "broker": broker.id, "cluster": "c", "role": "follower", "epoch": 3, "leader": 2,
        "isr": [2], "state": "whole", "log_start": 1, "log_end": 61, "committed": 60,
        "applied": 60, "lease_ms": 0, "followers": [],
    }  # fmt: skip
    return {**word, **members}


def _metadata(*brokers: FakeBroker, topics: dict[str, Any] | None = None) -> dict[str, Any]:
    entries = [
        {"id": b.id, "host": b.address.host, "port": b.address.port, "live": True} for b in brokers
    ]
    return {
        "cluster": "c", "epoch": 3, "leader": 2, "isr": [2], "brokers": entries,
        "topics": topics or {},
    }  # fmt: skip


@asynccontextmanager
async def _three() -> AsyncIterator[tuple[FakeBroker, FakeBroker, FakeBroker]]:
    """Brokers that know each other; 2 leads."""
    async with FakeBroker(1) as one, FakeBroker(2) as two, FakeBroker(3) as three:
        for broker in (one, two, three):
            broker.on("metadata", answer(**_metadata(one, two, three)))
            broker.on("status", answer(**_status(broker)))
        yield one, two, three


@asynccontextmanager
async def _ask(*brokers: FakeBroker, timeout_s: float = 10.0) -> AsyncIterator[AsyncAdmin]:
    bootstrap = ",".join(str(broker.address) for broker in brokers)
    async with AsyncAdmin(bootstrap, timeout_s=timeout_s) as admin:
        yield admin


async def test_a_topic_is_made_by_the_leader() -> None:
    async with _three() as (one, two, _), _ask(one) as admin:
        two.on("create_topic", answer(topic="t", topic_id="i", partitions=4))
        made = await admin.create_topic("t", 4, CONFIG)
        assert (made.topic, made.topic_id, made.partitions) == ("t", "i", 4)
        (asked,) = two.asks("create_topic")
        assert asked.request["partitions"] == 4
        assert asked.request["config"] == CONFIG


async def test_partitions_left_out_are_not_sent() -> None:
    async with _three() as (_, two, _third), _ask(two) as admin:
        two.on("create_topic", answer(topic="t", topic_id="i", partitions=3))
        await admin.create_topic("t")
        assert "partitions" not in two.asks("create_topic")[0].request


async def test_a_refusal_keeps_its_name() -> None:
    async with _three() as (_, two, _third), _ask(two) as admin:
        two.on("create_topic", refuse("TOPIC_EXISTS", retriable=False))
        with pytest.raises(YakError) as caught:
            await admin.create_topic("t")
        assert caught.value.name == "TOPIC_EXISTS"


async def test_a_refusal_after_a_lost_answer_says_that_it_may_be_one_s_own_work() -> None:
    async with _three() as (_, two, _third), _ask(two) as admin:
        exists = refuse("TOPIC_EXISTS", retriable=False)
        two.on("create_topic", lambda _: DROP, exists)
        with pytest.raises(YakError) as caught:
            await admin.create_topic("t")
        assert (caught.value.name, caught.value.in_doubt) == ("TOPIC_EXISTS", True)
        assert "earlier try" in (caught.value.hint or "")
        two.on("create_topic", refuse("NOT_ENOUGH_REPLICAS"), exists)
        with pytest.raises(YakError) as caught:
            await admin.create_topic("t")
        assert (caught.value.in_doubt, caught.value.hint) == (False, None)


async def test_a_topic_is_altered() -> None:
    async with _three() as (_, two, _third), _ask(two) as admin:
        two.on("alter_topic", answer(topic="t", topic_id="i", partitions=1, config={"a": 1}))
        altered = await admin.alter_topic("t", {"a": 1}, unset=["b"], topic_id="i")
        assert altered.config == {"a": 1}
        asked = two.asks("alter_topic")[0].request
        assert (asked["config"], asked["unset"], asked["topic_id"]) == ({"a": 1}, ["b"], "i")
        await admin.alter_topic("t", unset=["b"])
        asked = two.asks("alter_topic")[1].request
        assert asked["config"] == {}
        assert "topic_id" not in asked


async def test_a_topic_grows() -> None:
    async with _three() as (_, two, _third), _ask(two) as admin:
        two.on("create_partitions", answer(topic="t", topic_id="i", partitions=6))
        assert (await admin.create_partitions("t", 6)).partitions == 6
        assert two.asks("create_partitions")[0].request["partitions"] == 6


async def test_deleting_means_the_topic_that_was_there_when_it_was_asked_for() -> None:
    """A second try must not delete what was made under the name meanwhile."""
    async with _three() as (one, two, three), _ask(two) as admin:
        topics = {"t": {"topic_id": "old", "partitions": 1, "config": {}}}
        two.on("metadata", answer(**_metadata(one, two, three, topics=topics)))
        two.on("delete_topic", lambda _: DROP, refuse("UNKNOWN_TOPIC"))
        await admin.delete_topic("t")  # the first try did it
        assert [ask.request["topic_id"] for ask in two.asks("delete_topic")] == ["old", "old"]
        with pytest.raises(YakError) as caught:
            await admin.delete_topic("t")  # nothing was in doubt
        assert caught.value.name == "UNKNOWN_TOPIC"


async def test_deleting_what_the_leader_does_not_name_is_the_leader_s_to_refuse() -> None:
    async with _three() as (one, two, three), _ask(two) as admin:
        nothing = {"t": {"error": "UNKNOWN_TOPIC"}}
        two.on("metadata", answer(**_metadata(one, two, three, topics=nothing)))
        two.on("delete_topic", refuse("UNKNOWN_TOPIC"))
        with pytest.raises(YakError) as caught:
            await admin.delete_topic("t")
        assert caught.value.name == "UNKNOWN_TOPIC"
        assert "topic_id" not in two.asks("delete_topic")[0].request


async def test_a_trim_asks_for_each_partition_and_raises_what_one_refused() -> None:
    def trim(ask: Ask) -> dict[str, Any]:
        request = ask.request
        if request["partition"] == 1:
            return refusal("OFFSET_OUT_OF_RANGE", retriable=False)
        return {"topic": "t", "partition": request["partition"], "start": request["before"] + 1}

    async with _three() as (_, two, _third), _ask(two) as admin:
        two.on("trim", trim)
        assert await admin.trim("t", {2: 7, 0: 5}) == {0: 6, 2: 8}
        with pytest.raises(YakError) as caught:
            await admin.trim("t", {0: 5, 1: 5, 2: 5})
        assert caught.value.name == "OFFSET_OUT_OF_RANGE"
        asked = [(ask.request["partition"], ask.request["before"]) for ask in two.asks("trim")]
        assert asked == [(0, 5), (2, 7), (0, 5), (1, 5), (2, 5)]


def _offsets(ask: Ask) -> dict[str, Any]:
    """Three partitions with 5 to 5, 10 to 20, and 0 to 40; the last has records since 1970."""
    table = {"earliest": [5, 10, 0], "latest": [5, 20, 40]}
    found = table.get(ask.request["at"], [None, None, 33])
    return {"offsets": [[t, p, found[p]] for t, p in ask.request["partitions"]]}


@pytest.mark.parametrize(
    ("to", "partitions", "found"),
    [
        ("beginning", None, [5, 10, 0]),
        ("end", None, [5, 20, 40]),
        (7, None, [7, 7, 7]),
        (-12, None, [5, 10, 28]),
        (-3, [1], [17]),
        ("end", [2, 2], [40]),
        (datetime(2026, 11, 22, tzinfo=UTC), None, [5, 20, 33]),
    ],
)
async def test_places_are_found(to: Place, partitions: list[int] | None, found: list[int]) -> None:
    async with _three() as (one, two, three), _ask(two) as admin:
        topics = {"t": {"topic_id": "i", "partitions": 3, "config": {}}}
        two.on("metadata", answer(**_metadata(one, two, three, topics=topics)))
        two.on("list_offsets", _offsets)
        numbers = [0, 1, 2] if partitions is None else sorted(set(partitions))
        expected = {("t", n): offset for n, offset in zip(numbers, found, strict=True)}
        assert await admin.find_offsets("t", to, partitions) == expected
        if isinstance(to, datetime):
            assert two.asks("list_offsets")[0].request["at"] == 1_795_305_600_000


async def test_a_group_is_moved_from_outside() -> None:
    async with _three() as (_, two, _third), _ask(two) as admin:
        two.on("ack", answer())
        await admin.seek_group("g", {("u", 1): 4, ("t", 0): 3})
        asked = two.asks("ack")[0].request
        assert asked["offsets"] == [["t", 0, 3], ["u", 1, 4]]
        assert asked["reset"] is True
        assert "member" not in asked


async def test_a_group_is_deleted() -> None:
    async with _three() as (_, two, _third), _ask(two) as admin:
        two.on("delete_group", refuse("GROUP_NOT_EMPTY", retriable=False), answer())
        with pytest.raises(YakError) as caught:
            await admin.delete_group("g")
        assert caught.value.name == "GROUP_NOT_EMPTY"
        await admin.delete_group("g")


async def test_what_topics_there_are_is_the_leader_s_word_while_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin_module, "LEADER_S", 0.3)
    async with _three() as (one, two, three), _ask(one, three) as admin:
        entry = {"topic_id": "i", "partitions": 3, "config": {}}
        two.on("metadata", answer(**_metadata(one, two, three, topics={"new": entry})))
        assert list(await admin.topics()) == ["new"]
        two.stop()
        for broker in (one, three):
            old = _metadata(one, two, three, topics={"old": entry})
            broker.on("metadata", answer(**{**old, "leader": None}))
        assert list(await admin.topics()) == ["old"]


async def test_topics_by_name() -> None:
    async with _three() as (one, _, _third), _ask(one) as admin:
        entry = {"topic_id": "i", "partitions": 3, "config": {}}
        one.on("metadata", answer(**_metadata(one, topics={"b": entry, "a": entry})))
        assert list(await admin.topics()) == ["a", "b"]


async def test_a_topic_with_its_offsets() -> None:
    def offsets(ask: Ask) -> dict[str, Any]:
        base = {"earliest": 10, "latest": 20}[ask.request["at"]]
        return {"offsets": [[t, p, base + p] for t, p in ask.request["partitions"]]}

    async with _three() as (one, two, _), _ask(two) as admin:
        entry = {"topic_id": "i", "partitions": 2, "config": CONFIG}
        for broker in (one, two):
            broker.on("metadata", answer(**_metadata(one, two, topics={"t": entry})))
        two.on("list_offsets", offsets)
        report = await admin.topic("t")
        assert report.config == CONFIG
        assert [(p.partition, p.start, p.high_watermark) for p in report.partitions] == [
            (0, 10, 20),
            (1, 11, 21),
        ]


async def test_a_topic_that_is_not_there() -> None:
    async with _three() as (one, _, _third), _ask(one) as admin:
        one.on("metadata", answer(**_metadata(one, topics={"t": {"error": "UNKNOWN_TOPIC"}})))
        with pytest.raises(YakError) as caught:
            await admin.topic("t")
        assert caught.value.name == "UNKNOWN_TOPIC"


async def test_groups() -> None:
    async with _three() as (one, two, _), _ask(one) as admin:
        two.on("groups", answer(groups=["b", "a"]))
        two.on("group", answer(generation=4, members=[], partitions=[]))
        assert await admin.groups() == ["a", "b"]
        assert (await admin.group("a")).generation == 4
        assert two.asks("group")[0].request["group"] == "a"


async def test_no_leader_answers_in_time() -> None:
    async with _three() as (one, two, _), _ask(one, timeout_s=0.3) as admin:
        two.on("groups", refuse("NO_LEADER"))
        with pytest.raises(errors.TimeoutError):
            await admin.groups()


async def test_status_asks_every_broker_for_itself() -> None:
    async with _three() as (one, two, three), _ask(one) as admin:
        two.on("status", answer(**_status(two, role="leader", followers=[])))
        report = await admin.status()
        assert (report.leader, report.epoch, report.isr) == (2, 3, [2])
        assert [one.id for one in report.brokers] == [1, 2, 3]
        assert [b.status.role for b in report.brokers if b.status] == [
            "follower",
            "leader",
            "follower",
        ]
        assert len(three.asks("status")) == 1


async def test_status_says_who_is_down_and_why() -> None:
    async with _three() as (one, two, three), _ask(one, three) as admin:
        three.stop()
        report = await admin.status()
        assert [b.id for b in report.brokers if b.status is None] == [3]
        assert str(three.address) in report.brokers[2].error
        assert report.broker(3) is None
        assert report.broker(two.id) is not None


async def test_status_counts_the_word_of_the_highest_epoch() -> None:
    async with _three() as (one, two, three), _ask(one, two, three) as admin:
        one.on("status", answer(**_status(one, role="leader", epoch=2, leader=1, isr=[1, 2, 3])))
        report = await admin.status()
        assert (report.leader, report.epoch, report.isr) == (2, 3, [2])


async def test_an_address_that_nobody_knows_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "PROBE_S", 0.2)
    async with FakeBroker(7) as stranger, _three() as (one, _, _third):
        stranger.on("status", lambda _: SILENT)
        async with _ask(one, stranger) as admin:
            assert [b.id for b in (await admin.status()).brokers] == [1, 2, 3]


async def test_status_with_nobody_there_names_everybody() -> None:
    async with _three() as (one, two, _), _ask(one, two) as admin:
        one.on("status", lambda _: DROP)
        two.stop()
        with pytest.raises(RetriableError, match="no broker answers") as caught:
            await admin.status()
        assert str(one.address) in str(caught.value)
        assert str(two.address) in str(caught.value)


async def test_brokers_as_any_one_says() -> None:
    async with _three() as (one, _, _third), _ask(one) as admin:
        assert [broker.id for broker in await admin.brokers()] == [1, 2, 3]


async def test_who_is_in_sync_as_the_leader_says() -> None:
    async with _three() as (one, _, _third), _ask(one) as admin:
        known = await admin.metadata([])
        assert (known.leader, known.isr, known.topics) == (2, [2], {})


async def test_a_coordinator_s_own_word() -> None:
    settings = {"heartbeat_ms": 250}
    election = {"time": 5, "epoch": 3, "leader": 2, "reason": "lowest"}
    async with FakeBroker() as zk, AsyncAdmin("127.0.0.1:1") as admin:
        zk.on(
            "status",
            answer(
                cluster="c", version=1, epoch=3, leader=2, isr=[2], settings=settings, sessions=[],
                elections=[election],
            ),
        )  # fmt: skip
        status = await admin.coordinator(str(zk.address))
        assert status.elections[-1].reason == "lowest"


def _order(**members: Any) -> dict[str, Any]:
    return {
        "done": False, "plan": "p1", "would": "x", "losses": [], "cluster": "c", "epoch": 4,
        "leader": 2, "isr": [1, 2], "brokers": [], **members,
    }  # fmt: skip


async def test_an_order_is_looked_at_and_given_with_its_plan() -> None:
    async with FakeBroker() as zk, AsyncAdmin("127.0.0.1:1") as admin:
        zk.on("elect", answer(**_order()), answer(**_order(done=True)))
        zk.on("adopt", answer(**_order()))
        look = await admin.elect(str(zk.address), 2)
        assert (await admin.elect(str(zk.address), 2, plan=look.plan)).done
        await admin.adopt(str(zk.address))
        await admin.adopt(str(zk.address), "c9", [3, 1], plan="p1")
        asked = [{k: v for k, v in ask.request.items() if k != "id"} for ask in zk.asked]
        assert asked == [
            {"type": "elect", "broker": 2},
            {"type": "elect", "broker": 2, "plan": "p1"},
            {"type": "adopt"},
            {"type": "adopt", "cluster": "c9", "isr": [1, 3], "plan": "p1"},
        ]


async def test_an_order_waits_while_yak_zk_waits_and_no_other_refusal_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "ORDER_AGAIN_S", 0.001)
    async with FakeBroker() as zk, AsyncAdmin("127.0.0.1:1", timeout_s=5.0) as admin:
        stale = refuse("STALE_EPOCH", retriable=True)
        zk.on("elect", refuse("NO_LEADER"), refuse("NO_LEADER"), answer(**_order()), stale)
        assert (await admin.elect(str(zk.address), 2)).plan == "p1"
        with pytest.raises(YakError) as raised:
            await admin.elect(str(zk.address), 2, plan="p1")
        assert raised.value.name == "STALE_EPOCH"
        assert len(zk.asked) == 4
    async with FakeBroker() as zk, AsyncAdmin("127.0.0.1:1", timeout_s=0.0) as admin:
        zk.on("elect", refuse("NO_LEADER"))
        with pytest.raises(RetriableError):
            await admin.elect(str(zk.address), 2)


async def test_an_order_whose_answer_was_lost_is_not_given_twice() -> None:
    async with FakeBroker() as zk, AsyncAdmin("127.0.0.1:1") as admin:
        zk.on("elect", lambda _: DROP)
        with pytest.raises(RetriableError):
            await admin.elect(str(zk.address), 2, plan="p1")
        assert len(zk.asked) == 1


async def test_the_facade_runs_without_a_loop() -> None:
    async with _three() as (one, two, _):
        two.on("groups", answer(groups=["g"]))

        def ask() -> list[str]:
            with Admin(str(one.address)) as admin:
                return admin.groups()

        assert await asyncio.to_thread(ask) == ["g"]
