"""Frames that no client should send, from the protocol's text: shared by whoever sends them.

PAYLOADS: a whole frame each, so that an error answers it and the connection stays open.
TOO_LONG: what is read as a length beyond every limit; an error, and the connection ends.
"""

from __future__ import annotations

import json
import struct
from typing import Final

from tests.support.wire import frame_of

#: 100,000 deep, as bytes.
_DEEP: Final = b"[" * 100_000

#: What has no header that can be trusted: refused without an id.
HEADERS: Final[dict[str, bytes]] = {
    "empty": b"",
    "newline-only": b"\n",
    "not-json": b"hello\n",
    "array": b'[{"type":"status","id":1}]\n',
    "string": b'"status"\n',
    "number": b"17\n",
    "null": b"null\n",
    "true": b"true\n",
    "cut-short": b'{"type":"status","id":1',
    "cut-by-the-newline": b'{"type":"status",\n"id":1}\n',
    "two-objects": b'{"type":"status","id":1}{"type":"status","id":2}\n',
    "rubbish-after": b'{"type":"status","id":1} x\n',
    "empty-line-first": b'\n{"type":"status","id":1}\n',
    "byte-order-mark": b'\xef\xbb\xbf{"type":"status","id":1}\n',
    "wrong-nesting": b'{"type":"status","id":1,"x":[}]\n',
    "unquoted-key": b'{type:"status","id":1}\n',
    "single-quotes": b"{'type':'status','id':1}\n",
    "trailing-comma": b'{"type":"status","id":1,}\n',
    "not-utf8": b'{"type":"status","id":1,"x":"\xff\xfe"}\n',
    "not-utf8-key": b'{"type":"status","id":1,"\xc3\x28":1}\n',
    "overlong-utf8": b'{"type":"status","id":1,"x":"\xc0\xaf"}\n',
    "surrogate-in-utf8": b'{"type":"status","id":1,"x":"\xed\xa0\x80"}\n',
    "raw-control-character": b'{"type":"status","id":1,"x":"\x01"}\n',
    "nan": b'{"type":"status","id":1,"x":NaN}\n',
    "infinity": b'{"type":"status","id":1,"x":Infinity}\n',
    "minus-infinity": b'{"type":"status","id":1,"x":-Infinity}\n',
    "leading-zero": b'{"type":"status","id":01}\n',
    "bare-fraction": b'{"type":"status","id":1,"x":.5}\n',
    "duplicate-key": b'{"type":"status","id":1,"id":2}\n',
    "duplicate-type": b'{"type":"status","type":"status","id":2}\n',
    "duplicate-unknown-key": b'{"type":"status","id":1,"x":1,"x":1}\n',
    "duplicate-key-escaped": b'{"type":"status","id":1,"\\u0069d":2}\n',
    "duplicate-key-nested": b'{"type":"create_topic","id":1,"topic":"t","config":{"a":1,"a":2}}\n',
    "duplicate-key-deep": b'{"type":"status","id":1,"x":[{"y":{"a":1,"b":":","a":1}}]}\n',
    "nested-100000-deep": b'{"type":"status","id":1,"x":' + _DEEP + b"]" * 100_000 + b"}",
    "open-100000-deep": b'{"a":' * 100_000,
}

#: Where a broker sees no frame at all.
TOO_LONG: Final[list[bytes]] = [
    struct.pack(">I", 2**32 - 1),
    struct.pack(">I", 2**31),
    bytes.fromhex("16030100c8010000c40303"),
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b'{"type":"status","id":1}\n',
]

#: Objects whose type or id is none.
_OBJECTS: Final[list[bytes]] = [
    b"{}",
    b'{"id":1}',
    b'{"type":"status"}',
    b'{"type":"make_coffee","id":1}',
    b'{"type":7,"id":1}',
    b'{"type":"status","id":-1}',
    b'{"type":"status","id":1.5}',
    b'{"type":"fetch","id":1,"partitions":[["../../etc/passwd",0,0]]}',
    json.dumps({"type": "create_topic", "id": 1, "topic": "../../etc/passwd"}).encode(),
    b'{"type":"fetch","id":%s,"partitions":[]}' % (b"9" * 4000),
    b'{"type":"produce","id":1,"topic":"load","partition":0,"count":7}\n{"value":1}\n',
    struct.pack(">hhih", 18, 3, 1, -1),
]

#: Whole frames; the deep ones, which are 100 times as long, are once in it.
FRAMES: Final[list[bytes]] = [
    frame_of(payload)
    for payload in [
        *HEADERS.values(),
        *_OBJECTS,
        *[p for p in HEADERS.values() if len(p) < 200] * 3,
    ]
]
