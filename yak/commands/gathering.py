"""The facts for an explanation, from data directories and from a running cluster.

    data/                a home: every broker's and yak-zk's directory in it
    data/broker-1        a broker's: its log, its checkpoint, its partition files, its events
    data/zookeeper       yak-zk's: the cluster document with its last elections, and its events

Rules:

* It only reads, takes no lock, and may read what running processes write.  Logs are walked, and
  proved on the way (walking.py); where one breaks off, what comes before counts, and that is said.
* Only one cluster is told of: that of the first directory; what belongs to another is left out, and
  that is said, since the defaults name whatever listens on this machine.
* What is not here is no error as long as anything is: it goes into `unknown`.

Not here: what follows from the facts (yak/explain/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from yak.admin import AsyncAdmin
from yak.commands.reaching import Waiting
from yak.commands.walking import walk_logs
from yak.core import ops
from yak.core.document import Document
from yak.core.snapshot import restore
from yak.core.state import State
from yak.errors import Fatal, YakError
from yak.explain.facts import Event, Facts, LogFacts, named
from yak.explain.questions import Question
from yak.local import faults, note
from yak.messages import CoordinatorStatus, GroupAnswer
from yak.net.reports import ClusterReport, fetch_operation
from yak.storage import checkpoint as checkpoints
from yak.storage.faults import Damaged

#: What is looked at where nothing is said, and no yak.json says where the cluster's files are.
DEFAULT_HOME: Final = Path("data")
#: How long a running cluster may take to answer: an explanation is better without than late.
ASK_S: Final = 3.0
#: So many groups are asked for, each by a request: all that one sentence can name, many times over.
GROUPS_ASKED: Final = 200


class _EventHead(msgspec.Struct):
    """What every line of an events.jsonl has."""

    time: int
    process: str
    event: str


class Gathered(msgspec.Struct):
    """What is found so far; in the end `facts`."""

    cluster: str | None = None
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    sources: list[str] = msgspec.field(default_factory=list)
    unknown: list[str] = msgspec.field(default_factory=list)
    known: set[int] = msgspec.field(default_factory=set)
    #: Worth a word only where its directory is not here either.
    zk_silent: str = ""

    def is_ours(self, cluster: str | None, where: str) -> bool:
        """Whether this belongs to the one cluster; the first one that is found is it."""
        if cluster is not None and self.cluster is None:
            self.cluster = cluster
        if cluster is None or cluster == self.cluster:
            return True
        self.unknown.append(
            f"{where} is left out: it belongs to cluster {cluster}, and this is {self.cluster}"
        )
        return False

    def facts(self) -> Facts:
        silent = [self.zk_silent] if self.zk_silent and "document" not in self.fields else []
        return Facts(
            now=int(time.time() * 1000),
            sources=self.sources,
            unknown=[*self.unknown, *silent],
            **self.fields,
        )


# -- files ----------------------------------------------------------------------------------------


def directories(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(those of brokers, those of yak-zks), given themselves or in one that was given.

    Raises Fatal where one that was given is neither.  Nothing given is where yak.json lies, or
    ./data, if it is there.
    """
    brokers: list[Path] = []
    coordinators: list[Path] = []
    homes = list(given) or [path for path in (_home(),) if path.is_dir()]
    for home in homes:
        inside = [home, *sorted(path for path in home.glob("*") if path.is_dir())]
        ours = [path for path in inside if (path / "oplog").is_dir()]
        zks = [path for path in inside if (path / "state.json").is_file()]
        if given and not ours and not zks:
            raise Fatal(
                f"{home} is no data directory of a broker or of yak-zk, and holds none: give one, "
                "as data/broker-1, or the directory that has them all, as data"
            )
        brokers += ours
        coordinators += zks
    return list(dict.fromkeys(brokers)), list(dict.fromkeys(coordinators))


def _home() -> Path:
    """That of the cluster which `yak up` started here, as short as it can be said."""
    found = note.nearest()
    if found is None:
        return DEFAULT_HOME
    here = Path.cwd()
    return found.relative_to(here) if found.is_relative_to(here) else found


def read_files(question: Question, given: Sequence[Path], gathered: Gathered) -> None:
    """Everything that the directories have.  Raises Fatal for one that is none."""
    brokers, coordinators = directories(given)
    events: list[Event] = []
    for path in coordinators[:1]:  # a cluster has one
        document = _read_document(path, gathered)
        if document is not None and gathered.is_ours(document.cluster, str(path)):
            gathered.fields["document"] = document
            gathered.known |= set(document.brokers)
            gathered.sources.append(str(path))
            events += read_events(path)
            events += read_events(faults.directory(path.parent))
    ours: dict[Path, int] = {}
    for path in brokers:
        meta = _read_meta(path)
        if gathered.is_ours(meta.get("cluster"), str(path)):
            gathered.sources.append(str(path))
            events += read_events(path)
            ours[path] = int(meta.get("broker") or 0)
    logs = _read_logs(ours, question, gathered)
    logs.sort(key=lambda one: (one.epoch, one.last), reverse=True)
    gathered.known |= {log.broker for log in logs}
    missing = gathered.known - {log.broker for log in logs}
    if missing and logs:
        gathered.unknown.append(
            f"what {named(sorted(missing))} wrote down: its directory is not among those looked at"
        )
    events.sort(key=lambda event: event.time)
    gathered.fields |= {"logs": logs, "events": events}


def _read_meta(path: Path) -> dict[str, Any]:
    """meta.json as far as it can be read."""
    try:
        meta = msgspec.json.decode((path / "meta.json").read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _read_document(path: Path, gathered: Gathered) -> Document | None:
    try:
        return msgspec.json.decode((path / "state.json").read_bytes(), type=Document)
    except (OSError, msgspec.MsgspecError) as e:
        gathered.unknown.append(f"what yak-zk has decided: {path}/state.json cannot be read: {e}")
        return None


def read_events(path: Path) -> list[Event]:
    """A process's own story, the file before the present one too; lines that are none go."""
    found = []
    for name in ("events.1.jsonl", "events.jsonl"):
        try:
            lines = (path / name).read_bytes().splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                head = msgspec.json.decode(line, type=_EventHead)
                fields = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError:
                continue
            for name in head.__struct_fields__:
                del fields[name]
            found.append(Event(head.time, head.process, head.event, fields))
    return found


def _read_logs(ours: Mapping[Path, int], question: Question, gathered: Gathered) -> list[LogFacts]:
    """What the question keeps of each; those that cannot be told are left out."""
    logs = []
    checkpoint_of = partial(_read_checkpoint, gathered=gathered)
    for path, walk, trouble in walk_logs(list(ours), question.look, checkpoint_of):
        if trouble:
            gathered.unknown.append(trouble)
        if walk is None:
            continue
        logs.append(
            LogFacts(
                broker=ours[path],
                directory=str(path),
                state=walk.end(),
                first=walk.first,
                last=walk.last,
                epoch=walk.epoch,
                checkpoint=walk.checkpoint,
                seen=walk.seen,
                stored=_stored(path, question) if question.kind == "offset" else None,
            )
        )
    return logs


def _read_checkpoint(path: Path, gathered: Gathered) -> State | None:
    file = path / checkpoints.FILE_NAME
    try:
        return restore(checkpoints.decode(file.read_bytes(), str(file)).state)
    except FileNotFoundError:
        return None
    except (OSError, Damaged, Fatal) as e:
        gathered.unknown.append(f"{file} cannot be read: {e}")
        return None


def _stored(path: Path, question: Question) -> ops.Append | None:
    """The operation that holds the offset, from the partition's file."""
    folder = path / "topics" / question.name / str(question.partition)
    files = [file for file in sorted(folder.glob("*.jsonl")) if file.stem.isdecimal()]
    files = [file for file in files if int(file.stem) <= question.offset]
    if not files:
        return None
    try:
        with files[-1].open("rb") as file:
            file.readline()  # its header
            while line := file.readline():
                op = ops.decode(line)
                if not isinstance(op, ops.Append):
                    return None
                if op.offset <= question.offset < op.offset + op.count:
                    return op
                file.seek(op.size, 1)
    except (OSError, ops.BrokenLine):  # it is being written, or damaged: yak verify says which
        return None
    return None


# -- a running cluster ----------------------------------------------------------------------------


async def ask_cluster(
    question: Question, bootstrap: str, zk: str, gathered: Gathered, *, named_by_user: bool
) -> None:
    """What the brokers and yak-zk say.  named_by_user: that none answers is worth a word."""
    say = Waiting(bootstrap)
    async with AsyncAdmin(
        bootstrap, client="yak-explain", timeout_s=ASK_S, on_waiting=say
    ) as admin:
        report, told = await asyncio.gather(
            admin.status(), admin.coordinator(zk), return_exceptions=True
        )
        if isinstance(report, ClusterReport):
            if gathered.is_ours(report.cluster, f"what answers at {bootstrap}"):
                await _ask_brokers(question, admin, report, gathered)
        elif not isinstance(report, YakError):
            raise report
        elif named_by_user or not gathered.sources:
            gathered.unknown.append(f"what a running cluster says: {report}")
    if not isinstance(told, CoordinatorStatus):
        if not isinstance(told, YakError):
            raise told
        gathered.zk_silent = (
            f"what yak-zk says: it does not answer at {zk}; --zk HOST:PORT names another"
        )
    elif gathered.is_ours(told.cluster, f"what answers at {zk}"):
        gathered.sources.append(f"yak-zk at {zk}")
        gathered.fields["coordinator"] = told
        gathered.known |= {one.broker for one in told.sessions}


async def _ask_brokers(
    question: Question, admin: AsyncAdmin, report: ClusterReport, gathered: Gathered
) -> None:
    fields = gathered.fields
    fields["statuses"] = {one.id: one.status for one in report.brokers if one.status is not None}
    fields["down"] = {one.id: one.error for one in report.brokers if one.status is None}
    gathered.known |= {one.id for one in report.brokers if one.id is not None}
    gathered.sources.append(
        "brokers " + ", ".join(f"{one.id} at {one.address}" for one in report.brokers if one.status)
    )
    if question.kind in ("leader", "isr") or report.leader is None:
        return
    if report.broker(report.leader) is None:  # it would be waited for once more
        gathered.unknown.append(f"what the leader knows: broker {report.leader} does not answer")
        return
    try:
        await _ask_leader(question, admin, report, gathered)
    except YakError as e:
        gathered.unknown.append(f"what the leader knows: {e}")


async def _ask_leader(
    question: Question, admin: AsyncAdmin, report: ClusterReport, gathered: Gathered
) -> None:
    """Groups, and the topic asked for."""
    names = await admin.groups()
    if question.kind == "group":
        names = [name for name in names if name == question.name]
    if len(names) > GROUPS_ASKED:
        gathered.unknown.append(f"what {len(names) - GROUPS_ASKED} further groups have received")
    groups: dict[str, GroupAnswer] = {}
    for name in names[:GROUPS_ASKED]:
        groups[name] = await admin.group(name)
    gathered.fields["groups"] = groups
    if question.kind not in ("topic", "offset"):
        return
    topics = gathered.fields["topics"] = await admin.topics()
    if question.name not in topics:
        return
    told = await admin.topic(question.name)
    gathered.fields["ends"] = [(one.start, one.high_watermark) for one in told.partitions]
    inside = question.partition < len(told.partitions)
    if question.kind != "offset" or not inside:
        return
    bounds = told.partitions[question.partition]
    if bounds.start <= question.offset < bounds.high_watermark:
        address = next(one.address for one in report.brokers if one.id == report.leader)
        gathered.fields["fetched"] = await fetch_operation(
            address, question.name, question.partition, question.offset
        )
