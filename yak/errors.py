"""Every error in one table: its name on the wire, whether a retry can help, and whose fault it is.

An error is either a *refusal* (an answer to one request: `Refused`), a *failure* that a client
library raises to its caller (`YakError` and its kinds), or a reason for a process to *stop*
(`Fatal`).  The three never mix: a refusal never stops a broker, and a broker that must stop
never answers first.

A message says what happened, where, the likely cause and what to do next.
"""

from __future__ import annotations

import builtins
from enum import Enum
from typing import Any, Final


class Fault(Enum):
    """Whose fault an error is."""

    CLIENT = "client"
    CLUSTER = "cluster"
    BROKER = "broker"


_CLIENT, _CLUSTER, _BROKER = Fault.CLIENT, Fault.CLUSTER, Fault.BROKER

#: name on the wire -> (may the same request succeed later?, whose fault)
ERRORS: Final[dict[str, tuple[bool, Fault]]] = {
    "INVALID_REQUEST": (False, _CLIENT),
    "INVALID_RECORD": (False, _CLIENT),
    "FRAME_TOO_LARGE": (False, _CLIENT),
    "BATCH_TOO_LARGE": (False, _CLIENT),
    "UNSUPPORTED_VERSION": (False, _CLIENT),
    "NOT_LEADER": (True, _CLUSTER),
    "NO_LEADER": (True, _CLUSTER),
    "NOT_ENOUGH_REPLICAS": (True, _CLUSTER),
    "REQUEST_TIMED_OUT": (True, _CLUSTER),
    "UNKNOWN_TOPIC": (True, _CLIENT),
    "UNKNOWN_PARTITION": (True, _CLIENT),
    "TOPIC_EXISTS": (False, _CLIENT),
    "INVALID_TOPIC": (False, _CLIENT),
    "INVALID_CONFIG": (False, _CLIENT),
    "OFFSET_OUT_OF_RANGE": (False, _CLIENT),
    "OUT_OF_ORDER_SEQUENCE": (False, _CLIENT),
    "UNKNOWN_PRODUCER": (False, _CLIENT),
    "PRODUCER_FENCED": (False, _CLIENT),
    "UNKNOWN_MEMBER": (False, _CLIENT),
    "STALE_GENERATION": (False, _CLIENT),
    "GROUP_NOT_EMPTY": (False, _CLIENT),
    "STALE_EPOCH": (False, _CLUSTER),
    "CLUSTER_MISMATCH": (False, _CLUSTER),
    "STORAGE_ERROR": (True, _BROKER),
    "OVERLOADED": (True, _BROKER),
    "SHUTTING_DOWN": (True, _BROKER),
    "NOT_AUTHENTICATED": (False, _CLIENT),
    "NOT_AUTHORIZED": (False, _CLIENT),
    "INTERNAL": (False, _BROKER),
}


def is_retriable(name: str) -> bool:
    """Whether the same request may succeed later; names this version does not know may not."""
    return ERRORS.get(name, (False, _BROKER))[0]


class Refused(Exception):  # noqa: N818 -- a refusal is an answer, not an error of the program
    """A request is refused with one of the wire's error names.

    `details` are the further members of the answer that the protocol names for this error, as
    `expected` for OUT_OF_ORDER_SEQUENCE.
    """

    def __init__(self, name: str, message: str, **details: Any) -> None:
        assert name in ERRORS, name
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.details = details


class Fatal(Exception):  # noqa: N818 -- it names the consequence
    """This process must stop; the message is the one line that its user sees."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class YakError(Exception):
    """What a client library raises.

    name: the error's name on the wire, or the client's own (`CONNECTION`, `CLOSED`, `TIMEOUT`).
    retriable: whether doing the same again may succeed.
    broker: `host:port` of the broker that said so, if one did.
    hint: what to do next, if there is something to say.
    details: what else the answer carried for this error, as `expected` or `leader`.
    in_doubt: the request had been sent before without a definite answer, so it may have been
    carried out all the same.
    """

    def __init__(
        self, message: str, *, name: str = "", broker: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.name = name
        self.retriable = is_retriable(name)
        self.broker = broker
        self.hint = hint
        self.details: dict[str, Any] = {}
        self.in_doubt = False

    @property
    def leader(self) -> Any:
        """NOT_LEADER's hint, with `id`, `host` and `port`, where the broker knew one."""
        return self.details.get("leader")


class RetriableError(YakError):
    """A refusal or a broken connection after which the same request may succeed."""

    def __init__(
        self, message: str, *, name: str = "", broker: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, name=name, broker=broker, hint=hint)
        self.retriable = True


class ProtocolError(YakError):
    """The other side broke the protocol, or says that we did."""


class AuthError(YakError):
    """NOT_AUTHENTICATED or NOT_AUTHORIZED."""


class CommitFailedError(YakError):
    """An acknowledgement was refused: this member no longer belongs to its group."""


class ProducerFencedError(YakError):
    """Another producer has taken over this one's identity."""


class TimeoutError(YakError, builtins.TimeoutError):  # noqa: A001 -- also the built-in one
    """Nothing definite happened in time."""


class UndeliveredError(YakError):
    """Records that were never acknowledged; they may or may not be in the log.

    records: what was sent, in order, as the caller gave it.
    """

    def __init__(self, message: str, records: list[Any]) -> None:
        super().__init__(message, name="UNDELIVERED")
        self.records = records


def error_from_wire(name: str, message: str, broker: str | None = None) -> YakError:
    """The exception for an error answer."""
    kind: type[YakError]
    if name in ("NOT_AUTHENTICATED", "NOT_AUTHORIZED"):
        kind = AuthError
    elif name == "PRODUCER_FENCED":
        kind = ProducerFencedError
    elif name in ("UNKNOWN_MEMBER", "STALE_GENERATION"):
        kind = CommitFailedError
    elif name in ("INVALID_REQUEST", "UNSUPPORTED_VERSION", "FRAME_TOO_LARGE"):
        kind = ProtocolError
    elif is_retriable(name):
        kind = RetriableError
    else:
        kind = YakError
    return kind(message, name=name, broker=broker)
