"""Who is cut from whom, and how late things come: by the orders of all who are connected."""

from __future__ import annotations

import asyncio
import math

from yak.local.doors import apart
from yak.local.relay import Relay


def test_what_is_apart() -> None:
    assert apart(1, 2) == [(1, 2, None), (2, 1, None)]
    assert apart(1, 0, 200, one_way=True) == [(1, 0, 200)]


def test_all_orders_hold_and_each_ends_with_whoever_gave_it() -> None:
    relay = Relay()
    relay.order("a", [(1, 2, None)])
    relay.order("b", [(1, 2, 100), (2, 1, 100), (2, 1, 300)])
    assert math.isinf(relay.late_s(1, 2))
    assert relay.late_s(2, 1) == 0.3
    assert relay.late_s(1, 3) == 0.0
    relay.order("a", [])
    assert relay.late_s(1, 2) == 0.1
    relay.order("b", [(1, 3, 100)])
    assert relay.late_s(1, 2) == 0.0
    assert relay.late_s(1, 3) == 0.1


def test_what_is_held_passes_when_it_may() -> None:
    async def story() -> None:
        relay, loop = Relay(), asyncio.get_running_loop()
        relay.order("a", [(1, 2, None), (1, 3, 60_000)])
        held = [loop.create_task(relay.passed(1, other, loop.time())) for other in (2, 3)]
        await asyncio.wait_for(relay.passed(2, 1, loop.time()), 5)
        await asyncio.wait_for(relay.passed(1, 3, loop.time() - 60), 5)
        assert not any(one.done() for one in held)
        relay.order("b", [(2, 1, None)])
        await asyncio.sleep(0)
        assert not any(one.done() for one in held), "another one's order is none of theirs"
        relay.order("a", [])
        await asyncio.wait_for(asyncio.gather(*held), 5)

    asyncio.run(story())
