"""docs/protocol.md: every example on it is what the code reads and writes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from yak import messages as m
from yak.bodies import validate_records
from yak.core import ops
from yak.errors import ERRORS
from yak.protocol import Frame, FrameReader, RequestDecoder, decode_answer

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
CLIENT_PART, CLUSTER_PART = TEXT.split("## 5. ")
COORDINATOR_PART, FOLLOWER_PART = CLUSTER_PART.split("## 6. ")

#: Answers, by the type of the request before them where it is not plain.
ANSWERS: dict[str, type[m.Answer]] = {
    "hello": m.HelloAnswer,
    "metadata": m.MetadataAnswer,
    "create_topic": m.TopicAnswer,
    "alter_topic": m.TopicAnswer,
    "trim": m.TrimAnswer,
    "produce": m.ProduceAnswer,
    "fetch": m.FetchAnswer,
    "list_offsets": m.OffsetsAnswer,
    "group": m.GroupAnswer,
    "groups": m.GroupsAnswer,
    "follow": m.FollowAnswer,
    "replicate": m.ReplicateAnswer,
    "copy": m.CopyAnswer,
    "join": m.JoinAnswer,
    "isr": m.IsrAnswer,
    "elect": m.OrderAnswer,
    "adopt": m.OrderAnswer,
}


def lines(text: str) -> Iterator[bytes]:
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        yield from block.encode().splitlines()


def answer_type(request: dict[str, Any], *, coordinator: bool) -> type[m.Answer]:
    match request.get("type", "none before section 4"):
        case "register":
            return m.MemberAnswer if "group" in request else m.ProducerAnswer
        case "heartbeat":
            return m.BeatAnswer if coordinator else m.HeartbeatAnswer
        case "status":
            return m.CoordinatorStatus if coordinator else m.StatusAnswer
        case kind:
            return ANSWERS.get(kind, m.Done)


def check_examples(text: str, union: Any, *, coordinator: bool) -> set[str]:
    """Every request decodes, every answer has exactly its type's fields; the types shown."""
    decoder = RequestDecoder(union)
    shown: set[str] = set()
    last: dict[str, Any] = {}
    for line in lines(text):
        fields = json.loads(line)
        if "id" not in fields and fields.get("type") == "cluster":
            decode_answer(line, m.ClusterView)
        elif "type" in fields:
            decoder.decode(line)
            last = fields
            shown.add(fields["type"])
        elif "ok" in fields:
            type_ = (
                m.ErrorAnswer if not fields["ok"] else answer_type(last, coordinator=coordinator)
            )
            answer = json.loads(msgspec.json.encode(decode_answer(line, type_)))
            del fields["id"]
            assert fields.items() <= answer.items(), line
            assert last == {} or not fields["ok"] or last["id"] == json.loads(line)["id"]
    return shown


def tags(union: Any) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in get_args(union)}


def test_the_examples_for_clients() -> None:
    assert check_examples(CLIENT_PART, m.ClientRequest, coordinator=False) == tags(m.ClientRequest)


def test_the_examples_for_brokers_and_the_coordinator() -> None:
    shown = check_examples(COORDINATOR_PART, m.CoordinatorRequest, coordinator=True)
    assert shown == tags(m.CoordinatorRequest)


def test_the_examples_for_followers() -> None:
    assert check_examples(FOLLOWER_PART, m.PeerRequest, coordinator=False) == tags(m.PeerRequest)


def test_the_frames_in_bytes() -> None:
    frames = []
    for match in re.finditer(r"    ((?:[0-9a-f]{2} ){4}) (\{.*\n(?: {17}.*\n)*)", TEXT):
        body = "".join(line.strip() for line in match[2].splitlines()).replace("\\n", "\n")
        (part,) = FrameReader(1000).feed(bytes.fromhex(match[1]) + body.encode())
        assert isinstance(part, Frame)
        frames.append(part)
        request = RequestDecoder(m.ClientRequest).decode(part.header)
        if isinstance(request, m.Produce):
            validate_records(part.body, request.count)
    assert len(frames) == 2


def test_the_record_and_the_operation() -> None:
    found = [line for line in lines(CLIENT_PART) if b'"type"' not in line and b'"ok"' not in line]
    record, line, *body = found
    validate_records(record + b"\n", 1)
    validate_records(b"".join(one + b"\n" for one in body), 2)
    op = ops.decode(line)
    assert isinstance(op, ops.Append)
    data = b"".join(one + b"\n" for one in body)
    assert (op.size, op.crc) == (len(data), ops.crc_of(data))
    ops.check_sum(line + b"\n", ops.NO_SUM)


def test_the_table_of_errors() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| (yes|no) \|", TEXT, re.MULTILINE)
    table = {name: yes == "yes" for names, yes in rows for name in re.findall(r"[A-Z_]+", names)}
    assert table == {name: retriable for name, (retriable, _) in ERRORS.items()}


def test_the_table_of_operations() -> None:
    listed = CLIENT_PART.split("\nOperations:")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", listed)) == set(ops._KINDS)


def test_the_client_by_hand_speaks_the_protocol() -> None:
    """Its own text is run, against a few lines that answer what the page says."""
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[m.Request] = []

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            reader, decoder = FrameReader(1000), RequestDecoder(m.ClientRequest)
            while data := sock.recv(1000):
                for part in reader.feed(data):
                    assert isinstance(part, Frame)
                    asked.append(decoder.decode(part.header))
                    payload = b'{"id":1,"ok":true}\n' + part.body
                    sock.sendall(len(payload).to_bytes(4) + payload)

    thread = threading.Thread(target=serve)
    thread.start()
    space: dict[str, Any] = {}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            port = str(listener.getsockname()[1])
            exec(compile(source.replace("9092", port), "protocol.md", "exec"), space)
    finally:
        space["stream"].close()
        space["sock"].close()
        thread.join(10)
        listener.close()
    assert [type(request) for request in asked] == [m.CreateTopic, m.Produce, m.Fetch]
    assert "ok" in printed.getvalue()
