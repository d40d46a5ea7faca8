"""yak.protocol: a stream of bytes, however it was cut on its way, to frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yak import protocol
from yak.protocol import (
    BEGINNING_BYTES,
    MERGE_BELOW_BYTES,
    PREFIX,
    Foreign,
    Frame,
    FrameReader,
    Part,
    TooLarge,
)

MAX = 1 << 20


def wire(header: bytes, *buffers: bytes) -> bytes:
    return b"".join(protocol.frame(header, buffers))


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """The data in pieces of these sizes, over and over."""
    at = 0
    while at < len(data):
        for size in sizes:
            yield data[at : at + size]
            at += size


def read(reader: FrameReader, data: bytes, sizes: Sequence[int]) -> list[Part]:
    parts = []
    for piece in cut(data, sizes):
        parts += reader.feed(piece)
        assert reader.mid_frame == (reader.partial_bytes > 0)
    return parts


headers = st.binary(max_size=60).filter(lambda b: b"\n" not in b and not b.startswith(b"\0"))
bodies = st.binary(max_size=300) | st.integers(0, 3 * MERGE_BELOW_BYTES).map(lambda n: b"\n" * n)


@given(
    frames=st.lists(st.tuples(headers, bodies), max_size=6),
    sizes=st.lists(st.sampled_from([1, 2, 3, 4, 5, 63, 1000, 20_000, 70_000]), min_size=1),
)
def test_frames_survive_being_cut_anywhere(
    frames: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    data = b"".join(wire(header, body) for header, body in frames)
    if len(data) > 10_000:
        sizes = [size * 97 for size in sizes]
    reader = FrameReader(MAX)
    assert read(reader, data, sizes) == [Frame(header, body) for header, body in frames]
    assert reader.partial_bytes == 0


@given(
    frames=st.lists(st.tuples(headers, bodies), max_size=20),
    sizes=st.lists(st.sampled_from([7, 100, 20_000]), min_size=1),
    most=st.integers(1, 5),
    behind=st.sampled_from([b"", b"\0", (MAX + 1).to_bytes(4) + b"more"]),
)
def test_frames_may_be_taken_a_few_at_a_time(
    frames: list[tuple[bytes, bytes]], sizes: list[int], most: int, behind: bytes
) -> None:
    """Also where more arrives before they have been."""
    data = b"".join(wire(header, body) for header, body in frames) + behind
    reader = FrameReader(MAX)
    parts: list[Part] = []
    for number, piece in enumerate(cut(data, sizes)):
        parts += reader.feed(piece, most)
        if number % 2:
            parts += reader.more(most)
    while more := reader.more(most):
        assert len(more) <= most
        parts += more
    assert reader.uncut_bytes == 0
    ends = [TooLarge(MAX + 1)] if len(behind) > 1 else []
    assert parts == [*(Frame(header, body) for header, body in frames), *ends]
    assert reader.partial_bytes == (len(behind) if len(behind) == 1 else 0)


def test_what_was_not_taken_goes_with_the_rest() -> None:
    reader = FrameReader(MAX)
    assert len(reader.feed(wire(b"{}") * 10 + b"\0", 3)) == 3
    assert (reader.uncut_bytes, reader.partial_bytes) == (7 * len(wire(b"{}")) + 1, 0)
    reader.drop()
    assert (reader.uncut_bytes, reader.more(3)) == (0, [])


def test_a_frame_cut_at_every_byte() -> None:
    data = wire(b'{"a":1}', b"body\nbody\n") + wire(b"{}")
    for at in range(len(data) + 1):
        reader = FrameReader(MAX)
        parts = reader.feed(data[:at]) + reader.feed(data[at:])
        assert parts == [Frame(b'{"a":1}', b"body\nbody\n"), Frame(b"{}", b"")]


def test_the_newline_may_be_missing_where_nothing_follows() -> None:
    assert FrameReader(MAX).feed(b"\0\0\0\x02{}") == [Frame(b"{}", b"")]
    assert FrameReader(MAX).feed(b"\0\0\0\x03{}\n") == [Frame(b"{}", b"")]
    assert protocol.split_payload(b"{}\nbody") == Frame(b"{}", b"body")


def test_an_empty_payload_is_a_frame() -> None:
    reader = FrameReader(MAX)
    assert read(reader, b"\0\0\0\0" * 2, [3]) == [Frame(b"", b"")] * 2


def test_partial_bytes_are_what_has_arrived_not_what_was_announced() -> None:
    reader = FrameReader(MAX)
    assert reader.feed(wire(b"{}") + MAX.to_bytes(4) + b"x" * 10) == [Frame(b"{}", b"")]
    assert reader.partial_bytes == 14
    assert reader.feed(b"y" * 5) == []
    assert reader.partial_bytes == 19
    reader.drop()
    assert (reader.partial_bytes, reader.mid_frame, reader.feed(b"z" * MAX)) == (0, False, [])


def test_a_frame_sent_byte_by_byte_is_held_in_few_pieces() -> None:
    reader = FrameReader(MAX)
    reader.feed(MAX.to_bytes(4))
    for _ in range(3 * MERGE_BELOW_BYTES):
        reader.feed(b"x")
    assert reader.partial_bytes == 3 * MERGE_BELOW_BYTES + 4
    assert len(reader._pieces) < 20
    (part,) = reader.feed(b"x" * MAX)[:1]
    assert part == Frame(b"x" * MAX, b"")


def numbers(beginning: bytes) -> bool:
    return beginning.startswith(b"9")


@pytest.mark.parametrize("sizes", [[1000], [70_000], [1_300_000], [4, 70_000], [3, 1, 70_000]])
def test_of_what_is_hopeless_the_beginning_is_handed_on(sizes: list[int]) -> None:
    """And the next frame is found, and is looked at anew."""
    long = b"9" * (3 * BEGINNING_BYTES)
    reader = FrameReader(2 * len(long), numbers)
    parts = read(reader, wire(long) + wire(b"{}", b"9") + wire(long), sizes)
    assert parts[1] == Frame(b"{}", b"9")
    for part in (parts[0], parts[2]):
        assert isinstance(part, Frame)
        assert BEGINNING_BYTES - PREFIX <= len(part.header) < BEGINNING_BYTES + 2 * max(sizes)
        assert not part.header.strip(b"9")
    assert reader.partial_bytes == 0


def test_what_is_hopeless_is_not_kept() -> None:
    reader = FrameReader(10 * BEGINNING_BYTES, numbers)
    reader.feed((10 * BEGINNING_BYTES).to_bytes(4) + b"9" * BEGINNING_BYTES)
    for _ in range(20):
        assert reader.feed(b"9" * 100_000) == []
    assert reader.partial_bytes == BEGINNING_BYTES + 2_000_004
    assert sum(map(len, reader._pieces)) == BEGINNING_BYTES + 100_004


@pytest.mark.parametrize("data", [b"{}\n" + b"9" * 4_000_000, b"8" * 4_000_000, b"9\n" * 2_000_000])
def test_a_body_and_a_long_header_are_kept(data: bytes) -> None:
    reader = FrameReader(len(data), numbers)
    sent = len(data).to_bytes(4) + data
    assert read(reader, sent, [70_000]) == [protocol.split_payload(data)]


def test_another_dialect_is_kept() -> None:
    data = b"\0" + b"9" * 4_000_000
    reader = FrameReader(len(data), lambda _: True)
    assert read(reader, len(data).to_bytes(4) + data, [70_000]) == [Foreign(data)]


@pytest.mark.parametrize("sizes", [[1], [4], [100]])
def test_after_too_long_a_length_nothing_more_is_read(sizes: list[int]) -> None:
    reader = FrameReader(100)
    data = wire(b"{}") + (101).to_bytes(4) + wire(b"{}") * 3
    assert read(reader, data, sizes) == [Frame(b"{}", b""), TooLarge(101)]
    assert reader.partial_bytes == 0


def test_the_largest_frame_fits() -> None:
    assert FrameReader(100).feed(wire(b"x" * 99)) == [Frame(b"x" * 99, b"")]


@pytest.mark.parametrize("sizes", [[1], [1000]])
def test_another_dialect_is_handed_on_whole(sizes: list[int]) -> None:
    payload = b"\0\x12\0\x03\n\0\0"
    data = len(payload).to_bytes(4) + payload + wire(b"{}")
    assert read(FrameReader(MAX), data, sizes) == [Foreign(payload), Frame(b"{}", b"")]
    assert "api key 18, version 3" in protocol.foreign_dialect(payload).message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x16\x03\x01\x02", "TLS"),
        (b"GET ", "HTTP"),
        (b"HEAD", "HTTP"),
        (b"SSH-", "SSH"),
        (b'{"ty', "without the 4 bytes"),
        (b"\xff\xff\xff\xff", "smaller batches"),
    ],
)
def test_too_long_a_length_that_is_another_protocol_is_recognised(data: bytes, said: str) -> None:
    refused = protocol.too_large(int.from_bytes(data), 12345)
    assert refused.name == "FRAME_TOO_LARGE"
    assert said in refused.message
    assert "12345" in refused.message
