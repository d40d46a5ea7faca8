"""Facts for explanations: a log as a Scribe wrote it and events by hand, also as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.support.playbook import WALL_MS, Scribe
from yak.config import Settings
from yak.core import ops
from yak.core.document import Document, Known, Replica
from yak.core.snapshot import describe, restore
from yak.core.state import State
from yak.explain.facts import Event, Explanation, Facts, LogFacts
from yak.explain.questions import Question, explain
from yak.messages import Election

#: A record of the log that is written to files.
BODY: Final = b'{"value":1}\n'


def tick(scribe: Scribe) -> Scribe:
    """The next operation is a second later."""
    scribe.time += 1000
    return scribe


def event(process: str, name: str, at: int, /, **fields: Any) -> Event:
    """at: ms after the beginning of everything."""
    return Event(WALL_MS + at, process, name, fields)


def log_of(
    question: Question,
    log: Sequence[ops.Op],
    *,
    broker: int = 1,
    first: int = 1,
    checkpoint: int = 0,
    stored: ops.Append | None = None,
) -> LogFacts:
    """What a directory would have: the log from operation `first` on, and a checkpoint."""
    whole, base = State(), State()
    for op in log:
        if op.index == checkpoint + 1:
            base = restore(describe(whole))
        whole.apply(op)
    if checkpoint == whole.index:
        base = restore(describe(whole))
    seen = question.look()
    seen.begin(State() if first == 1 else base)
    for op in log[first - 1 :]:
        seen.see(op)
    return LogFacts(
        broker=broker,
        directory=f"data/broker-{broker}",
        first=first,
        last=whole.index,
        epoch=whole.epoch,
        checkpoint=checkpoint,
        state=whole,
        seen=seen,
        stored=stored,
    )


def told(question: Question, log: Sequence[ops.Op] | None = None, **more: Any) -> Explanation:
    """The explanation from one log, and whatever else is known."""
    logs = [log_of(question, log)] if log is not None else []
    return explain(question, Facts(**{"logs": logs, "now": WALL_MS + 1_000_000, **more}))


def whats(explanation: Explanation, *kinds: str) -> list[str]:
    """The sentences of the chain, of these kinds."""
    return [one.what for one in explanation.chain if not kinds or one.kind in kinds]


def a_document(
    isr: Sequence[int] = (1, 2, 3),
    *,
    epoch: int = 1,
    leader: int | None = 1,
    elections: Sequence[Election] = (),
) -> Document:
    known = {one: Known(host="127.0.0.1", port=9091 + one, disk=f"d{one}") for one in (1, 2, 3)}
    return Document(
        cluster="C",
        epoch=epoch,
        leader=leader,
        isr=tuple(Replica(one, f"d{one}") for one in isr),
        brokers=known,
        settings=Settings(),
        elections=tuple(elections),
    )


# -- files -----------------------------------------------------------------------------------------


def the_log() -> list[ops.Op]:
    """A topic with four records in two operations."""
    scribe = Scribe()
    scribe.write(ops.Lead, broker=1)
    scribe.topic()
    for _ in range(2):
        scribe.append(2)
    for op in scribe.log:
        if isinstance(op, ops.Append):
            op.size, op.crc = len(2 * BODY), ops.crc_of(2 * BODY)
    return scribe.log


def a_broker(home: Path, broker: int, log: Sequence[ops.Op], cluster: str | None = "C") -> Path:
    path = home / f"broker-{broker}"
    (path / "oplog").mkdir(parents=True)
    meta = {"format": 1, "kind": "broker", "broker": broker, "cluster": cluster, "disk": "d"}
    (path / "meta.json").write_text(json.dumps(meta))
    data, total = b'{"format":1,"first":1,"sum":"00000000"}\n', ops.NO_SUM
    for op in log:
        line, total = ops.encode(op, total)
        data += line + (2 * BODY if isinstance(op, ops.Append) else b"")
    (path / "oplog" / f"{1:020d}.jsonl").write_bytes(data)
    return path


def a_zk(home: Path, cluster: str = "C") -> Path:
    path = home / "zookeeper"
    path.mkdir(parents=True)
    document = msgspec.structs.replace(a_document(), cluster=cluster)
    (path / "state.json").write_bytes(msgspec.json.encode(document))
    events = [
        {"time": 2, "process": "yak-zk", "event": "died", "broker": 1, "reason": "r"},
        {"time": 1, "process": "yak-zk", "event": "left", "broker": 1, "reason": "r"},
    ]
    for name, event in zip(("events.jsonl", "events.1.jsonl"), events, strict=True):
        (path / name).write_text(f"{json.dumps(event)}\n[1]\n{{no json\n{{}}\n")
    return path
