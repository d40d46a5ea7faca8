"""`yak log`: what people read of a log, and where it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from yak.commands.log import Torn, log, read_log
from yak.core import ops
from yak.errors import Fatal

_BODY = b'{"value":"one"}\n{"value":{"two":2}}\n'
_TIME = 1_763_800_000_123


def _operations() -> list[tuple[ops.Op, bytes]]:
    append = ops.Append(
        index=3,
        epoch=1,
        time=_TIME,
        topic="orders",
        partition=0,
        offset=41,
        count=2,
        size=len(_BODY),
        crc=ops.crc_of(_BODY),
        producer=7,
        sequence=0,
    )
    return [
        (ops.Lead(index=1, epoch=1, time=_TIME, broker=1), b""),
        (
            ops.CreateTopic(
                index=2,
                epoch=1,
                time=_TIME,
                topic="orders",
                topic_id="t-1",
                partitions=3,
                config={"retention_ms": 5},
            ),
            b"",
        ),
        (append, _BODY),
        (ops.Ack(index=4, epoch=1, time=_TIME, group="g", offsets=[("orders", 0, 43)]), b""),
    ]


def _write(directory: Path, *, per_segment: int = 100) -> list[Path]:
    """The operations as a broker writes them: segments of `per_segment` operations."""
    oplog = directory / "oplog"
    oplog.mkdir(parents=True)
    running_sum, paths = ops.NO_SUM, []
    for number, (op, body) in enumerate(_operations()):
        if number % per_segment == 0:
            paths.append(oplog / f"{op.index:020}.jsonl")
            paths[-1].write_bytes(
                b'{"format":1,"first":%d,"sum":"%s"}\n' % (op.index, running_sum.encode())
            )
        line, running_sum = ops.encode(op, running_sum)
        with paths[-1].open("ab") as file:
            file.write(line + body)
    return paths


def test_each_operation_is_one_line_that_says_what_it_did(tmp_path: Path) -> None:
    _write(tmp_path)
    result = CliRunner().invoke(log, [str(tmp_path)])
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    when = "2025-11-22T08:26:40.123Z"
    assert lines == [
        f"1 1 {when} lead broker 1",
        f"2 1 {when} create_topic orders 3 partitions retention_ms=5",
        f"3 1 {when} append orders[0]@41 2 records {len(_BODY)} bytes producer 7 sequence 0",
        f"4 1 {when} ack group g orders[0] up to 43",
    ]
    assert (result.stderr, result.exit_code) == ("", 0)


@pytest.mark.parametrize("per_segment", [1, 2, 100])
def test_json_and_bodies_are_the_very_bytes_of_the_files(tmp_path: Path, per_segment: int) -> None:
    paths = _write(tmp_path, per_segment=per_segment)
    written = b"".join(path.read_bytes().split(b"\n", 1)[1] for path in paths)
    result = CliRunner().invoke(log, [str(tmp_path / "oplog"), "--json", "--bodies"])
    assert result.stdout_bytes == written


def test_bodies_stand_below_their_operation(tmp_path: Path) -> None:
    _write(tmp_path)
    lines = CliRunner().invoke(log, [str(tmp_path), "--bodies"]).stdout.splitlines()
    assert lines[3].endswith('| {"value":"one"}')
    assert lines[4].endswith('| {"value":{"two":2}}')


def test_it_stops_at_every_torn_end_and_says_so(tmp_path: Path) -> None:
    (path,) = _write(tmp_path)
    whole = path.read_bytes()
    ack = whole.rindex(b'{"index":4')
    for cut in range(ack + 1, len(whole)):
        path.write_bytes(whole[:cut])
        result = CliRunner().invoke(log, [str(tmp_path)])
        assert len(result.stdout.splitlines()) == 3
        assert f"byte {ack}: " in result.stderr
        assert result.exit_code == 0


def test_it_stops_within_a_body(tmp_path: Path) -> None:
    (path,) = _write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(_BODY) + 5])
    with pytest.raises(Torn, match=f"5 of the {len(_BODY)} bytes of its body"):
        list(read_log(tmp_path))


def test_a_header_cut_off_is_a_torn_end_too(tmp_path: Path) -> None:
    paths = _write(tmp_path, per_segment=2)
    paths[1].write_bytes(b'{"format":1,"fi')
    with pytest.raises(Torn, match="header"):
        list(read_log(tmp_path))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"broker":1', b'"broker":2'), (b'{"value":"one"}', b'{"value":"two"}')],
    ids=["in a line", "in a body"],
)
def test_damage_before_whole_operations_is_no_torn_end(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    (path,) = _write(tmp_path)
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(Fatal, match="damaged"):
        list(read_log(tmp_path))


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    paths = _write(tmp_path, per_segment=1)
    paths[1].unlink()
    with pytest.raises(Fatal, match=f"{paths[2].name}.* a segment is missing"):
        list(read_log(tmp_path))


def test_a_directory_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="holds no operation log"):
        list(read_log(tmp_path))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (path,) = _write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    with pytest.raises(Fatal, match="format 2"):
        list(read_log(tmp_path))


# -- which of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "indexes"),
    [
        (["--from", "2", "--to", "3"], [2, 3]),
        (["--from", "4"], [4]),
        (["--topic", "orders"], [2, 3, 4]),
        (["--topic", "other"], []),
        (["--epoch", "2"], []),
        (["--since", str(_TIME)], [1, 2, 3, 4]),
        (["--since", str(_TIME + 1)], []),
        (["--until", str(_TIME)], []),
        (["--since", "2025-11-22T08:26:40Z", "--until", "@2025-11-22T08:26:41Z"], [1, 2, 3, 4]),
    ],
)
def test_only_what_is_wanted(tmp_path: Path, options: list[str], indexes: list[int]) -> None:
    _write(tmp_path)
    result = CliRunner().invoke(log, [str(tmp_path), *options])
    assert [int(line.split()[0]) for line in result.stdout.splitlines()] == indexes
    assert result.exit_code == 0, result.output


def test_the_first_broker_is_meant_where_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(CliRunner().invoke(log).exception, Fatal)
    _write(tmp_path / "data" / "broker-2")
    assert len(CliRunner().invoke(log).stdout.splitlines()) == 4
