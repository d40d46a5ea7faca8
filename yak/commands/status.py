"""`yak status`: the cluster as its brokers see it, each by its own word.

    cluster 5e0c…  epoch 3  broker 2 leads  in sync: 2, 3
    broker 1 is down; brokers 2 and 3 are in sync, and writes go on, but not if one more goes
    id  address         role      heartbeat  epoch  in sync  log end  committed  behind  …  state
     1  127.0.0.1:9092  -         -              -  no             -          -  -       …  down
     2  127.0.0.1:9093  leader    12 ms          3  yes           61         60  -       …  whole
     3  127.0.0.1:9094  follower  103 ms         3  yes           61         60  3 ms    …  whole
    broker 1 is down: cannot connect to 127.0.0.1:9092: Connection refused

    topic   group    partitions  records  lag  not acknowledged  members
    orders  -                 3    1,204    -                 -  -
    orders  billing           3        -   17                14  c1-19

behind: how long ago the follower last had all that the leader had, as the leader sees it.
heartbeat: how long ago yak-zk heard of it.  not acknowledged: delivered to a member, which has yet
to say that it is done.

Between the two, what a broker found wrong with its disk since it started, mended or not:

    broker 3 found at 2026-11-22T09:41:00Z: torn: 12 bytes were cut from the log's end: …
        mended at 2026-11-22T09:41:01Z: all that the leader has is here, and in sync

Exit code 1 if no broker leads, so that scripts can wait for one.  With `--watch` it is shown again
and again, until Ctrl-C; a cluster that is gone is said to be, and shown again once it is back.

On a terminal it fits the window: sentences are folded, and tables leave out what matters least.

Not here: how it is asked for (picture.py); a view that moves, which is `yak top`.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from yak.admin import AsyncAdmin
from yak.commands.options import (
    ADDRESS,
    DURATION,
    examples,
    option_bootstrap,
    option_json,
    running_zk,
)
from yak.commands.output import (
    Cell,
    echo_json,
    fitted,
    listed,
    many,
    window_width,
    wrapped,
)
from yak.commands.picture import Picture, Sketch
from yak.commands.reaching import Waiting
from yak.commands.running import run
from yak.config import DEFAULT_ZK
from yak.errors import RetriableError
from yak.local import note
from yak.messages import Finding
from yak.net.reports import BrokerReport

#: `--watch` without a number, in seconds.
WATCH_S: Final = 2.0
#: So many topics are shown; `yak topic list` has all.
TOPICS_SHOWN: Final = 20
_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
_MIB: Final = 1024 * 1024
#: What is left out first where the window is too narrow.
_LEAST_OF_BROKERS: Final = ("memory", "epoch", "heartbeat", "behind", "committed")
_LEAST_OF_TOPICS: Final = ("partitions", "members", "not acknowledged")


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_STATUS"},
    epilog=examples(
        "yak status",
        "yak status --watch                       again every 2 s; `yak top` moves",
        "yak status --watch 500ms",
        "yak status --json | jq .leader",
        "yak status --json --watch 1s | jq -c '[.time, .health.level]'",
    ),
)
@option_bootstrap
@click.option(
    "--zk",
    type=ADDRESS,
    default=running_zk,
    show_default=f"that of `yak up`, else {DEFAULT_ZK}",
    envvar="YAK_ZK",
    help="yak-zk, which knows why this broker leads, and when it last heard of each.",
)
@click.option(
    "--watch",
    is_flag=False,
    flag_value=WATCH_S,
    type=DURATION,
    metavar="[INTERVAL]",
    help=f"Show it again and again, every {WATCH_S:g} s if nothing else is said; with --json, one "
    "line each.",
)
@option_json
def status(*, bootstrap: str, zk: str, watch: float | None, as_json: bool) -> int:
    """Show the cluster and each broker; works while some of them are down, and says which."""
    source = click.get_current_context().get_parameter_source("zk")
    zk_named = source is not click.core.ParameterSource.DEFAULT
    return run(_status(bootstrap, zk, watch, zk_named=zk_named, as_json=as_json))


async def _status(
    bootstrap: str, zk: str, watch: float | None, *, zk_named: bool, as_json: bool
) -> int:
    import asyncio

    # One that is shown again and again shows that, too.
    say = Waiting(bootstrap, quiet=watch is not None)
    async with AsyncAdmin(bootstrap, client="yak-status", on_waiting=say) as admin:
        sketch = Sketch(admin, zk, zk_named=zk_named, home=note.home_of(bootstrap))
        while True:
            began = time.monotonic()
            picture = await sketch.take()
            if watch is None:
                return _shown_once(picture, as_json=as_json)
            if as_json:
                click.echo(msgspec.json.encode(as_dict(picture)).decode())
            else:
                shown = described(picture, window_width())
                click.echo((_CLEAR if sys.stdout.isatty() else "") + shown + "\n")
            await asyncio.sleep(max(0.0, watch - (time.monotonic() - began)))


def _shown_once(picture: Picture, *, as_json: bool) -> int:
    if picture.report is None:
        raise RetriableError(
            picture.error,
            name="CONNECTION",
            hint="is the cluster running, and is --bootstrap its address?",
        )
    if as_json:
        echo_json(as_dict(picture))
    else:
        click.echo(described(picture, window_width()))
    return 0 if picture.report.leader is not None else 1


# -- for programs ---------------------------------------------------------------------------------


def as_dict(picture: Picture) -> dict[str, Any]:
    """The same keys whatever is there; null and empty where something is not."""
    report = picture.report
    level, sentence = picture.health()
    return {
        "time": picture.time,
        "health": {"level": level, "sentence": sentence},
        "coordinator": picture.coordinator,
        "coordinator_error": picture.zk_error or None,
        "cluster": report.cluster if report else None,
        "epoch": report.epoch if report else None,
        "leader": report.leader if report else None,
        "isr": report.isr if report else [],
        "brokers": [
            {
                "id": one.id,
                "address": str(one.address),
                "error": one.error or None,
                "heartbeat_age_ms": picture.heartbeat_ms(one.id),
                "status": one.status,
            }
            for one in (report.brokers if report else [])
        ],
        "topics": [_topic(one.topic, one.partitions, picture) for one in picture.topics],
        "more_topics": picture.more_topics,
        "more_groups": picture.more_groups,
        "leader_error": picture.leader_error or None,
        "faults": picture.faults,
    }


def _topic(topic: str, partitions: list[tuple[int, int]], picture: Picture) -> dict[str, Any]:
    return {
        "topic": topic,
        "partitions": [
            {"partition": n, "start": start, "high_watermark": end}
            for n, (start, end) in enumerate(partitions)
        ],
        "groups": picture.readers(topic),
    }


# -- for people -----------------------------------------------------------------------------------


def described(picture: Picture, width: int = 0) -> str:
    """width: of the window; 0: lines are as long as they are."""
    report = picture.report
    sentence = picture.health().sentence
    if report is None:
        return "\n".join(wrapped(sentence, width))
    leads = "nobody leads" if report.leader is None else f"broker {report.leader} leads"
    said = [
        f"cluster {report.cluster or '(none yet)'}  epoch {report.epoch}  {leads}  in sync: "
        + (", ".join(map(str, report.isr)) or "nobody"),
        sentence,
        *(one.words(picture.time) for one in picture.faults),
    ]
    told = picture.coordinator
    if told is not None and told.elections:
        said.append(f"why: {told.elections[-1].reason}")
    lines = [line for text in said for line in wrapped(text, width)]
    header = (
        "id", "address", "role", "heartbeat", "epoch", "in sync", "log end", "committed",
        "behind", "memory", "state",
    )  # fmt: skip
    rows = [_row(one, picture) for one in report.brokers]
    lines.append(fitted(header, rows, width, _LEAST_OF_BROKERS))
    below = [f"broker {one.id} is down: {one.error}" for one in report.brokers if not one.status]
    for one in report.brokers:
        for found in one.status.found if one.status is not None else ():
            below += _found(one.id, found)
    if picture.leader_error:
        below += ["", f"topics and groups are not known: {picture.leader_error}"]
    for text in below:
        indent = " " * (len(text) - len(text.lstrip()))
        lines += wrapped(text.strip(), width, indent, indent + "    ") or [""]
    if not picture.leader_error and (picture.topics or picture.more_topics):
        lines += ["", *_topics(picture, width)]
    return "\n".join(lines)


def _found(broker: int | None, found: Finding) -> list[str]:
    times = f" ({found.times} times)" if found.times > 1 else ""
    end = "not mended yet"
    if found.mended is not None:
        end = f"mended at {_when(found.mended)}: {found.how}"
    return [
        f"broker {broker} found at {_when(found.time)}: {found.kind}{times}: {found.what}",
        f"    {end}",
    ]


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _row(one: BrokerReport, picture: Picture) -> list[Cell]:
    assert picture.report is not None
    in_sync = "yes" if one.id in picture.report.isr else "no"
    age = picture.heartbeat_ms(one.id)
    heartbeat = None if age is None else f"{age} ms"
    word = one.status
    if word is None:
        nothing: list[Cell] = [None] * 4
        return [one.id, str(one.address), None, heartbeat, None, in_sync, *nothing, "down"]
    behind = picture.behind(one.id)
    return [
        one.id,
        str(one.address),
        word.role,
        heartbeat,
        word.epoch,
        in_sync,
        word.log_end,
        word.committed,
        None if behind is None else f"{behind[1]} ms",
        f"{word.memory / _MIB:.0f} MiB" if word.memory else None,
        word.state,
    ]


def _topics(picture: Picture, width: int) -> list[str]:
    rows: list[list[Cell]] = []
    for one in picture.topics[:TOPICS_SHOWN]:
        rows.append([one.topic, None, len(one.partitions), one.records, None, None, None])
        rows += [
            [
                one.topic,
                reader.group,
                None,
                None,
                reader.lag,
                reader.unacknowledged,
                listed(list(reader.members), 3) or "no members",
            ]
            for reader in picture.readers(one.topic)
        ]
    header = ("topic", "group", "partitions", "records", "lag", "not acknowledged", "members")
    lines = [fitted(header, rows, width, _LEAST_OF_TOPICS)] if rows else []
    more = picture.more_topics + max(0, len(picture.topics) - TOPICS_SHOWN)
    if more:
        lines.append(f"and {many(more, 'more topic')}: `yak topic list`")
    if picture.more_groups:
        lines.append(f"and {many(picture.more_groups, 'more group')}: `yak group list`")
    return lines
