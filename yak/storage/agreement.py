"""Whether the files of several brokers agree.

    logs              alike as far as both reach
    partition files   of the same name: one is the beginning of the other
    epochs            one broker led each

Rules:

* An end of a log of an older epoch than another one's at that index is no fault by itself: it was
  never committed, and goes when that broker starts.  It is one if a partition file or a checkpoint
  holds it: then it was taken for committed.
* A sum proves all that came before it, so that the first difference is found by halving.

What one broker's files prove by themselves is audit.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from yak.storage.audit import Audit, Fault, shown, shown_line


def compare(audits: Sequence[Audit]) -> tuple[list[Fault], list[str]]:
    """What is wrong between them, and what is worth a word but is no fault."""
    faults, notes = list(_two_leaders(audits)), list[str]()
    for number, one in enumerate(audits):
        for other in audits[number + 1 :]:
            index = _parting(one, other)
            if index is not None:
                _judge_parting(one, other, index, faults, notes)
    faults += _unlike_files(audits)
    return faults, notes


def _two_leaders(audits: Sequence[Audit]) -> Iterator[Fault]:
    seen: dict[int, tuple[int, Audit, int]] = {}
    for one in audits:
        for epoch, (broker, index) in one.leads.items():
            first = seen.setdefault(epoch, (broker, one, index))
            if first[0] != broker:
                yield Fault(
                    f"{first[1].path} and {one.path}",
                    f"epoch {epoch} had two leaders: broker {first[0]} and broker {broker}",
                    [shown_line(first[1], first[2]), shown_line(one, index)],
                )


def _parting(one: Audit, other: Audit) -> int | None:
    """The first index at which their logs differ."""
    low, high = max(one.first, other.first), min(one.next, other.next)
    if low >= high or one.sum_at(high - 1) == other.sum_at(high - 1):
        return None  # a sum proves all that came before it
    while low < high - 1:
        middle = (low + high - 1) // 2
        if one.sum_at(middle) == other.sum_at(middle):
            low = middle + 1
        else:
            high = middle + 1
    return low


def _judge_parting(
    one: Audit, other: Audit, index: int, faults: list[Fault], notes: list[str]
) -> None:
    """An older epoch's end that nobody took for committed goes by itself."""
    epochs = [audit.epochs[index - audit.first] for audit in (one, other)]
    older, newer = (one, other) if epochs[0] < epochs[1] else (other, one)
    if epochs[0] != epochs[1] and older.shown < index:
        notes.append(
            f"{older.path}: operations {index} to {older.next - 1}, of epoch {min(epochs)}, were "
            f"never committed ({newer.path} has others, of epoch {max(epochs)}): they go when this "
            "broker starts"
        )
        return
    faults.append(
        Fault(
            f"{one.path} and {other.path}",
            f"their logs part at operation {index}",
            [shown_line(one, index), shown_line(other, index)],
        )
    )


def _unlike_files(audits: Sequence[Audit]) -> Iterator[Fault]:
    """Partition files of the same name that begin with the same operation are prefixes."""
    firsts: dict[str, Path] = {}
    for name, path in ((name, path) for one in audits for name, path in one.files.items()):
        other = firsts.setdefault(name, path)
        fault = _unlike(other, path) if other != path else None
        if fault is not None:
            yield fault


def _unlike(one: Path, other: Path) -> Fault | None:
    try:
        mine, theirs = one.read_bytes(), other.read_bytes()
    except FileNotFoundError:
        return None
    size = min(len(mine), len(theirs))
    if mine[:size] == theirs[:size] or _first_line(mine) != _first_line(theirs):
        return None
    at = next(n for n in range(size) if mine[n] != theirs[n])
    start = mine.rfind(b"\n", 0, at) + 1
    lines = [data[start : data.find(b"\n", start) + 1 or None] for data in (mine, theirs)]
    return Fault(
        f"{one} and {other}, byte {start}",
        "these replicas are not the same",
        [shown(line) for line in lines],
    )


def _first_line(data: bytes) -> bytes:
    """Of its first operation."""
    start = data.find(b"\n") + 1
    return data[start : data.find(b"\n", start)]
