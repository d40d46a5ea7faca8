"""What a process's event says, as a plain sentence.

    {"event":"died","broker":1,"reason":"its port refuses connections"}
    broker 1's session ended: its port refuses connections

An event that is not known here is told by its name and its fields, as it stands in the file: a
newer yak may tell more.

Not here: what an event follows from (why_leader.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from yak.explain import faults
from yak.explain.facts import Event, counted, named


def said(event: Event) -> str:
    """The sentence, without its time."""
    if event.process == "chaos":
        with suppress(KeyError, TypeError, ValueError):  # another version's fields
            return faults.told(event.event, event.fields)
    words = (_OF_ZK if event.process == "yak-zk" else _OF_BROKER).get(event.event)
    if words is not None:
        try:
            return words(_Fields(event))
        except (KeyError, TypeError, ValueError):  # another version's fields
            pass
    fields = " ".join(f"{name}={value}" for name, value in event.fields.items())
    return f"{event.process}: {event.event} {fields}".rstrip()


class _Fields:
    """An event's fields.  me: the broker that tells it."""

    def __init__(self, event: Event) -> None:
        self._fields: Mapping[str, Any] = event.fields
        self.me = f"broker {event.teller}" if event.teller is not None else event.process

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    @property
    def broker(self) -> str:
        return f"broker {self['broker']}"

    @property
    def why(self) -> str:
        """`: reason`, or nothing."""
        reason = self._fields.get("reason")
        return f": {reason}" if reason else ""

    @property
    def isr(self) -> str:
        return f"in sync from then on: {named(self['isr']).partition(' ')[2] or 'nobody'}"

    def end(self) -> str:
        epoch, index = self["end"]
        return f"ending with operation {index} of epoch {epoch}" if index else "empty"


def _zk_started(f: _Fields) -> str:
    leads = "nobody leads" if f["leader"] is None else f"broker {f['leader']} leads"
    return f"yak-zk started, with epoch {f['epoch']} in its state.json, in which {leads}"


def _following(f: _Fields) -> str:
    cut = f["cut"]
    dropped = f", after dropping {counted(cut, 'operation')} of its own" if cut else ""
    return f"{f.me} follows broker {f['leader']} from operation {f['next']} on{dropped}"


def _started(f: _Fields) -> str:
    return f"{f.me} started, its log {f['state']}{f.why}; the next operation is {f['next']}"


def _ordered(f: _Fields) -> str:
    losses = f["losses"]
    lost = f"; what might be lost was said: {'; '.join(losses)}" if losses else ""
    return f"an operator ordered yak-zk to {f['order']}{lost}"


_OF_ZK: Final[Mapping[str, Callable[[_Fields], str]]] = {
    "started": _zk_started,
    "stopped": lambda f: f"yak-zk stopped{f.why}",
    "joined": lambda f: f"{f.broker} joined yak-zk, its log {f['state']} and {f.end()}",
    "refused": lambda f: f"yak-zk refused {f.broker}{f.why}",
    "not_whole": lambda f: f"{f.broker} is {f['state']}{f.why}",
    "other_disk": lambda f: f"{f.broker} came with another disk, {f['disk']}, than before",
    "disconnected": lambda f: f"the connection between {f.broker} and yak-zk ended",
    "died": lambda f: f"{f.broker}'s session ended{f.why}",
    "left": lambda f: f"{f.broker} left{f.why}",
    "resigned": lambda f: f"{f.broker} resigned from epoch {f['epoch']}{f.why}",
    "isr_changed": lambda f: f"{f.isr} ({f['reason']})",
    "elected": lambda f: (
        f"yak-zk elected broker {f['leader']} for epoch {f['epoch']}{f.why}; {f.isr}"
    ),
    "vacated": lambda f: f"nobody leads{f.why}",
    "ordered": _ordered,
    "stalled": lambda f: f"yak-zk did not run for {f['ms']} ms, and counts that against nobody",
}
_OF_BROKER: Final[Mapping[str, Callable[[_Fields], str]]] = {
    "started": _started,
    "stopped": lambda f: f"{f.me} stopped{f.why}",
    "leading": lambda f: f"{f.me} began epoch {f['epoch']} with operation {f['index']}",
    "serving": lambda f: (
        f"{f.me} serves clients in epoch {f['epoch']}: operation {f['index']} is committed"
    ),
    "resigning": lambda f: f"{f.me} gives up epoch {f['epoch']}{f.why}",
    "stepped_down": lambda f: f"{f.me} stepped down from epoch {f['epoch']}{f.why}",
    "lead_refused": lambda f: f"{f.me} did not lead epoch {f['epoch']}{f.why}",
    "isr_proposed": lambda f: (
        f"{f.me} proposed {named(f['isr'])} as in sync (broker {f['broker']}: {f['reason']})"
    ),
    "isr_refused": lambda f: f"{f.me}'s proposal of an ISR was refused{f.why}",
    "following": _following,
    "follower_agreed": lambda f: (
        f"broker {f['follower']} follows {f.me} from operation {f['next']} on"
    ),
    "leader_link_lost": lambda f: f"{f.me} lost its link to leader {f['leader']}{f.why}",
    "coordinator_lost": lambda f: f"{f.me} lost yak-zk{f.why}",
    "storage_failed": lambda f: f"the disk of {f.me} refused{f.why}",
    "flush_failed": lambda f: f"{f.me} cannot write its partition files{f.why}",
    "flushed_again": lambda f: f"{f.me} writes its partition files again",
    "applying_waits": lambda f: f"{f.me} applies nothing more{f.why}",
    "applying_goes_on": lambda f: f"{f.me} applies again",
    "file_damaged": lambda f: f"a file of {f.me} is damaged{f.why}",
    "file_unreadable": lambda f: f"the disk of {f.me} does not give what it has{f.why}",
    "log_damaged": lambda f: f"the log of {f.me} is damaged{f.why}",
    "storage_goes_on": lambda f: f"the disk of {f.me} takes what it is given again",
    "copied": lambda f: f"{f.me} has a full copy of the checkpoint of operation {f['checkpoint']}",
    "whole_again": lambda f: f"{f.me} is whole again{f.why}",
    "failed": lambda f: f"{f.me} ended{f.why}",
    "begins_anew": lambda f: f"{f.me} begins anew{f.why}",
    "copying": lambda f: (
        f"{f.me} takes a full copy: the leader's log begins after its own ends, and the copy is "
        f"the checkpoint of operation {f['checkpoint']}"
    ),
    "member_expired": lambda f: (
        f"member {f['member']} of group {f['group']} was silent for too long, says {f.me}"
    ),
    "producer_expired": lambda f: f"producer {f['producer']} was silent for too long, says {f.me}",
    "checkpoint": lambda f: f"{f.me} made a checkpoint of operation {f['index']}",
    "log_cut": lambda f: f"the log of {f.me} begins with operation {f['first']} from then on",
}
