"""Groups while their members, topics and partitions change: who has what, and what everybody gets.

The last test lets members come, hang, leave and lose their leader under producers, and has the
judge of the long run look at what they noted; the others go step by step.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.soak.judge import Life, judge
from tests.soak.notes import Notes, read_notes
from tests.soak.raw import RawMember, RawProducer
from tests.support.cluster import Cluster, MakeCluster
from tests.support.members import Member, positions, settle
from tests.support.process import wait_until
from tests.support.wire import Wire

Share = list[tuple[str, int]]


def share_of(*members: Member) -> Share:
    return sorted(where for member in members for where in member.assignment)


def all_of(topic: str, partitions: int) -> Share:
    return [(topic, number) for number in range(partitions)]


# -- balanced, and sticky --------------------------------------------------------------------------


def test_who_comes_takes_its_share_and_who_goes_leaves_only_its_own(
    leader: Wire, name: str
) -> None:
    leader.ok("create_topic", topic=name, partitions=12)
    members = [Member(leader, name, name) for _ in range(3)]
    settle(*members)
    assert [len(member.assignment) for member in members] == [4, 4, 4]

    had = [set(member.assignment) for member in members]
    new = Member(leader, name, name)
    settle(*members, new)
    assert len(new.assignment) == 3
    assert [len(member.assignment) for member in members] == [3, 3, 3]
    for member, before in zip(members, had, strict=True):
        assert set(member.assignment) < before, "nobody gets what another had, but who came"

    had = [set(member.assignment) for member in members]
    new.leave()
    settle(*members)
    assert share_of(*members) == all_of(name, 12)
    for member, before in zip(members, had, strict=True):
        assert before < set(member.assignment), "what can stay stays"


def test_members_of_different_topics_are_levelled_over_what_they_share(
    leader: Wire, name: str
) -> None:
    both, one, two = name, f"{name}-1", f"{name}-2"
    for topic, partitions in ((both, 4), (one, 3), (two, 1)):
        leader.ok("create_topic", topic=topic, partitions=partitions)
    left, right = Member(leader, name, both, one), Member(leader, name, both, two)
    settle(left, right)
    assert len(left.assignment) == len(right.assignment) == 4
    assert share_of(left, right) == sorted(all_of(both, 4) + all_of(one, 3) + all_of(two, 1))

    left.renew(both)
    settle(left, right)
    assert share_of(left, right) == sorted(all_of(both, 4) + all_of(two, 1)), "nobody wants it"
    left.renew(both, one)
    settle(left, right)
    assert len(left.assignment) == len(right.assignment) == 4


# -- topics and partitions that come under a group -------------------------------------------------


def test_new_partitions_are_shared_out_and_nothing_else_moves(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=3)
    members = [Member(leader, name, name) for _ in range(3)]
    settle(*members)
    had = [set(member.assignment) for member in members]
    generation = members[0].generation
    leader.ok("create_partitions", topic=name, partitions=9)
    settle(*members)
    assert members[0].generation > generation
    assert share_of(*members) == all_of(name, 9)
    for member, before in zip(members, had, strict=True):
        assert before < set(member.assignment)
        assert len(member.assignment) == 3


def test_a_topic_that_is_made_again_is_shared_out_from_its_beginning(
    leader: Wire, name: str
) -> None:
    """Its members stay members; where they stood in the old one is forgotten."""
    stays = f"{name}-stays"
    for topic in (name, stays):
        leader.ok("create_topic", topic=topic, partitions=2)
        leader.produce(topic, 0, range(10))
    first, second = Member(leader, name, name, stays), Member(leader, name, name, stays)
    settle(first, second)
    for member in (first, second):
        for topic, partition in member.assignment:
            if partition == 0:
                member.ack(topic, 0, 7)
    leader.ok("delete_topic", topic=name)
    settle(first, second)
    assert share_of(first, second) == all_of(stays, 2)
    leader.ok("create_topic", topic=name, partitions=4)
    settle(first, second)
    assert share_of(first, second) == sorted(all_of(name, 4) + all_of(stays, 2))
    stands = positions(leader, name)
    assert {stands[name, number]["acked"] for number in range(4)} == {None}
    assert stands[stays, 0]["acked"] == 7


# -- across a change of leader ---------------------------------------------------------------------


def test_a_new_leader_knows_who_has_what_and_how_far_it_is(make_cluster: MakeCluster) -> None:
    """acked by its log; delivered from the first heartbeat on; nothing moves."""
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=2)
        for partition in (0, 1):
            wire.produce("t", partition, range(10))
        first, second = Member(wire, "g", "t", client="a"), Member(wire, "g", "t", client="b")
        settle(first, second)
        for member, acked, delivered in ((first, 3, 8), (second, 5, 6)):
            ((topic, partition),) = member.assignment
            member.ack(topic, partition, acked)
            member.beat(delivered=[[topic, partition, delivered]], owned=member.assignment)
        before = positions(wire, "g")
    assert sorted((p["acked"], p["delivered"]) for p in before.values()) == [(3, 8), (5, 6)]
    assert {p["member"] for p in before.values()} == {first.member, second.member}

    cluster.kill(cluster.wait_leader())
    with cluster.connect_leader() as wire:
        forgotten = {where: {**p, "delivered": p["acked"]} for where, p in before.items()}
        wait_until(lambda: positions(wire, "g") == forgotten, "acked is known, delivered is not")
        for member, delivered in ((first, 8), (second, 6)):
            member.wire = wire
            ((topic, partition),) = member.assignment
            answer = member.beat(delivered=[[topic, partition, delivered]], owned=member.assignment)
            assert "assignment" not in answer, "its generation went on, and so does what it has"
        assert positions(wire, "g") == before


# -- all at once -----------------------------------------------------------------------------------

SESSION_S = 1.5


class Living:
    """A raw member on a thread.  It can hang: what it does next waits until it is let go on."""

    def __init__(self, cluster: Cluster, notes: Notes, group: str) -> None:
        self._notes = notes
        self._over = threading.Event()
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._error: BaseException | None = None
        self._member = RawMember(
            cluster.bootstrap(), notes.proc, notes, group, ["t"], int(SESSION_S * 1000)
        )
        self._thread = threading.Thread(target=self._run, name=notes.proc)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._member.run(self._stopped)
        except BaseException as error:  # noqa: BLE001 -- raised again where the test sees it
            self._error = error

    def _stopped(self) -> bool:
        self._goes_on.wait()
        return self._over.is_set()

    def hang(self) -> None:
        self._goes_on.clear()

    def go_on(self) -> None:
        """It may hand out what it had fetched before it hung."""
        self._notes.add("dazed", t1=time.monotonic() + 2 * SESSION_S)
        self._goes_on.set()

    def finish(self) -> None:
        self._over.set()
        self._goes_on.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


@contextmanager
def producing(cluster: Cluster, notes: Notes) -> Iterator[None]:
    over = threading.Event()
    producer = RawProducer(cluster.bootstrap(), notes.proc, notes, random.Random(5))
    thread = threading.Thread(target=producer.run, args=(["t"], 400.0, "", over.is_set))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def group_of(cluster: Cluster, group: str) -> tuple[int, set[str | None], int]:
    """(members, who has partitions, lag), by the leader."""
    with cluster.connect_leader() as wire:
        answer = wire.ok("group", group=group)
    partitions = answer["partitions"]
    owners = {entry["member"] for entry in partitions}
    return len(answer["members"]), owners, sum(entry["lag"] for entry in partitions)


def wait_shared(cluster: Cluster, group: str, members: int) -> None:
    """Until so many are there, and each has something."""

    def look() -> bool:
        there, owners, _ = group_of(cluster, group)
        return there == members and len(owners) == members and None not in owners

    wait_until(look, f"{members} members share what group {group} reads")


@pytest.mark.timeout(180)
def test_two_groups_each_get_all_and_no_partition_is_held_twice(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        topic_id = wire.ok("create_topic", topic="t", partitions=8)["topic_id"]
    directory = tmp_path / "notes"
    directory.mkdir()
    with ExitStack() as stack:

        def notes(proc: str) -> Notes:
            return stack.enter_context(Notes(directory / f"{proc}.notes", proc))

        def member(proc: str, group: str) -> Living:
            living = Living(cluster, notes(proc), group)
            stack.callback(living.finish)
            return living

        with producing(cluster, notes("p")):
            a1, b1 = member("a1", "a"), member("b1", "b")
            a2, a3 = member("a2", "a"), member("a3", "a")
            wait_shared(cluster, "a", 3)
            a2.hang()
            wait_shared(cluster, "a", 2)  # it was expelled, and does not know
            b2 = member("b2", "b")
            a2.go_on()
            wait_shared(cluster, "a", 3)
            wait_shared(cluster, "b", 2)
            dead = cluster.wait_leader()
            cluster.kill(dead)
            a1.finish()
            wait_shared(cluster, "a", 2)
            cluster.start(dead)
            member("a4", "a")
            wait_shared(cluster, "a", 3)
            b1.finish()
            wait_shared(cluster, "b", 1)
        wait_until(
            lambda: [group_of(cluster, group)[2] for group in "ab"] == [0, 0],
            "both groups have acknowledged everything",
        )
        for living in (a2, a3, b2):
            living.finish()
    life = Life("t", topic_id, (0.0, float("inf")), groups=frozenset("ab"))
    verdict = judge(read_notes(directory), [life], float("inf"))
    assert verdict.lines() == []
    assert verdict.acknowledged > 200
    assert verdict.delivered >= 2 * verdict.acknowledged
