"""A cluster of this machine: yak-zk and brokers, started here, and ended here.

    cluster = LocalCluster(Path("data"), [1, 2, 3], Ports.usual([1, 2, 3]))
    cluster.start()                 all at once; ready when this returns
    cluster.kill(2); cluster.restart(2); cluster.wait_in_sync()
    cluster.stop()                  brokers first, then yak-zk

Rules:

* Every process is started with addresses that are known before, so that none waits for another.
* If one of them cannot start, the others are stopped, and it says why in its own words.
* yak.json names what runs from the first process on, so that nothing is ever left that nobody
  finds (note.py).

It has no opinion on what runs already: `leftover` tells, and whoever starts decides.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from yak import messages as m
from yak.errors import Fatal
from yak.local import doors, faults, note, pids
from yak.local.doors import Doors
from yak.local.follow import Follower
from yak.local.note import RELAY, ZK, Member, Note, name_of
from yak.local.ports import Reserved
from yak.local.process import LISTEN_LIMIT_S, Process, command, wait_listening
from yak.local.ready import READY_LIMIT_S, Standing, round_trip, wait_in_sync
from yak.model import Address

HOST: Final = "127.0.0.1"
#: All addresses of the machine; it is reached by any of them.
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 -- it is recognised here, and chosen by the user
#: An orderly end: answers that are due, a last sync.
STOP_GRACE_S: Final = 15.0
_ZK_PORT: Final = 2181
_BROKER_PORT: Final = 9091


@dataclass(frozen=True)
class Ports:
    """Where they listen: zk, and each broker by its id.  0 is any free one.

    host: of the brokers; yak-zk is nobody's but theirs.
    """

    zk: int
    brokers: dict[int, int]
    host: str = HOST
    #: yak-zk's page of metrics; broker N's is N further.  0: any free ones.  None: nowhere.
    metrics: int | None = None

    @classmethod
    def usual(cls, ids: Sequence[int]) -> Ports:
        """The ports by which commands without options find each other."""
        return cls(_ZK_PORT, {broker: _BROKER_PORT + broker for broker in ids})

    @classmethod
    def free(cls, ids: Sequence[int]) -> Ports:
        return cls(0, dict.fromkeys(ids, 0))


@dataclass(kw_only=True)
class Options:
    """What their commands are told besides, as on the command line."""

    zk: list[str] = field(default_factory=list)
    broker: list[str] = field(default_factory=list)
    #: Of one broker, by its id; they win.
    brokers: dict[int, list[str]] = field(default_factory=dict)


class LocalCluster:
    """See the module's text."""

    def __init__(
        self,
        data_dir: Path,
        ids: Sequence[int],
        ports: Ports,
        options: Options | None = None,
        *,
        ends_with_us: bool = False,
        with_doors: bool = False,
    ) -> None:
        """ends_with_us: also where this process is killed, none of them is left.

        with_doors: between them from the start, as `open_doors` makes them.
        """
        self.data_dir = data_dir.resolve()
        self.ids = sorted(ids)
        self.options = options or Options()
        self._ports = ports
        self._ends_with_us = ends_with_us
        self._with_doors = with_doors
        self._reserved: dict[int, Reserved] = {}
        #: Of those that tell metrics.
        self._pages: dict[int, Reserved] = {}
        self.doors: Doors | None = None
        self.relay: Process | None = None
        #: Called again and again while something is waited for.
        self.meanwhile: Callable[[], None] = lambda: None
        #: By broker's id; ZK is yak-zk.
        self.processes: dict[int, Process] = {}

    # -- where things are -------------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """HOST:PORT,… of its brokers: what -b takes."""
        return ",".join(str(self.address(broker)) for broker in self.ids)

    @property
    def zk(self) -> str:
        return str(self.address(ZK))

    @property
    def metrics(self) -> str:
        """HOST:PORT,… of the pages of metrics, as asked from here, yak-zk's first; "" without."""
        return ",".join(str(_from_here(page.address)) for page in self._pages.values())

    def address(self, member: int) -> Address:
        """By which it is reached from this machine."""
        return _from_here(self._reserved[member].address)

    def directory(self, member: int) -> Path:
        return self.data_dir / ("zookeeper" if member == ZK else name_of(member))

    def log(self, member: int) -> Path:
        """What it says on stderr."""
        return self.data_dir / "logs" / f"{name_of(member)}.log"

    def follower(self) -> Follower:
        """What they all say from now on."""
        members = (ZK, *self.ids)
        told = {name_of(one): self.directory(one) / "events.jsonl" for one in members}
        return Follower(
            {**told, faults.PROCESS: faults.events(self.data_dir)},
            {name_of(one): self.log(one) for one in members},
        )

    def running(self, member: int) -> bool:
        process = self.processes.get(member)
        return process is not None and process.code is None

    # -- starting ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all, and return when they are ready.  Raises Fatal; then nothing runs."""
        try:
            (self.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise Fatal(
                f"{e.filename or self.data_dir} cannot be made: {e.strerror}; choose another place "
                "with --data-dir"
            ) from e
        try:
            self._reserve()
            if self._with_doors:
                self.open_doors()
            for member in (ZK, *self.ids):
                self._spawn(member)
            self.write_note()
            wait_listening(self.processes.values(), LISTEN_LIMIT_S)
            self.wait_ready()
        except BaseException:
            if (
                not self.processes and self.relay is None
            ):  # and so yak.json, if there is one, is another one's
                self._let_go()
                raise
            try:
                self.stop()
            finally:
                self.kill_all()
            raise

    def _reserve(self) -> None:
        wanted = {ZK: self._ports.zk, **self._ports.brokers}
        for member in (ZK, *self.ids):
            host = HOST if member == ZK else self._ports.host
            self._reserved[member] = Reserved.take(host, wanted[member])
            if (first := self._ports.metrics) is not None:
                port = first + member if first else 0
                self._pages[member] = Reserved.take(host, port, "--metrics-port 0")

    def _spawn(self, member: int) -> None:
        name = name_of(member)
        self._reserved[member].give()
        if member in self._pages:
            self._pages[member].give()
        argv = self.argv(member) + (["--until-eof"] if self._ends_with_us else [])
        self.processes[member] = Process(name, argv, self.log(member), holds=self._ends_with_us)

    def open_doors(self) -> None:
        """Put doors between them; a broker is behind its own once it is started again."""
        assert self.doors is None
        self.doors = Doors(self.ids)
        for broker in self.ids:
            own = self.options.brokers.get(broker, [])
            self.options.brokers[broker] = [*own, *self.doors.options(broker)]
        argv = self.doors.argv(self.address) + (["--until-eof"] if self._ends_with_us else [])
        log = self.data_dir / "logs" / f"{doors.NAME}.log"
        self.doors.give()
        self.relay = Process(doors.NAME, argv, log, holds=self._ends_with_us)
        wait_listening([self.relay], LISTEN_LIMIT_S)

    def argv(self, member: int) -> list[str]:
        """The command that starts it, on its port."""
        own = ["--port", str(self.address(member).port)]
        own += ["--data-dir", str(self.directory(member)), "--quiet"]
        if member in self._pages:
            own += ["--metrics-port", str(self._pages[member].address)]
        if member == ZK:
            return [*command("yak-zk"), *own, *self.options.zk]
        start = [*command("yak-broker"), "--id", str(member), "--zk", self.zk]
        if self._ports.host != HOST:
            start += ["--host", self._ports.host]
        if self._ports.host == EVERYWHERE:
            # For the other brokers; a client is told the host that it dialled.
            start += ["--advertise", str(self.address(member))]
        return [*start, *own, *self.options.broker, *self.options.brokers.get(member, ())]

    def wait_ready(self) -> None:
        """All in sync, and a record has gone round."""
        word = self.wait_in_sync(self.ids)
        round_trip(self.address(word.broker))

    def wait_in_sync(self, ids: Collection[int], limit_s: float = READY_LIMIT_S) -> m.StatusAnswer:
        """Until these are, by the leader's own word.  Raises Fatal where one of them has ended."""
        with self.standing() as standing:
            return wait_in_sync(standing, ids, limit_s, lambda: self.check((ZK, *ids)))

    def standing(self) -> Standing:
        """What its brokers say; those that do not run are not asked."""
        return Standing({one: self.address(one) for one in self.ids if self.running(one)})

    def check(self, members: Collection[int]) -> None:
        """Raises Fatal where one of these has ended."""
        self.meanwhile()
        for member in members:
            process = self.processes[member]
            if process.code is not None:
                raise Fatal(f"{process.name} ended: {process.words()}")

    def write_note(self) -> None:
        """yak.json, as things are now."""
        members = [
            _member(one, process, self.address(one), self.directory(one))
            for one, process in self.processes.items()
        ]
        relay = None
        if self.relay is not None and self.doors is not None:
            relay = _member(RELAY, self.relay, self.doors.address, self.data_dir)
        note.write(
            self.data_dir,
            Note(bootstrap=self.bootstrap, zk=self.zk, members=members, relay=relay),
        )

    # -- doing something to it --------------------------------------------------------------------

    def kill(self, member: int) -> None:
        """kill -9."""
        self.processes[member].kill()

    def pause(self, member: int) -> None:
        """SIGSTOP: alive for the kernel, dead for everybody who waits for it."""
        self.processes[member].signal(signal.SIGSTOP)

    def resume(self, member: int) -> None:
        self.processes[member].signal(signal.SIGCONT)

    def restart(self, *members: int) -> None:
        """Start again what has ended, where it was; they listen when this returns."""
        for member in members:
            assert not self.running(member), f"{self.processes[member].name} still runs"
            self.processes[member].close()
            self._spawn(member)
        wait_listening([self.processes[member] for member in members], LISTEN_LIMIT_S)
        self.write_note()

    # -- ending -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """In order: brokers, then yak-zk."""
        stop(self.data_dir)
        self._let_go()

    def kill_all(self) -> None:
        """Nothing is left running, and no yak.json says that something is."""
        for process in self.all_processes:
            process.kill()
        note.remove(self.data_dir)
        self._let_go()

    @property
    def all_processes(self) -> list[Process]:
        """The relay too, if there is one."""
        return [*self.processes.values(), *([self.relay] if self.relay is not None else [])]

    def _let_go(self) -> None:
        for process in self.all_processes:
            process.close()
        for reserved in (*self._reserved.values(), *self._pages.values()):
            reserved.close()
        if self.doors is not None:
            self.doors.close()


def _member(number: int, process: Process, address: Address, directory: Path) -> Member:
    return Member(
        id=number,
        name=process.name,
        pid=process.id.pid,
        born=process.id.born,
        address=str(address),
        data_dir=str(directory),
        log=str(process.log),
        argv=process.argv,
        env=process.env,
    )


@dataclass(frozen=True)
class Stopped:
    """Names of those that ended in order, that had to be killed, and that had ended before."""

    in_order: list[str]
    killed: list[str]
    before: list[str]


def stop(data_dir: Path) -> Stopped | None:
    """Stop what yak.json names, whoever started it; None where there is none."""
    found = note.read(data_dir)
    if found is None:
        return None
    alive = sorted(found.alive, key=lambda one: one.id == ZK)
    killed: list[str] = []
    for some in ([one for one in alive if one.id != ZK], alive):
        late = pids.end([one.process for one in some], STOP_GRACE_S)
        killed += [one.name for one in some if one.process in late]
    if found.relay is not None:
        pids.end([found.relay.process], STOP_GRACE_S)
    note.remove(data_dir)
    names = [one.name for one in alive]
    return Stopped(
        in_order=[name for name in names if name not in killed],
        killed=killed,
        before=[one.name for one in found.members if one.name not in names],
    )


def kill(data_dir: Path) -> None:
    """kill -9 of all that yak.json names."""
    found = note.read(data_dir)
    if found is not None:
        pids.kill([one.process for one in found.all])
        note.remove(data_dir)


def brokers_in(data_dir: Path) -> list[int]:
    """The brokers whose directories are there, from an earlier start."""
    found = []
    for path in data_dir.glob("broker-*/meta.json"):
        number = path.parent.name.removeprefix("broker-")
        if number.isdecimal():
            found.append(int(number))
    return sorted(found)


def _from_here(address: Address) -> Address:
    return Address(HOST, address.port) if address.host == EVERYWHERE else address
