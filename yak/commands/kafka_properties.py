"""Kafka's names for settings, and what they are to yak.

    retention.ms=1000           retention_ms=1000, and back when it is shown
    cleanup.policy=delete       what yak does anyhow: nothing is set
    cleanup.policy=compact      refused, with the reason
    min.insync.replicas=2       a note: in yak it is the cluster's
    no.such.setting=1           of a topic: refused, as by Kafka.  Of a client: a note

Rules:

* A setting that yak has under another name is translated.
* One that only tunes Kafka's own machinery is taken, and a note says that it has no effect, so
  that a course's commands run.
* One whose meaning yak cannot give (transactions, compaction, TLS) is refused: a command that
  seems to do what it does not would teach something wrong.

Not here: options (kafka_options.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import click

#: Kafka's topic settings that yak has.
_TOPIC: Final = {
    "retention.ms": "retention_ms",
    "retention.bytes": "retention_bytes",
    "segment.bytes": "segment_bytes",
    "max.message.bytes": "max_batch_bytes",
}
_KAFKAS: Final = {ours: theirs for theirs, ours in _TOPIC.items()}
#: Kafka's topic settings that say nothing to yak, and why.
_TOPIC_NOTES: Final = {
    "min.insync.replicas": "in yak it is the cluster's: `yak-zk --min-insync-replicas`",
    "unclean.leader.election.enable": "yak never elects one that may lack records; `yak zk elect`",
    **dict.fromkeys(
        (
            *("compression.type", "compression.gzip.level", "compression.lz4.level"),
            *("compression.zstd.level", "message.timestamp.type", "message.format.version"),
            *("message.timestamp.after.max.ms", "message.timestamp.before.max.ms"),
        ),
        "yak keeps records as they were sent",
    ),
    **dict.fromkeys(
        (
            *("segment.ms", "segment.jitter.ms", "segment.index.bytes", "index.interval.bytes"),
            *("file.delete.delay.ms", "preallocate", "flush.messages", "flush.ms"),
        ),
        "yak has its own ways with files: docs/operations.md, and `yak-broker --fsync`",
    ),
    **dict.fromkeys(
        (
            *("delete.retention.ms", "min.cleanable.dirty.ratio", "min.compaction.lag.ms"),
            "max.compaction.lag.ms",
        ),
        "yak does not compact",
    ),
}
#: Partitioners by the last part of their names, and whether they send in turn; the others go by
#: the key, and without one keep to a partition for a batch, which is what yak does.
_PARTITIONERS: Final = {
    "RoundRobinPartitioner": True,
    "DefaultPartitioner": False,
    "UniformStickyPartitioner": False,
}
#: Kafka's client settings that change nothing for whoever uses a command.
_SILENT: Final = frozenset(
    (
        *("key.serializer", "value.serializer", "key.deserializer", "value.deserializer"),
        *("bootstrap.servers", "enable.idempotence", "isolation.level", "client.dns.lookup"),
    )
)
_REFUSED: Final = {
    "transactional.id": "yak has no transactions; with acks=all each record is stored once",
    "sasl.mechanism": "yak speaks plain TCP, without passwords",
    "sasl.jaas.config": "yak speaks plain TCP, without passwords",
    "ssl.truststore.location": "yak speaks plain TCP, without TLS",
    "partitioner.class": "yak has no Java classes; RoundRobinPartitioner it knows by name",
    "interceptor.classes": "yak has no Java classes",
}
_COUNTS: Final = {
    "linger.ms": "linger_ms",
    "batch.size": "batch_bytes",
    "max.block.ms": "max_block_ms",
    "buffer.memory": "buffer_bytes",
}


class Translated(NamedTuple):
    """yak's own settings, and what is to be said about those that were dropped."""

    settings: dict[str, Any]
    notes: list[str]

    def tell(self) -> None:
        for note in self.notes:
            click.echo(f"note: {note}", err=True)


def parse_properties(text: str) -> dict[str, str]:
    """A .properties file: `name=value` or `name: value`; `#` and `!` begin a comment."""
    found: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        if not line or line[0] in "#!":
            continue
        at = min((n for n in (line.find("="), line.find(":")) if n > 0), default=len(line))
        found[line[:at].strip()] = line[at + 1 :].strip()
    return found


def is_true(value: str | None) -> bool:
    """As Kafka's tools read it."""
    return (value or "").strip().lower() == "true"


def topic_config(pairs: Iterable[tuple[str, str]]) -> Translated:
    """Raises UsageError for what yak, or Kafka, does not have."""
    settings: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in pairs:
        if name in _TOPIC:
            settings[_TOPIC[name]] = _number(name, value)
        elif name in _TOPIC_NOTES:
            notes.append(f"{name} is not set: {_TOPIC_NOTES[name]}")
        elif name == "cleanup.policy" and value == "delete":
            pass
        elif name == "cleanup.policy":
            raise click.UsageError(
                f"cleanup.policy={value}: yak does not compact; it keeps all records of a key, "
                "until retention.ms or retention.bytes let them go"
            )
        else:
            known = ", ".join(sorted((*_TOPIC, "cleanup.policy", "min.insync.replicas")))
            raise click.UsageError(f"unknown topic config name: {name}; yak knows {known}")
    return Translated(settings, notes)


def kafka_config(config: Mapping[str, Any]) -> str:
    """`retention.ms=5,segment.bytes=1024`"""
    return ",".join(f"{_KAFKAS.get(name, name)}={value}" for name, value in sorted(config.items()))


def topic_config_name(name: str) -> str:
    """For --delete-config.  Raises UsageError."""
    if name not in _TOPIC:
        raise click.UsageError(f"{name} is never set in yak; there are {', '.join(_TOPIC)}")
    return _TOPIC[name]


def producer_settings(properties: Mapping[str, str]) -> Translated:
    """What `yak.Producer` takes, and `in_turn` if the key is not to matter.  Raises UsageError."""
    settings: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in properties.items():
        if name == "acks":
            settings["acks"] = acks(value)
        elif name == "client.id":
            settings["client"] = value
        elif name == "delivery.timeout.ms":
            settings["delivery_timeout"] = _number(name, value) / 1000
        elif name == "partitioner.class" and value.rpartition(".")[2] in _PARTITIONERS:
            settings["in_turn"] = _PARTITIONERS[value.rpartition(".")[2]]
        elif name in _COUNTS:
            settings[_COUNTS[name]] = _number(name, value)
        elif name == "enable.idempotence" and not is_true(value):
            notes.append("enable.idempotence=false has no effect: with acks=all it is always on")
        else:
            _other(name, value, notes)
    return Translated(settings, notes)


def consumer_settings(properties: Mapping[str, str]) -> Translated:
    """`group`, `client` and `start`, where they are said.  Raises UsageError."""
    settings: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in properties.items():
        if name == "group.id":
            settings["group"] = value
        elif name == "client.id":
            settings["client"] = value
        elif name == "auto.offset.reset":
            settings["start"] = _reset(value)
        elif name == "enable.auto.commit" and not is_true(value):
            notes.append("enable.auto.commit=false has no effect: what was printed is acknowledged")
        elif name != "enable.auto.commit":
            _other(name, value, notes)
    return Translated(settings, notes)


def acks(value: str) -> Any:
    """all, -1, 1 or 0.  Raises UsageError."""
    known = {"all": "all", "-1": "all", "1": 1, "0": 0}
    if value not in known:
        raise click.UsageError(f"acks={value}: say all (or -1), 1 or 0")
    return known[value]


def _reset(value: str) -> str:
    known = {"earliest": "beginning", "latest": "end"}
    if value not in known:
        raise click.UsageError(f"auto.offset.reset={value}: say earliest or latest")
    return known[value]


def _other(name: str, value: str, notes: list[str]) -> None:
    if name in _REFUSED:
        raise click.UsageError(f"{name}={value}: {_REFUSED[name]}")
    if name == "security.protocol" and value != "PLAINTEXT":
        raise click.UsageError(f"{name}={value}: yak speaks plain TCP, without TLS or passwords")
    if name not in _SILENT and name != "security.protocol":
        notes.append(f"{name} has no effect: yak has no such setting")


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as e:
        raise click.UsageError(f"{name}={value}: say a whole number") from e
