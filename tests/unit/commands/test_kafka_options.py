"""Options of Kafka's scripts that yak does not have: a note, or what there is instead."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from yak import cli
from yak.commands.kafka_options import one_of, properties, refused, without_effect


@click.command()
@without_effect("--buffer", why="the system chooses it")
@without_effect("--sync", why="always so", value=False)
@refused("--zookeeper", "--old", instead="say --bootstrap-server")
@refused("--regex", instead="yak has none", value=False)
def command() -> None:
    click.echo("done")


def test_without_effect_is_noted_and_it_goes_on() -> None:
    ended = CliRunner().invoke(command, ["--buffer", "5", "--sync"])
    assert (ended.exit_code, ended.stdout) == (0, "done\n")
    assert "note: --buffer has no effect: the system chooses it" in ended.output
    assert "note: --sync has no effect: always so" in ended.output
    assert "note" not in CliRunner().invoke(command, []).output


@pytest.mark.parametrize("line", [["--zookeeper", "h:1"], ["--old", "x"], ["--regex"]])
def test_refused_says_what_instead(line: list[str]) -> None:
    ended = CliRunner().invoke(command, line)
    assert ended.exit_code == 2
    assert f"{line[0]}: " in ended.output
    assert "done" not in ended.output


def test_files_come_first_and_the_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("acks=1\nclient.id=me\n")
    assert properties([path], [("acks", "all")]) == {"acks": "all", "client.id": "me"}


def test_one_action() -> None:
    assert one_of({"list": True, "delete": False}) == "list"
    for both in (True, False):
        with pytest.raises(click.UsageError, match="exactly one of --list, --delete"):
            one_of({"list": both, "delete": both})


#: What `--help` of Kafka 4.2's scripts lists, and what older ones took.
_KAFKAS = {
    "kafka-topics": "alter at-min-isr-partitions bootstrap-server command-config config create "
    "delete delete-config describe exclude-internal help if-exists if-not-exists list "
    "partition-size-limit-per-response partitions replica-assignment replication-factor topic "
    "topic-id topics-with-overrides unavailable-partitions under-min-isr-partitions "
    "under-replicated-partitions version zookeeper",
    "kafka-console-producer": "batch-size bootstrap-server command-config command-property "
    "compression-codec help line-reader max-block-ms max-memory-bytes max-partition-memory-bytes "
    "message-send-max-retries metadata-expiry-ms producer-property producer.config property "
    "reader-config reader-property request-required-acks request-timeout-ms retry-backoff-ms "
    "socket-buffer-size sync timeout topic version broker-list",
    "kafka-console-consumer": "bootstrap-server command-config command-property consumer-property "
    "consumer.config enable-systest-events formatter formatter-config formatter-property "
    "from-beginning group help include isolation-level key-deserializer max-messages offset "
    "partition property skip-message-on-error timeout-ms topic value-deserializer version "
    "whitelist zookeeper",
    "kafka-consumer-groups": "all-groups all-topics bootstrap-server by-duration command-config "
    "delete delete-offsets describe dry-run execute export from-file group help list members "
    "offsets reset-offsets shift-by state timeout to-current to-datetime to-earliest to-latest "
    "to-offset topic type validate-regex verbose version",
    "kafka-producer-perf-test": "bootstrap-server topic num-records payload-delimiter throughput "
    "producer-props command-property producer.config command-config print-metrics "
    "transactional-id transaction-duration-ms warmup-records reporting-interval record-size "
    "payload-file payload-monotonic help",
}


@pytest.mark.parametrize("name", sorted(_KAFKAS))
def test_every_option_of_kafkas_script_is_known(name: str) -> None:
    context = cli.yak.make_context("yak", [], resilient_parsing=True)
    kafka = cli.yak.get_command(context, name)
    assert kafka is not None
    known = {opt for param in kafka.get_params(context) for opt in param.opts}
    assert {f"--{word}" for word in _KAFKAS[name].split()} <= known
