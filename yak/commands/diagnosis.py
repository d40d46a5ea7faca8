"""What `yak doctor` looks at, step by step, and what follows from each thing that it may find.

    address   the name has an address        needs nothing
    tcp       somebody listens there         needs its address
    hello     it is a yak broker             needs its tcp
    metadata  somebody leads                 needs one hello
    broker N  it is where the cluster says   needs metadata
    yak-zk    it speaks of the same cluster
    clocks    no record is from the future   needs metadata
    disk      there is room                  needs the data directory
    files     enough may be open

Rules:

* A step that failed has a likely cause and what to do about it.  A step that depends on a failed
  one is skipped, and names it: one cause is told once.
* An address of the default list where nobody listens is no fault, once another one has answered
  that does not know it: the list names three brokers, and a cluster may have one.
* Everything is asked once, each with a limit; the steps of several addresses go on at once.

Not here: how steps are shown (doctor.py); disk and files (machine.py).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from yak import messages as m
from yak.admin import AsyncAdmin
from yak.commands import machine
from yak.commands.findings import Step, failed, ok, skipped
from yak.commands.output import listed
from yak.errors import YakError
from yak.local.note import Member
from yak.model import Address
from yak.net.connection import Connection
from yak.net.reports import PROBE_S, ask_one

#: How long a name may take to be resolved, in seconds: a resolver asks a dead server that long.
RESOLVE_S: Final = 5.0
#: Clocks of one network agree better than this, in ms, where anything keeps them.
CLOCK_SLACK_MS: Final = 2000


class Wanted(NamedTuple):
    """What to look at.  said, zk_said: the user named it, it is not merely the default.

    members: the processes of this machine, where `yak up` started them.
    """

    bootstrap: Sequence[Address]
    said: bool
    zk: Address
    zk_said: bool
    data_dir: Path
    members: Sequence[Member] = ()


class _Reached(NamedTuple):
    steps: list[Step]
    hello: m.HelloAnswer | None


async def examine(wanted: Wanted) -> list[Step]:
    """All steps, in the order in which they are to be read."""
    found = await asyncio.gather(*(_reach(address) for address in wanted.bootstrap))
    reached = dict(zip(wanted.bootstrap, found, strict=True))
    known = await _metadata(reached)
    steps = _bootstrap_steps(
        reached, known if isinstance(known, m.MetadataAnswer) else None, wanted
    )
    steps.append(_metadata_step(reached, known))
    if isinstance(known, m.MetadataAnswer):
        brokers = sorted(known.brokers, key=lambda broker: broker.id)
        asked = [_broker(one, known, reached) for one in brokers]
    else:
        steps.append(skipped("broker", "", "needs metadata"))
        asked = []
    steps += await asyncio.gather(*asked, _zk(wanted, known), _clocks(wanted, known))
    return [*steps, *machine.look(wanted.data_dir, wanted.members)]


# -- one address ----------------------------------------------------------------------------------


async def _reach(address: Address) -> _Reached:
    """address, tcp and hello."""
    resolved = await _resolve(address)
    if not resolved.is_ok:
        later = [skipped(step, address, "needs its address") for step in ("tcp", "hello")]
        return _Reached([resolved, *later], None)
    begun = time.monotonic()
    try:
        connection = await Connection.open(address, timeout_s=PROBE_S)
    except YakError as e:
        step = refusal(address, e)
        return _Reached([resolved, step, skipped("hello", address, "needs tcp")], None)
    tcp = ok("tcp", address, f"connected in {(time.monotonic() - begun) * 1000:.1f} ms")
    try:
        request = m.Hello(id=0, client="yak-doctor")
        hello, _ = await connection.ask(request, m.HelloAnswer, timeout_s=PROBE_S)
    except YakError as e:
        return _Reached([resolved, tcp, no_hello(address, e)], None)
    finally:
        connection.close()
    said = f"broker {hello.broker}, yak {hello.version}, protocol {hello.protocol}"
    return _Reached([resolved, tcp, ok("hello", address, said)], hello)


async def _resolve(address: Address) -> Step:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return failed(
            "address", address, f"no answer within {RESOLVE_S:g} s",
            "the name server does not answer", "look at /etc/resolv.conf, or use a number",
        )  # fmt: skip
    except OSError as e:
        return failed(
            "address", address, e.strerror or str(e),
            f"nobody knows the name {address.host!r}: a typing error, or no name server",
            "check the name; 127.0.0.1 is this machine",
        )  # fmt: skip
    return ok("address", address, ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found)))


def refusal(address: Address, error: YakError) -> Step:
    """Why nobody could be connected to."""
    why = error.__cause__
    number = why.errno if isinstance(why, OSError) else None
    if isinstance(why, TimeoutError) or number == errno.ETIMEDOUT:
        cause = "a firewall drops what comes, or the process there hangs"
        fix = f"on that machine: is something listening on port {address.port}, and does it run?"
    elif number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        cause = "there is no way to that network from here"
        fix = "check the address and the routes; a container has a network of its own"
    elif number == errno.ECONNREFUSED or "refused" in str(error).lower():
        cause = "no process listens on that port, or only on another address of that machine"
        fix = "start the broker (`yak-broker --id N`), or name its port: `-b HOST:PORT`"
    else:
        cause, fix = "the system refused", "the message says why"
    said = why.strerror if isinstance(why, OSError) else None
    return failed("tcp", address, said or str(error), cause, fix)


def no_hello(address: Address, error: YakError) -> Step:
    """Why what listens there is no broker, or none that answers."""
    if error.name in ("TIMEOUT", "REQUEST_TIMED_OUT"):
        cause = "the process there hangs (stopped, or its disk), or it is no yak broker"
        fix = "look at that process: `kill -CONT`, its disk, its own words"
    elif error.name == "PROTOCOL" or error.name == "CONNECTION":
        cause = "another program listens there: Apache Kafka and others speak another protocol"
        fix = f"name a yak broker's port instead of {address.port}"
    elif error.name in ("UNSUPPORTED_VERSION", "INVALID_REQUEST"):
        cause = "it is yak, but no broker (yak-zk, perhaps), or one of another version"
        fix = "name a broker's port: `listening on HOST:PORT` is its first line"
    else:
        cause, fix = "the broker refused", "the message says why"
    return failed("hello", address, str(error), cause, fix)


def _bootstrap_steps(
    reached: dict[Address, _Reached], known: m.MetadataAnswer | None, wanted: Wanted
) -> list[Step]:
    """Those of default addresses which nobody has, and which nobody should have, are left out."""
    steps: list[Step] = []
    there = {Address(b.host, b.port) for b in known.brokers} if known is not None else set()
    for address, one in reached.items():
        if wanted.said or one.hello is not None or known is None or address in there:
            steps += one.steps
    return steps


# -- the cluster ----------------------------------------------------------------------------------


async def _metadata(reached: dict[Address, _Reached]) -> m.MetadataAnswer | YakError | None:
    """The newest word of those that answer; None where nobody said hello."""
    request = m.Metadata(id=0, topics=[])
    asked = [address for address, one in reached.items() if one.hello is not None]
    said = await asyncio.gather(
        *(ask_one(address, request, m.MetadataAnswer) for address in asked), return_exceptions=True
    )
    answers = [one for one in said if isinstance(one, m.MetadataAnswer)]
    error = next((one for one in said if isinstance(one, YakError)), None)
    return max(answers, key=lambda answer: answer.epoch, default=error)


def _metadata_step(
    reached: dict[Address, _Reached], known: m.MetadataAnswer | YakError | None
) -> Step:
    if known is None:
        return skipped("metadata", "", "needs a broker that says hello")
    if isinstance(known, YakError):
        return failed(
            "metadata", known.broker or "", str(known), "the broker stands without the cluster",
            "is yak-zk running? `yak zk status --zk HOST:PORT`",
        )  # fmt: skip
    clusters = {one.hello.cluster for one in reached.values() if one.hello is not None} - {None}
    return metadata_step(known, sorted(map(str, clusters)))


def metadata_step(known: m.MetadataAnswer, clusters: Sequence[str]) -> Step:
    """Whether there is one cluster, and it has a leader."""
    found = f"epoch {known.epoch}, in sync: {listed([str(i) for i in known.isr]) or 'nobody'}"
    if len(clusters) > 1:
        return failed(
            "metadata", "", f"brokers of {len(clusters)} clusters: {listed(clusters)}",
            "the bootstrap list mixes clusters", "name brokers of one cluster only",
        )  # fmt: skip
    if known.leader is None:
        return failed(
            "metadata", "", f"nobody leads, {found}",
            "yak-zk is down or cut off, or too few in-sync brokers live",
            "start what is down below; `yak zk status` says whom it waits for",
        )  # fmt: skip
    return ok("metadata", "", f"broker {known.leader} leads, {found}")


async def _broker(
    one: m.BrokerEntry, known: m.MetadataAnswer, reached: dict[Address, _Reached]
) -> Step:
    address = Address(one.host, one.port)
    if address in reached and reached[address].hello is None:
        needs = next(step.step for step in reached[address].steps if step.state == "failed")
        word = "alive" if one.live else "down"
        return skipped(f"broker {one.id}", address, f"needs {needs}; the cluster calls it {word}")
    seen = reached.get(address) or await _reach(address)
    return broker_step(one, known, seen.hello, [step for step in seen.steps if not step.is_ok])


def broker_step(
    one: m.BrokerEntry, known: m.MetadataAnswer, hello: m.HelloAnswer | None, bad: Sequence[Step]
) -> Step:
    """Whether it is where the cluster says that it is, and in sync."""
    step, where = f"broker {one.id}", Address(one.host, one.port)
    if hello is None and not one.live:
        return failed(
            step, where, "down, as the cluster says as well",
            "its process has ended, hangs, or cannot reach yak-zk",
            f"start it: `yak-broker --id {one.id}` with its --data-dir; its last words say why",
        )  # fmt: skip
    if hello is None:
        return failed(
            step, where, f"alive, as the cluster says, but from here: {bad[0].found}",
            f"the address that it tells clients cannot be reached from here; {bad[0].cause}",
            f"start it with `--advertise HOST:PORT` that is reached from here; or {bad[0].fix}",
        )  # fmt: skip
    if hello.broker != one.id or hello.cluster != known.cluster:
        return failed(
            step, where, f"broker {hello.broker} of cluster {hello.cluster} answers there",
            "two brokers tell clients the same address, or another cluster took its port",
            "look at --port and --advertise of both",
        )  # fmt: skip
    if one.id not in known.isr:
        return failed(
            step, where, "answers, but is not in sync",
            "it started just now and copies what it missed, or its disk or network is too slow",
            "wait, and look again: `yak status` shows how far it is behind",
        )  # fmt: skip
    return ok(step, where, "leads" if one.id == known.leader else "in sync")


async def _zk(wanted: Wanted, known: m.MetadataAnswer | YakError | None) -> Step:
    try:
        said = await ask_one(wanted.zk, m.Status(id=0), m.CoordinatorStatus)
    except YakError as e:
        if not wanted.zk_said:
            return skipped("yak-zk", wanted.zk, "nobody answers there; name it: --zk HOST:PORT")
        return failed(
            "yak-zk", wanted.zk, str(e),
            "yak-zk does not run there; without it a leader goes on only for its lease",
            "start it, with the --data-dir that it had: `yak-zk`",
        )  # fmt: skip
    return zk_step(wanted.zk, said, known if isinstance(known, m.MetadataAnswer) else None)


def zk_step(where: Address, said: m.CoordinatorStatus, known: m.MetadataAnswer | None) -> Step:
    """Whether yak-zk speaks of the same cluster, and refuses nobody."""
    live = [str(one.broker) for one in said.sessions if one.live]
    found = f"epoch {said.epoch}, live: {listed(live) or 'nobody'}"
    if known is not None and known.cluster not in (None, said.cluster):
        return failed(
            "yak-zk", where, f"it speaks of cluster {said.cluster}",
            f"the brokers are of {known.cluster}: another yak-zk, or one that lost its state",
            "name the right one: --zk; or `yak zk adopt --dry-run`",
        )  # fmt: skip
    if said.refused:
        return failed(
            "yak-zk", where, f"{found}; it refuses broker {said.refused[-1].broker}",
            said.refused[-1].why, "`yak zk status` shows whom; check --id, --data-dir and --zk",
        )  # fmt: skip
    return ok("yak-zk", where, found)


# -- the machine ----------------------------------------------------------------------------------


async def _clocks(wanted: Wanted, known: m.MetadataAnswer | YakError | None) -> Step:
    """A leader writes its clock into every record: one that is ahead of ours betrays itself."""
    if not isinstance(known, m.MetadataAnswer) or known.leader is None:
        return skipped("clocks", "", "needs a leader")
    bootstrap = ",".join(map(str, wanted.bootstrap))
    at = int(time.time() * 1000) + CLOCK_SLACK_MS
    try:
        async with (
            asyncio.timeout(PROBE_S),
            AsyncAdmin(bootstrap, client="yak-doctor", timeout_s=PROBE_S) as admin,
        ):
            topics = await admin.topics()
            ahead = [
                name
                for name, entry in topics.items()
                if isinstance(entry.partitions, int)
                and any(o is not None for o in await admin.offsets(name, entry.partitions, at))
            ]
    except YakError as e:
        return skipped("clocks", "", f"the leader does not say: {e}")
    except TimeoutError:
        return skipped("clocks", "", f"the leader does not say within {PROBE_S:g} s")
    return clock_step(ahead)


def clock_step(ahead: Sequence[str]) -> Step:
    """ahead: topics with records from the future."""
    if ahead:
        return failed(
            "clocks", "", f"records of {listed(ahead)} are from the future, by this clock",
            "the clocks of this machine and of a leader differ, or one was set back",
            "let both follow a time server; yak keeps order all the same, only times are wrong",
        )  # fmt: skip
    return ok("clocks", "", "no record is from the future, by this clock")
