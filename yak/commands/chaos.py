"""`yak chaos`: real faults on a cluster that `yak up` started, each announced, watched, and undone.

    $ yak chaos kill-leader
    broker 1, which leads epoch 1: kill -9 of pid 4711, and started again after 5 s
      expect   its port refuses at once, so that another leads within some tens of milliseconds; …
      0.03 s   broker 2 leads epoch 2
      0.03 s   in sync: brokers 2 and 3
      5.41 s   broker 1 was started again
      5.88 s   in sync: brokers 1, 2 and 3: all is as before

Rules:

* It hurts only processes that yak.json names and that still are what it names; never by a name.
* Every fault is undone when its time is over, at Ctrl-C, at SIGTERM and when the terminal is
  closed; one whose `yak chaos` was killed is undone by the next one, by `yak up`, and `yak down`.
* --every: again and again, each from when all were in sync again.  Ctrl-C ends it, exit code 0;
  Ctrl-C before a single fault's time is over is 0 too, once it is undone.
* Exit code 1 where it could not be done, or not all were in sync again in time.
* --json: a line for each thing that happens, with the same keys.

Not here: how it is done (yak/local/chaos.py), what is to be expected (expecting.py), and what
comes of it (watching.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from yak.commands.interrupts import Interrupted, Interrupts, hang_up_is_an_end
from yak.commands.options import DURATION, ParamType, examples
from yak.commands.watching import LEADER, Run, Teller
from yak.errors import Fatal
from yak.explain.faults import Kind, undone
from yak.local import chaos as local
from yak.local import note
from yak.local.chaos import Target
from yak.local.note import ZK

F = TypeVar("F", bound=Callable[..., Any])

#: As long as a broker's session, twice: everything that follows from a fault is seen.
FOR_S: Final = 5.0
LATE_S: Final = 0.2


class _MemberType(ParamType):
    """A broker's id, `leader`, or `zk` (0)."""

    name = "n|leader|zk"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).removeprefix("broker-").removeprefix("yak-")
        if text in ("leader", "zk"):
            return LEADER if text == "leader" else ZK
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            self.fail(f"{value!r}: say a broker's id, leader, or zk for yak-zk", param, ctx)
        return int(text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        found = note.running()
        ids = [str(one.id) for one in found.members if one.id != ZK] if found is not None else []
        words = ["leader", "zk", *ids]
        item = click.shell_completion.CompletionItem
        return [item(word) for word in words if word.startswith(incomplete)]


MEMBER: Final = _MemberType()


@click.group(
    context_settings={"auto_envvar_prefix": "YAK_CHAOS"},
    epilog=examples(
        "yak chaos kill-leader             kill -9; started again after 5 s",
        "yak chaos kill-leader --every 10s",
        "yak chaos pause 2 --for 10s       SIGSTOP; 2, leader or zk",
        "yak chaos cut leader zk           needs yak up --chaos",
        "yak chaos slow 3 --by 500ms       needs yak up --chaos",
        "yak chaos fill leader             as if its disk were full",
        "yak chaos any --every 10s --seed 7",
        "yak chaos undo                    end all faults now",
    ),
)
def chaos() -> None:
    """Hurt the cluster that `yak up` started: really, for a while, and say what to expect."""


def _common(*, every: bool = False) -> Callable[[F], F]:
    """What all faults have.  every: it can be repeated."""

    def decorate(command: F) -> F:
        options = [
            click.option(
                "--for",
                "for_s",
                type=DURATION,
                default=FOR_S,
                show_default="5s",
                help="How long, before it is undone.",
            ),
            _data_dir,
            click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each."),
        ]
        if every:
            options.insert(
                1,
                click.option(
                    "--every",
                    type=DURATION,
                    help="Again and again until Ctrl-C, this long from one to the next.",
                ),
            )
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_data_dir: Final = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="data here, or the nearest above",
    help="The data directory that yak up was given.",
)
_one_way: Final = click.option(
    "--one-way", is_flag=True, help="Only what A sends to B; what B sends to A comes through."
)


@chaos.command(
    "kill-leader",
    epilog=examples("yak chaos kill-leader", "yak chaos kill-leader --for 2s --every 10s"),
)
@_common(every=True)
def kill_leader(**common: Any) -> int:
    """Kill -9 whoever leads, and start it again."""
    return _again("kill", [LEADER], "yak chaos kill-leader", alone=False, **common)


@chaos.command(epilog=examples("yak chaos kill 2", "yak chaos kill zk --for 10s"))
@click.argument("who", metavar="N|leader|zk", type=MEMBER)
@_common(every=True)
def kill(*, who: int, **common: Any) -> int:
    """Kill -9 one of them, and start it again."""
    return _again("kill", [who], "yak chaos kill", **common)


@chaos.command(epilog=examples("yak chaos pause leader", "yak chaos pause 2 --for 1s --every 5s"))
@click.argument("who", metavar="N|leader|zk", type=MEMBER)
@_common(every=True)
def pause(*, who: int, **common: Any) -> int:
    """Stop a process (SIGSTOP), so that it hangs, and let it go on."""
    return _again("pause", [who], "yak chaos pause", **common)


@chaos.command(
    epilog=examples(
        "yak chaos cut 1 2",
        "yak chaos cut leader zk",
        "yak chaos cut 3",
        "yak chaos cut 1 2 --one-way",
    )
)
@click.argument("who", metavar="A", type=MEMBER)
@click.argument("other", metavar="[B]", type=MEMBER, required=False)
@_one_way
@_common()
def cut(*, who: int, other: int | None, one_way: bool, **common: Any) -> int:
    """Cut two processes apart: A and B, or A from all others.

    Clients still reach both.  What is held back arrives afterwards, as by TCP.  Needs a cluster
    that was started by `yak up --chaos`.
    """
    members = [who] if other is None else [who, other]
    return _again("cut", members, "yak chaos cut", one_way=one_way, **common)


@chaos.command(epilog=examples("yak chaos slow 3 --by 500ms", "yak chaos slow leader zk --by 1s"))
@click.argument("who", metavar="A", type=MEMBER)
@click.argument("other", metavar="[B]", type=MEMBER, required=False)
@click.option(
    "--by",
    type=DURATION,
    default=LATE_S,
    show_default="200ms",
    help="How late everything arrives, each way.",
)
@_one_way
@_common()
def slow(*, who: int, other: int | None, by: float, one_way: bool, **common: Any) -> int:
    """Make what passes between two processes late: A and B, or A and all others.

    Clients are not slowed.  Needs a cluster that was started by `yak up --chaos`.
    """
    if not by:
        raise click.UsageError("--by: say how late, as 200ms")
    members = [who] if other is None else [who, other]
    late_ms = max(1, int(by * 1000))
    return _again("slow", members, "yak chaos slow", one_way=one_way, late_ms=late_ms, **common)


@chaos.command(epilog=examples("yak chaos fill leader", "yak chaos fill 2 --for 10s"))
@click.argument("who", metavar="N|leader", type=MEMBER)
@_common()
def fill(*, who: int, **common: Any) -> int:
    """Fill a broker's disk, for the broker alone.

    From one moment on every write to a file fails with EFBIG (prlimit sets its limit of a file's
    size to 0), which it takes as a full disk.  Not a byte is written, and nobody else on this
    machine notices.  Linux only.
    """
    if who == ZK:
        raise click.UsageError(
            "fill is for brokers: yak-zk ends at the first decision that it cannot write, which "
            "`yak chaos kill zk` shows as well"
        )
    return _again("fill", [who], "yak chaos fill", **common)


@chaos.command("any", epilog=examples("yak chaos any --every 10s", "yak chaos any --seed 7"))
@click.option("--seed", type=int, help="Repeat the choices of an earlier run.")
@_common(every=True)
def any_of_them(*, seed: int | None, **common: Any) -> int:
    """Kill or pause one of them, by chance; yak-zk seldom.  The seed is printed."""
    seed = random.SystemRandom().randrange(10_000) if seed is None else seed
    return _again("kill", [LEADER], f"yak chaos any --seed {seed}", seed=seed, **common)


@chaos.command(epilog=examples("yak chaos undo"))
@_data_dir
def undo(*, data_dir: Path | None) -> None:
    """End every fault now, also those that a killed `yak chaos` has left."""
    directory = _directory(data_dir)
    Target.find(directory)
    ended = local.end_all(directory)
    for one in ended:
        click.echo(f"`{one.command}`: {undone(one.kind, one.members)}")
    if not ended:
        click.echo("nothing to undo: no fault is in force")


def _directory(given: Path | None) -> Path:
    return given or note.nearest() or Path(note.DEFAULT_DIRECTORY)


# -- again and again ------------------------------------------------------------------------------


def _again(
    kind: Kind,
    members: Sequence[int],
    command: str,
    *,
    for_s: float,
    data_dir: Path | None,
    as_json: bool,
    every: float | None = None,
    seed: int | None = None,
    alone: bool = True,
    **how: Any,
) -> int:
    """alone: also where there is nobody to take over."""
    if not for_s:
        raise click.UsageError("--for: say how long, as 5s")
    if every is not None and every < for_s:
        raise click.UsageError(f"--every must not be shorter than --for ({for_s:g}s)")
    directory = _directory(data_dir)
    target = Target.find(directory)
    teller = Teller(as_json=as_json)
    with Interrupts() as interrupts:
        hang_up_is_an_end()
        for one in local.mend(directory):
            teller.say(
                "mended", one, f"left by a killed `{one.command}`: {undone(one.kind, one.members)}"
            )
        if not alone and len(target.brokers) == 1:
            raise Fatal(
                "this cluster has one broker, and nobody who could take over: `yak chaos kill "
                f"{target.brokers[0]}` kills it all the same, and `yak up -n 3` starts three"
            )
        run = Run(target, interrupts, teller, command, for_s, how)
        chance = random.Random(seed)
        try:
            while True:
                following = time.monotonic() + (every or 0.0)
                chosen = (kind, members) if seed is None else _by_chance(chance, target)
                whole = run.once(*chosen)
                if every is None or interrupts.asked:
                    return 0 if whole or interrupts.asked else 1
                with interrupts.allowed():
                    time.sleep(max(0.0, following - time.monotonic()))
        except Interrupted:
            return 0


def _by_chance(chance: random.Random, target: Target) -> tuple[Kind, list[int]]:
    kind: Kind = chance.choice(("kill", "pause"))
    who = [LEADER] * 3 + target.brokers * 2 + [ZK]
    return kind, [chance.choice(who)]
