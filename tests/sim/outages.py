"""What a cluster must survive for good: one broker of it, or one broker's links, are lost.

    dead      the leader is killed, and does not come back
    follower  another broker is killed, and does not come back
    gone      the leader reaches nobody, and nobody it
    apart     the leader and the other brokers do not reach each other; yak-zk reaches all of them
    deaf      the leader does not hear yak-zk
    mute      yak-zk does not hear the leader
    hangs     the leader is stopped (SIGSTOP)
    full      the leader's disk has no room
    sync      the leader's disk does not come to the end of a sync (with fsync=always)

    available   all others are well, and in sync: within AVAILABLE_S a new batch is acknowledged

The rules that this is about take nothing away from what is acknowledged: without them the cluster
would stand still until somebody came.  Faults of a run's first part heal, so that it alone could
not tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.sim.clients import Producer

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.world import World

KINDS: Final = ("dead", "follower", "gone", "apart", "deaf", "mute", "hangs", "full", "sync")
#: A session ends or a leader resigns, another one is elected, serves, and leaves out who is lost;
#: then a client finds it.
AVAILABLE_S: Final = 12.0
#: How long the cluster has to be whole first.
WHOLE_S: Final = 30.0
#: What the client asks for then: more than what is written before anybody notices.
BATCHES: Final = 12


def survive(world: World) -> None:
    """Raises Violation, through the judge."""
    scheduler, judge = world.scheduler, world.judge
    if not scheduler.run(scheduler.now + WHOLE_S, lambda: _is_whole(world)):
        judge.fail(f"progress: {WHOLE_S:g} s after healing the cluster is not whole")
    assert judge.document is not None
    leader = world.brokers[judge.document.leader or 0]
    world.note(f"*** for good: {world.setup.outage}, while {leader.name} leads")
    _begin(world, leader)
    # By then they know of it, and yet whatever is acknowledged comes after.
    prober = Producer(world, "prober", world.setup.topics[:1], BATCHES)
    world.clients.append(prober)
    if not scheduler.run(scheduler.now + AVAILABLE_S, lambda: prober.finished):
        judge.fail(
            f"available: {AVAILABLE_S:g} s after {world.setup.outage} of {leader.name}, "
            f"{prober.left} of {BATCHES} new batches are not even sent"
        )
    world.note("*** that heals, too")
    world.injector.heal()


def _is_whole(world: World) -> bool:
    document = world.judge.document
    if document is None or document.leader is None or document.suspects:
        return False
    leader = world.brokers[document.leader]
    return (
        len(document.isr) == len(world.brokers)
        and all(broker.ready for broker in world.brokers.values())
        and leader.broker.node._desk is not None
    )


def _begin(world: World, leader: SimBroker) -> None:
    net, others = world.net, [b for b in world.brokers.values() if b is not leader]
    match world.setup.outage:
        case "dead":
            leader.died()
        case "follower":
            world.rng.choice(others).died()
        case "hangs":
            leader.pause()
        case "full":
            leader.full = True
            leader.disk.space_left = 0
        case "sync":
            leader.slow_sync = AVAILABLE_S + 1.0  # it is under way even when all heals
        case "deaf":
            net.cut(world.zk.name, leader.name)
        case "mute":
            net.cut(leader.name, world.zk.name)
        case "apart" | "gone":
            hosts = [*others, world.zk] if world.setup.outage == "gone" else others
            for host in hosts:
                net.cut(host.name, leader.name)
                net.cut(leader.name, host.name)
        case other:
            raise AssertionError(other)
