"""What cannot start says why: one clear line, exit code 1 or 2, no traceback, nothing harmed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.process import Process, wait_until
from tests.support.wire import Address

#: Long enough for an interpreter to start on a busy machine.
SOON_S = 20.0


def complaint(ended: subprocess.CompletedProcess[bytes], *expected: object, code: int = 1) -> str:
    """The one line that explains it; everything `expected` stands in it."""
    said = ended.stderr.decode()
    assert ended.returncode == code, said
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    for word in expected:
        assert str(word) in last, f"{word!r} is missing in {last!r}"
    return last


def broker(cluster_or_zk: Cluster | Address, *argv: str) -> subprocess.CompletedProcess[bytes]:
    """A broker that is expected to end by itself."""
    zk = cluster_or_zk.zk_address if isinstance(cluster_or_zk, Cluster) else cluster_or_zk
    assert zk is not None
    return run_command(
        "yak-broker", "--zk", "{}:{}".format(*zk), "--port", "0", *argv, timeout_s=SOON_S
    )


def unchanged(cluster: Cluster) -> None:
    """The brokers that ran before run on."""
    assert cluster.live == cluster.ids
    cluster.wait_isr(cluster.ids)


@pytest.fixture
def busy() -> Iterator[Address]:
    """A port on which somebody else listens, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


# -- Ports ----------------------------------------------------------------------------------------


def test_a_busy_port(shared: Cluster, busy: Address, tmp_path: Path) -> None:
    port = str(busy[1])
    one, other = (("--data-dir", str(tmp_path / name)) for name in ("one", "other"))
    for ended in (
        run_command("yak-zk", "--port", port, *one),
        broker(shared, "--id", "9", *other, "--port", port),
    ):
        complaint(ended, port)
        assert b"listening on" not in ended.stdout
    unchanged(shared)


def test_a_host_that_is_not_here(shared: Cluster, tmp_path: Path) -> None:
    one, other = (("--data-dir", str(tmp_path / name)) for name in ("one", "other"))
    complaint(broker(shared, "--id", "9", *one, "--host", "192.0.2.1"), "192.0.2.1")
    complaint(run_command("yak-zk", "--host", "192.0.2.1", *other), "192.0.2.1")


# -- Data directories -----------------------------------------------------------------------------


def test_a_file_in_the_way_of_the_directory(shared: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for directory in (path, path / "below"):
        complaint(broker(shared, "--id", "9", "--data-dir", str(directory)), directory)
        complaint(run_command("yak-zk", "--port", "0", "--data-dir", str(directory)), directory)
    assert path.read_text() == "mine"


def test_a_directory_that_cannot_be_made(shared: Cluster) -> None:
    """Not even by root."""
    complaint(broker(shared, "--id", "9", "--data-dir", "/proc/yak-data"), "/proc/yak-data")
    complaint(
        run_command("yak-zk", "--port", "0", "--data-dir", "/proc/yak-data"), "/proc/yak-data"
    )


def test_somebody_elses_directory(shared: Cluster, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"\xff\xd8")
    complaint(broker(shared, "--id", "9", "--data-dir", str(tmp_path)), tmp_path)
    complaint(run_command("yak-zk", "--port", "0", "--data-dir", str(tmp_path)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_directory_in_use(shared: Cluster) -> None:
    complaint(
        broker(shared, "--id", "1", "--data-dir", str(shared.data_dir(1))), shared.data_dir(1)
    )
    ended = run_command("yak-zk", "--port", "0", "--data-dir", str(shared.zk_dir))
    complaint(ended, shared.zk_dir)
    unchanged(shared)


def test_a_directory_of_another_kind(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(ids=[1, 2])
    cluster.kill(2)
    meta = (cluster.data_dir(2) / "meta.json").read_bytes()
    other_id = broker(cluster, "--id", "3", "--data-dir", str(cluster.data_dir(2)))
    complaint(other_id, cluster.data_dir(2), "2", "3")
    as_zk = run_command("yak-zk", "--port", "0", "--data-dir", str(cluster.data_dir(2)))
    complaint(as_zk, cluster.data_dir(2))
    assert (cluster.data_dir(2) / "meta.json").read_bytes() == meta
    cluster.start(2)
    cluster.wait_isr([1, 2])
    assert cluster.zk is not None
    cluster.zk.kill()
    as_broker = broker(("127.0.0.1", 1), "--id", "9", "--data-dir", str(cluster.zk_dir))
    complaint(as_broker, cluster.zk_dir)


def test_a_meta_json_that_is_damaged(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(ids=[1, 2])
    cluster.kill(2)
    path = cluster.data_dir(2) / "meta.json"
    whole = path.read_bytes()
    for content in (b"", b"{", b"[]", b"{}", b'{"format":99}', b"\xff\xfe", whole[:-3]):
        path.write_bytes(content)
        complaint(broker(cluster, "--id", "2", "--data-dir", str(cluster.data_dir(2))), path)
        assert path.read_bytes() == content
    path.write_bytes(whole)
    cluster.start(2)
    cluster.wait_isr([1, 2])


def test_a_state_json_that_is_damaged(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(ids=[1], zk_options=("--min-insync-replicas", "1"))
    assert cluster.zk is not None
    cluster.zk.kill()
    path = cluster.zk_dir / "state.json"
    whole = path.read_bytes()
    for content in (b"", b"{", b"[]", b'{"format":99}', whole[: len(whole) // 2]):
        path.write_bytes(content)
        complaint(run_command("yak-zk", "--port", "0", "--data-dir", str(cluster.zk_dir)), path)
        assert path.read_bytes() == content
    path.write_bytes(whole)
    cluster.restart_zk()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)


# -- Identities -----------------------------------------------------------------------------------


def test_another_disk_under_a_live_id(shared: Cluster, tmp_path: Path) -> None:
    ended = broker(shared, "--id", "2", "--data-dir", str(tmp_path / "other"))
    complaint(ended, "2")
    disks = json.loads((shared.data_dir(2) / "meta.json").read_text())
    assert disks["disk"] in ended.stderr.decode(), "the disk that holds the id is named"
    unchanged(shared)


def test_a_broker_of_another_cluster(make_cluster: MakeCluster) -> None:
    """Both ids are named, and neither side is harmed."""
    alone = ("--min-insync-replicas", "1")
    one, other = (make_cluster(ids=[1], zk_options=alone) for _ in (1, 2))
    cluster_ids = []
    for cluster in (one, other):
        with cluster.connect(1) as wire:
            cluster_ids.append(wire.ok("hello")["cluster"])
    one.kill(1)
    log = (one.data_dir(1) / "oplog" / "00000000000000000001.jsonl").read_bytes()
    ended = broker(other, "--id", "7", "--data-dir", str(one.data_dir(1)))
    complaint(ended, one.data_dir(1))
    ended = broker(other, "--id", "1", "--data-dir", str(one.data_dir(1)))
    complaint(ended, *cluster_ids)
    assert (one.data_dir(1) / "oplog" / "00000000000000000001.jsonl").read_bytes() == log
    one.start(1)
    one.wait_leader()
    unchanged(other)


def test_brokers_of_a_cluster_that_yak_zk_has_forgotten(make_cluster: MakeCluster) -> None:
    """A new yak-zk never makes a second beginning out of brokers that hold a log."""
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        cluster_id = wire.ok("hello")["cluster"]
        wire.ok("create_topic", topic="t", partitions=1)
    cluster.kill(*cluster.ids)
    assert cluster.zk is not None
    cluster.zk.kill()
    (cluster.zk_dir / "state.json").unlink()
    again = run_command("yak-zk", "--port", "0", "--data-dir", str(cluster.zk_dir))
    complaint(again, "state.json", cluster_id)
    shutil.rmtree(cluster.zk_dir)
    before = (cluster.data_dir(1) / "oplog" / "00000000000000000001.jsonl").read_bytes()
    cluster.restart_zk()
    for broker_id in cluster.ids:
        directory = ("--data-dir", str(cluster.data_dir(broker_id)))
        complaint(broker(cluster, "--id", str(broker_id), *directory), cluster_id)
    assert (cluster.data_dir(1) / "oplog" / "00000000000000000001.jsonl").read_bytes() == before


# -- yak-zk out of reach --------------------------------------------------------------------------


def test_yak_zk_is_not_there(tmp_path: Path) -> None:
    started = time.monotonic()
    directory = ("--data-dir", str(tmp_path / "new"))
    # It listens meanwhile, and says so: only the last line of stderr is the complaint.
    ended = broker(("127.0.0.1", 1), "--id", "1", "--zk-wait", "1.5", *directory)
    assert time.monotonic() - started > 1.4, "it tried again for as long as it was told to"
    assert ended.returncode == 1
    last = ended.stderr.decode().strip().splitlines()[-1]
    assert "127.0.0.1:1" in last
    assert "--zk" in last
    assert b"Traceback" not in ended.stderr


def test_somebody_else_is_where_yak_zk_should_be(
    shared: Cluster, busy: Address, tmp_path: Path
) -> None:
    """A port that never answers; a broker's port instead of yak-zk's."""
    for number, address in enumerate((busy, shared.addresses[1])):
        directory = ("--data-dir", str(tmp_path / str(number)))
        ended = broker(address, "--id", "9", "--zk-wait", "1", *directory)
        assert ended.returncode == 1
        last = ended.stderr.decode().strip().splitlines()[-1]
        assert "{}:{}".format(*address) in last
        assert b"Traceback" not in ended.stderr
    unchanged(shared)


def test_a_broker_waits_for_yak_zk(make_cluster: MakeCluster) -> None:
    """Started first, it finds yak-zk as soon as that is there."""
    cluster = make_cluster(ids=[1], zk_options=("--min-insync-replicas", "1"))
    assert cluster.zk is not None
    cluster.kill(1)
    cluster.zk.kill()
    cluster.start(1)
    process: Process = cluster.brokers[1]
    wait_until(lambda: cluster.status(1) is not None, "it answers `status` meanwhile")
    assert process.running
    cluster.restart_zk()
    cluster.wait_leader()


# -- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ("yak-broker",),
        ("yak-broker", "--id", "0"),
        ("yak-broker", "--id", "-1"),
        ("yak-broker", "--id", "one"),
        ("yak-broker", "--id", "1", "--port", "65536"),
        ("yak-broker", "--id", "1", "--port", "-1"),
        ("yak-broker", "--id", "1", "--zk", "nowhere"),
        ("yak-broker", "--id", "1", "--zk", "127.0.0.1:0x50"),
        ("yak-broker", "--id", "1", "--advertise", "nowhere"),
        ("yak-broker", "--id", "1", "--fsync", "sometimes"),
        ("yak-broker", "--id", "1", "--fsync", "interval:0"),
        ("yak-broker", "--id", "1", "--fsync", "interval:fast"),
        ("yak-broker", "--id", "1", "--default-partitions", "0"),
        ("yak-broker", "--id", "1", "--max-frame-bytes", "400000000"),
        ("yak-broker", "--id", "1", "--max-connections", "0"),
        ("yak-broker", "--id", "1", "--zk-wait", "long"),
        ("yak-broker", "--id", "1", "--no-such-option"),
        ("yak-broker", "--id", "1", "surplus"),
        ("yak-zk", "--port", "70000"),
        ("yak-zk", "--min-insync-replicas", "0"),
        ("yak-zk", "--session-ms", "0"),
        ("yak-zk", "--lease-ms", "2500", "--session-ms", "2000"),
        ("yak-zk", "--heartbeat-ms", "5000", "--session-ms", "2000"),
        ("yak-zk", "--oplog-segment-bytes", "large"),
        ("yak-zk", "surplus"),
        ("yak", "no-such-command"),
        ("yak", "topic", "create"),
        ("yak", "topic", "create", "t", "--partitions", "x"),
        ("yak", "group", "describe"),
    ],
    ids=" ".join,
)
def test_a_bad_option_is_a_usage_error(argv: tuple[str, ...], tmp_path: Path) -> None:
    ended = run_command(*argv, cwd=tmp_path)
    complaint(ended, code=2)
    assert list(tmp_path.iterdir()) == [], "nothing was begun"
