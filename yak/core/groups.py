"""Who of a consumer group reads what, and how a partition moves in two steps.

Rules:

* An assignment is shared out anew whenever the group's members, their topics, or the topics'
  partitions change, and whenever a moving partition is released.  Each time the generation
  grows by one.
* A partition *leaves* its old member's assignment at once, but *enters* the new one's only when
  the old member has reported that generation, or a later one, without it, or is gone.  Until
  then the `assign` operation names the old member as `holder`, with the generation in which it
  was taken.  So no two members ever hold one partition.
* That goes also for what nobody wants any more, or what was deleted: somebody may want it again,
  or make it again, before its holder has let it go.  Meanwhile NOBODY owns it.
* A new leader knows the holders from the log, and waits for them as the old one did.
* Nor does it rely on the old one's having come to the end: what changes a group and the `assign`
  that follows from it are two operations, and the second may be lost (`overdue`).

All functions are plain; `state` is the leader's State plus Pending.  Liveness is sessions.py's,
the assignment itself assignment.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import UNSET, UnsetType

from yak.core.assignment import assign
from yak.core.ops import Owner
from yak.core.state import Group, Ownership, State
from yak.messages import Where
from yak.model import TopicPartition

#: The owner of what nobody wants, while somebody may still hold it.  No member has this name.
NOBODY: Final = ""


def shared_out(state: State, name: str, generation: int) -> list[Owner]:
    """The owners of the group's partitions in a new `generation`."""
    group = state.group(name)
    subscriptions = {member: info.topics for member, info in group.members.items()}
    wanted = sorted(set().union(*set(subscriptions.values())))
    partitions = {t: state.topics[t].partitions for t in wanted if t in state.topics}
    current = {tp: o.owner for tp, o in group.owners.items() if o.owner in group.members}
    target = assign(subscriptions, partitions, current)
    rows: list[Owner] = []
    for topic, partition in sorted(target.keys() | group.owners.keys()):
        old = group.owners.get((topic, partition))
        member = target.get((topic, partition), NOBODY)
        holder, since = _still_held(group, old, member, generation)
        if member != NOBODY or holder is not None:
            rows.append((topic, partition, member, holder, since))
    return rows


def _still_held(
    group: Group, old: Ownership | None, new_owner: str, generation: int
) -> tuple[str | None, int | None]:
    """Who, other than the new owner, may still hold the partition, and since when it may not."""
    if old is None:
        return None, None
    if old.holder is not None:
        # Its owner never got it, so only the holder counts.
        holder, since = old.holder, old.since
    else:
        holder, since = old.owner, generation
    if holder == new_owner or holder not in group.members:
        return None, None
    return holder, since


def released(
    group: Group, member: str, generation: int, owned: Iterable[Where] | UnsetType
) -> set[TopicPartition]:
    """Which moving partitions a member's report of `generation` releases.

    owned: what it says that it holds; left out, it holds what it was assigned.
    """
    held = set() if owned is UNSET else {(topic, partition) for topic, partition in owned}
    return {
        tp
        for tp in group.moving
        if (o := group.owners[tp]).holder == member
        and o.since is not None
        and generation >= o.since
        and tp not in held
    }


def after_release(group: Group, free: set[TopicPartition]) -> list[Owner]:
    """The same owners, without the holders of what was released."""
    return [
        (t, p, o.owner, None, None) if (t, p) in free else (t, p, o.owner, o.holder, o.since)
        for (t, p), o in sorted(group.owners.items())
        if o.owner != NOBODY or (t, p) not in free
    ]


def overdue(state: State) -> list[str]:
    """The groups whose partitions are not shared out as their members and topics ask."""
    return [
        name
        for name, group in sorted(state.groups.items())
        if group.owners
        != {
            (t, p): Ownership(owner, holder, since)
            for t, p, owner, holder, since in shared_out(state, name, group.generation + 1)
        }
    ]


def subscribers(state: State, topic: str) -> list[str]:
    """The groups of which a member wants this topic."""
    return sorted(
        name
        for name, group in state.groups.items()
        if any(topic in info.topics for info in group.members.values())
    )
