"""Ports that are kept until a process listens there, and who has those that are not free."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from yak.errors import Fatal
from yak.local.ports import Reserved, holder


def test_a_reserved_port_refuses_and_its_process_may_listen() -> None:
    reserved = Reserved.take("127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(reserved.address, 1)
    reserved.give()
    with socket.create_server(reserved.address), socket.create_connection(reserved.address, 1):
        pass
    reserved.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is let go of before")
def test_nobody_else_gets_it_meanwhile() -> None:
    reserved = Reserved.take("127.0.0.1", 0)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(reserved.address)
    reserved.close()


def test_who_has_it_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Fatal, match=f"port {port} is in use") as refused:
            Reserved.take("127.0.0.1", port)
        if sys.platform == "linux":
            assert f"by pid {os.getpid()} (" in refused.value.message
        assert "--ports" in refused.value.message
    assert holder(port) == ""


def test_a_host_that_is_not_here() -> None:
    with pytest.raises(Fatal, match=r"192\.0\.2\.1"):
        Reserved.take("192.0.2.1", 0)
