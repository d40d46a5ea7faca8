"""What partition files must hold, worked out from the committed operations alone.

    topics/orders/2/00000000000000000041.jsonl      {"format":1,"first":41}, then operations

The rules, as the documents state them: a file begins with its first line, and a batch goes to a
new one where the last would grow longer than the topic's `segment_bytes` then is; a trim frees
the files of which nothing is left; a topic's files go with it.

It is an account of its own, not storage's: where both agree, both are right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from yak.core import ops
from yak.model import TopicPartition
from yak.storage.partition import DEFAULT_SEGMENT_BYTES


@dataclass
class _File:
    """first: its first offset.  end: the offset after its last record."""

    first: int
    end: int
    data: bytearray

    @property
    def name(self) -> str:
        return f"{self.first:020}.jsonl"


@dataclass
class Files:
    """All partition files, once the operations up to `index` are applied."""

    index: int = 0
    _segment_bytes: dict[str, int] = field(default_factory=dict)
    _files: dict[TopicPartition, list[_File]] = field(default_factory=dict)

    def add(self, operations: Iterable[tuple[ops.Op, bytes]]) -> None:
        """The next operations, each with its line and body."""
        for op, data in operations:
            assert op.index == self.index + 1
            self.index = op.index
            if isinstance(op, ops.Append):
                self._append(op, data)
            elif isinstance(op, ops.CreateTopic | ops.AlterTopic):
                self._segment_bytes[op.topic] = _segment_bytes(op.config)
            elif isinstance(op, ops.DeleteTopic):
                for tp in [tp for tp in self._files if tp[0] == op.topic]:
                    del self._files[tp]
            elif isinstance(op, ops.Trim):
                tp = (op.topic, op.partition)
                kept = [file for file in self._files.get(tp, ()) if file.end > op.before]
                self._files[tp] = kept

    def _append(self, op: ops.Append, data: bytes) -> None:
        files = self._files.setdefault((op.topic, op.partition), [])
        most = self._segment_bytes[op.topic]
        if not files or len(files[-1].data) + len(data) > most:
            header = b'{"format":1,"first":%d}\n' % op.offset
            files.append(_File(op.offset, op.offset, bytearray(header)))
        files[-1].data += data
        files[-1].end = op.offset + op.count

    def tree(self, path: str) -> dict[str, bytes]:
        """Every file's path, below `path`, and its bytes."""
        return {
            f"{path}/{topic}/{p}/{file.name}": bytes(file.data)
            for (topic, p), files in self._files.items()
            for file in files
        }


def _segment_bytes(config: dict[str, Any]) -> int:
    return int(config.get("segment_bytes", DEFAULT_SEGMENT_BYTES))
