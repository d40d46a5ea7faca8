"""Network namespaces: each process on a host of its own, at a bridge that is in none of theirs.

    10.77.0.(10 + N)    a process (yak-zk: 0), on its eth0
    10.77.0.254         this run and its clients, on the bridge
    10.77.1.(10 + N)    a door to that process, on the loopback of everyone else

The run leaves the machine's own namespace before it starts anything, so that it cannot touch what
is there; all namespaces, links and addresses are gone when its threads are.  Who is at which link
address is written down at each host, for good; so a one-way cut is a wrong link address of one
host at another: the frames go out, and nobody takes them.  Nothing is refused, as on a real wire.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from typing import Final

from tests.fault.roads import CLIENTS, ZK, Pair, Post, Roads, run_command, unshare_net
from tests.support.wire import Address

#: Where a process listens, each on its own host.
PORTS: Final = {True: 2181, False: 9092}
#: The bridge, where this run is.
_YARD: Final = "yard"
#: A link address that nobody has.
_NOBODY: Final = "02:00:00:00:00:01"


@functools.cache
def missing() -> str:
    """ "", or why this machine has no namespaces for us."""
    if sys.platform != "linux":
        return f"no network namespaces on {sys.platform}"
    if os.geteuid() != 0:
        return "not root: no network namespaces"
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"no `{program}`"
    tried = "ip link add y0 type veth peer name y1 && ip link add y2 type bridge"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", tried], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else f"no namespace with a bridge: {done.stderr.strip()}"


class Spaces:
    """Made once, by the main thread, before any other thread or process of the run."""

    def __init__(self, roads: Roads, numbers: list[int]) -> None:
        unshare_net()
        run_command("ip", "link", "set", "lo", "up")
        run_command("ip", "link", "add", _YARD, "type", "bridge")
        run_command("ip", "addr", "add", f"{_host(CLIENTS)}/16", "dev", _YARD)
        run_command("ip", "link", "set", _YARD, "up")
        #: Here, outside of the hosts: where clients' doors are.
        self.yard = roads.post("yard")
        self.hosts: dict[int, Post] = {n: roads.post(f"host-{n}", apart=True) for n in numbers}
        self._cuts: Counter[Pair] = Counter()
        for number, post in self.hosts.items():
            self._plug_in(number, post)
        self._at = {n: _link_address(post, "eth0") for n, post in self.hosts.items()}
        self._at[CLIENTS] = _link_address(self.yard, _YARD)
        for a in self._at:
            for b in self._at.keys() - {a}:
                self._write_down(a, b, self._at[b])

    def _plug_in(self, number: int, post: Post) -> None:
        peer = ("peer", "name", "eth0", "netns", str(post.native_id))
        run_command("ip", "link", "add", f"port{number}", "type", "veth", *peer)
        run_command("ip", "link", "set", f"port{number}", "master", _YARD, "up")
        post.command("ip", "link", "set", "lo", "up")
        post.command("ip", "addr", "add", f"{_host(number)}/16", "dev", "eth0")
        post.command("ip", "link", "set", "eth0", "up")
        for other in self.hosts.keys() - {number}:
            post.command("ip", "addr", "add", f"{door_host(other)}/32", "dev", "lo")
        run_command("ip", "addr", "add", f"{door_host(number)}/32", "dev", "lo")

    def address(self, number: int) -> Address:
        return _host(number), PORTS[number == ZK]

    def door(self, number: int) -> Address:
        return door_host(number), PORTS[number == ZK]

    def before(self, number: int) -> list[str]:
        """What comes before a command that runs on that host."""
        nsenter = shutil.which("nsenter")
        assert nsenter is not None
        return [nsenter, f"--net={self.hosts[number].net}"]

    def cut(self, a: int, b: int) -> None:
        """Nothing goes from a to b until `heal`, as often as it was cut."""
        self._cuts[a, b] += 1
        self._write_down(a, b, _NOBODY)

    def heal(self, a: int, b: int) -> None:
        self._cuts[a, b] -= 1
        if not self._cuts[a, b]:
            self._write_down(a, b, self._at[b])

    def _write_down(self, a: int, b: int, address: str) -> None:
        post, device = (self.yard, _YARD) if a == CLIENTS else (self.hosts[a], "eth0")
        post.command(
            *("ip", "neigh", "replace", _host(b), "lladdr", address),
            *("nud", "permanent", "dev", device),
        )


def _host(number: int) -> str:
    return "10.77.0.254" if number == CLIENTS else f"10.77.0.{10 + number}"


def door_host(number: int) -> str:
    return f"10.77.1.{10 + number}"


def _link_address(post: Post, device: str) -> str:
    (link,) = json.loads(post.command("ip", "-j", "link", "show", device))
    return str(link["address"])
