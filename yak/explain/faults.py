"""Faults that `yak chaos` does to a cluster, in words.

    broker 1 was killed                    broker 1 was started again
    broker 1 was cut off from broker 2     nothing is cut between brokers 1 and 2 any more

Not here: how it is done (yak/local/chaos.py), and what is to be expected of it
(yak/commands/expecting.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["kill", "pause", "cut", "slow", "fill"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Whom a fault with one member of these concerns besides.
ALL_OTHERS = "all others"


def name(member: int) -> str:
    """`broker 1`, `yak-zk`."""
    return f"broker {member}" if member else "yak-zk"


def done(
    kind: Kind, members: Sequence[int], *, one_way: bool = False, late_ms: int | None = None
) -> str:
    """`broker 1 was killed`"""
    one = name(members[0])
    other = name(members[1]) if len(members) > 1 else ALL_OTHERS
    match kind:
        case "kill":
            return f"{one} was killed"
        case "pause":
            return f"{one} was stopped (SIGSTOP)"
        case "fill":
            return f"the disk of {one} was made full for it"
        case "cut":
            if one_way:
                return f"what {one} sends to {other} was held back"
            return f"{one} was cut off from {other}"
        case "slow":
            if one_way:
                return f"what {one} sends to {other} was made {late_ms} ms late"
            return f"all between {one} and {other} was made {late_ms} ms late"


def undone(kind: Kind, members: Sequence[int]) -> str:
    """`broker 1 was started again`"""
    one = name(members[0])
    other = name(members[1]) if len(members) > 1 else ALL_OTHERS
    match kind:
        case "kill":
            return f"{one} was started again"
        case "pause":
            return f"{one} goes on"
        case "fill":
            return f"{one} has room on its disk again"
        case "cut" | "slow":
            return f"all comes through between {one} and {other} again"


def told(event: str, fields: Mapping[str, Any]) -> str:
    """The sentence of a line in chaos/events.jsonl.  Raises KeyError for another version's."""
    kind, members = fields["kind"], fields["members"]
    if kind not in KINDS:
        raise KeyError(kind)
    if event == "fault":
        what = done(
            kind, members, one_way=fields.get("one_way", False), late_ms=fields.get("late_ms")
        )
        return f"{what} by `{fields['command']}`, for {fields['for_ms'] / 1000:g} s"
    if event == "fault_ended":
        how = fields.get("how")
        return f"{undone(kind, members)}" if not how else f"{name(members[0])} {how}"
    raise KeyError(event)
