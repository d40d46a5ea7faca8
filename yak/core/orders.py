"""What an operator orders, since the rules must not decide it.  Pure functions, as election.py.

    elect   a broker leads: one that is in sync and whole takes over from the sitting leader, and
            nothing is lost by it; any other only where the rules elect nobody
    adopt   (adoption.py) this yak-zk takes over a cluster whose brokers it refused

An order is looked at before it is given: the first request says what would be done and what may
be lost, and names that *plan*; the second one carries the plan, and is refused if by now it would
be another.  So nothing changes between asking and doing.

* Every election by order begins an epoch (`new_epoch`); the dead leave the ISR with it, down to
  the floor (`drop_dead`), as with any other.
* Who is elected by order is whole from then on: what it holds is what the cluster holds.  Whoever
  else was in the ISR stays, so that nothing is committed without it before it has left in order,
  and one that was whole may lead again.

What it does not do: it asks nobody, writes nothing, and knows no connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from yak import messages as m
from yak.core.document import Document, Liveness, Replica
from yak.core.election import choose, drop_dead, enthrone
from yak.core.events import Tell
from yak.core.ops import crc_of
from yak.errors import Refused

#: (epoch, index) of a log's last operation.
End: TypeAlias = tuple[int, int]


class Order(NamedTuple):
    """What an order would do: the document after it, what is told then, and what is answered."""

    document: Document
    said: list[Tell]
    answer: m.OrderAnswer


def check_plan(order: Order, plan: str) -> None:
    """Raises Refused where the order is no longer what the operator looked at."""
    if plan != order.answer.plan:
        raise Refused(
            "STALE_EPOCH",
            f"what you looked at has changed, nothing was done; by now it would "
            f"{order.answer.would}: look at it again",
        )


def plan_of(*decisive: Any) -> str:
    """The plan's name: a checksum of what it depends on."""
    return crc_of(msgspec.json.encode(decisive))


# -- elect ----------------------------------------------------------------------------------------


def elect(document: Document, alive: Liveness, broker: int, now_ms: int) -> Order:
    """Let this broker lead.  Raises Refused where that makes no sense, or is not needed."""
    _check_electable(document, alive, broker)
    if broker in document.isr_ids and broker not in document.suspects:
        return _move(document, alive, broker, now_ms)
    _check_nobody_else(document, alive, broker)
    return _elect_unsafe(document, alive, broker, now_ms)


def _check_electable(document: Document, alive: Liveness, broker: int) -> None:
    known = ", ".join(map(str, sorted(document.brokers))) or "none"
    if broker not in document.brokers:
        raise Refused("INVALID_REQUEST", f"there is no broker {broker}; known are: {known}")
    if document.epoch == 0:
        raise Refused("INVALID_REQUEST", "this cluster has no epoch yet: its first leader comes")
    if broker not in alive.present:
        raise Refused(
            "INVALID_REQUEST",
            f"broker {broker} is not here, so it cannot lead: start it first",
        )
    if document.leader == broker:
        raise Refused(
            "INVALID_REQUEST", f"broker {broker} leads already, since epoch {document.epoch}"
        )


def _check_nobody_else(document: Document, alive: Liveness, broker: int) -> None:
    """Only where the rules elect nobody may the one be ordered that may lack something."""
    lacks = f"broker {broker} may lack what was acknowledged"
    if document.leader is not None:
        raise Refused(
            "INVALID_REQUEST",
            f"{lacks}, and broker {document.leader} leads, which has it all: let it catch up",
        )
    expected = [i for i in document.isr_ids if i in alive.presumed and i not in alive.present]
    if expected:
        raise Refused(
            "NO_LEADER",
            f"yak-zk was started just now, and waits for brokers {ids(expected)}: in a moment",
        )
    whole = [i for i in document.isr_ids if i in alive.present and i not in document.suspects]
    if whole:
        raise Refused(
            "INVALID_REQUEST",
            f"{lacks}, and broker {whole[0]} has it all: it is elected without an order",
        )
    unsettled = sorted(alive.unsettled)
    if unsettled:
        raise Refused(
            "NO_LEADER",
            f"brokers {ids(unsettled)} have yet to say where their logs end: in a moment",
        )
    chosen = choose(document, alive)
    if chosen is not None:
        raise Refused(
            "INVALID_REQUEST", f"broker {chosen[0]} is elected without an order: it is {chosen[1]}"
        )
    if alive.present[broker].end == (0, 0):
        raise Refused(
            "INVALID_REQUEST",
            f"the log of broker {broker} is empty: every other would be cut to nothing. To begin "
            "anew, give yak-zk and all brokers an empty --data-dir",
        )


def _move(document: Document, alive: Liveness, broker: int, now_ms: int) -> Order:
    """The lead goes to another who has all that was acknowledged."""
    old = document.leader
    taken = f"from broker {old} " if old is not None else ""
    reason = f"ordered by an operator: broker {broker} takes over {taken}".rstrip()
    after, said = enthrone(document, alive, broker, frozenset(), now_ms, reason)
    return Order(
        after,
        said,
        answer_of(
            after,
            plan=plan_of("move", broker, document.epoch, document.version),
            would=f"move the lead {taken}to broker {broker}, in epoch {after.epoch}",
            brokers=_entries(document, alive),
        ),
    )


def _elect_unsafe(document: Document, alive: Liveness, broker: int, now_ms: int) -> Order:
    """A broker leads that may lack what was acknowledged."""
    disk = alive.present[broker].disk
    others = (replica for replica in document.isr if replica.id != broker)
    isr = tuple(sorted((*others, Replica(broker, disk)), key=lambda replica: replica.id))
    losses = _losses(document, alive, broker)
    joined = replace(document, isr=isr)
    dropped = drop_dead(joined, alive)
    reason = f"ordered by an operator: broker {broker}, {_standing(document, alive, broker)}"
    if dropped:
        reason += f"; dropped from the ISR, as dead: {ids(sorted(dropped))}"
    after, said = enthrone(joined, alive, broker, dropped, now_ms, reason)
    entries = _entries(document, alive)
    ordered = Tell("ordered", {"order": "elect", "broker": broker, "losses": losses})
    return Order(
        after,
        [ordered, *said],
        answer_of(
            after,
            plan=plan_of("elect", broker, document.epoch, document.version, entries),
            would=f"elect broker {broker}, {_standing(document, alive, broker)}, for epoch "
            f"{after.epoch} with {ids(after.isr_ids)} in sync",
            losses=losses,
            brokers=entries,
        ),
    )


def _standing(document: Document, alive: Liveness, broker: int) -> str:
    """`which is unclean and whose log ends …`"""
    suspect = document.suspects.get(broker)
    lacking = "was not in sync" if broker not in document.isr_ids else ""
    state = f"is {suspect.state}" if suspect else ""
    what = " and ".join(part for part in (lacking, state) if part)
    return f"which {what} and whose log ends with {operation(alive.present[broker].end)}"


def _losses(document: Document, alive: Liveness, broker: int) -> list[str]:
    """What may be lost if this broker leads, as far as it can be known."""
    end, suspect = alive.present[broker].end, document.suspects.get(broker)
    said = [f"what was acknowledged after {operation(end)}, where the log of broker {broker} ends"]
    if broker not in document.isr_ids:
        said.append(f"broker {broker} was not in sync: others acknowledged without it")
    if suspect is not None:
        said.append(f"broker {broker} is {suspect.state}: {suspect.why}")
    for other in sorted(document.brokers):
        if other != broker:
            said += _losses_with(document, alive, other, end)
    return said


def _losses_with(document: Document, alive: Liveness, other: int, end: End) -> list[str]:
    """What another broker has, or may have, that a log which ends at `end` lacks."""
    its_end, suspect = _end_of(alive, other), document.suspects.get(other)
    here = other in alive.present
    if not here and other in document.isr_ids and suspect is None:
        return [
            f"broker {other} was in sync and whole, and is not here: it has all that was "
            "acknowledged; start it, and it is elected without an order"
        ]
    if its_end is not None and its_end > end:
        better = f": elect {other} rather than this one" if here else ""
        return [
            f"the log of broker {other} goes further, to {operation(its_end)}: what it has after "
            f"{operation(end)} is lost{better}"
        ]
    if not here and other in document.isr_ids and its_end is None:
        state = suspect.state if suspect else "whole"
        return [f"broker {other} was in sync, is {state} and not here: it may have more"]
    return []


def _end_of(alive: Liveness, broker: int) -> End | None:
    present = alive.present.get(broker)
    return present.end if present is not None else alive.ends.get(broker)


def _entries(document: Document, alive: Liveness) -> list[m.OrderEntry]:
    suspects = document.suspects
    return [
        m.OrderEntry(
            broker=i,
            live=i in alive.present,
            in_sync=i in document.isr_ids,
            state=suspects[i].state if i in suspects else "whole",
            end=_end_of(alive, i),
            why=suspects[i].why if i in suspects else "",
        )
        for i in sorted(document.brokers)
    ]


# -- words ----------------------------------------------------------------------------------------


def answer_of(
    after: Document,
    *,
    plan: str,
    would: str,
    brokers: list[m.OrderEntry],
    losses: Iterable[str] = (),
) -> m.OrderAnswer:
    return m.OrderAnswer(
        done=False,
        plan=plan,
        would=would,
        losses=list(losses),
        cluster=after.cluster,
        epoch=after.epoch,
        leader=after.leader,
        isr=after.isr_ids,
        brokers=brokers,
    )


def operation(end: End) -> str:
    return f"operation {end[1]} of epoch {end[0]}" if end != (0, 0) else "nothing"


def ids(brokers: Iterable[int]) -> str:
    return ", ".join(map(str, brokers))
