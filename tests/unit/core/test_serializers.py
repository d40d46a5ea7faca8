"""What values and keys become, and what becomes of them again."""

from __future__ import annotations

from typing import Any

import pytest

from yak.core.serializers import Deserializers, Serializers
from yak.errors import YakError
from yak.model import Record


@pytest.mark.parametrize(
    ("form", "value", "key"),
    [
        (None, [1], [1]),
        ("json", [1], b"[1]"),
        (lambda what: repr(what).encode(), b"[1]", b"[1]"),
    ],
)
def test_out(form: Any, value: Any, key: Any) -> None:
    forms = Serializers(form, form)
    assert (forms.value([1]), forms.key([1])) == (value, key)
    assert (forms.value(None), forms.key(None)) == (None, None)
    assert forms.any == (form is not None)


@pytest.mark.parametrize(("form", "good", "bad"), [("str", "a", b"a"), ("bytes", b"a", "a")])
def test_out_of_one_kind_only(form: Any, good: Any, bad: Any) -> None:
    assert Serializers(form, form).value(good) == good
    with pytest.raises(YakError, match="value_serializer failed: TypeError") as caught:
        Serializers(form, None).value(bad)
    assert caught.value.name == "INVALID_RECORD"
    with pytest.raises(YakError, match="key_serializer failed"):
        Serializers(None, form).key(bad)


@pytest.mark.parametrize(
    ("form", "came", "value"),
    [
        (None, {"a": 1}, {"a": 1}),
        ("json", {"a": 1}, {"a": 1}),
        ("str", "a", "a"),
        ("str", {"a": 1}, '{"a":1}'),
        ("bytes", "ä", "ä".encode()),
        ("bytes", b"\xff", b"\xff"),
        ("bytes", 1, b"1"),
        (int, "17", 17),
        (lambda data: data, {"a": 1}, b'{"a":1}'),
        (int, None, None),
    ],
)
def test_in(form: Any, came: Any, value: Any) -> None:
    record = Record(came, key="k")
    Deserializers(form, None).apply(record)
    assert (record.value, record.key) == (value, "k")


def test_keys_are_json_where_that_is_said() -> None:
    record = Record(1, key='{"user":7}')
    Deserializers(None, "json").apply(record)
    assert record.key == {"user": 7}


def test_both_or_neither() -> None:
    record = Record("17", key="no number", offset=3)
    with pytest.raises(YakError, match="@3: key_deserializer failed: ValueError") as caught:
        Deserializers(int, int).apply(record)
    assert (record.value, record.key) == ("17", "no number")
    assert caught.value.details == {"record": record}


def test_what_was_no_record_stays_as_it_is() -> None:
    record = Record("no record", raw=True)
    Deserializers(int, int).apply(record)
    assert record.value == "no record"
