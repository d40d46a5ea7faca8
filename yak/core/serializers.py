"""What an application's values and keys become before they are sent, and after they came.

    value_serializer, key_serializer          of a producer
    value_deserializer, key_deserializer      of a consumer

Each is left out (None), "json", "str", "bytes", or a function of one's own:

    out        None: any JSON, or bytes; a key is a string or bytes
               "json": the same for a value; a key becomes its JSON text
               "str", "bytes": only that, and anything else is an error
               a function: given the object, it returns what None takes (mostly bytes)
    in         None, "json": a value as JSON has it; a key is a string (bytes if no UTF-8);
               under "json" a key's text is JSON
               "str": text; "bytes": bytes (JSON that is neither becomes its text)
               a function: given the bytes, it returns the object

Rules:

* None (a tombstone; no key) is never given to anybody.
* What cannot be done is an error of that record, and names it; nothing was sent.

It neither sends nor receives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from yak.errors import YakError
from yak.model import Record

Form: TypeAlias = Literal["json", "str", "bytes"]
#: From the application's object to what is sent.
Serializer: TypeAlias = Form | Callable[[Any], Any] | None
#: From the bytes that came to the application's object.
Deserializer: TypeAlias = Form | Callable[[bytes], Any] | None

_FORMS: Final = get_args(Form)


def check_form(name: str, form: object) -> None:
    """Raises ValueError, naming the option."""
    if form is not None and form not in _FORMS and not callable(form):
        raise ValueError(f'{name} is "json", "str", "bytes", a function or None, not {form!r}')


class Serializers:
    """A producer's two."""

    def __init__(self, value: Serializer, key: Serializer) -> None:
        self._value = None if value == "json" else _out(value)
        self._key = _out(key)

    @property
    def any(self) -> bool:
        return self._value is not None or self._key is not None

    def value(self, value: Any) -> Any:
        """Raises YakError INVALID_RECORD."""
        return _apply("value_serializer", self._value, value)

    def key(self, key: Any) -> Any:
        """Raises YakError INVALID_RECORD."""
        return _apply("key_serializer", self._key, key)


class Deserializers:
    """A consumer's two."""

    def __init__(self, value: Deserializer, key: Deserializer) -> None:
        self._value = None if value == "json" else _in(value)
        self._key = msgspec.json.decode if key == "json" else _in(key)

    @property
    def any(self) -> bool:
        return self._value is not None or self._key is not None

    def apply(self, record: Record) -> None:
        """In place, both or neither.  Raises YakError INVALID_RECORD; a raw record stays raw."""
        if record.raw:
            return
        value = _apply("value_deserializer", self._value, record.value, record)
        key = _apply("key_deserializer", self._key, record.key, record)
        record.value, record.key = value, key


def _apply(
    option: str, function: Callable[[Any], Any] | None, what: Any, record: Record | None = None
) -> Any:
    if function is None or what is None:
        return what
    try:
        return function(what)
    except Exception as e:
        where = "" if record is None else f"{record.topic}[{record.partition}]@{record.offset}: "
        error = YakError(
            f"{where}{option} failed: {type(e).__name__}: {e}",
            name="INVALID_RECORD",
            hint="nothing was sent" if record is None else "asking for more goes on behind it",
        )
        error.details = {} if record is None else {"record": record}
        raise error from e


def _out(form: Serializer) -> Callable[[Any], Any] | None:
    match form:
        case "json":
            return msgspec.json.encode
        case "str":
            return _only_text
        case "bytes":
            return _only_bytes
        case _:
            return form


def _only_text(what: Any) -> str:
    if not isinstance(what, str):
        raise TypeError(f"a string is expected, not {type(what).__name__}")
    return what


def _only_bytes(what: Any) -> bytes:
    if not isinstance(what, bytes | bytearray | memoryview):
        raise TypeError(f"bytes are expected, not {type(what).__name__}")
    return bytes(what)


def _in(form: Deserializer) -> Callable[[Any], Any] | None:
    match form:
        case None | "json":
            return None
        case "str":
            return lambda what: what if isinstance(what, str) else _bytes(what).decode()
        case "bytes":
            return _bytes
        case _:
            return lambda what: form(_bytes(what))


def _bytes(what: Any) -> bytes:
    """As it was before it became JSON."""
    if isinstance(what, bytes):
        return what
    return what.encode() if isinstance(what, str) else msgspec.json.encode(what)
