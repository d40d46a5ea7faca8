"""A command that finds nobody says so soon, and does not wait for long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from yak.commands import reaching
from yak.commands.reaching import ANEW_S, Admin, Waiting
from yak.errors import RetriableError
from yak.local import note


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no yak.json is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reaching, "SAY_S", 0.2)
    monkeypatch.setattr(reaching, "REFUSED_S", 0.5)
    monkeypatch.setattr(reaching, "_AGAIN_S", 0.05)


@pytest.fixture
def reserved() -> Iterator[socket.socket]:
    """A port that is bound, and at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def where(sock: socket.socket) -> str:
    return f"127.0.0.1:{sock.getsockname()[1]}"


def test_nobody_is_there(reserved: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(RetriableError, match="no broker answers at 127") as raised:
        Admin(where(reserved))
    assert 0.5 <= time.monotonic() - began < 3
    assert "Connection refused" in str(raised.value)
    assert "yak up" in str(raised.value.hint)
    said = f"waiting for the cluster at {where(reserved)}: cannot connect to {where(reserved)}: "
    assert capsys.readouterr().err == f"{said}Connection refused\n"


def test_a_shorter_time_out_counts(reserved: socket.socket) -> None:
    began = time.monotonic()
    with pytest.raises(RetriableError):
        Admin(where(reserved), timeout_s=0.05)
    assert time.monotonic() - began < 0.5


def test_one_of_them_is_enough(reserved: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Admin(f"{where(reserved)},{where(server)}"),
    ):
        pass
    assert capsys.readouterr().err == ""


def test_whoever_comes_meanwhile_is_found(reserved: socket.socket) -> None:
    timer = threading.Timer(0.2, reserved.listen)
    timer.start()
    with Admin(where(reserved)):
        pass
    timer.join()


def test_where_a_cluster_is_on_its_way_it_is_waited_for(
    reserved: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(note, "home_of", lambda _: Path())
    timer = threading.Timer(0.8, reserved.listen)
    timer.start()
    with Admin(where(reserved)):
        pass
    timer.join()


def test_what_is_waited_for_is_said_once_and_again_where_it_is_news(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [100.0]
    say = Waiting("h:1,h:2", clock=lambda: now[0])
    say("cannot connect to h:1: refused")
    now[0] += 1
    say("cannot connect to h:2: refused")
    say("no broker leads")
    now[0] += 1
    say("cannot connect to h:1: refused")
    head = "waiting for the cluster at h:1,h:2: "
    first, second = "cannot connect to h:1: refused\n", "no broker leads\n"
    assert capsys.readouterr().err == head + first + head + second
    now[0] += ANEW_S + 0.1
    say("no broker leads")
    assert capsys.readouterr().err == head + second, "it had gone on meanwhile"
    Waiting("h:1", quiet=True)("no broker leads")
    assert capsys.readouterr() == ("", "")


def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RetriableError, match="Name or service not known"):
        Admin("nowhere:9092")
