"""Every event that a process tells has its sentence; what is not known is told as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.evidence import event
from yak.explain.sentences import _OF_BROKER, _OF_ZK, said

ROOT = Path(__file__).parents[3] / "yak"

TABLE = [
    (event("yak-zk", "started", 0, leader=None, epoch=3),
     "yak-zk started, with epoch 3 in its state.json, in which nobody leads"),
    (event("yak-zk", "joined", 0, broker=2, state="torn", end=[3, 15]),
     "broker 2 joined yak-zk, its log torn and ending with operation 15 of epoch 3"),
    (event("yak-zk", "ordered", 0, order="elect", broker=2, losses=["all"]),
     "an operator ordered yak-zk to elect; what might be lost was said: all"),
    (event("yak-zk", "resigned", 0, broker=2, epoch=4, reason="the disk refused"),
     "broker 2 resigned from epoch 4: the disk refused"),
    (event("broker-3", "following", 0, epoch=2, leader=2, next=12, cut=3),
     "broker 3 follows broker 2 from operation 12 on, after dropping 3 operations of its own"),
    (event("broker-3", "started", 0, state="torn", reason="a line is cut off", next=9),
     "broker 3 started, its log torn: a line is cut off; the next operation is 9"),
    (event("broker-1", "a_new_one", 0, n=1, why="so"), "broker-1: a_new_one n=1 why=so"),
    (event("yak-zk", "died", 0, reason="a field is missing"),
     "yak-zk: died reason=a field is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "sentence"), TABLE)
def test_sentences(told: object, sentence: str) -> None:
    assert said(told) == sentence  # type: ignore[arg-type] # a table's column


def test_every_decision_of_yak_zk_has_a_sentence() -> None:
    texts = [
        (ROOT / "core" / name).read_text(encoding="utf-8")
        for name in ("coordinator.py", "election.py", "orders.py", "adoption.py")
    ]
    told = {name for text in texts for name in re.findall(r'Tell\(\s*"([a-z_]+)"', text)}
    assert len(told) > 8
    assert told <= _OF_ZK.keys()


def test_no_sentence_is_of_an_event_that_nobody_tells() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py"))
    told = set(re.findall(r'[Tt]ell\(\s*"([a-z_]+)"', text)) | {"elected", "vacated"}
    assert _OF_ZK.keys() | _OF_BROKER.keys() <= told
