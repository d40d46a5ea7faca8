"""One fault of `yak chaos`, from its announcement until all is as before: what comes of it.

Rules:

* The brokers are asked again and again who leads, and who is in sync; each change is told, with
  the seconds since the fault was done.  Who is stopped is not asked: it would be waited for.
* The first Ctrl-C breaks into whatever is waited for, never into what undoes the fault.

Not here: whom it hurts, and how (yak/local/chaos.py).
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import click
import msgspec

from yak import messages as m
from yak.commands.expecting import Stand, announced, expected
from yak.commands.interrupts import Interrupted, Interrupts
from yak.config import Settings
from yak.errors import Fatal, YakError
from yak.explain.facts import named
from yak.explain.faults import Kind, undone
from yak.local import note
from yak.local.asking import Asker
from yak.local.chaos import Target
from yak.local.faults import Fault
from yak.local.note import ZK
from yak.local.ready import Standing
from yak.model import Address, parse_address

#: Instead of an id: whoever leads then.
LEADER: Final = -1
#: How often it is looked at what came of it, in seconds.
_LOOK_S: Final = 0.02
#: Until somebody leads, where it is the leader that is to be hurt; else it matters less.
_LEADER_S: Final = 10.0
_ANY_LEADER_S: Final = 1.0
#: Until all are in sync again: a broker may have to copy much.
_IN_SYNC_S: Final = 60.0
_ANSWER_S: Final = 1.0
#: What is expected is not folded into less than this.
_NARROW: Final = 30


class Run:
    """Faults one after the other, in one cluster."""

    def __init__(
        self,
        target: Target,
        interrupts: Interrupts,
        teller: Teller,
        command: str,
        for_s: float,
        how: dict[str, Any],
    ) -> None:
        self._target = target
        self._interrupts = interrupts
        self._teller = teller
        self._command = command
        self._for_s = for_s
        self._how = how

    def once(self, kind: Kind, members: Sequence[int]) -> bool:
        """One of them, from its announcement until all is as before; whether it is."""
        wait_s = _LEADER_S if LEADER in members else _ANY_LEADER_S
        stand = self._interrupts.call(lambda: self._stand(wait_s))
        chosen = [self._leader(stand) if one == LEADER else one for one in members]
        if len(set(chosen)) < len(chosen):
            raise Fatal("a process cannot be cut off from itself, nor slow to itself: say two")
        fault = self._target.fault(kind, chosen, self._for_s, self._command, **self._how)
        self._teller.announce(fault, stand)
        began = time.monotonic()
        watch = _Watch(self._target, stand, self._teller, fault, began)
        try:
            with self._target.hurt(fault):
                self._interrupts.call(lambda: watch.until(began + self._for_s))
        except Interrupted:
            self._teller.say("undone", fault, undone(kind, chosen), began)
            return False
        self._teller.say("undone", fault, undone(kind, chosen), began)
        return self._interrupts.call(watch.until_in_sync)

    def _leader(self, stand: Stand) -> int:
        if stand.leader is None:
            raise Fatal(f"nobody leads after {_LEADER_S:g} s: `yak status` says why")
        return stand.leader

    def _stand(self, wait_s: float) -> Stand:
        """How things are, once somebody leads."""
        settings = _settings(self._target)
        deadline = time.monotonic() + wait_s
        with Standing(_addresses(self._target, ())) as standing:
            while True:
                word = standing.leader()
                if word is not None:
                    return Stand(word.broker, word.epoch, word.isr, settings)
                if time.monotonic() > deadline:
                    return Stand(None, 0, [], settings)
                time.sleep(_LOOK_S)


def _addresses(target: Target, without: Collection[int]) -> dict[int, Address]:
    """Of the brokers that are asked."""
    found = note.read(target.data_dir)
    members = target.note.members if found is None else found.members
    return {
        one.id: parse_address(one.address)
        for one in members
        if one.id not in (ZK, *without) and one.process.alive
    }


def _settings(target: Target) -> Settings:
    """yak-zk's, or what they usually are."""
    try:
        with Asker(parse_address(target.note.zk), _ANSWER_S) as asker:
            return asker.ask(m.Status(id=0), m.CoordinatorStatus)[0].settings
    except YakError:
        return Settings()


class _Watch:
    """What comes of a fault."""

    def __init__(
        self, target: Target, stand: Stand, teller: Teller, fault: Fault, began: float
    ) -> None:
        self._target = target
        self._teller = teller
        self._fault = fault
        self._began = began
        self._leads = (stand.leader, stand.epoch)
        self._isr = sorted(stand.isr)

    def until(self, deadline: float) -> None:
        """Look until then.  Who is stopped is not asked: it would be waited for."""
        deaf = self._fault.members if self._fault.kind == "pause" else ()
        with Standing(_addresses(self._target, deaf)) as standing:
            while (left := deadline - time.monotonic()) > 0:
                self._look(standing)
                time.sleep(min(_LOOK_S, max(0.0, left)))

    def until_in_sync(self) -> bool:
        """Until all are in sync; whether they are in time."""
        deadline = time.monotonic() + _IN_SYNC_S
        there = _addresses(self._target, ())
        if not there:
            self._say("stopped", "the cluster was stopped meanwhile")
            return False
        with Standing(there) as standing:
            while time.monotonic() < deadline:
                word = self._look(standing, all_of=set(there))
                if word is not None and set(there) <= set(word.isr):
                    self._isr = sorted(word.isr)
                    self._say("in_sync", f"all are in sync: {named(self._isr)}")
                    return True
                time.sleep(_LOOK_S)
        self._say("late", f"not all are in sync again after {_IN_SYNC_S:g} s: `yak explain isr`")
        return False

    def _look(self, standing: Standing, all_of: set[int] | None = None) -> m.StatusAnswer | None:
        """Tell what has changed.  all_of: that these are in sync is told by the caller."""
        word = standing.leader()
        if word is None:
            return None
        if (word.broker, word.epoch) != self._leads:
            self._leads = (word.broker, word.epoch)
            self._say("leader", f"broker {word.broker} leads epoch {word.epoch}")
        if sorted(word.isr) != self._isr and (all_of is None or not all_of <= set(word.isr)):
            self._isr = sorted(word.isr)
            self._say("isr", f"in sync: {named(self._isr)}")
        return word

    def _say(self, event: str, what: str) -> None:
        leader, epoch = self._leads
        self._teller.say(
            event, self._fault, what, self._began, leader=leader, epoch=epoch, isr=self._isr
        )


class Teller:
    """What is said, for people or for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def announce(self, fault: Fault, stand: Stand) -> None:
        words, expect = announced(fault, stand), expected(fault, stand)
        if not self._as_json:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
            lines = textwrap.wrap(expect, max(_NARROW, width - 12)) if width else [expect]
            click.echo("\n".join([words, "    expect  " + ("\n" + " " * 12).join(lines)]))
            return
        now: dict[str, Any] = {"leader": stand.leader, "epoch": stand.epoch}
        now["isr"] = sorted(stand.isr)
        self.say("fault", fault, words, expect=expect, **now)

    def say(
        self, event: str, fault: Fault, what: str, began: float | None = None, **more: Any
    ) -> None:
        """began: when the fault was done; monotonic."""
        after = None if began is None else time.monotonic() - began
        if not self._as_json:
            when = "" if after is None else f"  {after:6.2f} s  "
            click.echo(f"{when}{what}")
            return
        line = {
            "time": int(time.time() * 1000),
            "event": event,
            "kind": fault.kind,
            "members": fault.members,
            "for_ms": fault.for_ms,
            "after_ms": None if after is None else int(after * 1000),
            "what": what,
            "expect": None,
            "leader": None,
            "epoch": None,
            "isr": None,
            **more,
        }
        click.echo(msgspec.json.encode(line).decode())
