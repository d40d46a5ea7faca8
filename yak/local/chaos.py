"""Faults that are done to a running cluster, and undone: what `yak chaos` is made of.

    cluster = Target.find(data_dir)         raises Fatal where none runs there
    with cluster.hurt(fault):               noted, done, told; undone at the end, however that comes
        ...
    mend(data_dir)                          what a `yak chaos` that was killed has left

Rules:

* Only a process that yak.json names, and that is still the one it names (pids.py), is hurt.
* What is done is noted first (faults.py).  What undoes it looks again: a process that somebody
  else has started again, or that is gone, is left as it is.
* A killed process is started as it was before, and belongs to nobody's terminal.

    kill     kill -9, and started again
    pause    SIGSTOP, and SIGCONT
    cut      its doors hold what comes, one way or both (relay.py)
    slow     they pass it on later
    fill     its limit of a file's size becomes 0 (prlimit): whatever it writes to a file fails, as
             on a full disk, and costs nobody else a byte.  Linux only

It waits for nothing to be noticed: what follows, the cluster does.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from yak.errors import Fatal
from yak.explain.faults import Kind, name
from yak.local import faults, note, pids
from yak.local.again import start_again
from yak.local.doors import Orders, among
from yak.local.faults import Fault
from yak.local.note import ZK, Member, Note
from yak.local.relay import Rule
from yak.model import parse_address

#: A `yak chaos` that is told to end starts a broker again before it does.
_ENDS_S: Final = 45.0
#: What a process is told when it grows a file beyond it: EFBIG.
_NO_ROOM: Final = 0


class Target:
    """A running cluster that may be hurt.  note: as it was when it was found."""

    def __init__(self, data_dir: Path, found: Note) -> None:
        self.data_dir = data_dir
        self.note = found

    @classmethod
    def find(cls, data_dir: Path) -> Target:
        """Raises Fatal where none of its processes runs."""
        found = note.read(data_dir)
        if found is None or not found.alive:
            why = "was left by one that has ended" if found is not None else "is not there"
            raise Fatal(
                f"no cluster of `yak up` runs in {data_dir}: {data_dir / note.NAME} {why}; start "
                "one with `yak up`, or say with --data-dir where it is"
            )
        return cls(data_dir, found)

    @property
    def brokers(self) -> list[int]:
        return [one.id for one in self.note.members if one.id != ZK]

    def member(self, number: int) -> Member:
        """One that runs.  Raises Fatal."""
        self.note = note.read(self.data_dir) or self.note
        found = next((one for one in self.note.members if one.id == number), None)
        if found is None:
            there = ", ".join(map(str, self.brokers))
            raise Fatal(
                f"there is no broker {number} in {self.data_dir}: it has {there}, and zk for yak-zk"
            )
        if not found.process.alive:
            raise Fatal(
                f"{name(number)} does not run (its pid was {found.pid}): `yak up` starts it again"
            )
        return found

    # -- one fault --------------------------------------------------------------------------------

    def fault(
        self,
        kind: Kind,
        members: Sequence[int],
        for_s: float,
        command: str,
        *,
        one_way: bool = False,
        late_ms: int | None = None,
    ) -> Fault:
        """What is to be done, as it will be noted.  Raises Fatal where it cannot be."""
        there = [self.member(one) for one in members]
        before = -1
        if kind in ("cut", "slow"):
            self._check_doors()
        self._check_free(kind, members)
        if kind == "pause" and pids.stopped(there[0].pid):
            raise Fatal(
                f"{name(members[0])} is stopped already, and not by `yak chaos`: "
                f"`kill -CONT {there[0].pid}` lets it go on"
            )
        if kind == "fill":
            before = _file_limit(there[0])
        me = faults.own()
        victim = there[0].process if kind not in ("cut", "slow") else pids.Pid(0, "")
        return Fault(
            kind=kind,
            members=list(members),
            since=int(time.time() * 1000),
            for_ms=int(for_s * 1000),
            command=command,
            by=me.pid,
            by_born=me.born,
            pid=victim.pid,
            pid_born=victim.born,
            one_way=one_way,
            late_ms=late_ms,
            before=before,
        )

    def _check_doors(self) -> None:
        relay = self.note.relay
        if relay is None:
            raise Fatal(
                "this cluster has no doors between its processes, which hold back what passes or "
                "make it late: start it with `yak down`, then `yak up --chaos`; kill, pause and "
                "fill need none"
            )
        if not relay.process.alive:
            raise Fatal("the relay, which keeps the doors, has ended: `yak up` starts it again")

    def _check_free(self, kind: Kind, members: Sequence[int]) -> None:
        """Two of a kind at one place would undo each other."""
        for one in faults.now(self.data_dir):
            if one.kind == kind and set(one.members) & set(members) and one.maker.alive:
                left = max(0.0, (one.since + one.for_ms) / 1000 - time.time())
                raise Fatal(
                    f"{name(one.members[0])} is hurt so already, by `{one.command}` (pid {one.by}) "
                    f"for {left:.0f} s more: wait for it, or end that one"
                )

    @contextmanager
    def hurt(self, fault: Fault) -> Iterator[None]:
        """Done meanwhile, and told."""
        faults.write_down(self.data_dir, fault)
        orders: Orders | None = None
        try:
            orders = self._do(fault)
            faults.tell(self.data_dir, "fault", fault, for_ms=fault.for_ms)
            yield
        finally:
            if orders is not None:
                orders.close()
            undo(self.data_dir, fault)

    def _do(self, fault: Fault) -> Orders | None:
        try:
            match fault.kind:
                case "kill":
                    pids.kill([fault.victim])
                case "pause":
                    os.kill(fault.pid, signal.SIGSTOP)
                case "fill":
                    _limit_files(fault.pid, _NO_ROOM)
                case "cut" | "slow":
                    return self._order(fault)
        except ProcessLookupError:
            raise Fatal(
                f"{name(fault.members[0])} has ended just now; look, and try again"
            ) from None
        except PermissionError as e:
            raise Fatal(
                f"{name(fault.members[0])} is another user's process: only they, or root, may"
            ) from e
        return None

    def _order(self, fault: Fault) -> Orders:
        assert self.note.relay is not None
        orders = Orders(parse_address(self.note.relay.address))
        try:
            orders.order(self._rules(fault))
        except BaseException:
            orders.close()
            raise
        return orders

    def _rules(self, fault: Fault) -> list[Rule]:
        late = fault.late_ms if fault.kind == "slow" else None
        return among(fault.members, self.brokers, late, one_way=fault.one_way)


# -- undoing --------------------------------------------------------------------------------------


def undo(data_dir: Path, fault: Fault) -> None:
    """Undone, struck out and told; nothing where the cluster was stopped meanwhile."""
    how = _undo(data_dir, fault)
    faults.strike_out(data_dir, fault)
    faults.tell(data_dir, "fault_ended", fault, **({"how": how} if how else {}))


def _undo(data_dir: Path, fault: Fault) -> str:
    """How it ended, where it did not end as usual."""
    if fault.kind == "kill":
        return _start(data_dir, fault.members[0])
    if fault.kind in ("cut", "slow"):
        return ""  # with its maker's connection
    if not fault.victim.alive:
        return "has ended meanwhile"
    with suppress(ProcessLookupError):
        if fault.kind == "pause":
            os.kill(fault.pid, signal.SIGCONT)
        else:
            _limit_files(fault.pid, fault.before)
    return ""


def _start(data_dir: Path, member: int) -> str:
    with note.starting(data_dir, waits=True):
        found = note.read(data_dir)
        if found is None:
            return "was not started again: the cluster was stopped"
        if any(one.id == member and one.process.alive for one in found.members):
            return "had been started again by somebody else"
        for process in start_again(data_dir, found, [member]):
            process.close()
    return ""


def mend(data_dir: Path) -> list[Fault]:
    """Undo what was left behind by those who no longer live."""
    left = [one for one in faults.now(data_dir) if not one.maker.alive]
    for one in left:
        undo(data_dir, one)
    return left


def end_all(data_dir: Path) -> list[Fault]:
    """Tell every `yak chaos` here to end, wait for it, and undo what is left; what it was."""
    there = faults.now(data_dir)
    me = faults.own()
    makers = {one.maker for one in there} - {me}
    pids.end(sorted(makers), _ENDS_S)
    mend(data_dir)
    return there


# -- a full disk ----------------------------------------------------------------------------------


def _file_limit(member: Member) -> int:
    """How large its files may be.  Raises Fatal."""
    if not hasattr(resource, "prlimit"):
        raise Fatal("fill needs prlimit(2), which this system does not have: Linux does")
    try:
        soft, _ = resource.prlimit(member.pid, resource.RLIMIT_FSIZE)
    except (PermissionError, ProcessLookupError) as e:
        raise Fatal(f"the limits of {name(member.id)} cannot be changed: {e.strerror}") from e
    return soft


def _limit_files(pid: int, soft: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
