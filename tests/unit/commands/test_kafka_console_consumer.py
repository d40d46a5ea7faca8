"""Kafka's console scripts: what reaches the sending and the reading, and what contradicts what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from yak.commands import kafka_console_consumer, kafka_console_producer
from yak.commands.drain import Until
from yak.model import Origin, Record


class _Fake:
    """Stands where Feed or Drain would: keeps what it is made of, and run with."""

    made: _Fake

    def __init__(self, *args: Any, **options: Any) -> None:
        _Fake.made = self
        self.args, self.options, self.printed = args, options, 4
        self.ran: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def run(self, *args: Any, **options: Any) -> int:
        self.ran = (args, options)
        return 0


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the producer would be made of."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(kafka_console_producer, "Feed", _Fake)
    monkeypatch.setattr(kafka_console_producer, "make_producer", lambda **said: made.update(said))
    return made


def _produce(*line: str) -> Any:
    command = kafka_console_producer.kafka_console_producer
    CliRunner().invoke(command, line, standalone_mode=False, catch_exceptions=False)
    return _Fake.made.args[1]


def test_a_producer_s_options_and_properties_win(producer: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "producer.properties"
    config.write_text("linger.ms=9\nclient.id=me\n")
    how = _produce(
        *("--broker-list", "h:1", "--topic", "t", "--batch-size", "100", "--timeout", "5"),
        *("--request-required-acks", "1", "--producer.config", str(config)),
        *("--command-property", "linger.ms=7"),
    )
    assert producer == {
        "bootstrap": "h:1",
        "client": "me",
        "acks": 1,
        "batch_bytes": 100,
        "linger_ms": 7,
    }
    assert (how.topic, how.parse) == ("t", None)
    assert _Fake.made.options == {"quiet": True, "shows": False}


def test_lines_are_parsed_where_they_hold_more_than_a_value(producer: dict[str, Any]) -> None:
    at = ("--bootstrap-server", "h:1", "--topic", "t")
    how = _produce(*at, "--property", "parse.key=true", "--reader-property", "key.separator=-")
    assert how.parse(b"k-v", 1)[:2] == ("v", "k")
    assert producer["client"] == "console-producer"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_console_consumer, "Drain", _Fake)


def _consume(*line: str) -> click.testing.Result:
    command = kafka_console_consumer.kafka_console_consumer
    at = ("--bootstrap-server", "h:1")
    return CliRunner().invoke(command, [*at, *line], standalone_mode=False, catch_exceptions=False)


@pytest.mark.usefixtures("reads")
@pytest.mark.parametrize(
    ("line", "start", "group"),
    [
        ((), None, None),
        (("--from-beginning", "--group", "g"), "beginning", "g"),
        (("--offset", "earliest", "--partition", "0"), "beginning", None),
        (("--offset", "latest", "--partition", "0"), "end", None),
        (("--offset", "42", "--partition", "0"), 42, None),
        (("--consumer-property", "auto.offset.reset=earliest"), "beginning", None),
        (("--command-property", "group.id=h", "--from-beginning"), "beginning", "h"),
    ],
)
def test_where_a_consumer_starts(line: tuple[str, ...], start: Any, group: str | None) -> None:
    ended = _consume("--topic", "t", *line)
    assert _Fake.made.ran[0] == (start,)
    assert _Fake.made.args[:2] == ("t", group)
    assert "Processed a total of 4 messages" in ended.output


@pytest.mark.usefixtures("reads")
def test_when_it_ends_and_what_it_prints() -> None:
    _consume(
        *("--topic", "t", "--max-messages", "3", "--timeout-ms", "500", "--partition", "1"),
        *("--formatter", "kafka.tools.NoOpMessageFormatter"),
    )
    _, _, show, until, _ = _Fake.made.args
    assert until == Until(records=3, idle_s=0.5)
    assert show(Record("v", origin=Origin("t", 0, 0, 0))) == b""
    assert _Fake.made.ran[1]["partitions"] == (1,)


@pytest.mark.usefixtures("reads")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ((), "say --topic"),
        (("--topic", "a b"), "no topic name"),
        (("--topic", "t", "--group", "g", "--partition", "0"), "contradict"),
        (("--topic", "t", "--offset", "-3"), "say earliest, latest"),
        (("--topic", "t", "--formatter", "my.Formatter"), "no Java classes"),
    ],
)
def test_what_a_consumer_refuses(line: tuple[str, ...], words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        _consume(*line)
