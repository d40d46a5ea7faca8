"""The plugin as another project has it: pytest runs tests that use it, and says what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import command, environment, wait_until
from yak.local.cluster import stop

#: A test that hurts the cluster in every way, then proves it; and one that finds it whole again.
HURT: Final = """
    import pytest, time
    from yak import Consumer

    def test_killed_stopped_and_restarted(yak_cluster, yak_topic):
        with yak_cluster.producer(linger_ms=1) as producer:
            producer.send(yak_topic, {"id": 0}).result(20)
            first = yak_cluster.kill_leader()
            producer.send(yak_topic, {"id": 1}).result(20)
            assert yak_cluster.wait_leader(other_than=first) != first
            yak_cluster.restart(first)
            yak_cluster.wait_isr()
            stopped = yak_cluster.wait_leader()
            yak_cluster.pause(stopped)
            producer.send_many(yak_topic, [{"id": n} for n in range(2, 50)]).wait(20)
            yak_cluster.resume(stopped)
            dead = yak_cluster.kill_leader()  # and left for the next test
        yak_cluster.kill(0)
        yak_cluster.restart(0)

    @pytest.mark.yak_topic(partitions=1)
    def test_begins_with_a_whole_cluster(yak_cluster, yak_topic):
        assert yak_cluster.answering == [1, 2, 3]
        with yak_cluster.producer() as producer:
            sent = producer.send(yak_topic, "value", key="k").result(20)
        assert (sent.partition, sent.offset) == (0, 0)
        yak_cluster.kill_leader()
        yak_cluster.assert_no_acked_loss([(yak_topic, 0, 0, "value")])
        yak_cluster.wait_isr([1, 2, 3])
        with pytest.raises(AssertionError, match=r"@0 was acknowledged as 'other'.*'value'"):
            yak_cluster.assert_no_acked_loss([(yak_topic, 0, 0, "other")])
        with pytest.raises(AssertionError, match=r"@1 was acknowledged, and is not there"):
            yak_cluster.assert_no_acked_loss([(yak_topic, 0, 1)])
        with pytest.raises(AssertionError, match="acknowledged records of never"):
            yak_cluster.assert_no_acked_loss([("never", 0, 0)])

    def test_cut_apart(yak_cluster, yak_topic):
        leader = yak_cluster.wait_leader()
        follower, other = [one for one in yak_cluster.ids if one != leader]
        yak_cluster.cut(leader, follower)
        assert yak_cluster.leader() == leader
        with yak_cluster.producer() as producer:
            producer.send(yak_topic, "while it is cut off").result(20)
            yak_cluster.wait_isr({leader, other})
            yak_cluster.mend()
            yak_cluster.wait_isr()
            yak_cluster.cut(0, leader)
            assert yak_cluster.wait_leader(other_than=leader) != leader
            producer.send(yak_topic, "under another leader").result(20)
            yak_cluster.kill_leader()
            yak_cluster.assert_no_acked_loss()

    @pytest.mark.yak_topic(partitions=1)
    def test_slowed_down(yak_cluster, yak_topic):
        leader = yak_cluster.wait_leader()
        with yak_cluster.producer() as producer:

            def took():
                began = time.monotonic()
                producer.send(yak_topic, "x").result(20)
                return time.monotonic() - began

            took()
            for one in yak_cluster.ids:
                if one != leader:
                    yak_cluster.slow(leader, one, by_ms=150)
            assert took() >= 0.3, "there and back"
            yak_cluster.mend()
            yak_cluster.slow(leader)
            assert took() >= 0.4
            yak_cluster.mend()
            assert min(took() for _ in range(5)) < 0.15
            assert yak_cluster.leader() == leader, "late is not dead"
        with pytest.raises(ValueError, match="no broker-9 to slow"):
            yak_cluster.slow(9)
        with pytest.raises(ValueError, match="above 0"):
            yak_cluster.slow(1, by_ms=0)

    def test_that_fails(yak_cluster, yak_topic):
        yak_cluster.kill_leader()
        yak_cluster.wait_leader()
        assert False, "on purpose"

    def test_without_it():
        assert False, "nothing of a cluster here"
"""

#: The tests that docs/pytest.md shows.
DOCUMENTED: Final = (
    (Path(__file__).parents[2] / "docs/pytest.md").read_text().split("```python")[1].split("```")[0]
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody else's."""
    return tmp_path


def run(project: Path, code: str, *argv: str) -> tuple[int, str]:
    """pytest in a project of this one file: its exit code, and all that it prints."""
    (project / "test_theirs.py").write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp=tmp", *argv],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def running_under(project: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(project) in line and "yak-" in line:
            found.append(line)
    return found


def test_it_is_installed() -> None:
    found = [one.value for one in metadata.entry_points(group="pytest11", name="yak")]
    assert found == ["yak.pytest_plugin"], "installed before it had it: pip install -e . again"


def test_a_cluster_is_hurt_healed_and_proved_and_a_failure_tells_its_story(project: Path) -> None:
    (project / "test_as_documented.py").write_text(DOCUMENTED)
    code, said = run(project, HURT)
    assert code == 1
    assert "2 failed, 6 passed" in said, said
    _, _, failed = said.partition("_ test_that_fails _")
    failed, _, other = failed.partition("_ test_without_it _")
    assert "- yak: what happened in the cluster -" in failed
    for words in ("test      kill broker-", "yak-zk    died broker=", "yak-zk    elected epoch="):
        assert words in failed, failed
    assert "value" not in failed, "of this test only"
    assert "yak:" not in other.partition("short test summary")[0]
    assert running_under(project) == []


def test_who_does_not_use_it_does_not_pay(project: Path) -> None:
    code, said = run(
        project,
        """
        import sys

        def test_nothing_of_yak_is_here():
            mine = [name for name in sys.modules if name.split(".")[0] in ("yak", "msgspec")]
            assert sorted(mine) == ["yak", "yak.pytest_plugin", "yak.version"], mine
        """,
        "-p", "no:asyncio",
    )  # fmt: skip
    assert code == 0, said


def test_each_worker_has_its_own_and_settings_reach_it(project: Path) -> None:
    (project / "pytest.ini").write_text(
        "[pytest]\nyak_brokers = 1\nyak_broker_options = --max-topics 2\n"
    )
    code, said = run(
        project,
        """
        import pathlib, pytest

        def test_mine(yak_cluster, worker_id):
            pathlib.Path(f"zk-of-{worker_id}").write_text(yak_cluster.zk)
            yak_cluster.new_topic()
            yak_cluster.new_topic()
            with pytest.raises(Exception, match="max_topics"):
                yak_cluster.new_topic()
        """,
        "-n", "2", "--dist", "each",
    )  # fmt: skip
    assert code == 0, said
    assert "2 passed" in said
    assert len({path.read_text() for path in project.glob("zk-of-gw*")}) == 2


def test_nothing_is_left_where_pytest_is_killed(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nyak_brokers = 1\n")
    (project / "test_hangs.py").write_text(
        "import pathlib, time\n"
        "def test_hangs(yak_cluster):\n"
        "    pathlib.Path('ready').touch()\n"
        "    time.sleep(99)\n"
    )
    argv = [command("pytest"), "-p", "no:cacheprovider", "--basetemp=tmp", "-q"]
    with subprocess.Popen(
        argv, cwd=project, env=environment(), stdout=subprocess.DEVNULL
    ) as theirs:
        wait_until((project / "ready").exists, "the test runs")
        assert len(running_under(project)) == 2
        noted = next(project.glob("tmp/*/yak.json")).parent
        os.kill(theirs.pid, signal.SIGKILL)
    try:
        wait_until(lambda: running_under(project) == [], "its processes end with it")
    finally:
        stop(noted)


def test_a_setting_that_makes_no_sense(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nyak_brokers = many\n")
    code, said = run(project, "def test_it(yak_cluster): pass")
    assert code == 1
    assert "yak_brokers = 'many': say a whole number from 1" in said
