"""A producer and a group member that speak the wire by hand, as section 4 of the protocol has it.

They know nothing of the library, so that a fault of the brokers and one of the library are told
apart by who meets it.  Both ask whichever broker answers, follow no hints, and repeat.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.soak.notes import Notes
from tests.support.wire import RETRIABLE, Fields, Wire, record, split_operations

#: How long one answer is waited for before another broker is tried: above any healthy answer.
ANSWER_S = 3.0
#: Between two attempts, so that a cluster without a leader is not flooded.
PAUSE_S = 0.05
#: A batch may wait this long for its commit before it is sent again.
COMMIT_MS = 2000
#: How often a member reports.
BEAT_S = 0.3
#: The end of what was under way when a client is to stop.
FAREWELL_S = 20.0

Stopped = Callable[[], bool]
Where = tuple[str, int]


class RefusedError(Exception):
    """An answer that repeating does not heal."""

    def __init__(self, answer: Fields) -> None:
        super().__init__(f"{answer['error']}: {answer['message']}")
        self.name: str = answer["error"]
        self.answer = answer


class Asker:
    """Asks the brokers in turn until one gives a good answer."""

    def __init__(self, bootstrap: str) -> None:
        hosts = (address.rpartition(":") for address in bootstrap.split(","))
        self._addresses = itertools.cycle([(host, int(port)) for host, _, port in hosts])
        self._wire: Wire | None = None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def once(self, kind: str, body: bytes = b"", **fields: Any) -> tuple[Fields, bytes] | None:
        """A good answer; None where it should be asked again.  Raises RefusedError."""
        try:
            if self._wire is None:
                self._wire = Wire(next(self._addresses), ANSWER_S)
            answer, data = self._wire.ask(kind, body, **fields)
        except OSError:
            self.close()
        else:
            if answer["ok"]:
                return answer, data
            unknown = answer["error"] in ("UNKNOWN_TOPIC", "UNKNOWN_PARTITION")
            if answer["error"] not in RETRIABLE or unknown:
                raise RefusedError(answer)
            self.close()
        time.sleep(PAUSE_S)
        return None

    def insist(
        self, kind: str, body: bytes = b"", patience_s: float = 60.0, **fields: Any
    ) -> tuple[Fields, bytes]:
        """As `once`, again and again.  Raises RefusedError, and TimeoutError in the end."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            found = self.once(kind, body, **fields)
            if found is not None:
                return found
        raise TimeoutError(f"no broker gave a good answer to {kind} in {patience_s:g} s: {fields}")


class RawProducer:
    """Registered; one batch at a time, sent again with its sequence until it is acknowledged."""

    def __init__(self, bootstrap: str, proc: str, notes: Notes, chance: random.Random) -> None:
        self._asker = Asker(bootstrap)
        self._proc = proc
        self._notes = notes
        self._chance = chance
        self._count = 0

    def run(self, topics: Sequence[str], rate: float, pad: str, stopped: Stopped) -> None:
        answer, _ = self._asker.insist("register", role="producer", client=self._proc, topics=[])
        self._producer = answer["producer"]
        #: (topic id, partition) -> the next sequence.
        self._next: dict[tuple[str, int], int] = {}
        while not stopped():
            topic, size = self._chance.choice(topics), self._chance.randint(1, 15)
            self._send(topic, size, pad, stopped)
            time.sleep(size / rate)
        self._asker.insist("deregister", producer=self._producer)
        self._asker.close()

    def _send(self, topic: str, size: int, pad: str, stopped: Stopped) -> None:
        """One batch to the topic as it is now; it ends with the topic at the latest."""
        answer, _ = self._asker.insist("metadata", topics=[topic])
        entry = answer["topics"][topic]
        if "error" in entry:
            time.sleep(PAUSE_S)  # not made again yet, or not known to this broker
            return
        topic_id, partition = entry["topic_id"], self._chance.randrange(entry["partitions"])
        values = [f"{self._proc}.{self._count + n}" for n in range(size)]
        self._count += size
        self._notes.add("begin", topic=topic, values=values)
        t0 = time.monotonic()
        result, offset = self._insist_on(topic, topic_id, partition, values, pad, stopped)
        at: list[int | None] = [None] * size
        if offset is not None:
            at = list(range(offset, offset + size))
        msgs = [[topic, partition, o, v] for o, v in zip(at, values, strict=True)]
        self._notes.add(
            "send", t0=t0, t1=time.monotonic(), result=result, msgs=msgs, topic_id=topic_id
        )

    def _insist_on(
        self, topic: str, topic_id: str, partition: int, values: list[str], pad: str,
        stopped: Stopped,
    ) -> tuple[str, int | None]:  # fmt: skip
        """(result, offset of the first)."""
        body = b"".join(record({"id": value, "pad": pad}) for value in values)
        sequence = self._next.get((topic_id, partition), 0)
        give_up = float("inf")
        while time.monotonic() < give_up:
            if stopped():
                give_up = min(give_up, time.monotonic() + FAREWELL_S)
            try:
                found = self._asker.once(
                    "produce", body, topic=topic, partition=partition, topic_id=topic_id,
                    count=len(values), producer=self._producer, sequence=sequence,
                    timeout_ms=COMMIT_MS,
                )  # fmt: skip
            except RefusedError as e:
                if e.name not in ("UNKNOWN_TOPIC", "UNKNOWN_PARTITION"):
                    raise
                if not self._still_there(topic, topic_id):
                    return "info", None
                continue  # the leader's log may not have the topic's creation applied yet
            if found is not None:
                self._next[topic_id, partition] = sequence + len(values)
                return "ok", found[0]["offset"]
        return "info", None

    def _still_there(self, topic: str, topic_id: str) -> bool:
        time.sleep(PAUSE_S)
        entry = self._asker.insist("metadata", topics=[topic])[0]["topics"][topic]
        return bool(entry.get("topic_id") == topic_id)


class RawReader:
    """Reads all partitions from their beginning, from one broker alone, whatever becomes of it."""

    def __init__(self, bootstrap: str, notes: Notes, topics: Sequence[str]) -> None:
        """bootstrap: of that broker."""
        self._asker = Asker(bootstrap)
        self._notes = notes
        self._topics = list(topics)
        self._at: dict[Where, int] = {}

    def run(self, stopped: Stopped) -> None:
        self._notes.add("assign")
        while not stopped():
            if not self._at:
                self._find()
                continue
            t0 = time.monotonic()
            asked = [[*where, at] for where, at in self._at.items()]
            found = self._asker.once("fetch", partitions=asked, max_bytes=65536, wait_ms=200)
            msgs, troubled = _records_in(found, self._at) if found is not None else ([], False)
            if msgs:
                self._notes.add(
                    "poll", t0=t0, t1=time.monotonic(), result="ok", group=None, msgs=msgs
                )
            if troubled:
                time.sleep(PAUSE_S)
        self._asker.close()

    def _find(self) -> None:
        """The partitions, once the broker knows them all."""
        found = self._asker.once("metadata", topics=self._topics)
        entries = found[0]["topics"] if found is not None else {}
        if found is None or any("error" in entry for entry in entries.values()):
            time.sleep(PAUSE_S)
            return
        self._at = {
            (topic, part): 0
            for topic in self._topics
            for part in range(entries[topic]["partitions"])
        }


def _records_in(found: tuple[Fields, bytes], at: dict[Where, int]) -> tuple[list[list[Any]], bool]:
    """A fetch's records, beyond the positions, which go on; whether a partition had an error."""
    msgs: list[list[Any]] = []
    troubled = False
    rest = found[1]
    for entry in found[0]["partitions"]:
        where = (entry["topic"], entry["partition"])
        data, rest = rest[: entry["size"]], rest[entry["size"] :]
        troubled = troubled or "error" in entry
        for operation in split_operations(data):
            lines = operation.body.splitlines()
            for offset, line in zip(operation.offsets, lines, strict=True):
                if offset >= at[where]:
                    at[where] = offset + 1
                    msgs.append([*where, offset, json.loads(line)["value"]["id"]])
    return msgs, troubled


class RawMember:
    """A member of a group: beats, fetches, acknowledges; lets go before it says that it did."""

    def __init__(
        self, bootstrap: str, proc: str, notes: Notes, group: str, topics: Sequence[str],
        session_ms: int,
    ) -> None:  # fmt: skip
        self._leader = Asker(bootstrap)
        self._replica = Asker(bootstrap)
        self._proc = proc
        self._notes = notes
        self._group = group
        self._topics = list(topics)
        self._session_ms = session_ms
        #: Next offset to fetch.
        self._at: dict[Where, int] = {}
        #: Which topics these are offsets of: one that is made again is another.
        self._ids: dict[str, str] = {}
        #: Handled, and not acknowledged yet: message offsets.
        self._handled: dict[Where, list[int]] = {}
        self._member = ""
        self._generation = 0
        #: Until then nobody has expelled it, and nothing is another member's.
        self._stands_until = 0.0

    def run(self, stopped: Stopped) -> None:
        self._join()
        beat_at = 0.0
        while not stopped():
            if time.monotonic() >= min(beat_at, self._stands_until):
                beat_at = time.monotonic() + BEAT_S
                self._beat()
            if time.monotonic() < self._stands_until:
                self._fetch()
            self._ack()
        for where in list(self._at):
            self._let(where)
        try:
            self._leader.insist("deregister", group=self._group, member=self._member)
        except RefusedError as e:
            if e.name != "UNKNOWN_MEMBER":  # its first goodbye was heard, or it was expelled
                raise
        self._leader.close()
        self._replica.close()

    def _identity(self) -> Fields:
        return {"group": self._group, "member": self._member, "generation": self._generation}

    def _join(self) -> None:
        sent_at = time.monotonic()
        answer, _ = self._leader.insist(
            "register", role="consumer", client=self._proc, group=self._group,
            topics=self._topics, session_ms=self._session_ms,
        )  # fmt: skip
        self._member, self._generation = answer["member"], answer["generation"]
        self._heard(sent_at)
        self._take(answer)

    def _heard(self, sent_at: float) -> None:
        session_s = self._session_ms / 1000
        self._stands_until = sent_at + session_s
        self._notes.add("beat", t0=sent_at, group=self._group, session_s=session_s)

    def _beat(self) -> None:
        """Report, and take what has changed; twice, where something was let go."""
        for _ in range(2):
            sent_at = time.monotonic()
            try:
                found = self._leader.once(
                    "heartbeat", **self._identity(), owned=list(self._at),
                    delivered=[[*where, at] for where, at in self._at.items()],
                )  # fmt: skip
            except RefusedError as e:
                if e.name != "UNKNOWN_MEMBER":
                    raise
                self._expelled()
                return
            if found is None:
                return
            answer, _ = found
            self._heard(sent_at)
            if "assignment" not in answer:
                return
            self._generation = answer["generation"]
            self._take(answer)

    def _take(self, answer: Fields) -> None:
        assigned = {(topic, part) for topic, part in answer["assignment"]}
        ids = {topic: entry["topic_id"] for topic, entry in answer["topics"].items()}
        leaving = [
            where
            for where in self._at
            if where not in assigned or ids[where[0]] != self._ids[where[0]]
        ]
        if leaving and not self._ack():
            return  # expelled meanwhile: another answer has been taken
        for where in leaving:
            self._let(where)
        self._ids = ids
        for topic, part, offset in answer["offsets"]:
            if (topic, part) not in self._at:
                self._at[topic, part] = offset or 0
                self._notes.add("held", group=self._group, topic=topic, part=part)

    def _let(self, where: Where) -> None:
        self._notes.add("let", group=self._group, topic=where[0], part=where[1])
        self._at.pop(where, None)
        self._handled.pop(where, None)

    def _expelled(self) -> None:
        for where in list(self._at):
            self._let(where)
        self._join()

    def _meant(self, wheres: Iterable[Where]) -> dict[str, str]:
        return {topic: self._ids[topic] for topic, _ in wheres}

    def _fetch(self) -> None:
        if not self._at:
            time.sleep(PAUSE_S)
            return
        t0 = time.monotonic()
        asked = [[*where, at] for where, at in self._at.items()]
        try:
            found = self._replica.once(
                "fetch", partitions=asked, topic_ids=self._meant(self._at),
                max_bytes=65536, wait_ms=200,
            )  # fmt: skip
        except RefusedError:
            return
        if found is None:
            return
        msgs, troubled = _records_in(found, self._at)
        for topic, part, offset, _ in msgs:
            self._handled.setdefault((topic, part), []).append(offset)
        if msgs:
            self._notes.add(
                "poll", t0=t0, t1=time.monotonic(), result="ok", group=self._group, msgs=msgs
            )
        for entry in found[0]["partitions"] if troubled else ():
            if "error" in entry:
                self._troubled((entry["topic"], entry["partition"]), entry)

    def _troubled(self, where: Where, entry: Fields) -> None:
        """A replica that is cut off or behind is left for another; what is trimmed is passed."""
        if entry["error"] == "OFFSET_OUT_OF_RANGE":
            print(f"{where} begins at {entry['start']} now", flush=True)  # noqa: T201 -- its story
            self._at[where] = entry["start"]
        else:
            self._replica.close()
            time.sleep(PAUSE_S)

    def _ack(self) -> bool:
        """Acknowledge what is handled, if the leader answers; False where it had to join anew."""
        if not self._handled:
            return True
        t0 = time.monotonic()
        offsets = [[*where, numbers[-1] + 1] for where, numbers in self._handled.items()]
        msgs = [[*where, n] for where, numbers in self._handled.items() for n in numbers]
        try:
            found = self._leader.once(
                "ack", **self._identity(), offsets=offsets,
                topic_ids=self._meant(self._handled), timeout_ms=COMMIT_MS,
            )  # fmt: skip
        except RefusedError as e:
            if e.name == "UNKNOWN_MEMBER":
                self._expelled()
                return False
            if e.name not in ("UNKNOWN_TOPIC", "UNKNOWN_PARTITION", "OFFSET_OUT_OF_RANGE"):
                raise
            self._handled.clear()  # deleted under it, or made again
            return True
        if found is not None:
            self._notes.add(
                "ack", t0=t0, t1=time.monotonic(), result="ok", group=self._group, msgs=msgs
            )
            self._handled.clear()
        return True
