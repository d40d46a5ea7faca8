"""What directories have for an explanation: whole, torn, damaged, of another cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.evidence import BODY, a_broker, a_zk, the_log
from yak.commands import gathering, walking
from yak.commands.gathering import Gathered, directories, read_events, read_files
from yak.commands.log import Found, read_log
from yak.core import ops
from yak.core.snapshot import describe
from yak.errors import Fatal
from yak.explain.facts import Facts
from yak.explain.questions import Question, explain

OFFSET = Question("offset", "t", 0, 2)


def gather(*given: Path, question: Question = OFFSET) -> Facts:
    gathered = Gathered()
    read_files(question, list(given), gathered)
    return gathered.facts()


def test_a_home_has_them_all(tmp_path: Path) -> None:
    for broker in (1, 2):
        a_broker(tmp_path, broker, the_log()[: 2 + broker])
    a_zk(tmp_path)
    facts = gather(tmp_path)
    assert [(log.broker, log.first, log.last) for log in facts.logs] == [(2, 1, 4), (1, 1, 3)]
    assert [event.event for event in facts.events] == ["left", "died"]
    assert facts.document is not None
    assert [text for text in facts.unknown if "broker 3" in text]
    answer = explain(OFFSET, facts)
    assert "t/0@2 is operation 4" in answer.answer
    assert len(answer.sources) == 3


def test_given_twice_is_read_once(tmp_path: Path) -> None:
    path = a_broker(tmp_path, 1, the_log())
    assert directories([tmp_path, path, path]) == ([path], [])


def test_what_is_no_data_directory(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="is no data directory of a broker or of yak-zk"):
        gather(tmp_path)


def test_nothing_given_and_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert gather().logs == []
    a_broker(gathering.DEFAULT_HOME, 1, the_log())
    assert len(gather().logs) == 1


def test_nothing_given_is_where_yak_up_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_broker(tmp_path / "elsewhere", 1, the_log())
    monkeypatch.setattr("yak.local.note.nearest", lambda: tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert [log.directory for log in gather().logs] == ["elsewhere/broker-1"]
    monkeypatch.chdir(path)
    assert [log.directory for log in gather().logs] == [str(path)]


def test_another_cluster_is_left_out(tmp_path: Path) -> None:
    a_zk(tmp_path)
    a_broker(tmp_path, 1, the_log())
    a_broker(tmp_path, 2, the_log(), cluster="another")
    facts = gather(tmp_path)
    assert [log.broker for log in facts.logs] == [1]
    assert any("it belongs to cluster another, and this is C" in text for text in facts.unknown)


def test_a_log_that_is_being_written(tmp_path: Path) -> None:
    path = a_broker(tmp_path, 1, the_log())
    file = path / "oplog" / f"{1:020d}.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    (log,) = gather(path).logs
    assert log.last == 3


def test_a_damaged_log_counts_up_to_there(tmp_path: Path) -> None:
    path = a_broker(tmp_path, 1, the_log())
    file = path / "oplog" / f"{1:020d}.jsonl"
    file.write_bytes(
        file.read_bytes().replace(b'"partition":0,"offset":0', b'"partition":0,"offset":9')
    )
    facts = gather(path)
    assert facts.logs[0].last == 2
    assert any("damaged" in text for text in facts.unknown)


def test_an_empty_log(tmp_path: Path) -> None:
    path = a_broker(tmp_path, 1, [], cluster=None)
    (log,) = gather(path).logs
    assert (log.first, log.last) == (1, 0)


def test_a_log_without_its_beginning_and_without_a_checkpoint(tmp_path: Path) -> None:
    path = a_broker(tmp_path, 1, [])
    (path / "oplog" / f"{1:020d}.jsonl").unlink()
    line, _ = ops.encode(the_log()[2], "12345678")
    header = b'{"format":1,"first":3,"sum":"12345678"}\n'
    (path / "oplog" / f"{3:020d}.jsonl").write_bytes(header + line + 2 * BODY)
    facts = gather(path)
    assert facts.logs == []
    assert any("begins later than what its last checkpoint" in text for text in facts.unknown)


@pytest.mark.parametrize(("offset", "index"), [(0, 3), (1, 3), (2, 4), (3, 4), (4, None)])
def test_the_operation_is_in_the_partition_s_file(
    tmp_path: Path, offset: int, index: int | None
) -> None:
    log = the_log()
    path = a_broker(tmp_path, 1, [])
    folder = path / "topics" / "t" / "0"
    folder.mkdir(parents=True)
    for op in log[2:]:
        assert isinstance(op, ops.Append)
        line, _ = ops.encode(op, ops.NO_SUM)
        header = b'{"format":1,"first":%d}\n' % op.offset
        (folder / f"{op.offset:020d}.jsonl").write_bytes(header + line + 2 * BODY)
    found = gather(path, question=Question("offset", "t", 0, offset)).logs[0].stored
    assert (found.index if found else None) == index


def test_events_of_nobody(tmp_path: Path) -> None:
    assert read_events(tmp_path) == []


def test_replicas_that_agree_are_read_once_and_told_as_if_each_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = the_log()
    other = the_log()
    other[-1].epoch = 7
    behind = a_broker(tmp_path, 1, log[:3])
    for broker in (2, 3):
        a_broker(tmp_path, broker, log)
    apart = a_broker(tmp_path, 4, other)
    torn = a_broker(tmp_path, 5, log)
    file = torn / "oplog" / f"{1:020d}.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    read: list[Path] = []

    def reads(path: Path) -> Iterator[Found]:
        read.append(path)
        return read_log(path)

    monkeypatch.setattr(walking, "read_log", reads)
    together = gather(tmp_path)
    assert sorted(read)[1:] == [apart], "one of those that agree, and the one that does not"
    assert behind not in read, "the one that reaches furthest"
    monkeypatch.setattr(walking, "_end", lambda _: None)
    alone = gather(tmp_path)
    assert len(read) == 2 + 5

    def shown(facts: Facts) -> list[object]:
        found = sorted(facts.logs, key=lambda one: one.broker)
        return [
            (one.broker, one.first, one.last, one.epoch, describe(one.state), vars(one.seen))
            for one in found
        ]

    assert str(shown(together)) == str(shown(alone))
    assert [one[2] for one in shown(alone)] == [3, 4, 4, 4, 3]  # type: ignore[index] # as above
