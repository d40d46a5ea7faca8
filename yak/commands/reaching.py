"""Reaching a cluster that may not be there: a command says that it waits, and for whom.

    $ yak topic list
    waiting for the cluster at 127.0.0.1:9092,127.0.0.1:9093: cannot connect to 127.0.0.1:9092: …
    error: nobody listens at …

Rules:

* What takes longer than SAY_S is said on stderr, with the cause as far as it is known: once, and
  again where another cause comes, or where it was over meanwhile.
* Where every address refuses for REFUSED_S, a question is not asked any longer: nothing is there.
  But where yak.json says that the cluster lives, its brokers are on their way, and are waited for.
* An address that does not refuse (a machine that is down, a network that is slow) is left to the
  library, which asks until its own time-out.
* Producers and consumers wait as they always do; of them only the waiting is said, and with
  `--quiet` not even that.

Not here: who leads, and what is asked of whom (yak/net/cluster.py).
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import click

from yak import admin
from yak.config import DEFAULT_BOOTSTRAP
from yak.errors import RetriableError
from yak.local import note
from yak.model import Address, parse_addresses

#: Whoever has waited for so long wants to know what for, in seconds.
SAY_S: Final = 1.0
#: Every address refuses: a broker that is just being started listens within this.
REFUSED_S: Final = 5.0
#: The same where a cluster of `yak up` lives: a broker may have a long log to read.
COMING_S: Final = 30.0
#: Whoever was not told for so long, in seconds, did not wait: what comes is news.  Between two
#: attempts to reach anybody a library rests 5 s at most.
ANEW_S: Final = 10.0
#: Connecting to somebody who does not refuse.
_CONNECT_S: Final = 0.5
_AGAIN_S: Final = 0.1
_NAMED: Final = re.compile(r"\S+:\d+")

Say: TypeAlias = Callable[[str], None]


class Admin(admin.Admin):
    """An Admin that does not wait in silence, nor long for nobody.  Raises CONNECTION."""

    def __init__(
        self,
        bootstrap: str = DEFAULT_BOOTSTRAP,
        *,
        client: str = "yak-admin",
        timeout_s: float = 30.0,
    ) -> None:
        say = Waiting(bootstrap)
        why = _refused_until(bootstrap, say, min(REFUSED_S, timeout_s), timeout_s)
        if why:
            raise RetriableError(
                f"no broker answers at {bootstrap}: {why}",
                name="CONNECTION",
                hint="`yak up` starts a cluster; `yak doctor` looks where the cause is",
            )
        super().__init__(bootstrap, client=client, timeout_s=timeout_s, on_waiting=say)


class Waiting:
    """Says on stderr what is waited for; told as often as one likes, as the library's `on_waiting`.

    quiet: says nothing.
    """

    def __init__(
        self, bootstrap: str, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bootstrap = bootstrap
        self._quiet = quiet
        self._clock = clock
        #: The causes that were said since this waiting began, but for whom they name: of many
        #: brokers each has its turn.
        self._said: set[str] = set()
        self._at = 0.0

    def __call__(self, why: str) -> None:
        if self._clock() - self._at > ANEW_S:
            self._said.clear()
        self._at = self._clock()
        kind = _NAMED.sub("", why)
        if kind not in self._said and not self._quiet:
            self._said.add(kind)
            click.echo(f"waiting for the cluster at {self._bootstrap}: {why}", err=True)


def _refused_until(bootstrap: str, say: Say, limit_s: float, coming_s: float) -> str:
    """Why nobody listens, once that is so for so long; "" as soon as somebody does, or may.

    coming_s: the limit where a cluster of `yak up` lives, COMING_S at most.
    """
    addresses = parse_addresses(bootstrap)
    began = time.monotonic()
    while why := _refused(addresses):
        passed = time.monotonic() - began
        if passed >= SAY_S:
            say(why)
        if passed >= limit_s and (
            passed >= min(COMING_S, coming_s) or note.home_of(bootstrap) is None
        ):
            return why
        time.sleep(_AGAIN_S)
    return ""


def _refused(addresses: list[Address]) -> str:
    """Why nobody listens at any of them now; "" where somebody does, or may."""
    why = ""
    with selectors.DefaultSelector() as selector:
        try:
            for address in addresses:
                failed = _begin(selector, address)
                if failed is None:
                    return ""
                why = why or failed
            deadline = time.monotonic() + _CONNECT_S
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    return ""
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not code:
                        return ""
                    why = why or _words(key.data, code)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
        finally:
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
    return why


def _begin(selector: selectors.BaseSelector, address: Address) -> str | None:
    """Begin to connect; why that failed at once, "" while it goes on, None where it is done."""
    try:
        family, kind, number, _, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, number)
    except OSError as e:
        return f"cannot connect to {address}: {e.strerror}"
    sock.settimeout(0)
    code = sock.connect_ex(where)
    if code == errno.EINPROGRESS:
        selector.register(sock, selectors.EVENT_WRITE, address)
        return ""
    sock.close()
    return _words(address, code) if code else None


def _words(address: Address, code: int) -> str:
    return f"cannot connect to {address}: {os.strerror(code)}"
