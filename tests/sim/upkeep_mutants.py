"""Mutants of the rules of checkpoints, restarts, logs' cuts, full copies and groups.

    checkpoint   checkpoint_files  checkpoint_names  checkpoint_whole  checkpoint_at
    restart      restart_files  restart_trash  restart_proved  damaged_out
    cut          cut_covered  trash_covered
    copy         copy_durable  copy_pinned  copy_trash  copy_log
    groups       two_steps  holder_says  holder_since  holder_logged  nobody  overdue
                 member_session  acked_forward

They are as those of mutants.py, and found in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest.mock import patch

from msgspec.structs import replace

from tests.sim.mutants import Patch, both
from yak.copying import Giving
from yak.core import groups, ops, state
from yak.core.node import Node
from yak.core.service import Service
from yak.core.sessions import Sessions
from yak.core.snapshot import describe
from yak.core.state import Group, State
from yak.storage import checkpoint as checkpoints
from yak.storage.checkpoint import CheckpointJob
from yak.storage.copy import Incoming, Outgoing
from yak.storage.data_dir import DataDir
from yak.storage.restore import Restoration, discard
from yak.storage.store import Store
from yak.storage.trash import Trash

# -- Checkpoints ----------------------------------------------------------------------------------


def checkpoint_files() -> Patch:
    """A checkpoint is written before the bytes that it names are durable."""
    return patch.object(CheckpointJob, "_sync_files", lambda self: None)


def checkpoint_names() -> Patch:
    """It is written before the names of the files that it names are."""
    return patch.object(CheckpointJob, "_sync_directories", lambda self: None)


def checkpoint_whole() -> Patch:
    """It is written over the one before, and counts at once."""

    def mutant(self: CheckpointJob) -> None:
        data = checkpoints.encode(self._head(describe(self._state)))
        self._disk.write_file(f"{self._path}/{checkpoints.FILE_NAME}", data)
        self.size, self.made = len(data), True

    return patch.object(CheckpointJob, "_write", mutant)


def checkpoint_at() -> Patch:
    """State goes on while it is written, and is written as it then is."""
    return patch.object(State, "copy", lambda self: self)


# -- Restarts -------------------------------------------------------------------------------------


def restart_files() -> Patch:
    """Partition files stay as they are found, and the log is written to their ends again."""
    return patch.object(Restoration, "_put_back", lambda *_: None)


def restart_trash() -> Patch:
    """What was freed since the checkpoint is not put back."""
    return patch("yak.storage.restore.undo", lambda *_: None)


def restart_proved() -> Patch:
    """The log after the checkpoint is applied without waiting for its proof."""
    init = Node.__init__

    def mutant(self: Node, *args: Any, **more: Any) -> None:
        init(self, *args, **more)
        self.committed = self.log.next - 1

    return patch.object(Node, "__init__", mutant)


def damaged_out() -> Patch:
    """Whoever finds damage begins with nothing, and says that it is whole."""
    suspect = DataDir.is_damaged

    def mutant(self: DataDir) -> None:
        before = self.meta.suspect
        suspect(self)
        self.meta.suspect = before
        self._save()

    return patch.object(DataDir, "is_damaged", mutant)


# -- What is let go -------------------------------------------------------------------------------


def cut_covered() -> Patch:
    """The log's front goes when a checkpoint is begun."""
    begin = Store.begin_checkpoint

    def mutant(self: Store, state: State) -> CheckpointJob:
        job = begin(self, state)
        self.checkpoint = job.index
        for remove in self.tidy(0, job.index + 1, job.index):
            remove()
        return job

    return patch.object(Store, "begin_checkpoint", mutant)


def trash_covered() -> Patch:
    """What a committed operation frees is removed at once."""
    carry_out = Trash.carry_out

    def mutant(self: Trash) -> None:
        carry_out(self)
        for name in self.covered(1 << 62):
            self._disk.rmtree(name)

    return patch.object(Trash, "carry_out", mutant)


# -- Full copies ----------------------------------------------------------------------------------


def copy_durable() -> Patch:
    """A copy takes its place as soon as it is here."""

    def mutant(self: Incoming) -> Iterator[Callable[[], None]]:
        assert self._checkpoint is not None
        own = replace(self._checkpoint, log_file=None, log_position=0)
        path = f"{self._home}/{checkpoints.FILE_NAME}"
        yield lambda: self._disk.write_file(path, checkpoints.encode(own))

    return patch.object(Incoming, "syncs", mutant)


def copy_pinned() -> Patch:
    """What a checkpoint that is being copied names is let go as soon as there is a later one."""
    return patch.object(Giving, "pinned", property(lambda self: self._store.checkpoint))


def copy_trash() -> Patch:
    """What is copied is looked for in its first place only."""
    read = Outgoing.read

    def mutant(self: Outgoing, *args: Any) -> bytes:
        with patch.object(Trash, "where", lambda self, path, since: path):
            return read(self, *args)

    return patch.object(Outgoing, "read", mutant)


def copy_log() -> Patch:
    """The log of before stays where a copy takes the place of all else."""

    def mutant(disk: Any, path: str, *names: str) -> None:
        discard(disk, path, *(name for name in names if name != "oplog"))

    return patch("yak.storage.copy.discard", mutant)


# -- Groups ---------------------------------------------------------------------------------------


def two_steps() -> Patch:
    """A partition goes to its new member at once."""
    return patch.object(groups, "_still_held", lambda *_: (None, None))


def holder_says() -> Patch:
    """A member that has heard of the new generation has let go, whatever it says that it holds."""
    released = groups.released

    def mutant(group: Group, member: str, generation: int, owned: Any) -> Any:
        return released(group, member, generation, ())

    return patch.object(groups, "released", mutant)


def holder_since() -> Patch:
    """What a member does not say that it holds it has let go, whatever it has heard of."""
    released = groups.released

    def mutant(group: Group, member: str, generation: int, owned: Any) -> Any:
        return released(group, member, 1 << 62, owned)

    return patch.object(groups, "released", mutant)


def holder_logged() -> Patch:
    """Who may still hold a partition is the leader's knowledge, and goes with it."""
    lead = state._APPLY[ops.Lead]

    def mutant(self: State, op: ops.Op) -> None:
        lead(self, op)
        for name, group in self.groups.items():
            owners = {tp: o._replace(holder=None, since=None) for tp, o in group.owners.items()}
            self.groups[name] = replace(group, owners=owners, moving=frozenset())

    return patch.dict(state._APPLY, {ops.Lead: mutant})


def nobody() -> Patch:
    """What nobody wants any more has no holder."""
    shared_out = groups.shared_out

    def mutant(*args: Any) -> list[Any]:
        return [row for row in shared_out(*args) if row[2] != groups.NOBODY]

    return patch.object(groups, "shared_out", mutant)


def overdue() -> Patch:
    """A new leader takes it that the one before had come to the end of what it did."""
    return patch.object(groups, "overdue", lambda state: [])


def member_session() -> Patch:
    """A member is given up before its session is over."""
    opens = Sessions.open

    def mutant(self: Any, key: Any, session_s: float, now: float) -> None:
        opens(self, key, session_s / 4 if isinstance(key, tuple) else session_s, now)

    return patch.object(Sessions, "open", mutant)


def acked_forward() -> Patch:
    """An acknowledgement counts even if it is older than what counts."""

    def mutant(self: State, op: ops.Ack) -> None:
        State._ack(self, replace(op, reset=True))

    forward = patch.object(Service, "_changes_nothing", lambda *_: False)
    return both(forward, patch.dict(state._APPLY, {ops.Ack: mutant}))


RULES: Final[dict[str, Callable[[], Patch]]] = {
    mutant.__name__: mutant
    for mutant in (
        checkpoint_files,
        checkpoint_names,
        checkpoint_whole,
        checkpoint_at,
        restart_files,
        restart_trash,
        restart_proved,
        damaged_out,
        cut_covered,
        trash_covered,
        copy_durable,
        copy_pinned,
        copy_trash,
        copy_log,
        two_steps,
        holder_says,
        holder_since,
        holder_logged,
        nobody,
        overdue,
        member_session,
        acked_forward,
    )
}
#: As in mutants.py.
SCENT: Final[dict[str, tuple[str, int]]] = {
    "checkpoint_files": ("upkeep", 1),
    "checkpoint_names": ("upkeep", 1),
    "checkpoint_whole": ("upkeep", 1),
    "checkpoint_at": ("upkeep", 2),
    "restart_files": ("upkeep", 13),
    "restart_trash": ("upkeep", 55),
    "restart_proved": ("upkeep", 117),
    "damaged_out": ("upkeep", 3),
    "cut_covered": ("upkeep", 1),
    "trash_covered": ("upkeep", 3),
    "copy_durable": ("upkeep", 1),
    "copy_pinned": ("upkeep", 3),
    "copy_trash": ("upkeep", 3),
    "copy_log": ("tail", 4),
    "two_steps": ("topics", 1),
    "holder_says": ("topics", 1),
    "holder_since": ("late", 74),
    "holder_logged": ("topics", 73),
    "nobody": ("topics", 16),
    "overdue": ("topics", 472),
    "member_session": ("topics", 4),
    "acked_forward": ("topics", 1937),
}
