"""Holds librdkafka's mock cluster for other processes until it is ended."""

from __future__ import annotations

import signal

from confluent_kafka import Producer

if __name__ == "__main__":
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3})
    brokers = producer.list_topics(timeout=10).brokers.values()
    print("bootstrap", ",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)
    signal.pause()
