"""yak-produce, as it is used: from a pipe, from a file, on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.process import command, environment, wait_until
from tests.support.wire import Wire

SUMMARY = re.compile(r"sent (\d+)\s+acknowledged (\d+)\s+retransmitted (\d+)\s+lost (\d+)")


def stored(wire: Wire, topic: str, partition: int = 0) -> list[dict[str, Any]]:
    """The records of a partition, decoded."""
    lines = [line for op in wire.read_all(topic, partition) for line in op.body.splitlines()]
    return [json.loads(line) for line in lines]


def values(wire: Wire, topic: str, partition: int = 0) -> list[Any]:
    return [record["value"] for record in stored(wire, topic, partition)]


def summary(stderr: bytes) -> tuple[int, ...]:
    """(sent, acknowledged, retransmitted, lost)."""
    found = SUMMARY.search(stderr.decode())
    assert found, stderr
    return tuple(int(number) for number in found.groups())


def test_each_line_of_a_pipe_is_a_record(shared: Cluster, leader: Wire, topic: str) -> None:
    ended = shared.run("yak-produce", topic, stdin=b"one\ntwo\n\n  four \nf\xc3\xbcnf\tx\nlast")
    assert ended.returncode == 0, ended.stderr
    assert values(leader, topic) == ["one", "two", "", "  four ", "fünf\tx", "last"]
    assert all("key" not in r or r["key"] is None for r in stored(leader, topic))
    assert summary(ended.stderr) == (6, 6, 0, 0)
    assert ended.stdout == b"", "records and only records belong on stdout"


def test_a_line_stays_as_it_is(shared: Cluster, leader: Wire, topic: str) -> None:
    """JSON is text by default; a carriage return, quotes, an emoji and 100 kB are text too."""
    lines = ['{"a": 1}', "17", "null", "a\rb", 'say "hi" \\n', "🐂", "x" * 100_000, "\x00\x7f"]
    ended = shared.run("yak-produce", topic, stdin="\n".join(lines).encode() + b"\n")
    assert ended.returncode == 0, ended.stderr
    assert values(leader, topic) == lines


def test_nothing_in_nothing_out(shared: Cluster, leader: Wire, topic: str) -> None:
    ended = shared.run("yak-produce", topic)
    assert ended.returncode == 0, ended.stderr
    assert summary(ended.stderr) == (0, 0, 0, 0)
    assert values(leader, topic) == []


def test_quiet_and_verbose(shared: Cluster, topic: str) -> None:
    quiet = shared.run("yak-produce", topic, "-q", stdin=b"a\n")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"", b"")
    verbose = shared.run("yak-produce", topic, "-v", stdin=b"b\n")
    assert f"{topic}[0]@1" in verbose.stderr.decode(), verbose.stderr


def test_a_file(shared: Cluster, leader: Wire, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    lines = [f"line {number} of the file" for number in range(5000)]
    path.write_text("\n".join(lines) + "\n")
    ended = shared.run("yak-produce", topic, "-l", str(path))
    assert ended.returncode == 0, ended.stderr
    assert values(leader, topic) == lines
    assert summary(ended.stderr)[:2] == (5000, 5000)


def test_json_values(shared: Cluster, leader: Wire, topic: str) -> None:
    ended = shared.run("yak-produce", topic, "--value", "json", stdin=b'{"a": [1, 2.50]}\n17\n[]\n')
    assert ended.returncode == 0, ended.stderr
    assert values(leader, topic) == [{"a": [1, 2.5]}, 17, []]


def test_keys_and_headers(shared: Cluster, leader: Wire, topic: str) -> None:
    one_key = ("-k", "user-7", "-H", "trace=ab=12", "-H", "trace=", "-H", "lang=de")
    assert shared.run("yak-produce", topic, *one_key, stdin=b"a\nb\n").returncode == 0
    per_line = shared.run("yak-produce", topic, "-K", "::", stdin=b"k1::v1\nk2::a::b\n")
    assert per_line.returncode == 0, per_line.stderr
    records = stored(leader, topic)
    assert [record["key"] for record in records] == ["user-7", "user-7", "k1", "k2"]
    assert [record["value"] for record in records] == ["a", "b", "v1", "a::b"]
    assert records[0]["headers"] == [["trace", "ab=12"], ["trace", ""], ["lang", "de"]]


#: Kafka's murmur2 of a key, and so its partition of seven.
MURMUR2 = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


def test_a_key_goes_where_kafka_would_send_it(shared: Cluster, leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=7)
    lines = "".join(f"{key}\t{key}\n" for key in MURMUR2)
    assert shared.run("yak-produce", name, "-K", "\t", stdin=lines.encode()).returncode == 0
    for key, digest in MURMUR2.items():
        assert key in values(leader, name, (digest & 0x7FFFFFFF) % 7), key


def test_without_a_key_every_line_is_stored_once(shared: Cluster, leader: Wire, name: str) -> None:
    """The topic is created by the producer's registration."""
    lines = [str(number) for number in range(3000)]
    ended = shared.run("yak-produce", name, stdin="\n".join(lines).encode())
    assert ended.returncode == 0, ended.stderr
    partitions = [values(leader, name, partition) for partition in range(3)]
    assert sorted((v for part in partitions for v in part), key=int) == lines
    assert all(part == sorted(part, key=int) for part in partitions)


def test_a_chosen_partition(shared: Cluster, leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=3)
    assert shared.run("yak-produce", name, "-p", "2", stdin=b"a\nb\n").returncode == 0
    assert values(leader, name, 2) == ["a", "b"]
    missing = shared.run("yak-produce", name, "-p", "3", "--delivery-timeout", "1s", stdin=b"c\n")
    assert missing.returncode in (1, 2)
    assert b"Traceback" not in missing.stderr
    assert b"3" in missing.stderr


def test_json_lines_travel_from_topic_to_topic(shared: Cluster, leader: Wire, name: str) -> None:
    """yak-consume -J | yak-produce -J: keys, values, headers and timestamps survive."""
    leader.ok("create_topic", topic=name, partitions=1)
    leader.ok("create_topic", topic=name + "-copy", partitions=1)
    lines = [
        b'{"key":"a","value":{"x":[1,null]},"headers":[["h","v"],["h",null]],"timestamp":17}\n',
        '{"value":"grüß 🐂","key":"ключ"}\n'.encode(),
        b'{"key":"dead","value":null}\n',
        b'{"value":"/w==","enc":"base64"}\n',
    ]
    leader.ok("produce", b"".join(lines), topic=name, partition=0, count=4)
    read = shared.run("yak-consume", name, "--from-beginning", "-e", "-J")
    assert read.returncode == 0, read.stderr
    written = shared.run("yak-produce", name + "-copy", "-J", stdin=read.stdout)
    assert written.returncode == 0, written.stderr
    original, copy = stored(leader, name), stored(leader, name + "-copy")
    assert [_essence(record) for record in copy] == [_essence(record) for record in original]
    assert copy[0]["timestamp"] == 17


def _essence(record: dict[str, Any]) -> tuple[Any, ...]:
    return *(record.get(name) for name in ("key", "value", "enc")), record.get("headers") or []


@pytest.mark.parametrize("line", [b"{", b"[]", b'"text"', b'{"key":"a"}', b'{"key":1,"value":2}'])
def test_a_bad_json_line_is_named(shared: Cluster, leader: Wire, topic: str, line: bytes) -> None:
    ended = shared.run("yak-produce", topic, "-J", stdin=b'{"value":1}\n' + line + b"\n")
    assert ended.returncode == 1, ended.stderr
    assert b"2" in ended.stderr, "the line's number"
    assert b"Traceback" not in ended.stderr
    assert len(values(leader, topic)) <= 1


def test_bytes_that_are_no_text_survive(shared: Cluster, leader: Wire, topic: str) -> None:
    data = b"\xff\xfe\x00raw\nplain\n\xc3\x28\n"
    assert shared.run("yak-produce", topic, stdin=data).returncode == 0
    assert [record.get("enc") for record in stored(leader, topic)] == ["base64", None, "base64"]
    assert shared.run("yak-consume", topic, "--from-beginning", "-e").stdout == data


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks(shared: Cluster, leader: Wire, topic: str, acks: str) -> None:
    ended = shared.run("yak-produce", topic, "--acks", acks, stdin=b"a\nb\nc\n")
    assert ended.returncode == 0, ended.stderr
    wait_until(lambda: values(leader, topic) == ["a", "b", "c"], "all three are stored")


# -- Interruption and failure ---------------------------------------------------------------------


def test_ctrl_c_flushes_what_was_read(shared: Cluster, leader: Wire, topic: str) -> None:
    process = shared.spawn_client(
        "yak-produce", topic, "--linger-ms", "60000", stdin=subprocess.PIPE
    )
    stdin = process.popen.stdin
    assert stdin is not None
    stdin.write(b"one\ntwo\n")
    stdin.flush()
    wait_until(lambda: _unread(stdin.fileno()) == 0, "it has read both lines")
    process.signal(signal.SIGINT)
    assert process.wait() == 0, process.stderr()
    assert "Traceback" not in process.stderr()
    assert values(leader, topic) == ["one", "two"]
    assert summary(process.stderr().encode()) == (2, 2, 0, 0)


def _unread(pipe: int) -> int:
    """Bytes in a pipe that its reader has not taken yet."""
    size: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    return size


def test_what_was_never_acknowledged_is_listed(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        wire.ok("register", role="producer", topics=["t"])
    process = cluster.spawn_client(
        "yak-produce", "t", "--delivery-timeout", "2s", stdin=subprocess.PIPE
    )
    stdin = process.popen.stdin
    assert stdin is not None
    stdin.write(b"first\n")
    stdin.flush()
    with cluster.connect_leader() as wire:
        wait_until(lambda: values(wire, "t") == ["first"], "the first line arrives")
    cluster.kill(*cluster.ids)
    stdin.write(b"second line\nthird line\n")
    stdin.close()
    assert process.wait() == 1
    said = process.stderr()
    assert summary(said.encode())[:2] == (3, 1)
    assert summary(said.encode())[3] == 2
    assert "second line" in said
    assert "third line" in said
    assert "Traceback" not in said


def test_nobody_answers() -> None:
    """The port is closed: one line that says where, and exit code 1."""
    ended = run_command(
        *("yak-produce", "t", "-b", "127.0.0.1:1", "--delivery-timeout", "1s"), stdin=b"a\n"
    )
    assert ended.returncode == 1
    assert b"127.0.0.1:1" in ended.stderr
    assert b"`yak doctor` looks where the cause is" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("t", "--no-such-option"),
        ("t", "-b", "nonsense"),
        ("t", "-b", "127.0.0.1:notaport"),
        ("t", "-p", "one"),
        ("t", "-p", "-1"),
        ("t", "-H", "no-equals-sign"),
        ("t", "-l", "/no/such/file"),
        ("t", "--acks", "2"),
        ("t", "--value", "xml"),
        ("t", "--delivery-timeout", "soon"),
    ],
)
def test_usage(argv: tuple[str, ...]) -> None:
    ended = run_command("yak-produce", *argv, stdin=b"a\n")
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == b""
    assert b"Traceback" not in ended.stderr
    assert ended.stderr.strip()


# -- On a terminal --------------------------------------------------------------------------------


def test_on_a_terminal_it_prompts_and_shows_acknowledgements(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    outer, inner = pty.openpty()
    argv = [command("yak-produce"), topic, "-b", shared.bootstrap()]
    process = subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, env=environment())
    os.close(inner)
    try:
        read_until(outer, b"> ")
        os.write(outer, b"hello\n")
        read_until(outer, f"{topic}[0]@0".encode())
        os.write(outer, b"\x04")
        read_until(outer, b"acknowledged 1")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(outer)
    assert values(leader, topic) == ["hello"]


def read_until(terminal: int, expected: bytes, timeout_s: float = 20) -> None:
    """Read what the terminal shows until it shows that."""
    shown = b""
    while expected not in shown:
        ready, _, _ = select.select([terminal], [], [], timeout_s)
        assert ready, f"the terminal shows {shown!r}, and not {expected!r}"
        shown += os.read(terminal, 4096)
