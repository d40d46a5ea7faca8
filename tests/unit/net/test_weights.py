"""yak.net.weights: what waits for an answer, counted."""

from __future__ import annotations

import random

from yak.config import Limits
from yak.net.weights import REQUEST_BYTES, Room, Weights, weight_of

#: 200 KiB for all alike, 2 KiB each, and as much for whoever comes first.
LIMITS = Limits(max_inflight_bytes=400 * 1024, max_connections=100)


def test_who_wants_little_gets_it_whatever_others_do() -> None:
    room = Room(LIMITS)
    greedy, modest = Weights(room), Weights(room)
    number = 0
    while greedy.fits(REQUEST_BYTES):
        greedy.add(number, REQUEST_BYTES)
        number += 1
    assert number == 200
    for id_ in (1, 2):
        assert modest.fits(REQUEST_BYTES)
        modest.add(id_, REQUEST_BYTES)
    assert not modest.fits(REQUEST_BYTES)
    greedy.clear()
    assert room.bytes == modest.bytes == 2 * REQUEST_BYTES
    assert modest.fits(REQUEST_BYTES)


def test_an_id_that_is_used_twice_gives_back_the_least_first() -> None:
    """Else a small request, answered at once, would hide the large ones under its id."""
    room = Room(LIMITS)
    weights = Weights(room)
    for weight in (50_000, 1_000, 60_000):
        weights.add("same", weight)
    seen = []
    for _ in range(4):
        weights.remove("same")
        seen.append(room.bytes)
    assert seen == [110_000, 60_000, 0, 0]


def test_what_is_kept_replaces_what_was() -> None:
    room = Room(LIMITS)
    weights = Weights(room)
    weights.keep(70_000)
    weights.keep(30_000)
    weights.add(1, 1_000)
    assert room.bytes == weights.bytes == 31_000
    weights.clear()
    assert room.bytes == weights.bytes == 0


def test_the_room_is_the_sum() -> None:
    chance = random.Random(5)
    room = Room(LIMITS)
    all_weights = [Weights(room) for _ in range(5)]
    for _ in range(2000):
        weights = chance.choice(all_weights)
        match chance.randrange(4):
            case 0:
                weights.remove(chance.randrange(5))
            case 1:
                weights.keep(chance.randrange(1000))
            case 2 if chance.random() < 0.1:
                weights.clear()
            case _:
                weights.add(chance.randrange(5), chance.randrange(1, 5000))
        assert room.bytes == sum(one.bytes for one in all_weights)
        assert all(one.bytes >= 0 for one in all_weights)


def test_a_request_weighs_more_with_its_header() -> None:
    assert weight_of(0) == weight_of(200) == REQUEST_BYTES
    assert weight_of(360_000) > 20_000 * 560
    assert Weights(Room(Limits())).fits(weight_of(Limits.max_frame_bytes))
