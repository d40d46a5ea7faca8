"""Kafka's names for settings: translated, dropped with a note, or refused with the reason."""

from __future__ import annotations

from typing import Any

import click
import pytest

from yak.commands.kafka_properties import (
    consumer_settings,
    is_true,
    kafka_config,
    parse_properties,
    producer_settings,
    topic_config,
    topic_config_name,
)


def test_a_file_of_properties() -> None:
    text = (
        "# a comment\n! another\n\nacks = all\nbootstrap.servers=h:1,h:2\nclient.id: me\nempty=\n"
    )
    assert parse_properties(text) == {
        "acks": "all",
        "bootstrap.servers": "h:1,h:2",
        "client.id": "me",
        "empty": "",
    }


@pytest.mark.parametrize(("text", "found"), [("true", True), (" TRUE ", True), ("yes", False)])
def test_truth_as_kafka_reads_it(text: str, found: bool) -> None:
    assert is_true(text) is found
    assert not is_true(None)


def test_a_topics_settings_there_and_back() -> None:
    pairs = [("retention.ms", "5"), ("max.message.bytes", "7"), ("cleanup.policy", "delete")]
    found = topic_config(pairs)
    assert found.settings == {"retention_ms": 5, "max_batch_bytes": 7}
    assert found.notes == []
    assert kafka_config(found.settings) == "max.message.bytes=7,retention.ms=5"
    assert topic_config_name("segment.bytes") == "segment_bytes"


def test_what_is_the_cluster_s_is_noted() -> None:
    found = topic_config([("min.insync.replicas", "2"), ("compression.type", "lz4")])
    assert found.settings == {}
    assert "yak-zk --min-insync-replicas" in found.notes[0]
    assert "as they were sent" in found.notes[1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cleanup.policy", "compact", "does not compact"),
        ("no.such", "1", "unknown topic config name"),
        ("retention.ms", "soon", "whole number"),
    ],
)
def test_what_a_topic_cannot_have(name: str, value: str, words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        topic_config([(name, value)])


def test_a_producer_s() -> None:
    found = producer_settings(
        {
            "acks": "-1",
            "linger.ms": "5",
            "batch.size": "1000",
            "delivery.timeout.ms": "2500",
            "client.id": "me",
            "key.serializer": "org.apache.kafka.common.serialization.StringSerializer",
            "compression.type": "gzip",
        }
    )
    assert found.settings == {
        "acks": "all",
        "linger_ms": 5,
        "batch_bytes": 1000,
        "delivery_timeout": 2.5,
        "client": "me",
    }
    assert found.notes == ["compression.type has no effect: yak has no such setting"]


def test_a_consumer_s() -> None:
    said = {"group.id": "g", "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    found = consumer_settings(said)
    assert (found.settings, found.notes) == ({"group": "g", "start": "beginning"}, [])
    assert consumer_settings({"enable.auto.commit": "false"}).notes
    assert not consumer_settings({"enable.auto.commit": "true"}).notes


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"acks": "2"}, "say all"),
        ({"transactional.id": "t"}, "no transactions"),
        ({"security.protocol": "SASL_SSL"}, "plain TCP"),
        ({"linger.ms": "x"}, "whole number"),
    ],
)
def test_what_a_client_cannot_have(said: dict[str, Any], words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        producer_settings(said)
    assert producer_settings({"security.protocol": "PLAINTEXT"}).notes == []
    with pytest.raises(click.UsageError, match="earliest or latest"):
        consumer_settings({"auto.offset.reset": "none"})
