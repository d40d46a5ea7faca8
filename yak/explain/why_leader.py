"""Why this broker leads, and why these are in sync: yak-zk's decisions, and how it came to them.

The decisions come from yak-zk's events where they are here, which have all of them and the ISR;
else from its last elections, which its state.json and its status have.  What a decision followed
from lies between it and the one before.

Not here: the rules (core/election.py); this only tells what was decided by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from yak.core import ops
from yak.core.state import State
from yak.explain.facts import (
    Cause,
    Event,
    Explanation,
    Facts,
    Unexplained,
    are,
    explanation,
    moment,
    named,
    numbers,
    of_log,
)
from yak.explain.sentences import said

#: So many earlier epochs, and changes of the ISR, are told before the last one.
EARLIER: Final = 5
CHANGES: Final = 8

#: What takes the lead from a broker, or shows that it is about to be taken.
_ENDS: Final = (
    "disconnected", "died", "left", "resigned", "not_whole", "resigning", "stepped_down",
    "storage_failed", "file_damaged", "log_damaged", "applying_waits", "begins_anew", "started",
    "stopped", "failed",
)  # fmt: skip
_NOWHERE: Final = (
    "here: give yak-zk's data directory, or --zk of one that runs; or no broker has joined it yet"
)
#: What concerns yak-zk itself, or all.
_ALL: Final = ("stalled", "ordered")


class Term(NamedTuple):
    """One decision on who leads.  leader: None where nobody was electable.  isr: where known."""

    time: int
    epoch: int
    leader: int | None
    reason: str
    isr: Sequence[int] | None


class Leads:
    """What these two questions keep of a log: the first operation of every epoch."""

    def __init__(self) -> None:
        self.by_epoch: dict[int, ops.Lead] = {}

    def begin(self, state: State) -> None:
        """Nothing of it: a checkpoint does not say who led."""

    def see(self, op: ops.Op) -> None:
        if isinstance(op, ops.Lead):
            self.by_epoch[op.epoch] = op


def terms(facts: Facts) -> list[Term]:
    """Every decision that is known, oldest first."""
    found: dict[tuple[int, int | None], Term] = {}
    for event in facts.of("elected", "vacated", process="yak-zk"):
        f = event.fields
        term = Term(event.time, f["epoch"], f["leader"], f.get("reason", ""), f.get("isr"))
        found[term.epoch, term.leader] = term
    for told in (facts.document, facts.coordinator):
        for one in told.elections if told is not None else ():
            term = Term(one.time, one.epoch, one.leader, one.reason, None)
            found.setdefault((one.epoch, one.leader), term)
    return sorted(found.values(), key=lambda one: (one.epoch, one.time))


def who_led(facts: Facts, epoch: int) -> int | None:
    """The leader of an epoch; None where nothing here says it."""
    for log in facts.logs:
        leads = getattr(log.seen, "by_epoch", {})
        if epoch in leads:
            return int(leads[epoch].broker)
    return next((t.leader for t in terms(facts) if t.epoch == epoch and t.leader), None)


def isr_at(facts: Facts, time: int, epoch: int | None = None) -> Event | None:
    """The last event up to `time` that says who was in sync (then, or in that epoch)."""
    found = [
        e
        for e in facts.of("elected", "vacated", "isr_changed", process="yak-zk")
        if e.time <= time and (epoch is None or e.fields.get("epoch") == epoch)
    ]
    return found[-1] if found else None


# -- the leader -----------------------------------------------------------------------------------


def explain_leader(facts: Facts) -> Explanation:
    """Raises Unexplained where nothing tells of any leader."""
    known = terms(facts)
    word = facts.word
    unknown = []
    if word is not None and word.leader is not None and (not known or known[-1].epoch < word.epoch):
        known.append(Term(facts.now, word.epoch, word.leader, "", word.isr))
        unknown.append(
            f"why broker {word.leader} leads epoch {word.epoch}: yak-zk decided it, and neither it "
            "(--zk) nor its data directory was found"
        )
    if not known:
        known = _by_logs(facts)
        unknown.append("why: yak-zk decides that, and neither it nor its directory was found")
    if not known:
        raise Unexplained(f"no election is known {_NOWHERE}")
    last = known[-1]
    told = known[-1 - EARLIER :]
    chain = [_earlier(one) for one in told[:-1]]
    if len(known) > len(told):
        unknown.append(f"{len(known) - len(told)} earlier elections are left out")
    if last.reason:
        chain += _before(facts, told[-2].time if len(told) > 1 else 0, last, told)
        chain.append(_decision(last))
    chain += _after(facts, last)
    return explanation("leader", _leads(facts, last), chain, facts, unknown)


def _by_logs(facts: Facts) -> list[Term]:
    """Who began an epoch, by the operations with which epochs begin."""
    leads = {epoch: op for log in facts.logs for epoch, op in log.seen.by_epoch.items()}
    return [Term(op.time, epoch, op.broker, "", None) for epoch, op in sorted(leads.items())]


def _leads(facts: Facts, last: Term) -> str:
    since = f" since {moment(last.time)}" if last.reason else ""
    why = f": {last.reason}" if last.reason else ""
    if last.leader is None:
        return f"nobody leads{since}{why}"
    answer = f"broker {last.leader} leads epoch {last.epoch}{since}{why}"
    if facts.statuses or facts.coordinator is not None:
        return answer
    return f"by the files, {answer}; whether it runs now they do not say"


def _earlier(term: Term) -> Cause:
    who = "nobody led" if term.leader is None else f"broker {term.leader} led"
    return Cause(
        time=term.time,
        epoch=term.epoch,
        kind="earlier",
        source="yak-zk",
        what=f"{who} in epoch {term.epoch}" + (f": {term.reason}" if term.reason else ""),
    )


def _decision(term: Term) -> Cause:
    if term.leader is None:
        what = f"yak-zk elected nobody: {term.reason}"
    else:
        what = f"yak-zk elected broker {term.leader} for epoch {term.epoch}: {term.reason}"
    if term.isr is not None:
        what += f"; in sync from then on: {numbers(term.isr) if term.isr else 'nobody'}"
    return Cause(time=term.time, epoch=term.epoch, kind="elected", source="yak-zk", what=what)


def _before(facts: Facts, since: int, term: Term, told: Sequence[Term]) -> list[Cause]:
    """What the election followed from: who was in sync, and how the leader before was lost."""
    chain = []
    stood = isr_at(facts, term.time - 1)
    if stood is not None:
        isr = stood.fields["isr"]
        were = "was" if are(isr) == "is" else "were"
        what = f"{named(isr)} {were} in sync until then ({stood.fields.get('reason', '')})"
        chain.append(cause_of(stood, what))
    old = next((t.leader for t in reversed(told[:-1]) if t.leader is not None), None)
    last_of: dict[tuple[str, str], Event] = {}
    for event in facts.events:
        concerns = event.event in _ALL or (event.event in _ENDS and event.broker == old)
        concerns = concerns or event.hurts(old, 0)
        # The elected one's own process writes a moment later, by another clock perhaps.
        if concerns and since < event.time <= term.time:
            last_of[event.process, event.event] = event
    return chain + [cause_of(event) for event in last_of.values()]


def _after(facts: Facts, term: Term) -> list[Cause]:
    """What the elected one did with it."""
    if term.leader is None:
        return []
    chain = []
    lead = next(
        (log.seen.by_epoch[term.epoch] for log in facts.logs if term.epoch in log.seen.by_epoch),
        None,
    )
    if lead is not None:
        what = (
            f"broker {lead.broker} wrote the epoch's first operation, {lead.index}, to the log: "
            "whoever follows drops what it has beyond the leader's log"
        )
        chain.append(of_log(lead, "lead", what))
    names = ("serving", "following", "lead_refused", "resigning", "stepped_down")
    chain += [
        cause_of(event)
        for event in facts.of(*names, process="broker-")
        if event.fields.get("epoch") == term.epoch
    ]
    return chain


def cause_of(event: Event, what: str | None = None) -> Cause:
    """A cause that is an event of a process."""
    epoch, index = event.fields.get("epoch"), event.fields.get("index")
    return Cause(
        time=event.time,
        index=index if isinstance(index, int) else None,
        epoch=epoch if isinstance(epoch, int) else None,
        kind=event.event,
        source=event.process,
        what=what or said(event),
    )


# -- the ISR --------------------------------------------------------------------------------------


class Present(NamedTuple):
    """Who is in sync, in which epoch, of all that the cluster knows, and how many must be."""

    isr: Sequence[int]
    epoch: int
    brokers: Sequence[int]
    at_least: int | None


def present(facts: Facts) -> Present | None:
    """As of now; None where nothing says it."""
    document, told, word = facts.document, facts.coordinator, facts.word
    ids = {*facts.statuses, *facts.down, *(log.broker for log in facts.logs)}
    floor: int | None = None
    if document is not None:
        ids |= set(document.brokers)
        floor = document.settings.min_insync_replicas
    if told is not None:
        ids |= {one.broker for one in told.sessions}
        floor = told.settings.min_insync_replicas
    heard: list[tuple[int, Sequence[int]]] = []
    if document is not None:
        heard.append((document.epoch, document.isr_ids))
    if word is not None:
        heard.append((word.epoch, word.isr))
    if told is not None:  # it decides, so that its word is the newest
        heard.append((told.epoch, told.isr))
    stood = isr_at(facts, facts.now)
    if not heard and stood is not None:
        heard.append((stood.fields["epoch"], stood.fields["isr"]))
    if not heard:
        return None
    epoch, isr = max(enumerate(heard), key=lambda one: (one[1][0], one[0]))[1]
    return Present(list(isr), epoch, sorted(ids | set(isr)), floor)


def explain_isr(facts: Facts) -> Explanation:
    """Raises Unexplained where nothing tells of an ISR."""
    now = present(facts)
    if now is None:
        raise Unexplained(f"no ISR is known {_NOWHERE}")
    changes = facts.of("elected", "vacated", "isr_changed", process="yak-zk")
    told = [e for e in changes if e.event != "vacated"][-CHANGES:]
    unknown = []
    if len(changes) > len(told):
        unknown.append(f"{len(changes) - len(told)} earlier changes of the ISR are left out")
    if not told:
        unknown.append(
            "each change of the ISR, with its reason: yak-zk's events.jsonl has that, and is not "
            "here"
        )
    since = told[0].time if told else facts.now
    chain = [cause_of(event) for event in told]
    if not told:
        chain += [_decision(one) for one in terms(facts)[-CHANGES:]]
    names = ("died", "left", "not_whole", "joined", "isr_proposed", "isr_refused", "storage_failed")
    chain += [cause_of(event) for event in facts.of(*names) if event.time >= since]
    hurt = facts.of("fault", "fault_ended", process="chaos")
    chain += [cause_of(event) for event in hurt if event.time >= since][-CHANGES:]
    outside = [one for one in now.brokers if one not in now.isr]
    parts = [
        f"{named(now.isr)} {are(now.isr)} in sync in epoch {now.epoch}, "
        + (f"of {numbers(now.brokers)}" if outside else "all that there are")
    ]
    parts += [f"broker {one} is not: {_why_outside(facts, one)}" for one in outside]
    parts += _lost_inside(facts, now)
    return explanation("isr", "; ".join(parts), chain, facts, unknown)


def _why_outside(facts: Facts, broker: int) -> str:
    """The last thing that is known of a broker which is not in sync."""
    dropped, before = None, True
    for event in facts.of("elected", "isr_changed", process="yak-zk"):
        inside = broker in event.fields.get("isr", ())
        if before and not inside:
            dropped = event
        before = inside
    ended = facts.last("died", "left", "joined", broker=broker)
    if ended is not None and ended.event == "joined":
        if dropped is not None and dropped.time > ended.time:
            return f"left behind at {moment(dropped.time)}, and lives{_proposal(facts, dropped)}"
        return f"it joined at {moment(ended.time)}, and has not caught up yet"
    if ended is not None:
        gone = "left" if ended.event == "left" else "died"
        return f"it {gone} at {moment(ended.time)} ({ended.fields.get('reason', '')})"
    if broker in facts.down:
        return facts.down[broker]
    return "nothing here says why"


def _proposal(facts: Facts, change: Event) -> str:
    """Why the leader wanted this change of the ISR."""
    for event in reversed(facts.of("isr_proposed", process="broker-")):
        if event.fields.get("epoch") == change.fields.get("epoch") and (
            event.fields.get("isr") == change.fields.get("isr")
        ):
            return f" ({event.fields.get('reason', '')})"
    return ""


def _lost_inside(facts: Facts, now: Present) -> list[str]:
    """Who counts as in sync and is not there."""
    gone: dict[int, Any] = {}
    for broker in now.isr:
        event = facts.last("died", "left", "joined", broker=broker)
        told = facts.coordinator
        live = None if told is None else {s.broker for s in told.sessions if s.live}
        if live is not None and broker not in live:
            gone[broker] = event if event is not None and event.event != "joined" else None
        elif live is None and event is not None and event.event != "joined":
            gone[broker] = event
    parts = []
    for broker, event in gone.items():
        when = "" if event is None else f" since {moment(event.time)}"
        why = "" if event is None else f" ({event.fields.get('reason', '')})"
        floor = now.at_least
        kept = f": no fewer than {floor} may be in sync (--min-insync-replicas)" if floor else ""
        short = floor is not None and len(now.isr) - len(gone) < floor
        waits = ", and writes wait until enough are back" if short else ""
        parts.append(f"broker {broker} counts as in sync, but is gone{when}{why}{kept}{waits}")
    return parts
