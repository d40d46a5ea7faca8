"""yak, the Kafka you can read: a small replicated log with JSON on the wire and on disk.

    from yak import Producer, Consumer, AsyncProducer, AsyncConsumer, Admin

What is exported here is the library; each name is loaded when it is first used, so that
`import yak`, and every command, starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from yak import version

if TYPE_CHECKING:
    from yak.admin import Admin, AsyncAdmin
    from yak.consumer import AsyncConsumer, Consumer
    from yak.errors import (
        AuthError,
        CommitFailedError,
        ProducerFencedError,
        ProtocolError,
        RetriableError,
        TimeoutError,  # noqa: A004 -- it is the built-in one, too
        UndeliveredError,
        YakError,
    )
    from yak.model import Record, RecordMetadata
    from yak.producer import AsyncProducer, Producer

__version__: Final = version.VERSION

_HOMES: Final = {
    "Admin": "yak.admin",
    "AsyncAdmin": "yak.admin",
    "AsyncConsumer": "yak.consumer",
    "AsyncProducer": "yak.producer",
    "AuthError": "yak.errors",
    "CommitFailedError": "yak.errors",
    "Consumer": "yak.consumer",
    "Producer": "yak.producer",
    "ProducerFencedError": "yak.errors",
    "ProtocolError": "yak.errors",
    "Record": "yak.model",
    "RecordMetadata": "yak.model",
    "RetriableError": "yak.errors",
    "TimeoutError": "yak.errors",
    "UndeliveredError": "yak.errors",
    "YakError": "yak.errors",
}

__all__ = [
    "Admin",
    "AsyncAdmin",
    "AsyncConsumer",
    "AsyncProducer",
    "AuthError",
    "CommitFailedError",
    "Consumer",
    "Producer",
    "ProducerFencedError",
    "ProtocolError",
    "Record",
    "RecordMetadata",
    "RetriableError",
    "TimeoutError",
    "UndeliveredError",
    "YakError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load an exported name on its first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'yak' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
