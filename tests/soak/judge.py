"""Judges what the clients of a long run noted, one life of a topic after another.

A *life* is a topic from its making to its deletion; one name may have several, and each is
judged alone.  A value belongs to the life that its send names, or to the only one of that name
that it can have reached; one that can have reached two (sent while the topic was being deleted
and made again) is set aside and counted.

    phantom        a value was read that nobody sent, or before it was sent
    two-values     one offset of a partition shows two values
    duplicate      one value stands at two places
    lost           an acknowledged value is missing from a replica's closing read
    vanished       a value that a consumer was handed is missing from a replica's closing read
    torn-batch     a part of one batch is there, another part is not
    order          a producer's later send to a partition stands before an earlier one
    realtime       a send that began after another was acknowledged stands before it
    poll-order     offsets go back, or over a known one, inside one poll; in a reader without a
                   group also from poll to poll
    again          a group was handed what it had acknowledged before the poll began
    skipped        a group was never handed what stands between two offsets that it was handed
    missed         a group was never handed what it should have been: all, to the end, or to what
                   it was handed last of a topic that was deleted
    two-holders    two members of a group held one partition at one time

Closing reads, one of each replica, are given for topics that live to the end; offsets below the
log's start are nobody's loss there.  In a topic that forgets, a reader may find that what it would
have read next is gone: nothing is jumped over, `skipped` or `missed` there.  A member that was
stopped, or expelled, may hand out what it had fetched before: that is not `again`.

Everything is as the notes have it; the judge never asks the cluster.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.soak.notes import Note

INFINITY = float("inf")
#: Of each kind, so many examples are shown.
EXAMPLES = 5


@dataclass
class Life:
    """A topic between its making and its deletion: seconds around the two requests.

    closing: replica -> partition -> offset -> value.  starts: the log starts then.
    groups: those that lived as long as it did, and began at the beginning.
    forgets: its retention may be faster than who reads it.
    """

    name: str
    topic_id: str
    made: tuple[float, float]
    deleted: tuple[float, float] = (INFINITY, INFINITY)
    closing: dict[str, dict[int, dict[int, str]]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    groups: frozenset[str] = frozenset()
    forgets: bool = False

    def may_have(self, t0: float, t1: float) -> bool:
        """Whether a send of that time can have reached it."""
        return self.made[0] <= t1 and t0 <= self.deleted[1]


@dataclass
class Send:
    proc: str
    t0: float
    t1: float
    result: str
    #: (partition, offset, value); unknown ones are None.
    msgs: list[tuple[int | None, int | None, str]]


@dataclass
class Story:
    """What the notes say of one life."""

    sends: list[Send] = field(default_factory=list)
    polls: list[Note] = field(default_factory=list)
    acks: list[Note] = field(default_factory=list)


@dataclass
class Verdict:
    """anomalies: kind -> what was found.  Nothing may be there."""

    anomalies: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0
    delivered: int = 0
    set_aside: int = 0
    #: When acknowledgements came, in any order.
    acknowledged_at: list[float] = field(default_factory=list)

    def gaps(self) -> list[tuple[float, float]]:
        """(from, to) of times in which nobody was acknowledged anything, the longest first."""
        pairs = itertools.pairwise(sorted(self.acknowledged_at))
        return sorted(pairs, key=lambda pair: pair[0] - pair[1])

    def longest_gap(self) -> float:
        """In seconds; -1 where there never were two acknowledgements."""
        return max((after - before for before, after in self.gaps()[:1]), default=-1)

    def add(self, kind: str, what: str) -> None:
        self.anomalies[kind].append(what)

    @property
    def count(self) -> int:
        return sum(len(found) for found in self.anomalies.values())

    def lines(self) -> list[str]:
        shown = []
        for kind, found in sorted(self.anomalies.items()):
            shown.append(f"{kind}: {len(found)}")
            shown += [f"    {what}" for what in found[:EXAMPLES]]
        return shown


def judge(notes: Iterable[Note], lives: Iterable[Life], end: float) -> Verdict:
    """end: when the run was over; what had no outcome by then may still be."""
    sorted_out = Sorted(notes, list(lives), end)
    verdict = sorted_out.verdict
    for life, story in sorted_out.stories:
        _OneLife(life, story, sorted_out.dazed, verdict).judge()
    _judge_holders(sorted_out.holds, verdict)
    return verdict


class Sorted:
    """The notes, each with the life that it belongs to."""

    def __init__(self, notes: Iterable[Note], lives: list[Life], end: float) -> None:
        self.stories = [(life, Story()) for life in lives]
        #: (from, to) in which a client was stopped, by its name.
        self.dazed: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.holds = Holds()
        #: What is wrong already without knowing more of a life than its times.
        self.verdict = Verdict()
        self._by_name: dict[str, list[tuple[Life, Story]]] = defaultdict(list)
        for life, story in self.stories:
            self._by_name[life.name].append((life, story))
        self._story_of: dict[str, Story | None] = {}
        reads = self._first_pass(notes, end)
        for note in reads:
            self._read(note)

    def _first_pass(self, notes: Iterable[Note], end: float) -> list[Note]:
        """Sends, also those without an outcome; what is about reading comes after them."""
        begun: dict[str, tuple[str, str, float]] = {}
        reads: list[Note] = []
        for note in notes:
            op = note["op"]
            if op == "begin":
                begun |= dict.fromkeys(note["values"], (note["proc"], note["topic"], note["t0"]))
            elif op == "send":
                self._send(note, end)
            elif op in ("poll", "ack"):
                reads.append(note)
            elif op in ("held", "let", "beat"):
                self.holds.add(note)
            elif op == "dazed":
                self.dazed[note["proc"]].append((note["t0"], note["t1"]))
        for value, (proc, topic, t0) in begun.items():
            if value not in self._story_of:
                send = Send(proc, t0, end, "info", [(None, None, value)])
                self._keep(topic, None, send)
        return reads

    def _send(self, note: Note, end: float) -> None:
        by_topic: dict[str, list[tuple[int | None, int | None, str]]] = defaultdict(list)
        for topic, part, offset, value in note["msgs"]:
            by_topic[topic].append((part, offset, value))
        for topic, msgs in by_topic.items():
            until = note["t1"] if note["result"] == "ok" else end
            send = Send(note["proc"], note["t0"], until, note["result"], msgs)
            self._keep(topic, note.get("topic_id"), send)

    def _keep(self, topic: str, topic_id: str | None, send: Send) -> None:
        places = [
            story
            for life, story in self._by_name[topic]
            if (life.topic_id == topic_id if topic_id else life.may_have(send.t0, send.t1))
        ]
        story: Story | None = places[0] if len(places) == 1 else None
        for _, _, value in send.msgs:
            if value in self._story_of:
                self.verdict.add("duplicate", f"{value} was sent twice by its own client")
            self._story_of[value] = story
        if story is None:
            self.verdict.set_aside += len(send.msgs)
            return
        story.sends.append(send)
        if send.result == "ok":
            self.verdict.acknowledged += len(send.msgs)
            self.verdict.acknowledged_at.append(send.t1)

    def _read(self, note: Note) -> None:
        if note["op"] == "ack":
            for topic, _ in {(m[0], None): None for m in note["msgs"]}:
                for life, story in self._by_name[topic]:
                    if life.made[0] <= note["t0"] and note["t1"] <= life.deleted[1]:
                        msgs = [m[1:] for m in note["msgs"] if m[0] == topic]
                        story.acks.append({**note, "msgs": msgs})
            return
        parts: dict[int, tuple[Story, list[list[Any]]]] = {}
        for topic, part, offset, value in note["msgs"]:
            if value not in self._story_of:
                self.verdict.add("phantom", f"{topic}[{part}]@{offset} {value}: nobody sent it")
                continue
            its = self._story_of[value]
            if its is not None:
                parts.setdefault(id(its), (its, []))[1].append([part, offset, value])
                self.verdict.delivered += 1
        for story, msgs in parts.values():
            story.polls.append({**note, "msgs": msgs})


class _OneLife:
    """One topic's life: the checks, each with its kind of anomaly."""

    def __init__(
        self,
        life: Life,
        story: Story,
        dazed: Mapping[str, list[tuple[float, float]]],
        verdict: Verdict,
    ) -> None:
        self.life = life
        self.story = story
        self.dazed = dazed
        self._verdict = verdict
        #: value -> the places where it was seen, by anyone.
        self.places: dict[str, set[tuple[int, int]]] = defaultdict(set)
        #: partition -> its known offsets, ascending.
        self.offsets: dict[int, list[int]] = {}

    def judge(self) -> None:
        self._know()
        self._sent_before_read()
        self._closing()
        self._batches()
        self._order()
        self._realtime()
        self._polls()
        self._groups()

    def _add(self, kind: str, what: str) -> None:
        self._verdict.add(kind, f"{self.life.name} ({self.life.topic_id}): {what}")

    def _know(self) -> None:
        """Gather what stands where: by the answers, by what was read, by the closing reads."""
        at: dict[tuple[int, int], set[str]] = defaultdict(set)

        def note(part: int, offset: int, value: str) -> None:
            at[part, offset].add(value)
            self.places[value].add((part, offset))

        for send in self.story.sends:
            if send.result == "ok":
                for part, offset, value in send.msgs:
                    if part is not None and offset is not None:
                        note(part, offset, value)
        for poll in self.story.polls:
            for part, offset, value in poll["msgs"]:
                note(part, offset, value)
        for by_part in self.life.closing.values():
            for part, values in by_part.items():
                for offset, value in values.items():
                    note(part, offset, value)
        known: dict[int, list[int]] = defaultdict(list)
        for (part, offset), shown in sorted(at.items()):
            known[part].append(offset)
            if len(shown) > 1:
                self._add("two-values", f"[{part}]@{offset} shows {sorted(shown)}")
        self.offsets = dict(known)
        for value, places in self.places.items():
            if len(places) > 1:
                self._add("duplicate", f"{value} stands at {sorted(places)}")

    def _sent_before_read(self) -> None:
        began = {v: send.t0 for send in self.story.sends for _, _, v in send.msgs}
        for poll in self.story.polls:
            for part, offset, value in poll["msgs"]:
                if began[value] > poll["t1"]:
                    self._add("phantom", f"[{part}]@{offset} {value}: read before it was sent")
        for replica, by_part in self.life.closing.items():
            for part, values in by_part.items():
                for offset, value in values.items():
                    if value not in began:
                        self._add("phantom", f"[{part}]@{offset} {value} on {replica}: not sent")

    def _closing(self) -> None:
        """What was acknowledged or handed out is on every replica."""
        kinds: dict[str, dict[str, tuple[int, int]]] = {"lost": {}, "vanished": {}}
        for send in self.story.sends:
            for part, offset, value in send.msgs if send.result == "ok" else ():
                if part is not None and offset is not None:
                    kinds["lost"][value] = part, offset
        for poll in self.story.polls:
            for part, offset, value in poll["msgs"]:
                kinds["vanished"][value] = part, offset
        for replica, by_part in self.life.closing.items():
            for kind, expected in kinds.items():
                for value, (part, offset) in expected.items():
                    if offset < self.life.starts.get(part, 0):
                        continue
                    if by_part.get(part, {}).get(offset) != value:
                        self._add(kind, f"[{part}]@{offset} {value} is not on {replica}")

    def _batches(self) -> None:
        """Only where everything there is was read; an acknowledged one's parts would be `lost`."""
        for send in self.story.sends if self.life.closing else ():
            there = [value for _, _, value in send.msgs if value in self.places]
            if there and len(there) < len(send.msgs) and send.result != "ok":
                starts = (self.life.starts.get(p, 0) > o for v in there for p, o in self.places[v])
                if not any(starts):
                    self._add("torn-batch", f"{send.proc}: of {send.msgs[0][2]}… only {there}")

    def _order(self) -> None:
        last: dict[tuple[str, int], tuple[int, str]] = {}
        for send in sorted(self.story.sends, key=lambda send: send.t0):
            for _, _, value in send.msgs:
                for part, offset in self.places.get(value, ()):
                    before = last.get((send.proc, part), (-1, ""))
                    if offset <= before[0]:
                        self._add("order", f"[{part}] {send.proc}: {value}@{offset} after {before}")
                    last[send.proc, part] = offset, value

    def _realtime(self) -> None:
        """acknowledged(A) before begun(B): A's offset is the lower one; a pass from the top."""
        rows: dict[int, list[tuple[int, float, float, str]]] = defaultdict(list)
        for send in self.story.sends:
            for part, offset, value in send.msgs if send.result == "ok" else ():
                if part is not None and offset is not None:
                    rows[part].append((offset, send.t0, send.t1, value))
        for part, sends in rows.items():
            earliest, who = INFINITY, ""
            for offset, t0, t1, value in sorted(sends, reverse=True):
                if earliest < t0:
                    self._add("realtime", f"[{part}]@{offset} {value} began after {who}")
                if t1 < earliest:
                    earliest, who = t1, value

    def _between(self, part: int, low: int, high: int) -> list[int]:
        """Known offsets strictly between two."""
        known = self.offsets.get(part, [])
        return known[bisect.bisect_right(known, low) : bisect.bisect_left(known, high)]

    def _polls(self) -> None:
        positions: dict[tuple[str, int], int] = {}
        for poll in sorted(self.story.polls, key=lambda poll: poll["t0"]):
            inside: dict[int, int] = {}
            for part, offset, _ in poll["msgs"]:
                proc = poll["proc"]
                last = inside.get(part)
                if last is None and poll["group"] is None:
                    last = positions.get((proc, part))
                inside[part] = positions[proc, part] = offset
                if last is None:
                    continue
                if offset <= last:
                    self._add("poll-order", f"[{part}] {proc} went from {last} to {offset}")
                elif not self.life.forgets and (skipped := self._between(part, last, offset)):
                    self._add("poll-order", f"[{part}] {proc} at {last} jumped over {skipped[:5]}")

    def _groups(self) -> None:
        confirmed: dict[tuple[str, int, int], float] = {}
        for ack in self.story.acks:
            for part, offset in ack["msgs"] if ack["result"] == "ok" else ():
                key = (ack["group"], part, offset)
                confirmed[key] = min(confirmed.get(key, INFINITY), ack["t1"])
        got: dict[tuple[str, int], set[int]] = defaultdict(set)
        for poll in self.story.polls:
            group = poll["group"]
            for part, offset, value in poll["msgs"] if group else ():
                got[group, part].add(offset)
                acked_at = confirmed.get((group, part, offset), INFINITY)
                if acked_at < poll["t0"] and not self._is_dazed(poll):
                    when = f"acknowledged {poll['t0'] - acked_at:.2f} s before"
                    self._add("again", f"{group} [{part}]@{offset} {value}: {when}")
        if self.life.forgets:
            return
        for (group, part), offsets in got.items():
            for offset in self._between(part, min(offsets), max(offsets)):
                if offset not in offsets:
                    self._add("skipped", f"{group} was never handed [{part}]@{offset}")
        for group in self.life.groups:
            for part, known in self.offsets.items():
                offsets = got[group, part]
                # Of what was deleted, the end may have gone before it was handed out.
                until = INFINITY if self.life.deleted[0] == INFINITY else max(offsets, default=0)
                missing = [o for o in known if o < until and o not in offsets]
                if missing:
                    shown = f"{len(missing)} of [{part}], as {missing[:5]}"
                    self._add("missed", f"{group} was never handed {shown}")

    def _is_dazed(self, poll: Note) -> bool:
        spans = self.dazed.get(poll["proc"], ())
        return any(t0 <= poll["t1"] and poll["t0"] <= t1 for t0, t1 in spans)


class Holds:
    """Who held which partition of a group from when to when."""

    def __init__(self) -> None:
        #: (proc, group) -> (when it was last heard of for sure, its session in seconds)
        self._notes: dict[tuple[str, str], list[Note]] = defaultdict(list)

    def add(self, note: Note) -> None:
        self._notes[note["proc"], note["group"]].append(note)

    def intervals(self) -> dict[tuple[str, str, int], list[tuple[float, float, str]]]:
        """(group, topic, partition) -> (from, to, who).

        One that does not say that it lets go is taken to hold until a session after its last beat:
        the leader may have expelled it by then, and not before.
        """
        found: dict[tuple[str, str, int], list[tuple[float, float, str]]] = defaultdict(list)
        for (proc, group), notes in self._notes.items():
            since: dict[tuple[str, int], float] = {}
            alive_until = 0.0

            def let(where: tuple[str, int], at: float, *, proc: str = proc) -> None:
                begun = since.pop(where, None)  # noqa: B023 -- called within this turn only
                if begun is not None and at > begun:
                    found[(group, *where)].append((begun, at, proc))  # noqa: B023 -- as above

            for note in notes:
                where = (note.get("topic", ""), note.get("part", -1))
                if note["op"] == "beat":
                    alive_until = note["t0"] + note["session_s"]
                elif note["op"] == "held":
                    since[where] = note["t0"]
                else:
                    let(where, min(note["t0"], alive_until))
            for where in list(since):
                let(where, alive_until)
        return found


def _judge_holders(holds: Holds, verdict: Verdict) -> None:
    for (group, topic, part), intervals in holds.intervals().items():
        until, who = -INFINITY, ""
        for t0, t1, proc in sorted(intervals):
            if t0 < until and proc != who:
                verdict.add(
                    "two-holders",
                    f"{group} {topic}[{part}]: {proc} had it from {t0:.3f}, {who} to {until:.3f}",
                )
            if t1 > until:
                until, who = t1, proc
