"""The end of a run: everybody comes to the end of everything, and every replica is read.

It judges nothing that a history shows (judge.py does), and compares no logs.
"""

from __future__ import annotations

from tests.soak.topics import Topic, Topics
from tests.support.cluster import Cluster
from tests.support.logfiles import topic_bytes
from tests.support.process import wait_until

#: A group has come to its end within this, once nobody writes any more.
CATCH_UP_S = 120.0


def wait_caught_up(topics: Topics, topic: Topic, group: str, names: list[str]) -> None:
    """names: of all topics that the group is asked about."""
    wait_until(
        lambda: topics.lag(group, names) == 0,
        f"group {group} has acknowledged all of {topic.name}",
        CATCH_UP_S,
    )


def read_everything(cluster: Cluster, topics: Topics) -> None:
    """Each living topic, from each replica, into its life."""
    for broker in cluster.ids:
        with cluster.connect(broker) as wire:
            for topic in topics.living.values():
                life = topic.life
                values = life.closing[f"broker-{broker}"] = {}
                for partition in range(topic.partitions):
                    entry, _ = wire.fetch(topic.name, partition, 2**53 - 1)
                    start = entry["start"]
                    life.starts[partition] = max(start, life.starts.get(partition, 0))
                    values[partition] = {
                        offset: value["id"]
                        for op in wire.read_all(topic.name, partition, start)
                        for offset, value in zip(op.offsets, op.values, strict=True)
                    }


def end_processes(cluster: Cluster) -> list[str]:
    """In order; then the partitions' files have to be equal on all replicas.  What is not so."""
    troubles = []
    for broker in cluster.ids:
        code = cluster.terminate(broker)
        if code != 0:
            troubles.append(f"broker {broker} ended with {code} on SIGTERM")
    first, *others = cluster.ids
    files = topic_bytes(cluster.data_dir(first))
    for broker in others:
        theirs = topic_bytes(cluster.data_dir(broker))
        differing = sorted(
            name for name in files.keys() | theirs.keys() if files.get(name) != theirs.get(name)
        )
        if differing:
            troubles.append(f"files of broker {first} and {broker} differ: {differing[:5]}")
    return troubles
