"""What `help` says of the library: every option of a client, and every method by its own words."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import yak
from yak.net.consumer_options import ConsumerOptions
from yak.producer import ProducerOptions

CLIENTS = [
    *(yak.Producer, yak.Consumer, yak.Admin),
    *(yak.AsyncProducer, yak.AsyncConsumer, yak.AsyncAdmin),
]


@pytest.mark.parametrize(
    ("client", "options"), [(yak.Producer, ProducerOptions), (yak.Consumer, ConsumerOptions)]
)
def test_a_class_names_its_options_and_no_others(client: type, options: Any) -> None:
    text = inspect.getdoc(client) or ""
    named = re.findall(r"((?:[a-z_]+, )*[a-z_]+): ", text)
    assert {one for some in named for one in some.split(", ")} == set(options.__annotations__)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_method_says_what_it_does_and_not_only_where_to_look(client: type) -> None:
    for name, member in inspect.getmembers(client):
        if not name.startswith("_"):
            text = inspect.getdoc(member)
            assert text, f"{client.__name__}.{name} has no docstring"
            assert not text.startswith("As "), f"{client.__name__}.{name}: {text}"


def test_a_method_says_the_errors_of_its_twin() -> None:
    assert "TOPIC_EXISTS" in (inspect.getdoc(yak.Admin.create_topic) or "")
    told = inspect.getdoc(yak.Producer.send) or ""
    assert told.startswith("Queue one record and return at once")
    assert "UNKNOWN_PARTITION" in told
