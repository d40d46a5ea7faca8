"""Topics: created, grown, altered and deleted by operations of the leader.

Everything that can be wrong with a request is checked before anything is written, so that one
request's operations are written together or not at all.  Groups that want a topic are shared
out anew in the same breath (by the caller: desk.py, or membership.py for a register).
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET

from yak import messages as m
from yak.config import FRAME_OVERHEAD_BYTES, MIB, Limits
from yak.core import events as e
from yak.core import ops
from yak.core.service import Service
from yak.errors import Refused
from yak.model import Now, is_topic_name

#: config key -> (least, most) value; -1 is "no limit".
TOPIC_CONFIG: Final[dict[str, tuple[int, int]]] = {
    "retention_ms": (-1, 2**53 - 1),
    "retention_bytes": (-1, 2**53 - 1),
    "segment_bytes": (1024, 1024 * MIB),
    "max_batch_bytes": (1, 2**53 - 1),
}


class Topics:
    """The leader's word on topics."""

    def __init__(self, service: Service, limits: Limits, default_partitions: int) -> None:
        self.service = service
        self.pending = service.pending
        self.state = service.state
        self.tail = service.tail
        self.limits = limits
        self.default_partitions = default_partitions

    # -- requests: each writes its operation and answers when it is applied -----------------------

    def create(self, asked: e.Asked, request: m.CreateTopic, now: Now) -> bool:
        """Whether it was written: it may be there already, and not committed yet."""
        partitions = self.default_partitions if request.partitions is UNSET else request.partitions
        self.check_name(request.topic)
        self._check_partitions(partitions)
        self._check_config(request.config)
        if request.topic in self.tail.topics:
            self._answer_exists(asked, request, now)
            return False
        self._check_room(1, partitions)
        self.service.admit(now)
        self.write(request.topic, partitions, request.config, now)
        self._answer(asked, request, request.topic, now)
        return True

    def _answer_exists(self, asked: e.Asked, request: m.CreateTopic, now: Now) -> None:
        """Said once it is sure: the other creation may not be committed yet."""
        message = f"topic '{request.topic}' exists already"
        if request.topic in self.state.topics:
            raise Refused("TOPIC_EXISTS", message)
        refusal = m.ErrorAnswer(error="TOPIC_EXISTS", message=message, retriable=False)
        self.pending.when(self.pending.last, asked.conn, request, refusal, now)

    def create_partitions(self, asked: e.Asked, request: m.CreatePartitions, now: Now) -> None:
        topic = self.service.topic(request.topic, request.topic_id)
        self._check_partitions(request.partitions)
        if request.partitions <= topic.partitions:
            raise Refused(
                "INVALID_CONFIG",
                f"topic '{request.topic}' has {topic.partitions} partitions; `partitions` is the "
                f"new total and must be larger, not {request.partitions}",
            )
        self._check_room(0, request.partitions - topic.partitions)
        self.service.admit(now)
        self.pending.append(
            ops.CreatePartitions, now, topic=request.topic, partitions=request.partitions
        )
        self._answer(asked, request, request.topic, now)

    def alter(self, asked: e.Asked, request: m.AlterTopic, now: Now) -> None:
        topic = self.service.topic(request.topic, request.topic_id)
        self._check_config(request.config)
        for key in request.unset:
            self._check_key(key)
            if key in request.config:
                raise Refused("INVALID_CONFIG", f"{key} is to be set and unset at once")
        self.service.admit(now)
        config = {**topic.config, **request.config}
        config = {key: value for key, value in config.items() if key not in request.unset}
        self.pending.append(ops.AlterTopic, now, topic=request.topic, config=config)
        self._answer(asked, request, request.topic, now)

    def delete(self, asked: e.Asked, request: m.DeleteTopic, now: Now) -> None:
        topic = self.service.topic(request.topic, request.topic_id)
        self.service.admit(now)
        self.pending.append(ops.DeleteTopic, now, topic=request.topic, topic_id=topic.topic_id)
        self.pending.when(self.pending.last, asked.conn, request, m.Done(), now)

    def trim(self, asked: e.Asked, request: m.Trim, now: Now) -> None:
        """Move a partition's log start up; it never goes back."""
        name, partition = request.topic, request.partition
        self.service.check_partition(name, partition, self.service.topic(name, request.topic_id))
        tp = (name, partition)
        start, end = self.service.bounds(tp)
        if request.before > end:
            raise Refused(
                "OFFSET_OUT_OF_RANGE",
                f"{name}[{partition}]: `before` {request.before} is above the high watermark {end}",
                start=start,
                high_watermark=end,
            )
        after = max(request.before, self.tail.start(tp))
        answer = m.TrimAnswer(topic=name, partition=partition, start=after)
        if after > self.tail.start(tp):
            self.service.admit(now)
            self.pending.append(
                ops.Trim, now, topic=name, partition=partition, before=request.before
            )
        elif self.pending.last == self.state.index:
            self.service.reply_leased(asked, answer, now)
            return
        # Where it begins there already, that may still be on its way: it is committed by then.
        self.pending.when(self.pending.last, asked.conn, request, answer, now)

    def _answer(self, asked: e.Asked, request: m.Logged, name: str, now: Now) -> None:
        topic = self.tail.topics[name]
        answer = m.TopicAnswer(
            topic=name,
            topic_id=topic.topic_id,
            partitions=topic.partitions,
            config=dict(topic.config),
        )
        self.pending.when(self.pending.last, asked.conn, request, answer, now)

    # -- the parts, also for a register that creates ----------------------------------------------

    def missing(self, names: list[str], *, auto_create: bool) -> list[str]:
        """Those of `names` that must be created.  Raises Refused where one may not be."""
        missing = [name for name in names if name not in self.tail.topics]
        for name in missing:
            self.check_name(name)
            if not auto_create:
                raise Refused(
                    "UNKNOWN_TOPIC",
                    f"there is no topic '{name}', and this broker runs with --no-auto-create; "
                    "`yak topic create` makes it",
                )
        if missing:
            self._check_room(len(missing), len(missing) * self.default_partitions)
        return missing

    def write(self, name: str, partitions: int, config: dict[str, Any], now: Now) -> None:
        """Write a topic that was checked and does not exist."""
        self.pending.append(
            ops.CreateTopic,
            now,
            topic=name,
            # Unique in the log, and the same on every replica.
            topic_id=f"t{self.pending.log.next}",
            partitions=partitions,
            config=config,
        )

    def check_name(self, name: str) -> None:
        if not is_topic_name(name):
            raise Refused(
                "INVALID_TOPIC",
                f"{name[:260]!r}: a topic's name is 1 to 249 of a-z A-Z 0-9 . _ -, and neither "
                "'.' nor '..'",
            )

    def _check_room(self, topics: int, partitions: int) -> None:
        """For so many more."""
        if len(self.tail.topics) + topics > self.limits.max_topics:
            raise Refused(
                "OVERLOADED",
                f"there are {len(self.tail.topics)} topics; max_topics is "
                f"{self.limits.max_topics}. Delete some, or raise it on every broker",
            )
        if len(self.tail.ends) + partitions > self.limits.max_total_partitions:
            raise Refused(
                "OVERLOADED",
                f"there are {len(self.tail.ends)} partitions, and {partitions} more are wanted; "
                f"max_total_partitions is {self.limits.max_total_partitions}. Delete topics, or "
                "raise it on every broker",
            )

    def _check_partitions(self, partitions: int) -> None:
        if not 1 <= partitions <= self.limits.max_partitions:
            raise Refused(
                "INVALID_CONFIG",
                f"`partitions` is {partitions}; it must be 1 to {self.limits.max_partitions} "
                "(max_partitions)",
            )

    def _check_key(self, key: str) -> None:
        if key not in TOPIC_CONFIG:
            known = ", ".join(sorted(TOPIC_CONFIG))
            raise Refused("INVALID_CONFIG", f"unknown key {key[:100]!r}; there are {known}")

    def _check_config(self, config: dict[str, Any]) -> None:
        for key, value in config.items():
            self._check_key(key)
            least, most = TOPIC_CONFIG[key]
            if key == "max_batch_bytes":
                most = self.limits.max_frame_bytes - FRAME_OVERHEAD_BYTES
            if type(value) is not int or not least <= value <= most:
                raise Refused(
                    "INVALID_CONFIG",
                    f"the value of {key} must be an integer from {least} to {most}",
                )
