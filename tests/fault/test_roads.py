"""What is done to links is really done: by the proxies, and on the wire of namespaces."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault import spaces
from tests.fault.roads import CLIENTS, Effect, Roads
from tests.support.process import environment, wait_until
from tests.support.wire import Address, frame_of

ROOT = Path(__file__).parent.parent.parent
#: A byte that comes at all comes within this.
SOON_S = 10.0
#: One that does not come is waited for so long.
NEVER_S = 0.2


class Echo(threading.Thread):
    """Sends back what it is sent, on every connection."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: Address = self.listener.getsockname()
        self.connections: list[socket.socket] = []
        self.start()

    def run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(sock)
            threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            while data := sock.recv(65536):
                sock.sendall(data)
        except OSError:
            pass

    def hang_up(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hang_up(self.listener)
        self.join(SOON_S)
        self.listener.close()
        for sock in self.connections:
            self.hang_up(sock)
            sock.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def roads() -> Iterator[Roads]:
    roads = Roads()
    yield roads
    roads.close()


def dial(roads: Roads, echo: Echo, dialler: int | None = 1) -> socket.socket:
    door = roads.door(roads.post("p"), ("127.0.0.1", 0), dialler, 2, lambda: echo.address)
    return socket.create_connection(door, timeout=SOON_S)


def hears(sock: socket.socket, data: bytes) -> bool:
    """Whether it says it again."""
    sock.sendall(data)
    sock.settimeout(NEVER_S)
    try:
        sock.recv(1)
    except TimeoutError:
        return False
    finally:
        sock.settimeout(SOON_S)
    return True


@pytest.mark.parametrize("pair", [(1, 2), (2, 1)])
def test_each_direction_is_held_by_itself_and_loses_nothing(
    roads: Roads, echo: Echo, pair: tuple[int, int]
) -> None:
    with dial(roads, echo) as sock:
        assert hears(sock, b"a")
        effects = [Effect(hold=True), Effect(hold=True)]
        for effect in effects:
            roads.begin([pair], effect)
        assert not hears(sock, b"b")
        roads.end(effects[0])
        assert not hears(sock, b"c"), "two cut it, and one has gone"
        roads.end(effects[1])
        assert sock.recv(1) == b"b"
        assert sock.recv(1) == b"c"


def test_other_pairs_are_left_alone(roads: Roads, echo: Echo) -> None:
    with dial(roads, echo) as sock:
        roads.begin([(1, 3), (3, 2)], Effect(hold=True))
        assert hears(sock, b"a")


def test_late_and_in_pieces_it_comes_whole(roads: Roads, echo: Echo) -> None:
    data = bytes(range(256)) * 4
    with dial(roads, echo) as sock:
        roads.begin([(1, 2)], Effect(late_s=NEVER_S * 2))
        assert not hears(sock, data[:1])
        roads.begin([(2, 1)], Effect(piece=100))
        sock.sendall(data[1:])
        found = b""
        while len(found) < len(data):
            found += sock.recv(65536)
        assert found == data


def test_who_is_cut_off_does_not_learn_that_the_other_died(roads: Roads, echo: Echo) -> None:
    with dial(roads, echo) as sock:
        assert hears(sock, b"a")
        effect = Effect(hold=True)
        roads.begin([(2, 1)], effect)
        echo.hang_up(echo.connections[0])
        sock.settimeout(NEVER_S)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(SOON_S)
        roads.end(effect)
        assert not sock.recv(1)


def test_reset_and_half_open(roads: Roads, echo: Echo) -> None:
    with dial(roads, echo) as sock:
        assert hears(sock, b"a")
        assert roads.half_open(1, 3) == []
        (connection,) = roads.half_open(1, 2)
        wait_until(lambda: not hears(sock, b"b"), "it is open for this end alone")
        assert connection.target == 2
    with dial(roads, echo) as sock:
        assert hears(sock, b"a")
        assert roads.reset(2, 1) >= 1
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_a_door_to_nobody_refuses_and_keeps_its_port(roads: Roads, echo: Echo) -> None:
    door = roads.door(roads.post("p"), ("127.0.0.1", 0), 1, 2, lambda: echo.address)
    with socket.create_connection(door, timeout=SOON_S) as sock:
        assert hears(sock, b"a")
        roads.answers(2, whether=False)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(door, timeout=SOON_S)
        assert hears(sock, b"b"), "what is open is not the door's"
    roads.answers(2, whether=True)
    with socket.create_connection(door, timeout=SOON_S) as sock:
        assert hears(sock, b"c")


@pytest.mark.parametrize(
    ("header", "who"),
    [
        (b'{"type":"follow","id":0,"broker":3,"inc":"a"}\n', 3),
        (b'{"type":"metadata","id":0}\n', CLIENTS),
    ],
)
def test_the_first_frame_says_who_dials(roads: Roads, echo: Echo, header: bytes, who: int) -> None:
    with dial(roads, echo, None) as sock:
        frame = frame_of(header)
        sock.sendall(frame[:7])
        sock.sendall(frame[7:])
        assert sock.recv(4) == frame[:4]
        assert roads.dialled == {(who, 2): 1}
        assert len(roads.between(who, 2)) == 1


#: Two hosts, a listener on one, a datagram from each to the other before, during and after a cut.
ON_THE_WIRE = """
import json, socket, sys
from tests.fault.roads import Roads
from tests.fault.spaces import Spaces

roads = Roads()
spaces = Spaces(roads, [0, 1, 2])
async def bound(n):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((spaces.address(n)[0], 5000))
    sock.settimeout(0.3)
    return sock
socks = {n: spaces.hosts[n].call(bound(n)) for n in (1, 2)}
def comes(a, b):
    socks[a].sendto(b"x", (spaces.address(b)[0], 5000))
    try:
        return socks[b].recv(1) == b"x"
    except TimeoutError:
        return False
said = [comes(1, 2), comes(2, 1)]
spaces.cut(1, 2)
spaces.cut(1, 2)
said += [comes(1, 2), comes(2, 1)]
spaces.heal(1, 2)
said += [comes(1, 2)]
spaces.heal(1, 2)
said += [comes(1, 2), comes(2, 1)]
print(json.dumps(said))
roads.close()
"""


@pytest.mark.skipif(bool(spaces.missing()), reason=spaces.missing())
def test_a_wire_is_cut_one_way() -> None:
    """In a process of its own, which leaves the machine's namespace, and takes its own with it."""
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_WIRE],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True, False, True, False, True, True]
