"""`yak zk status|elect|adopt`: looked at, said, asked, and the very same done."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner, Result

from yak import messages as m
from yak.commands.zk import zk
from yak.config import Settings
from yak.errors import RetriableError

LOSS = "what was acknowledged after operation 7 of epoch 2, where the log of broker 2 ends"


class _Admin:
    """A yak-zk that does what it is told with the plan that it gave."""

    #: What was asked, in order: without a plan it is a look.
    asked: ClassVar[list[Any]] = []
    losses: ClassVar[list[str]] = []
    leader: ClassVar[int | None] = 2
    there = True
    #: The connection ends once the order itself has been given.
    cut_off = False

    def __init__(self, *, client: str) -> None:
        assert client.startswith("yak-zk-")

    def __enter__(self) -> _Admin:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _answer(self, plan: str | None) -> m.OrderAnswer:
        if not self.there or (self.cut_off and plan is not None):
            raise RetriableError("cannot connect to h:1: refused", name="CONNECTION")
        entries = [
            m.OrderEntry(broker=1, live=False, in_sync=True, state="whole", end=None),
            m.OrderEntry(broker=2, live=True, in_sync=True, state="unclean", end=(2, 7)),
        ]
        return m.OrderAnswer(
            done=plan is not None,
            plan="p1",
            would="elect broker 2",
            losses=self.losses,
            cluster="c",
            epoch=3,
            leader=2,
            isr=[1, 2],
            brokers=entries,
        )

    def elect(self, address: str, broker: int, *, plan: str | None) -> m.OrderAnswer:
        _Admin.asked.append((address, broker, plan))
        return self._answer(plan)

    def adopt(
        self, address: str, cluster: str | None, isr: list[int] | None, *, plan: str | None
    ) -> m.OrderAnswer:
        _Admin.asked.append((address, cluster, isr, plan))
        return self._answer(plan)

    def coordinator(self, address: str) -> m.CoordinatorStatus:
        one = m.SessionEntry(
            broker=2,
            host="h",
            port=2,
            live=True,
            heartbeat_age_ms=12,
            state="unclean",
            why="power",
            end=(2, 7),
        )
        other = m.RefusedEntry(
            broker=5,
            host="h",
            port=5,
            cluster="c9",
            disk="d",
            state="whole",
            end=(0, 0),
            epoch=4,
            age_ms=2100,
            why="another cluster",
        )
        elections = [m.Election(time=n, epoch=n, leader=n, reason=f"r{n}") for n in range(1, 8)]
        return m.CoordinatorStatus(
            cluster="c",
            version=1,
            epoch=3,
            leader=self.leader,
            isr=[2],
            settings=Settings(),
            sessions=[one],
            elections=elections,
            refused=[other],
        )


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    """Without a terminal."""
    monkeypatch.setattr("yak.commands.zk_orders.Admin", _Admin)
    _Admin.asked.clear()
    return CliRunner().invoke(zk, args, standalone_mode=False, catch_exceptions=False)


def test_where_nothing_may_be_lost_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "elect", "2").stdout == "broker 2 leads epoch 3\n"
    assert _Admin.asked == [("127.0.0.1:2181", 2, None), ("127.0.0.1:2181", 2, "p1")]


def test_what_may_be_lost_is_said_and_without_a_terminal_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Admin, "losses", [LOSS])
    for options in ([], ["--json"]):
        with pytest.raises(click.UsageError, match=r"this would elect broker 2; .*--yes"):
            _run(monkeypatch, "elect", "2", *options)
        assert [plan for _, _, plan in _Admin.asked] == [None], "only looked at"


@pytest.mark.parametrize("yes", [False, True])
def test_a_dry_run_shows_all_and_gives_no_order(monkeypatch: pytest.MonkeyPatch, yes: bool) -> None:
    monkeypatch.setattr(_Admin, "losses", [LOSS])
    result = _run(monkeypatch, "elect", "2", "--dry-run", *(["--yes"] if yes else []))
    assert result.stdout.splitlines() == [
        "broker  in sync  state    here  log ends with",
        "     1  yes      whole    no    -",
        "     2  yes      unclean  yes   operation 7 of epoch 2",
        "what may be lost by it:",
        f"  - {LOSS}",
        "would elect broker 2",
    ]
    shown = json.loads(_run(monkeypatch, "elect", "2", "--dry-run", "--json").stdout)
    assert (shown["dry_run"], shown["done"], shown["losses"]) == (True, False, [LOSS])
    assert [plan for _, _, plan in _Admin.asked] == [None]


def test_yes_does_what_was_looked_at_and_still_says_what_may_be_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Admin, "losses", [LOSS])
    result = _run(monkeypatch, "elect", "2", "--yes", "--json", "--zk", "h:9")
    assert LOSS in result.stderr
    assert json.loads(result.stdout)["done"] is True
    assert _Admin.asked == [("h:9", 2, None), ("h:9", 2, "p1")]


def test_adopt_names_the_cluster_and_its_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _run(monkeypatch, "adopt", "--cluster", "c9", "--isr", "2, 1").stdout
    assert said == "cluster c is adopted: brokers 1 and 2 are waited for\n"
    assert _Admin.asked[0] == ("127.0.0.1:2181", "c9", [2, 1], None)
    with pytest.raises(click.BadParameter, match="brokers' numbers"):
        _run(monkeypatch, "adopt", "--isr", "1,x")


def test_status(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _run(monkeypatch, "status")
    assert result.return_value == 0
    said = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert said[0] == "cluster c epoch 3 broker 2 leads in sync: 2"
    assert "2 h:2 yes 12 ms ago yes unclean: power operation 7 of epoch 2" in said
    assert "5 h:5 c9 4 whole nothing 2 s ago" in said
    assert "1970-01-01T00:00:00.007Z 7 7 r7" in said
    assert not any(line.endswith(" r2") for line in said), "the last five"
    assert len(json.loads(_run(monkeypatch, "status", "--json").stdout)["elections"]) == 7
    monkeypatch.setattr(_Admin, "leader", None)
    assert _run(monkeypatch, "status").return_value == 1


def test_a_yak_zk_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Admin, "there", False)
    with pytest.raises(RetriableError) as raised:
        _run(monkeypatch, "elect", "2")
    assert "is yak-zk running there?" in str(raised.value.hint)


def test_an_order_whose_answer_was_lost_may_have_been_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Admin, "cut_off", True)
    with pytest.raises(RetriableError) as raised:
        _run(monkeypatch, "elect", "2")
    assert "may have been done" in str(raised.value.hint)


def test_an_option_of_the_process_is_not_lost_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(click.UsageError, match="--data-dir is for running yak-zk"):
        _run(monkeypatch, "--data-dir", "x", "status")
    monkeypatch.setenv("YAK_ZK_PORT", "7")
    assert _run(monkeypatch, "status").return_value == 0
