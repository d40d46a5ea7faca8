"""What a log's operations add up to: the cluster's state after one of them.

    after operation 118  epoch 3  2026-11-22T09:41:00.123Z
    topic   partition  start  next offset
    orders          0      0           41
    group    generation  topic   partition  member  acked
    billing           4  orders          0  c1-19      41
    2 producers: 7 (yak-produce), 9 (app, silent since 2026-11-22T09:40:11.000Z)

Made from the last checkpoint, or from nothing where the log still has its beginning, by the very
code by which a broker makes its own.

What the log holds at its end may not be committed yet: a broker that runs knows, a file does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import click

from yak.commands.output import Cell, echo_json, listed, many, table
from yak.core import ops
from yak.core.snapshot import describe, restore
from yak.core.state import State
from yak.errors import Fatal
from yak.storage import checkpoint as checkpoints
from yak.storage.faults import Damaged


class Found(Protocol):
    @property
    def op(self) -> ops.Op: ...


def print_state(directory: Path, found: Iterable[Found], index: int, *, as_json: bool) -> None:
    """After operation `index`.  Raises Fatal where neither log nor checkpoint reaches it."""
    state = _state_at(directory, found, index)
    if as_json:
        echo_json(describe(state))
        return
    click.echo(f"after operation {state.index}  epoch {state.epoch}  {_time(state.time)}")
    parts = [part for part in (_topics(state), _groups(state), _producers(state)) if part]
    click.echo("\n".join(parts) or "nothing yet")


def _state_at(directory: Path, found: Iterable[Found], index: int) -> State:
    checkpoint = _checkpoint(directory)
    state: State | None = None
    for op in (one.op for one in found):
        if state is None:
            state = State() if op.index == 1 else checkpoint
            if state is None or state.index > index:
                reach = "nothing" if state is None else f"operation {state.index}"
                raise Fatal(
                    f"the state after operation {index} cannot be told: the log begins with "
                    f"operation {op.index}, and the last checkpoint holds {reach}"
                )
        if op.index > index:
            break
        if op.index > state.index:
            state.apply(op)
    state = state or checkpoint or State()
    if state.index != index:
        raise Fatal(f"there is no operation {index} yet: the log ends with {state.index}")
    return state


def _checkpoint(directory: Path) -> State | None:
    home = directory.parent if directory.name == "oplog" else directory
    path = home / checkpoints.FILE_NAME
    try:
        return restore(checkpoints.decode(path.read_bytes(), str(path)).state)
    except FileNotFoundError:
        return None
    except Damaged as e:
        raise Fatal(f"{e}; the broker makes it good when it starts") from e


def _topics(state: State) -> str:
    rows: list[list[Cell]] = [
        [topic, partition, state.start((topic, partition)), state.ends[topic, partition]]
        for topic, partition in sorted(state.ends)
    ]
    return table(("topic", "partition", "start", "next offset"), rows) if rows else ""


def _groups(state: State) -> str:
    rows: list[list[Cell]] = []
    for name, group in sorted(state.groups.items()):
        wheres = {tp for tp, by in state.acked.items() if name in by} | set(group.owners)
        for where in sorted(wheres):
            owner = group.owners.get(where)
            member = None if owner is None else owner.owner
            acked = state.acked_by(name, where)
            rows.append([name, group.generation, *where, member, acked])
    if not rows:
        return ""
    return table(("group", "generation", "topic", "partition", "member", "acked"), rows)


def _producers(state: State) -> str:
    if not state.producers:
        return ""
    told = [
        f"{number} ({one.client or '-'}"
        + (f", silent since {_time(one.gone_ms)}" if one.gone_ms is not None else "")
        + ")"
        for number, one in sorted(state.producers.items())
    ]
    return f"{many(len(told), 'producer')}: {listed(told)}"


def _time(ms: int) -> str:
    when = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return when.replace("+00:00", "Z")
