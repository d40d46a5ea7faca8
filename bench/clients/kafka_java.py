"""Kafka's own ProducerPerformance, in Java; what it prints is read."""

from __future__ import annotations

import re
import subprocess
import sys

from bench.clients.common import Options, parse, report
from bench.systems.kafka import JARS


def produce(options: Options) -> None:
    settings = [
        f"bootstrap.servers={options.address}",
        "acks=all",
        "linger.ms=5",
        "batch.size=1000000",
        "max.request.size=10000000",
        "buffer.memory=268435456",
    ]
    done = subprocess.run(
        [
            *("java", "-Xmx512m", "-cp", f"{JARS}/*"),
            "org.apache.kafka.tools.ProducerPerformance",
            *("--topic", options.topic, "--num-records", str(options.records)),
            *("--record-size", str(options.size), "--throughput", "-1"),
            *("--producer-props", *settings),
        ],
        capture_output=True,
        text=True,
    )
    found = re.findall(r"(\d+) records sent, ([\d.]+) records/sec", done.stdout)
    if not found:
        sys.exit(f"ProducerPerformance said: {done.stdout[-500:]} {done.stderr[-1500:]}")
    records, rate = found[-1]
    report(int(records), int(records) / float(rate))


if __name__ == "__main__":
    produce(parse())
