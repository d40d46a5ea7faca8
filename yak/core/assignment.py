"""Which member of a consumer group reads which partition: one plain function.

The rules, in the order in which they win:

1. A partition goes only to a member that subscribes its topic; a topic nobody subscribes has no
   owner.
2. Balance: no single move of a partition could make two members more equal.  So members with
   the same subscription differ by one partition at most.
3. Stickiness: what can stay with its owner stays.
4. The same input gives the same output, in whatever order it is handed in: ties go to the name
   that sorts first.

Topics with the same subscribers form a *pool*: within a pool any partition may go to any
member, which is what makes this fast.  Usually there is one.

What it does not do: it takes no notice of how busy a partition is, and it does not look for
chains of moves (a to b, so that b may give another to c), which could in groups of mixed
subscriptions balance a little further.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from yak.model import TopicPartition


def assign(
    members: Mapping[str, Collection[str]],
    partitions: Mapping[str, int],
    current: Mapping[TopicPartition, str],
) -> dict[TopicPartition, str]:
    """Share the partitions out.

    members: {member: the topics it subscribes}.  partitions: {topic: how many it has}.
    current: {partition: its owner so far}; owners and partitions that are gone are ignored.
    Returns {partition: member} for every partition of every subscribed topic.
    """
    if _one_each(members, partitions, current):
        return dict(current)
    pools = [
        _Pool(subscribers, sorted(topics))
        for subscribers, topics in sorted(_by_subscribers(members, partitions).items())
    ]
    loads = dict.fromkeys(members, 0)
    for pool in pools:
        pool.keep(partitions, current, loads)
    for pool in pools:
        pool.hand_out(loads)
    # A move in one pool can make room for a better one in another.  Each move lowers the sum of
    # the squared loads, so this ends.
    moved = True
    while moved:
        moved = sum(pool.level(loads) for pool in pools) > 0
    return {where: member for pool in pools for where, member in pool.owners()}


def _one_each(
    members: Mapping[str, Collection[str]],
    partitions: Mapping[str, int],
    current: Mapping[TopicPartition, str],
) -> bool:
    """Every partition has an owner, and each owner one: that stays, however many there are more.

    It looks at the partitions only: the next of thousands of members costs next to nothing.
    """
    if not len(set(current.values())) == len(current) == sum(partitions.values()):
        return False
    return all(
        number < partitions.get(topic, 0) and owner in members and topic in members[owner]
        for (topic, number), owner in current.items()
    )


def _by_subscribers(
    members: Mapping[str, Collection[str]], partitions: Mapping[str, int]
) -> dict[tuple[str, ...], list[str]]:
    """{subscribers: the topics that exactly these subscribe}."""
    # Thousands of members subscribe a handful of different things.
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for member in sorted(members):
        alike[tuple(members[member])].append(member)
    subscribers: dict[str, list[list[str]]] = defaultdict(list)
    for topics, names in alike.items():
        for topic in partitions.keys() & topics:
            subscribers[topic].append(names)
    pools: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for topic, lists in subscribers.items():
        pools[tuple(heapq.merge(*lists) if len(lists) > 1 else lists[0])].append(topic)
    return pools


class _Pool:
    """Topics with the same subscribers.

    `loads` counts a member's partitions over all pools, and is shared by them.  A member that owns
    nothing here costs next to nothing: a group may have far more members than partitions.
    """

    def __init__(self, members: tuple[str, ...], topics: list[str]) -> None:
        self.members = members
        self.topics = topics
        self.owned: dict[str, list[TopicPartition]] = defaultdict(list)
        self.free: list[TopicPartition] = []

    def keep(
        self,
        partitions: Mapping[str, int],
        current: Mapping[TopicPartition, str],
        loads: dict[str, int],
    ) -> None:
        """What has an owner that may keep it stays there for now."""
        members = frozenset(self.members)
        for topic in self.topics:
            for number in range(partitions[topic]):
                where = (topic, number)
                owner = current.get(where)
                if owner is not None and owner in members:
                    self.owned[owner].append(where)
                    loads[owner] += 1
                else:
                    self.free.append(where)

    def hand_out(self, loads: dict[str, int]) -> None:
        """What has no owner goes, one by one, to whoever has least."""
        if not self.free:
            return
        idlest = [(loads[member], member) for member in self.members]
        heapq.heapify(idlest)
        for where in self.free:
            load, member = idlest[0]
            self.owned[member].append(where)
            loads[member] = load + 1
            heapq.heapreplace(idlest, (load + 1, member))
        self.free.clear()

    def level(self, loads: dict[str, int]) -> int:
        """Move from the busiest to the idlest while that helps; how many moved.

        Each heap follows one kind of change only, so an entry may say that a taker has less to
        give, or that a giver has less room, than is true: the next call sees it.
        """
        busiest = [(-loads[member], member) for member, owned in self.owned.items() if owned]
        least = min(map(loads.__getitem__, self.members))
        if not busiest or -min(busiest)[0] < least + 2:
            return 0
        idlest = [(loads[member], member) for member in self.members]
        heapq.heapify(idlest)
        heapq.heapify(busiest)
        moved = 0
        while busiest:
            giver, (low, taker) = busiest[0][1], idlest[0]
            if loads[giver] < low + 2:
                break
            self.owned[taker].append(self.owned[giver].pop())
            loads[giver] -= 1
            loads[taker] += 1
            moved += 1
            heapq.heapreplace(idlest, (loads[taker], taker))
            if self.owned[giver]:
                heapq.heapreplace(busiest, (-loads[giver], giver))
            else:
                heapq.heappop(busiest)
        return moved

    def owners(self) -> Iterable[tuple[TopicPartition, str]]:
        return ((where, member) for member, owned in self.owned.items() for where in owned)
