"""What an operator orders of yak-zk: `yak zk status|elect|adopt`, on clusters that need it.

A power cut is a kill -9 after which the brokers find another boot's id: without fsync=always
they cannot know what the disk has kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import FAST, Cluster, MakeCluster, run_command
from tests.support.history import Reader, Writer, closing_read, judge
from tests.support.logfiles import oplog_bytes, segments
from tests.support.process import wait_until


def zk(cluster: Cluster, *argv: str, code: int = 0) -> str:
    """`yak zk …`, with this cluster's address: what it prints, on stderr where it fails."""
    assert cluster.zk_address is not None
    address = "{}:{}".format(*cluster.zk_address)
    ended = run_command("yak", "zk", *argv, "--zk", address, cwd=cluster.directory)
    assert ended.returncode == code, (ended.stdout.decode(), ended.stderr.decode())
    assert b"Traceback" not in ended.stderr
    return (ended.stdout if code == 0 else ended.stderr).decode()


def status(cluster: Cluster) -> dict[str, Any]:
    """yak-zk's own word, also while nobody leads."""
    assert cluster.zk_address is not None
    address = "{}:{}".format(*cluster.zk_address)
    ended = run_command("yak", "zk", "status", "--json", "--zk", address)
    assert ended.returncode in (0, 1), ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def state(cluster: Cluster) -> dict[str, Any]:
    """The document on yak-zk's disk."""
    found: dict[str, Any] = json.loads((cluster.zk_dir / "state.json").read_bytes())
    return found


def log_start(cluster: Cluster, broker: int) -> int:
    said = cluster.status(broker)
    assert said is not None
    return int(said["log_start"])


class Traffic:
    """Two writers and a reader on one partition."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        with cluster.connect_leader() as wire:
            wire.ok("create_topic", topic="orders", partitions=1)
        self._writers = [Writer(cluster, f"w{n}", "orders", 0) for n in (1, 2)]
        self._readers = [Reader(cluster, "r1", "orders", 0)]
        for client in (*self._writers, *self._readers):
            client.start()

    def wait_progress(self) -> None:
        for client in (*self._writers, *self._readers):
            client.wait_progress(20)

    def finish(self) -> None:
        """Go on for a while, end, and judge what was seen, on every broker."""
        self.wait_progress()
        for client in (*self._writers, *self._readers):
            client.finish()
        self._cluster.wait_level()
        for broker in self._cluster.ids:
            with self._cluster.connect(broker) as wire:
                judge(closing_read(wire, "orders", 0), self._writers, self._readers)


def fill(cluster: Cluster, first: int, count: int) -> list[str]:
    """Acknowledged records."""
    values = [f"record {number:04}" for number in range(first, first + count)]
    with cluster.connect_leader() as wire:
        if not first:
            wire.ok("create_topic", topic="t", partitions=1)
        for value in values:
            wire.produce("t", 0, [value])
    return values


def read(cluster: Cluster) -> list[str]:
    """What every live broker shows; it must be the same."""
    cluster.wait_level(cluster.live)
    seen = []
    for broker in cluster.live:
        with cluster.connect(broker) as wire:
            seen.append(closing_read(wire, "t", 0))
    assert all(one == seen[0] for one in seen)
    return [str(value) for value in seen[0]]


# -- moving the lead ------------------------------------------------------------------------------


def test_the_lead_moves_under_load_and_nothing_is_lost(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    traffic = Traffic(cluster)
    for broker in (2, 3, 1):
        traffic.wait_progress()
        before = cluster.epoch()
        assert f"broker {broker} leads epoch {before + 1}" in zk(cluster, "elect", str(broker))
        cluster.wait_isr([1, 2, 3])
        assert (cluster.wait_leader(), cluster.epoch()) == (broker, before + 1)
    traffic.finish()
    reasons = [one["reason"] for one in status(cluster)["elections"]]
    assert reasons[-1] == "ordered by an operator: broker 1 takes over from broker 3"


def test_a_look_changes_nothing_and_nonsense_is_refused(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    before = state(cluster)
    assert zk(cluster, "elect", "2", "--dry-run") == (
        "would move the lead from broker 1 to broker 2, in epoch 2\n"
    )
    look = json.loads(zk(cluster, "elect", "2", "--dry-run", "--json"))
    assert (look["dry_run"], look["done"], look["losses"]) == (True, False, [])
    assert "leads already" in zk(cluster, "elect", "1", code=1)
    assert "known are: 1, 2, 3" in zk(cluster, "elect", "9", "--yes", code=1)
    assert "refused" in zk(cluster, "adopt", "--yes", code=1)
    cluster.kill(3)
    cluster.wait_isr([1, 2])
    assert "start it first" in zk(cluster, "elect", "3", "--yes", code=1)
    after = state(cluster)
    assert (after["epoch"], after["leader"]) == (before["epoch"], before["leader"])
    table = zk(cluster, "status")
    assert "broker 1 leads  in sync: 1, 2" in table
    assert "a new cluster; broker 1 is the lowest id present" in table


# -- nobody is electable --------------------------------------------------------------------------


@pytest.mark.parametrize("unheard", [0, 2])
def test_an_older_copy_of_a_directory_is_not_elected_and_is_filled_by_who_has_more(
    make_cluster: MakeCluster, tmp_path: Path, unheard: int
) -> None:
    """Also one that starts more than once before yak-zk hears of it."""
    cluster = make_cluster()
    backup = tmp_path / "backup"
    values = fill(cluster, 0, 20)
    cluster.kill(*cluster.ids)
    shutil.copytree(cluster.data_dir(1), backup)
    cluster.start(*cluster.ids)
    cluster.wait_isr(cluster.ids)
    values += fill(cluster, 20, 20)
    cluster.kill(*cluster.ids)
    shutil.rmtree(cluster.data_dir(1))
    shutil.copytree(backup, cluster.data_dir(1))
    assert cluster.zk is not None
    cluster.zk.kill()
    for _ in range(unheard):
        cluster.start(1)
        cluster.kill(1)
    cluster.start_zk()
    cluster.start(1)
    wait_until(lambda: state(cluster)["suspects"], "yak-zk hears of the copy")
    # Who led when yak-zk was killed is gone, and that is known after a session.
    wait_until(lambda: status(cluster)["leader"] is None, "nobody leads")
    assert "its directory is an older copy" in status(cluster)["sessions"][0]["why"]
    cluster.start(2, 3)
    assert cluster.wait_leader() != 1
    cluster.wait_isr(cluster.ids)
    assert read(cluster) == values
    assert not state(cluster)["suspects"]


class Powered:
    """A cluster whose brokers find out at their start whether the power was cut."""

    def __init__(
        self,
        make_cluster: MakeCluster,
        directory: Path,
        *,
        more: Mapping[int, Sequence[str]] | None = None,
        **options: Any,
    ) -> None:
        """more: options of single brokers."""
        self._boots = {broker: directory / f"boot-{broker}" for broker in (1, 2, 3)}
        for path in self._boots.values():
            path.write_text("first\n")
        own = {
            i: ("--boot-id-path", str(path), *(more or {}).get(i, ()))
            for i, path in self._boots.items()
        }
        self.cluster = make_cluster(options_of=own, **options)

    def cut(self, *ids: int) -> None:
        """All at once; they are not started again."""
        self.cluster.kill(*ids)
        for broker in ids:
            self._boots[broker].write_text("second\n")

    def lose(self, broker: int, count: int) -> None:
        """The last operations never reached this disk."""
        path = segments(self.cluster.data_dir(broker) / "oplog")[-1]
        lines = path.read_bytes().splitlines(keepends=True)
        starts = [n for n, line in enumerate(lines) if line.startswith(b'{"index":')]
        path.write_bytes(b"".join(lines[: starts[-count]]))


def wait_unclean(cluster: Cluster, ids: Sequence[int]) -> None:
    def look() -> bool:
        sessions = {one["broker"]: one for one in status(cluster)["sessions"]}
        return all(sessions[i]["live"] and sessions[i]["state"] == "unclean" for i in ids)

    wait_until(look, f"brokers {ids} have joined, unclean")


def test_after_a_power_cut_of_all_one_is_ordered_to_lead(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    powered = Powered(make_cluster, tmp_path, fsync="never")
    cluster = powered.cluster
    acknowledged = fill(cluster, 0, 50)
    cluster.wait_level()
    assert cluster.zk is not None
    cluster.zk.kill()
    powered.cut(1, 2, 3)
    powered.lose(1, 10)
    powered.lose(3, 5)
    cluster.restart_zk()
    cluster.start(1, 2, 3)
    wait_unclean(cluster, [1, 2, 3])
    wait_until(lambda: status(cluster)["leader"] is None, "nobody leads")
    assert "nobody leads  in sync: 1, 2, 3" in run_status(cluster)
    before = state(cluster)
    refused = zk(cluster, "elect", "1", code=2)
    assert "elect 2 rather than this one" in zk(cluster, "elect", "1", "--dry-run")
    assert "add --yes" in refused
    assert state(cluster) == before, "looking changes nothing"
    assert "goes further" not in zk(cluster, "elect", "2", "--dry-run")
    done = json.loads(zk(cluster, "elect", "2", "--yes", "--json"))
    assert (done["done"], done["leader"], done["epoch"]) == (True, 2, before["epoch"] + 1)
    cluster.wait_isr([1, 2, 3])
    assert {one["state"] for one in status(cluster)["sessions"]} == {"whole"}
    acknowledged += fill(cluster, 50, 20)
    assert read(cluster) == acknowledged
    logs = [oplog_bytes(cluster.data_dir(broker)) for broker in cluster.ids]
    assert logs[0] == logs[1] == logs[2]
    told = (cluster.zk_dir / "events.jsonl").read_text()
    assert '"event":"ordered"' in told.replace(" ", "")
    assert "ordered by an operator: broker 2, which is unclean" in told
    cluster.kill(2)
    cluster.wait_leader(other_than=2)
    acknowledged += fill(cluster, 70, 5)
    assert read(cluster) == acknowledged, "the others are whole, and lead"


def run_status(cluster: Cluster) -> str:
    """`yak zk status` as a table; exit code 1 says that nobody leads."""
    assert cluster.zk_address is not None
    address = "{}:{}".format(*cluster.zk_address)
    ended = run_command("yak", "zk", "status", "--zk", address)
    assert ended.returncode == 1
    return ended.stdout.decode()


def test_one_that_saw_more_committed_stops_says_what_to_do_and_can_do_it(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It hung while the others lost power; what it knows as committed is cut by the order."""
    powered = Powered(make_cluster, tmp_path, fsync="never")
    cluster = powered.cluster
    acknowledged = fill(cluster, 0, 30)
    cluster.wait_level()
    cluster.pause(3)
    cluster.wait_isr([1, 2])
    powered.cut(1, 2)
    powered.lose(1, 14)
    powered.lose(2, 15)
    cluster.start(1, 2)
    wait_unclean(cluster, [1, 2])
    cluster.resume(3)
    wait_until(lambda: len([s for s in status(cluster)["sessions"] if s["live"]]) == 3, "3 is back")
    look = zk(cluster, "elect", "1", "--dry-run")
    assert "the log of broker 3 goes further" in look
    zk(cluster, "elect", "1", "--yes")
    assert cluster.brokers[3].wait() == 1
    said = cluster.brokers[3].stderr()
    assert "Was that election ordered" in said
    assert "with an empty --data-dir if it stops here once more" in said
    cluster.start(3)
    cluster.wait_isr([1, 2, 3])
    left = read(cluster)
    assert left == acknowledged[: len(left)], "a prefix, the same on all"
    assert len(acknowledged) - 15 <= len(left) < len(acknowledged)
    more = fill(cluster, 30, 5)
    assert read(cluster) == left + more


def test_after_an_order_one_with_less_gets_a_full_copy_and_one_with_more_begins_anew(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """What a checkpoint holds cannot be cut: that broker stops each time, until it is emptied."""
    often = ("--checkpoint-operations", "20", "--oplog-retain-bytes", "0")
    powered = Powered(
        make_cluster,
        tmp_path,
        fsync="never",
        zk_options=(*FAST, "--oplog-segment-bytes", "3000"),
        more={2: often, 3: often},
    )
    cluster = powered.cluster
    acknowledged = fill(cluster, 0, 60)
    cluster.wait_level()
    wait_until(lambda: log_start(cluster, 2) > 30, "the log of 2 is cut")
    cluster.pause(2)
    cluster.wait_isr([1, 3])
    acknowledged += fill(cluster, 60, 60)
    wait_until(lambda: log_start(cluster, 3) > 80, "the log of 3 is cut, beyond where 2 ends")
    powered.cut(1, 3)
    for segment in segments(cluster.data_dir(1) / "oplog")[1:]:
        segment.unlink()
    cluster.start(1, 3)
    wait_unclean(cluster, [1, 3])
    cluster.resume(2)
    wait_until(lambda: len([s for s in status(cluster)["sessions"] if s["live"]]) == 3, "2 is back")
    assert "elect 3 rather than this one" in zk(cluster, "elect", "2", "--dry-run")
    zk(cluster, "elect", "2", "--yes")
    cluster.wait_isr([1, 2])
    assert "copying" in cluster.brokers[1].stderr()
    for _ in range(2):
        assert cluster.brokers[3].wait() == 1
        assert "with an empty --data-dir" in cluster.brokers[3].stderr()
        cluster.start(3)
    assert cluster.brokers[3].wait() == 1
    shutil.rmtree(cluster.data_dir(3))
    cluster.start(3)
    cluster.wait_isr([1, 2, 3])
    left = read(cluster)
    assert left == acknowledged[: len(left)]
    assert len(left) >= 60
    more = fill(cluster, 120, 5)
    assert read(cluster) == left + more


def test_one_that_was_not_in_sync_leads_when_the_others_are_gone_for_good(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster()
    acknowledged = fill(cluster, 0, 10)
    cluster.wait_level()
    cluster.kill(3)
    cluster.wait_isr([1, 2])
    fill(cluster, 10, 10)
    cluster.kill(1, 2)
    for broker in (1, 2):
        shutil.rmtree(cluster.data_dir(broker))
    cluster.start(3)
    look = zk(cluster, "elect", "3", "--dry-run")
    assert "broker 3 was not in sync" in look
    assert "start it, and it is elected without an order" in look
    zk(cluster, "elect", "3", "--yes")
    cluster.start(1, 2)
    cluster.wait_isr([1, 2, 3])
    assert cluster.leader() == 3
    acknowledged += fill(cluster, 20, 5)
    assert read(cluster) == acknowledged


# -- yak-zk has lost its state --------------------------------------------------------------------


def lose_state(cluster: Cluster) -> None:
    """yak-zk dies, and its directory is gone with it."""
    assert cluster.zk is not None
    cluster.zk.kill()
    (cluster.zk_dir / "state.json").unlink()
    address = "{}:{}".format(*cluster.zk_address or ("", 0))
    ended = run_command(
        "yak-zk", "--port", address.rpartition(":")[2], "--data-dir", str(cluster.zk_dir)
    )
    assert ended.returncode == 1
    assert b"`yak zk adopt`" in ended.stderr
    shutil.rmtree(cluster.zk_dir)
    cluster.start_zk()


def wait_refused(cluster: Cluster, ids: Sequence[int]) -> None:
    wait_until(
        lambda: [one["broker"] for one in status(cluster)["refused"]] == list(ids),
        f"brokers {ids} were refused",
    )


def test_a_running_cluster_is_adopted_under_load(make_cluster: MakeCluster) -> None:
    """Its leader goes on without yak-zk, and so do the writers, until it is taken over."""
    cluster = make_cluster()
    old = state(cluster)
    traffic = Traffic(cluster)
    lose_state(cluster)
    wait_refused(cluster, [1, 2, 3])
    traffic.wait_progress()
    before = state(cluster)
    assert before["cluster"] != old["cluster"]
    look = zk(cluster, "adopt", "--dry-run")
    assert f"would adopt cluster {old['cluster']}" in look
    assert "where 2 or more of the cluster's brokers are not among these" in look
    assert "add --yes" in zk(cluster, "adopt", code=2)
    assert state(cluster) == before
    assert "is adopted: brokers 1, 2 and 3 are waited for" in zk(cluster, "adopt", "--yes")
    # Until they have come the brokers go by their old view, in which all is well.
    wait_until(lambda: not status(cluster)["refused"], "yak-zk has them all")
    wait_until(lambda: status(cluster)["leader"], "one of the adopted cluster leads")
    cluster.wait_isr([1, 2, 3])
    traffic.finish()
    after = status(cluster)
    assert (after["cluster"], after["refused"]) == (old["cluster"], [])
    assert after["epoch"] > old["epoch"] + 1000
    cluster.restart_zk()
    cluster.kill(after["leader"])
    cluster.wait_leader(other_than=after["leader"])


def test_a_stopped_cluster_is_adopted_and_started_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(fsync="always")
    acknowledged = fill(cluster, 0, 20)
    cluster.kill(3)
    cluster.wait_isr([1, 2])
    acknowledged += fill(cluster, 20, 20)
    cluster.kill(1, 2)
    lose_state(cluster)
    for broker in cluster.ids:
        ended = run_command(*cluster.broker_argv(broker))
        assert ended.returncode == 1
        assert b"`yak zk adopt`" in ended.stderr
    assert "to be had by `yak zk adopt`" in run_status(cluster)
    look = zk(cluster, "adopt", "--isr", "3", "--dry-run")
    assert "broker 1 is left out" in look
    assert "further than those of all others" in look
    zk(cluster, "adopt", "--yes")
    cluster.start(1, 3)
    wait_until(lambda: len([s for s in status(cluster)["sessions"] if s["live"]]) == 2, "two came")
    assert status(cluster)["leader"] is None, "2 might have more"
    cluster.start(2)
    cluster.wait_isr([1, 2, 3])
    assert cluster.leader() in (1, 2), "3 had fallen behind"
    acknowledged += fill(cluster, 40, 5)
    assert read(cluster) == acknowledged


def test_of_an_adopted_cluster_one_is_ordered_to_lead_where_another_never_comes(
    make_cluster: MakeCluster,
) -> None:
    cluster, missing = make_cluster(), 2
    acknowledged = fill(cluster, 0, 20)
    cluster.wait_level()
    lose_state(cluster)
    wait_refused(cluster, [1, 2, 3])
    cluster.kill(missing)
    zk(cluster, "adopt", "--yes")
    wait_until(lambda: len([s for s in status(cluster)["sessions"] if s["live"]]) == 2, "two came")
    assert f"broker {missing} was in sync" in zk(cluster, "elect", "3", "--dry-run")
    zk(cluster, "elect", "3", "--yes")
    cluster.wait_isr([1, 3])
    acknowledged += fill(cluster, 20, 5)
    cluster.start(missing)
    cluster.wait_isr([1, 2, 3])
    assert read(cluster) == acknowledged
